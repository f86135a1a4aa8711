"""Where worker processes find what tests define, and a fixture for each set of executors."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

# Worker processes inherit sys.path, so they import the helpers as the tests do.
sys.path.insert(0, str(Path(__file__).parent / "support"))

from executor_fixtures import EVERY, LOCAL, made

# What cloudpickle carries is tested where it is installed: nothing of flowkit needs it.
collect_ignore = [] if importlib.util.find_spec("cloudpickle") else ["process/test_cloudpickle.py"]

executor = made(EVERY)
local_executor = made(LOCAL)
thread_executor = made({name: LOCAL[name] for name in LOCAL if name.startswith("thread")})
wide_executor = made({name: EVERY[name] for name in ("thread-2", "thread-8", "process-2")})


@pytest.fixture(scope="module")
def guard(request):
    """The process in which the guarded tests of a file run."""
    from subprocess_harness import Guard

    guard = Guard(request.path)
    yield guard
    guard.close()
