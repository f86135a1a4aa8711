"""What threads and runs keep alive."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from subprocess_harness import guarded
from thread_checks import SECONDS, living_helpers, run

from flowkit_core import Task, TaskFailed, TaskRetrying

pytestmark = pytest.mark.slow


class Value:
    """A value that supports weak references."""


@pytest.mark.parametrize("workers", [1, 2, 8])
@guarded
def test_results_are_freed_with_the_last_reference(workers):
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
        results = run(workers, *tasks)
        kept = results["first"]
        assert sum(reference() is not None for reference in seen) == 21
        results.clear()
        assert [reference() for reference in seen if reference() is not None] == [kept]
    finally:
        gc.enable()


@pytest.mark.parametrize("workers", [1, 2])
@guarded
def test_errors_of_repeated_attempts_are_freed(workers):
    seen = []

    class OwnError(Exception):
        pass

    def fail():
        error = OwnError("boom")
        seen.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    def alive():
        gc.collect()
        return sum(reference() is not None for reference in seen)

    counts = []

    def observer(event):
        if isinstance(event, (TaskRetrying, TaskFailed)):
            counts.append(alive())

    with pytest.raises(OwnError) as caught:
        run(workers, Task(fail, retries=3, delay=0), observers=[observer])
    assert counts == [1] * 4
    del caught
    assert not alive()


@pytest.mark.parametrize("workers", [2, 8])
@guarded
def test_threads_have_names_and_end_with_the_run(workers):
    names, local, kept = set(), threading.local(), []
    both = threading.Barrier(workers, timeout=SECONDS)

    def work():
        both.wait()
        names.add(threading.current_thread().name)
        if threading.current_thread() is not threading.main_thread():
            local.value = Value()
            kept.append(weakref.ref(local.value))

    run(workers, *[Task(work, name=f"task_{number}") for number in range(workers)])
    assert names == {"MainThread", *(f"flowkit-{number}" for number in range(1, workers))}
    assert not living_helpers()
    gc.collect()
    assert not any(reference() for reference in kept)
