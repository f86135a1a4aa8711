"""Recorded runs with timeouts: a timed-out attempt is recorded like a failure, and a timed-out run can be resumed."""

from __future__ import annotations

import pytest

from flowkit import DAG, Flow, RunTimeoutError, StateManager, Task, TaskTimeoutError

LONG = 30.0


class Hanging:
    """A function that waits for an event in its first calls, and returns its number of calls."""

    def __init__(self, held, times):
        self.held, self.times, self.calls = held, times, 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.times:
            self.held.wait(LONG)
        return self.calls


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_attempts_that_take_too_long_are_recorded(tmp_path, held, executor):
    hanging = Hanging(held, times=1)
    task = Task(hanging, name="task", timeout=0.5, retries=9, delay=0)
    with StateManager(tmp_path / "runs.db") as state:
        results = DAG("d", tasks=[task]).run(executor, state=state)
        record = state.run(results.run_id)
    attempts = record.tasks["task"].attempts
    assert results["task"] > 1
    assert results.attempts["task"] == len(attempts) > 1
    assert "took longer than its timeout of 0.5 s" in str(attempts[0].error)
    assert (record.status, record.tasks["task"].state) == ("succeeded", "succeeded")


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_task_that_timed_out_is_resumed(tmp_path, held, executor):
    first, hanging = Task(lambda: 5, name="first"), Hanging(held, times=1)
    task = Task(hanging, name="task", timeout=0.1)
    task.after(first)
    with StateManager(tmp_path / "runs.db") as state:
        with pytest.raises(TaskTimeoutError):
            DAG("d", tasks=[task]).run(executor, state=state)
        (record,) = state.runs("d")
        assert (record.status, record.tasks["task"].state) == ("failed", "failed")
        assert "took longer than its timeout of 0.1 s" in str(record.tasks["task"].error)
        again = task.with_options(timeout=LONG)
        again.after(first)
        results = DAG("d", tasks=[again]).run(executor, state=state, resume=True)
    assert (results, results.resumed) == ({"first": 5, "task": 2}, ("first",))


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_run_that_timed_out_is_resumed(tmp_path, held, executor):
    hanging = Hanging(held, times=1)
    flow = Flow("f").add(Task(lambda: 5, name="first")).add(Task(lambda first: hanging() + first, name="second"))
    with StateManager(tmp_path / "runs.db") as state:
        with pytest.raises(RunTimeoutError) as caught:
            flow.run(executor, state=state, timeout=1.0, grace=0)
        (record,) = state.runs("f")
        assert record.status == "failed"
        assert "took longer than its timeout of 1 s" in record.error
        assert caught.value.flowkit_results.states["second"] == "cancelled"
        results = flow.run(executor, state=state, resume=True, timeout=LONG)
    assert results["second"] == results["first"] + hanging.calls
    assert results.run_id == record.run_id
