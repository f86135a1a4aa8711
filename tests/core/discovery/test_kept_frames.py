"""Frames that outlive their calls: an exception, a reference cycle or another thread keeps them alive."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from flowkit_core import DAG, Task

saved: list[BaseException] = []


@pytest.fixture(autouse=True)
def nothing_is_saved():
    """Forget saved exceptions; no automatic garbage collection disturbs the order of events."""
    gc.collect()
    gc.disable()
    yield
    saved.clear()
    gc.enable()
    gc.collect()


def make_in_cycle():
    """Make a task; the frame is part of a reference cycle, because a local variable holds the caught exception."""
    try:
        Task(lambda: 1, name="made"), 1 / 0
    except ZeroDivisionError as error:
        kept = error
        return len(str(kept))


def make_and_save():
    """Make a task, and save the caught exception, whose traceback has the frame."""
    try:
        Task(lambda: 1, name="made"), 1 / 0
    except ZeroDivisionError as error:
        saved.append(error)


def make_and_raise():
    """Make a task, and raise an exception that keeps the frame alive."""
    try:
        Task(lambda: 1, name="made"), 1 / 0
    except ZeroDivisionError as error:
        kept = error
        raise RuntimeError(str(kept)) from kept


def collect_below():
    gc.collect()


def collect_in_thread():
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join()


def nothing():
    """Let the frame live on."""


RELEASES = {
    "nothing": nothing,
    "collected here": gc.collect,
    "collected below": collect_below,
    "collected in a thread": collect_in_thread,
    "exception released": saved.clear,
}


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
@pytest.mark.parametrize("make", [make_in_cycle, make_and_save])
def test_task_of_a_returned_call_is_passed_on(make, release):
    """However and whenever the frame is freed, the call has returned."""
    Task(lambda: 2, name="own")
    make()
    release()
    assert DAG("kept").run("serial") == {"own": 2, "made": 1}


@pytest.mark.parametrize("release", [nothing, gc.collect, collect_below, collect_in_thread])
@pytest.mark.parametrize("make", [make_in_cycle, make_and_save])
def test_task_of_a_call_in_a_try_block_is_passed_on(make, release):
    """The collection settles calls whose exceptions would have been handled by the caller."""
    Task(lambda: 2, name="own")
    try:
        make()
    except ZeroDivisionError:
        pytest.fail("the function handles it")
    release()
    assert DAG("kept").run("serial") == {"own": 2, "made": 1}


@pytest.mark.parametrize("release", [nothing, gc.collect, collect_below, collect_in_thread])
def test_task_of_a_call_that_raised_is_not_passed_on(release):
    """The frame of a call that raised may be part of a cycle, too."""
    Task(lambda: 2, name="own")
    try:
        make_and_raise()
    except RuntimeError as error:
        assert str(error)
    release()
    assert DAG("kept").run("serial") == {"own": 2}


def test_task_of_a_call_that_raised_through_two_callers_is_not_passed_on():
    """Neither the caller without a handler nor the caller with one gets the task."""

    def middle():
        make_and_raise()

    Task(lambda: 2, name="own")
    with pytest.raises(RuntimeError):
        middle()
    gc.collect()
    assert DAG("kept").run("serial") == {"own": 2}


@pytest.mark.parametrize("release", [nothing, gc.collect, collect_below, collect_in_thread])
def test_task_of_an_exhausted_generator_is_passed_on(release):
    """A generator that stores an exception that it has caught is part of a cycle."""

    def steps():
        make_in_cycle()
        try:
            Task(lambda: 3, name="last"), 1 / 0
        except ZeroDivisionError as error:
            kept = error
        yield str(kept)

    Task(lambda: 2, name="own")
    for _ in steps():
        pass
    release()
    assert DAG("kept").run("serial") == {"own": 2, "made": 1, "last": 3}


def test_suspended_generator_that_stored_an_exception_keeps_its_task():
    """A collection does not end a generator that is suspended."""

    def steps():
        try:
            Task(lambda: 3, name="last"), 1 / 0
        except ZeroDivisionError as error:
            kept = error
        yield str(kept)

    Task(lambda: 2, name="own")
    suspended = steps()
    next(suspended)
    gc.collect()
    assert DAG("early").run("serial") == {"own": 2}
    assert list(suspended) == []
    assert DAG("late").run("serial") == {"own": 2, "last": 3}


@pytest.mark.parametrize("release", [nothing, gc.collect, collect_below])
def test_task_of_an_awaited_coroutine_is_passed_on(release):
    """A coroutine that stores an exception that it has caught is part of a cycle."""

    async def make():
        try:
            Task(lambda: 3, name="last"), 1 / 0
        except ZeroDivisionError as error:
            kept = error
        await asyncio.sleep(0)
        return str(kept)

    async def main():
        Task(lambda: 2, name="own")
        await make()
        release()
        return DAG("kept").run("serial")

    assert asyncio.run(main()) == {"own": 2, "last": 3}


def test_coroutines_that_store_exceptions_stay_separate():
    """Requests of an event loop that are suspended in each other's builds have their own tasks only."""

    async def handle(name):
        try:
            Task(lambda: name, name=name), 1 / 0
        except ZeroDivisionError as error:
            kept = error
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        return DAG("request").run("serial"), str(kept)

    async def main():
        return await asyncio.gather(*(handle(f"task_{number}") for number in range(20)))

    runs = asyncio.run(main())
    assert [run for run, _ in runs] == [{f"task_{number}": f"task_{number}"} for number in range(20)]


def test_threads_with_collections_in_each_other_stay_separate():
    """A collection in one thread settles the calls of the other threads as their own."""
    start = threading.Barrier(4)
    results = {}

    def handle(name):
        Task(lambda: name, name=name)
        make_in_cycle()
        start.wait(60)
        gc.collect()
        start.wait(60)
        results[name] = DAG("request").run("serial")

    threads = [threading.Thread(target=handle, args=(f"task_{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {f"task_{n}": {f"task_{n}": f"task_{n}", "made": 1} for n in range(4)}


def test_nothing_is_kept_after_the_collection():
    """Frames, calls and tasks are freed."""
    from weakref import ref

    def build():
        task = Task(lambda: 1, name="own")
        make_in_cycle()
        assert DAG("kept").run("serial") == {"own": 1, "made": 1}
        return ref(task)

    references = [build() for _ in range(10)]
    gc.collect()
    assert [reference() for reference in references] == [None] * 10
