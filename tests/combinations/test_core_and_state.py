"""Recorded runs and cached tasks, with each executor that is installed."""

from __future__ import annotations

import shop_tasks

from flowkit_core import DAG, Task
from flowkit_state import StateManager


def test_run_that_failed_is_resumed_with_any_executor(executor, tmp_path):
    dag = DAG("nightly", tasks=[Task(shop_tasks.extract), Task(shop_tasks.unstable)])
    options = {"params": {"path": str(tmp_path / "called")}, "state": tmp_path / "runs.db", "resume": True}
    assert [*dag.run(executor, fail_fast=False, raise_on_failure=False, **options).failed] == ["unstable"]
    results = dag.run(executor, **options)
    assert results == {"extract": [3, 1, 2], "unstable": "answer"}
    assert results.resumed == ("extract",)


def test_cached_task_is_not_run_again_with_any_executor(executor, tmp_path):
    dag = DAG("cached", tasks=[Task(shop_tasks.extract, cache=True)])
    with StateManager(tmp_path / "cache.db") as state:
        runs = [dag.run(executor, state=state) for _ in range(2)]
    assert [run.cached for run in runs] == [(), ("extract",)]
