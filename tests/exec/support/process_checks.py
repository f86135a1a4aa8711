"""Helpers of tests of process workers: runs, descriptors, child processes, log records."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import textwrap
import traceback
from functools import partial
from pathlib import Path

import faulty_tasks as faults
import pytest
from subprocess_harness import PROC

from flowkit_core import (
    DAG,
    Task,
)


def run(executor, *tasks, **options):
    """Run tasks, and the tasks upstream of them."""
    return DAG("faults", tasks=tasks).run(executor, **options)


def outcome(executor, task, **options):
    """Run a task among others, which must succeed; return the exception that it raised, or its result."""
    others = [Task(faults.ok, name=f"other_{number}") for number in range(6)]
    results = run(executor, *others[:3], task, *others[3:], fail_fast=False, raise_on_failure=False, **options)
    assert {name: value for name, value in results.items() if name != task.name} == dict.fromkeys(
        (other.name for other in others), "ok"
    )
    return results.failed.get(task.name, results.get(task.name))


def has_ended(pid):
    """Return whether a process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between open() and read()
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def count_descriptors():
    """Return how many file descriptors are open in this process."""
    return len(list(Path("/dev/fd").iterdir()))


def count_descriptors_after_gc():
    """Return how many are open once the garbage of other tests, which may hold some, is collected."""
    gc.collect()
    return count_descriptors()


def child_pids():
    """Return the ids of the child processes of this process, zombies included."""
    if not PROC.is_dir():
        pytest.skip("platform: processes are found in /proc")
    found = []
    for path in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            facts = path.read_text()
            if int(facts.rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(path.parent.name))
    return sorted(found)


def formatted(error):
    """Return the traceback of an exception as text."""
    return "".join(traceback.format_exception(error))


class RecordingHandler(logging.Handler):
    """Keeps the messages of the records that it handles."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def raised(executor, source):
    """Return the exception that source text raises in a worker."""
    return outcome(executor, Task(partial(exec, textwrap.dedent(source), {}), name="source"))
