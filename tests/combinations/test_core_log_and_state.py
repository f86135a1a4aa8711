"""Cached tasks that log."""

from __future__ import annotations

import logging_tasks

from flowkit_core import DAG, Task
from flowkit_state import StateManager


def test_task_that_reads_global_logger_is_cached():
    dag = DAG("cached", tasks=[Task(logging_tasks.extract, cache=True)])
    with StateManager() as state:
        runs = [dag.run("serial", state=state) for _ in range(2)]
    assert [run.cached for run in runs] == [(), ("extract",)]
