"""Cached and resumed tasks take no slots of pools; recorded runs have pools as others."""

from __future__ import annotations

import pytest

from flowkit import DAG, Rate, StateManager, Task
from flowkit.testing import VirtualTimeExecutor

CLOSED = {"api": Rate(1, per=1e6)}


def five():
    return [Task(lambda n=n: n, name=f"t{n}", pool="api", cache=True) for n in range(5)]


def test_cached_results_need_no_start(tmp_path):
    tasks, executor = five(), VirtualTimeExecutor()
    with StateManager(tmp_path / "runs.db") as state:
        first = DAG("d", tasks=tasks).run(executor, state=state, pools={"api": Rate(5)})
        assert list(first.cached) == []
        second = DAG("d", tasks=tasks).run(executor, state=state, pools=CLOSED)
    assert (len(second.cached), executor.seconds) == (5, 0)
    assert second == first


def test_cache_is_looked_at_once_by_a_task_that_waits(tmp_path):
    tasks, executor = five(), VirtualTimeExecutor()
    with StateManager(tmp_path / "runs.db") as state:
        results = DAG("d", tasks=tasks).run(executor, state=state, pools={"api": Rate(1, per=10)})
    assert (len(results), executor.seconds) == (5, 40)


def test_resumed_tasks_need_no_start(tmp_path):
    broken = [True]

    def fail():
        if broken:
            raise OSError
        return "done"

    done = [Task(lambda n=n: n, name=f"t{n}", pool="api", priority=1) for n in range(5)]
    last = Task(fail, name="last", pool="api")
    dag, executor = DAG("d", tasks=[*done, last]), VirtualTimeExecutor()
    with StateManager(tmp_path / "runs.db") as state:
        with pytest.raises(OSError):
            dag.run(executor, state=state, pools={"api": Rate(6)})
        broken.clear()
        results = dag.run(executor, state=state, resume=True, pools=CLOSED)
    assert results["last"] == "done"
    assert (len(results.resumed), executor.seconds) == (5, 0)


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_waiting_is_in_the_record(tmp_path, executor):
    tasks = [Task(lambda: 1, name=f"t{n}", pool="api") for n in range(3)]
    with StateManager(tmp_path / "runs.db") as state:
        DAG("d", tasks=tasks).run(executor, state=state, pools={"api": Rate(1, per=0.05)})
        (record,) = state.runs()
        waits = sorted(
            (attempt.started - attempt.ready).total_seconds()
            for task in record.tasks.values()
            for attempt in task.attempts
        )
    assert waits[1] >= 0.04
    assert waits[2] >= 0.09
