"""Runs on threads that are stopped or cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest
from subprocess_harness import guarded
from thread_checks import SECONDS, living_helpers, nothing, run

from flowkit_core import DAG, Run, Task, TaskFailed, TaskRetrying, TaskStarted, TaskSucceeded
from flowkit_exec import ThreadExecutor

pytestmark = pytest.mark.slow


@guarded
def test_task_whose_condition_was_true_does_not_start_after_a_failure():
    judging, failed, started = threading.Event(), threading.Event(), []

    def fail():
        judging.wait(SECONDS)
        raise ValueError("boom")

    def condition():
        judging.set()
        return failed.wait(SECONDS)

    def observer(event):
        if isinstance(event, TaskFailed):
            failed.set()
        elif isinstance(event, TaskStarted):
            started.append(event.task)

    with pytest.raises(ValueError) as caught:
        run(2, Task(fail), Task(lambda: started.append("ran"), name="other", when=condition), observers=[observer])
    assert started == ["fail"]
    assert caught.value.flowkit_results.states == {"fail": "failed", "other": "cancelled"}


@pytest.mark.parametrize("workers", [1, 2])
@guarded
def test_run_is_cancelled_while_all_tasks_wait_for_a_retry(workers):
    waiting = threading.Event()
    tasks = [Task(lambda: 1 / 0, name=name, retries=1, delay=3600) for name in "ab"]
    graph = DAG("canceled", tasks=tasks).graph()
    canceled = Run(graph, observers=[lambda event: isinstance(event, TaskRetrying) and waiting.set()])

    def cancel():
        waiting.wait(SECONDS)
        threading.Event().wait(0.3)  # until the polling interval is long
        canceled.cancel("enough")

    other = threading.Thread(target=cancel)
    other.start()
    ThreadExecutor(workers).execute(canceled)
    other.join()
    assert canceled.done
    assert set(canceled.state.states().values()) == {"cancelled"}
    assert not living_helpers()


@pytest.mark.parametrize("workers", [1, 2, 8])
@guarded
def test_observer_may_cancel_the_run(workers):
    tasks = [Task(nothing, name=f"task_{number}") for number in range(50)]
    graph = DAG("canceled", tasks=tasks).graph()
    succeeded = []

    def observer(event):
        if isinstance(event, TaskSucceeded):
            succeeded.append(event.task)
            if len(succeeded) == 10:
                canceled.cancel("enough")

    canceled = Run(graph, observers=[observer])
    ThreadExecutor(workers).execute(canceled)
    states = list(canceled.state.states().values())
    assert canceled.done
    assert set(states) == {"succeeded", "cancelled"}
    assert 10 <= states.count("succeeded") < 10 + workers


def blocked_pipeline(kind, started, release, *others):
    """Return a pipeline with a task `block` that waits for an event: alone, mapped, or mapped in a chain."""

    def block(number=0):
        if number or kind == "alone":
            started.set()
            release.wait(SECONDS)
        return number

    block = Task(block)
    clean = Task(lambda *_: release.is_set(), name="clean", trigger="all_done")
    if kind == "alone":
        block >> clean
    else:
        numbers = Task(lambda: [0, 1, 2], name="numbers")
        after = Task(lambda number: number, name="after")
        chain = {"mapped": [block], "first of a chain": [block, after], "last of a chain": [after, block]}[kind]
        last = numbers
        for each in chain:
            last = last >> each.map()
        last >> clean
    return DAG("blocked", tasks=[clean, *others])


KINDS = pytest.mark.parametrize("kind", ["alone", "mapped", "first of a chain", "last of a chain"])


@KINDS
@pytest.mark.parametrize("workers", [1, 3])
@guarded
def test_cancelled_arun_abandons_blocked_calls_after_the_grace(monkeypatch, kind, workers):
    monkeypatch.setattr("flowkit_core.runs.session.STOP_GRACE", 0.05)
    started, release = threading.Event(), threading.Event()
    dag = blocked_pipeline(kind, started, release)

    async def main():
        waiting = asyncio.create_task(dag.arun("thread", max_workers=workers))
        assert await asyncio.to_thread(started.wait, SECONDS)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await waiting
        return caught.value.flowkit_results

    results = asyncio.run(main())
    release.set()
    assert results.states["block"] == "cancelled"
    assert results["clean"] is False  # it ran while the calls were blocked


@KINDS
@guarded
def test_system_exit_abandons_blocked_calls_after_the_grace(monkeypatch, kind):
    monkeypatch.setattr("flowkit_core.runs.session.STOP_GRACE", 0.05)
    started, release = threading.Event(), threading.Event()

    def leave():
        started.wait(SECONDS)
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        asyncio.run(blocked_pipeline(kind, started, release, Task(leave)).arun("thread", max_workers=4))
    release.set()
    results = caught.value.flowkit_results
    assert results.states["leave"] == "failed"
    assert results.states["block"] == "cancelled"
    assert results["clean"] is False


@guarded
def test_system_exit_while_a_failed_run_waits_starts_the_grace(monkeypatch):
    monkeypatch.setattr("flowkit_core.runs.session.STOP_GRACE", 0.05)
    all_run, failed, release = threading.Barrier(3, timeout=SECONDS), threading.Event(), threading.Event()

    def observe(_event):
        failed.set()

    observe.events = (TaskFailed,)

    def leave():
        all_run.wait()
        failed.wait(SECONDS)
        raise SystemExit(3)

    def bad():
        all_run.wait()
        raise ValueError("bad")

    def block():
        all_run.wait()
        release.wait(SECONDS)

    block, bad = Task(block), Task(bad)
    clean = Task(lambda *_: release.is_set(), name="clean", trigger="all_done")
    block >> clean
    with pytest.raises(SystemExit) as caught:
        asyncio.run(DAG("both", tasks=[Task(leave), clean, bad]).arun("thread", max_workers=4, observers=[observe]))
    release.set()
    results = caught.value.flowkit_results
    assert results.states == {"leave": "failed", "bad": "failed", "block": "cancelled", "clean": "succeeded"}
    assert results["clean"] is False


@guarded
def test_call_that_ends_while_it_is_abandoned_leaves_no_worker_uncounted(monkeypatch):
    release, ended, executor = threading.Event(), threading.Event(), LastLane(2)
    may_start = Run.may_start

    def end_call_before_answer(run, node):  # called by stop(), which has found that the call is running
        if node.name == "slow" and run.stopping:
            release.set()
            ended.wait(SECONDS)
            threading.Event().wait(0.1)  # so that its worker may look for other work
        return may_start(run, node)

    def observe(event):
        if event.task == "slow":
            ended.set()

    observe.events = (TaskSucceeded,)
    monkeypatch.setattr(Run, "may_start", end_call_before_answer)
    dag = DAG("late", tasks=[Task(lambda: release.wait(SECONDS), name="slow"), Task(lambda: 1 / 0, name="bad")])
    with pytest.raises(ZeroDivisionError) as caught:
        dag.run(executor, grace=0, observers=[observe])
    assert caught.value.flowkit_results.states == {"slow": "succeeded", "bad": "failed"}
    assert "active=0" in repr(executor.last_lane)


class LastLane(ThreadExecutor):
    """An executor that keeps its last lane."""

    def lane(self):
        self.last_lane = super().lane()
        return self.last_lane
