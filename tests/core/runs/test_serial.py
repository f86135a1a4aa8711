"""The serial executor: exceptions of tasks, references that remain, and effects of tasks on the process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import weakref
from itertools import pairwise
from pathlib import Path
from textwrap import dedent

import pytest

from flowkit_core import DAG, RunFinished, Task, TaskFailed, TaskRetrying, TaskSucceeded

# Each test on the fast path, and with an observer, which excludes it.
ways = pytest.mark.parametrize("observers", [[], [lambda event: None]], ids=["fast path", "observer"])


def serial(*tasks, **options):
    return DAG("etl", tasks=tasks).run("serial", **options)


# What tasks raise


def recurse():
    return recurse()


def exhaust():
    return [0] * (sys.maxsize // 8)


def empty_queue():
    import queue

    queue.SimpleQueue().get_nowait()


@ways
@pytest.mark.parametrize("func", [recurse, exhaust, empty_queue, lambda: next(iter([])), lambda: [].pop()])
def test_stop_iteration_and_the_like_are_failures(func, observers):
    """They are retried, raised and noted like others."""
    tries = []

    def fail():
        tries.append(1)
        func()

    broken, other = Task(fail, name="broken", retries=1, delay=0), Task(lambda: 1, name="other")
    results = serial(broken, other, fail_fast=False, raise_on_failure=False, observers=observers)
    assert len(tries) == 2
    assert results == {"other": 1}
    with pytest.raises(Exception) as expected:
        func()
    error = results.failed["broken"]
    assert type(error) is type(expected.value)
    assert any("task 'broken' of 'etl' failed after 2 attempts" in note for note in error.__notes__)
    with pytest.raises(type(error)):
        serial(broken, observers=observers)


@ways
@pytest.mark.parametrize(
    "kind",
    [StopIteration, StopAsyncIteration, TimeoutError, BlockingIOError, BrokenPipeError, IndexError],
)
@pytest.mark.parametrize("where", ["when", "retry_on"])
def test_exceptions_of_conditions_and_retry_on(kind, where, observers):
    """They are not mistaken for exceptions of the executor."""

    def refuse(*_):
        raise kind("no")

    error = ValueError("boom")

    def fail():
        raise error

    broken, other = Task(fail, name="broken", retries=2, delay=0, **{where: refuse}), Task(lambda: 1, name="other")
    results = serial(broken, other, fail_fast=False, raise_on_failure=False, observers=observers)
    if where == "when":
        assert type(results.failed["broken"]) is kind
    else:
        assert results.failed["broken"] is error
    assert results.attempts["broken"] == 1


# What is left


class Value:
    """Something that can be referred to weakly."""


@ways
def test_values_are_freed_after_last_reference(observers):
    """At once, without a garbage collection."""
    seen = []

    def make(*_inputs):
        value = Value()
        seen.append(weakref.ref(value))
        return value

    gc.collect()
    gc.disable()
    try:
        first = Task(make, name="first")
        tasks = [Task(make, name=f"task_{number}") for number in range(20)]
        first >> tasks
        results = serial(*tasks, observers=observers)
        kept = results["first"]
        assert sum(reference() is not None for reference in seen) == 21
        results.clear()
        assert [reference() for reference in seen if reference() is not None] == [kept]
    finally:
        gc.enable()


@ways
def test_local_variables_of_task_are_freed_when_it_returns(observers):
    seen = []

    def use():
        value = Value()
        seen.append(weakref.ref(value))

    def look(_):
        return [reference() for reference in seen]

    gc.disable()
    try:
        user, looker = Task(use), Task(look)
        user >> looker
        assert serial(looker, observers=observers)["look"] == [None]
    finally:
        gc.enable()


class OwnError(Exception):
    """An exception that can be referred to weakly."""


def failing(seen, **options):
    """Return a task of which each attempt fails, and leaves weak references to its error and to what its frame held."""

    def fail():
        value, error = Value(), OwnError("boom")
        seen[:] = [*seen, (weakref.ref(value), weakref.ref(error))]
        try:
            raise error
        finally:
            del error

    return Task(fail, delay=0, **options)


def alive(seen):
    return [sum(reference() is not None for reference in references) for references in zip(*seen, strict=True)]


@ways
@pytest.mark.parametrize("fail_fast", [True, False])
def test_last_error_is_freed_after_handler(fail_fast, observers):
    """With its frames and their local variables."""
    seen = []
    with pytest.raises((OwnError, ExceptionGroup)) as caught:
        serial(failing(seen, retries=3), fail_fast=fail_fast, observers=observers)
    gc.collect()
    assert (len(seen), alive(seen)) == (4, [1, 1])
    del caught
    gc.collect()
    assert alive(seen) == [0, 0]


def test_errors_of_retried_attempts_are_freed_at_once():
    """Without a garbage collection."""
    seen, counts = [], []

    def observer(event):
        if isinstance(event, (TaskRetrying, TaskFailed)):
            counts.append(alive(seen))

    gc.disable()
    try:
        serial(failing(seen, retries=3), observers=[observer], raise_on_failure=False)
    finally:
        gc.enable()
    assert counts == [[1, 1]] * 4


# The clock


@pytest.mark.parametrize("jump", [10.0**9, -(10.0**9), float("nan")])
def test_clock_jump_changes_neither_durations_nor_waits(monkeypatch, jump):
    """The clock is set while tasks run and while a retry waits."""
    shift, attempts, events = [0.0], [], []
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + (int(shift[0] * 1e9) if jump == jump else 0))

    def flaky():
        attempts.append(time.monotonic())
        shift[0] += jump
        if len(attempts) < 3:
            raise ValueError

    def observer(event):
        shift[0] -= jump / 2
        events.append(event)

    began = time.perf_counter()
    results = serial(Task(flaky, retries=2, delay=0.02, backoff=1, jitter=0), observers=[observer])
    spent = time.perf_counter() - began
    assert [after - before >= 0.02 for before, after in pairwise(attempts)] == [True, True]
    assert [event.delay for event in events if isinstance(event, TaskRetrying)] == [0.02, 0.02]
    durations = [event.duration for event in events if isinstance(event, (TaskSucceeded, RunFinished))]
    assert len(durations) == 2
    assert all(0 <= seconds <= spent for seconds in (*durations, *results.durations.values()))


# The process that they share


def run_python(source, *arguments):
    """Run a script in a new Python, and return what it wrote to its standard output, as bytes."""
    command = [sys.executable, "-c", dedent(source), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=True).stdout


CLOSED = """
import os, sys
{prelude}
from flowkit_core import DAG, Task

