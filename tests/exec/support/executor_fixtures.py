"""Executors that pass the same tests, and fixtures of them."""

from __future__ import annotations

import pytest

from flowkit_core import SerialExecutor
from flowkit_exec import ProcessExecutor, ThreadExecutor

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
    """Return a fixture with each of these executors, kept for all tests of a module."""

    @pytest.fixture(scope="module", params=list(names))
    def fixture(request):
        with names[request.param]() as executor:
            yield executor

    return fixture
