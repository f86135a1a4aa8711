"""Fixtures of the tests of flowkit-exec: sets of executors, a process for guarded tests, scripts."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from textwrap import dedent

import pytest

# Worker processes inherit sys.path, so they import the helpers as the tests do.
sys.path.insert(0, str(Path(__file__).parent / "support"))

from executor_fixtures import EVERY, LOCAL, made

# cloudpickle is optional.
collect_ignore = [] if importlib.util.find_spec("cloudpickle") else ["process/test_cloudpickle.py"]

executor = made(EVERY)
local_executor = made(LOCAL)
thread_executor = made({name: LOCAL[name] for name in LOCAL if name.startswith("thread")})
wide_executor = made({name: EVERY[name] for name in ("thread-2", "thread-8", "process-2")})


def pytest_collection_modifyitems(config, items):
    """Skip tests that need forks of this process where it cannot be forked; deselect what the transport cannot do."""
    if sys.platform != "linux":
        for item in items:
            if item.get_closest_marker("forks"):
                item.add_marker(pytest.mark.skip(reason="platform: only Linux tells when a fork is safe"))
    if os.environ.get("FLOWKIT_TRANSPORT", "posix") != "posix":
        needs = {item: item.get_closest_marker("forks") or item.get_closest_marker("posix") for item in items}
        items[:] = [item for item in items if not needs[item]]
        config.hook.pytest_deselected(items=[item for item in needs if needs[item]])


@pytest.fixture(scope="module")
def guard(request):
    """The process in which the guarded tests of a file run."""
    from subprocess_harness import Guard

    guard = Guard(request.path)
    yield guard
    guard.close()


@pytest.fixture
def script(tmp_path):
    """Return a function that writes a script and starts it."""
    from subprocess_harness import Program

    programs = []

    def start(source, *arguments, name="script.py", **options):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(source))
        programs.append(Program(path, *arguments, **options))
        return programs[-1]

    yield start
    for program in programs:
        program.__exit__()
