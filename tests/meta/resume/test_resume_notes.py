"""Notes of a failed task are there for the run that resumes it, with every executor."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from noting_tasks import submit

from flowkit import DAG, FuturesExecutor, StateManager, Task


@pytest.mark.parametrize("kind", ["serial", "thread", "process", "pool-thread", "pool-process"])
def test_note_of_failed_task_is_there_in_resumed_run(tmp_path, kind):
    pool = {
        "pool-thread": lambda: ThreadPoolExecutor(1),
        "pool-process": lambda: ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")),
    }.get(kind)
    made = pool() if pool is not None else None
    executor = kind if made is None else FuturesExecutor(made)
    try:
        with StateManager(tmp_path / "runs.db") as state:
            dag = DAG("jobs", tasks=[Task(submit)])
            with pytest.raises(ConnectionError, match="job-17"):
                dag.run(executor, state=state)
            assert dag.run(executor, state=state, resume=True) == {"submit": "went on with job-17"}
    finally:
        if made is not None:
            made.shutdown()
