"""Async tasks: what two threads do at the same moment, with their order fixed by the test."""

from __future__ import annotations

import asyncio
import inspect
import threading
from time import monotonic

import pytest

from flowkit_core import DAG, Task
from flowkit_core.runs.event_loop.caller import AsyncCaller
from flowkit_core.runs.event_loop.lane import LoopLane
from flowkit_core.runs.event_loop.shared_loop import run_in_loop
from flowkit_core.runs.run import Run

LONG = 30.0


def test_coroutine_that_is_cancelled_before_its_first_step_is_not_abandoned():
    """A task of asyncio that is cancelled before its first step would never call the coroutine."""
    creating, cancelling = threading.Event(), threading.Event()
    seen = []

    class Loop(asyncio.SelectorEventLoop):
        def create_task(self, coroutine, **options):
            if coroutine.__name__ == "_make_call":
                creating.set()
                assert cancelling.wait(LONG)
            return super().create_task(coroutine, **options)

        def call_soon_threadsafe(self, callback, *args, **options):
            handle = super().call_soon_threadsafe(callback, *args, **options)
            if getattr(callback, "__name__", "") == "_cancel":
                cancelling.set()
            return handle

    async def slow():
        try:
            await asyncio.sleep(LONG)
        finally:
            seen.append("ended")

    def fail():
        assert creating.wait(LONG)
        raise ValueError("stop")

    dag = DAG("early", tasks=[Task(slow), Task(fail)])
    with asyncio.Runner(loop_factory=Loop) as runner:
        results = runner.run(dag.arun(grace=0.01, raise_on_failure=False))
    assert results.states == {"slow": "cancelled", "fail": "failed"}
    assert seen == ["ended"]


@pytest.mark.parametrize("is_scheduled", [False, True])
def test_interrupt_before_the_first_step_of_an_awaited_coroutine_ends_it(is_scheduled):
    seen = []

    class Loop(asyncio.SelectorEventLoop):
        """Is started when the second callback is scheduled, the cancellation; the interrupt comes at the first."""

        thread = None

        def call_soon_threadsafe(self, callback, *args, **options):
            if not self.is_interrupted:
                self.is_interrupted = True
                if is_scheduled:
                    super().call_soon_threadsafe(callback, *args, **options)
                raise KeyboardInterrupt
            handle = super().call_soon_threadsafe(callback, *args, **options)
            if self.thread is None:
                self.thread = threading.Thread(target=self.run_forever)
                self.thread.start()
            return handle

        is_interrupted = False

    async def wait():
        try:
            await asyncio.sleep(LONG)
        finally:
            seen.append("ended")

    loop, coroutine = Loop(), wait()
    with pytest.raises(KeyboardInterrupt):
        run_in_loop(coroutine, AsyncCaller(loop))
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert seen == ["ended"] * is_scheduled
    loop.call_soon_threadsafe(loop.stop)
    loop.thread.join()
    loop.close()


def test_slot_that_is_freed_while_a_task_is_in_no_queue_is_used_at_once(monkeypatch):
    """The thread that prepares calls takes a task from the queue, finds no slot, and puts it back."""
    release, freed = threading.Event(), threading.Event()
    may_start, free_slot, take_slot = Run.may_start, LoopLane._free_slot, LoopLane._take_slot
    took = threading.local()

    def may_start_late(run, node):
        if node.name == "prepared" and not getattr(took, "slot", True):
            release.set()
            assert freed.wait(LONG)
        return may_start(run, node)

    def take(lane):
        took.slot = take_slot(lane)
        return took.slot

    def free(lane):
        free_slot(lane)
        if release.is_set():
            freed.set()

    async def prepared():
        release.set()

    async def simple():
        await asyncio.to_thread(release.wait, LONG)

    monkeypatch.setattr(Run, "may_start", may_start_late)
    monkeypatch.setattr(LoopLane, "_free_slot", free)
    monkeypatch.setattr(LoopLane, "_take_slot", take)
    monkeypatch.setattr(LoopLane, "_watch", lambda lane: LONG)  # it would look at the queue again
    began = monotonic()
    DAG("slots", tasks=[Task(prepared, timeout=LONG), Task(simple)]).run(max_async=1)
    assert monotonic() - began < LONG
