"""Runs on threads that are stopped or cancelled."""

from __future__ import annotations

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
