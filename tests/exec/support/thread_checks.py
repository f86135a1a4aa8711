"""Helpers of tests of worker threads."""

from __future__ import annotations

import threading

from flowkit_core import DAG
from flowkit_exec import ThreadExecutor

SECONDS = 60  # a limit for tests that hang


def nothing(*_inputs):
    """Return at once."""


def run(workers, *tasks, **options):
    """Run tasks, and the tasks upstream of them, in a number of threads."""
    return DAG("faults", tasks=tasks).run(ThreadExecutor(workers), **options)


def living_helpers():
    """Return the helper threads that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("flowkit-") and thread.is_alive()]