def close():
    sys.stdout.close()
    sys.stderr.close()
    return "closed"

first, second, third = Task(close), Task(lambda x: print("lost"), name="prints"), Task(lambda x: x, name="silent")
first >> [second, third]
results = DAG("streams", tasks=[second, third]).run({how})
os.write(1, repr((results, results.failed)).encode())
"""
CLOSED_ENDS = "({'close': 'closed', 'silent': 'closed'}, {'prints': ValueError('I/O operation on closed file.')})"


def test_task_that_closes_standard_streams():
    """They stay closed for later tasks; the run continues."""
    output = run_python(CLOSED.format(prelude="", how="'serial', fail_fast=False, raise_on_failure=False"))
    assert output.decode() == CLOSED_ENDS


@pytest.mark.parametrize(
    "prelude",
    [
        "import logging; logging.basicConfig(level='INFO')",
        "import warnings; warnings.simplefilter('always')",
        "import warnings; warnings.simplefilter('error')",
    ],
)
def test_task_that_closes_standard_streams_in_use(prelude):
    """Loggers and observers that write to them do not fail the run."""
    how = "'serial', fail_fast=False, raise_on_failure=False, observers=[lambda event: print(end='')]"
    output = run_python(CLOSED.format(prelude=prelude, how=how)).decode()
    assert output.endswith(CLOSED_ENDS)


def test_task_that_prints_megabytes():
    """The output is not kept."""
    output = run_python("""
    from flowkit_core import DAG, Task
    def shout(): print("x" * 5_000_000)
    print(DAG("loud", tasks=[Task(shout)]).run("serial"))
    """)
    assert len(output) == 5_000_001 + len("{'shout': None}\n")
    assert output.endswith(b"x\n{'shout': None}\n")


def test_task_that_changes_working_directory(tmp_path, monkeypatch):
    """Directory and environment are those of the process, as for later tasks and the caller."""
    monkeypatch.chdir(Path.cwd())
    monkeypatch.setenv("FLOWKIT_TEST_MOVED", "0")

    def move():
        os.chdir(tmp_path)
        os.environ["FLOWKIT_TEST_MOVED"] = "1"

    mover = Task(move)
    after = Task(lambda _: (Path.cwd(), os.environ["FLOWKIT_TEST_MOVED"]), name="after")
    mover >> after
    assert serial(after)["after"] == (tmp_path, "1")
    assert (Path.cwd(), os.environ["FLOWKIT_TEST_MOVED"]) == (tmp_path, "1")
