"""Tasks that worker processes can import, and the executors that all have to mean the same."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from flowkit_core import SerialExecutor
from flowkit_exec import ProcessExecutor, ThreadExecutor

# A worker process inherits sys.path, so it finds pipelines.py here as the tests do.
sys.path.insert(0, str(Path(__file__).parent))

# What cloudpickle carries is tested where it is installed: nothing of flowkit needs it.
collect_ignore = [] if importlib.util.find_spec("cloudpickle") else ["test_process_cloudpickle.py"]

LOCAL = {
    "serial": lambda: SerialExecutor(),
    "thread-1": lambda: ThreadExecutor(max_workers=1),
    "thread-2": lambda: ThreadExecutor(max_workers=2),
    "thread-8": lambda: ThreadExecutor(max_workers=8),
}
PROCESS = {
    "process-1": lambda: ProcessExecutor(max_workers=1),
    "process-2": lambda: ProcessExecutor(max_workers=2),
}
EVERY = LOCAL | PROCESS


def made(names):
    """Return a fixture that yields each of these executors, kept for all tests of a module."""

    @pytest.fixture(scope="module", params=list(names))
    def fixture(request):
        with names[request.param]() as executor:
            yield executor

    return fixture


executor = made(EVERY)
local_executor = made(LOCAL)
thread_executor = made({name: LOCAL[name] for name in LOCAL if name.startswith("thread")})
wide_executor = made({name: EVERY[name] for name in ("thread-2", "thread-8", "process-2")})


@pytest.fixture(scope="module")
def guard(request):
    """The process in which the guarded tests of a file run."""
    from harness import Guard

    guard = Guard(request.path)
    yield guard
    guard.close()
