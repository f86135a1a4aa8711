"""Notes of tasks, `current().remember()`, in the record of a run."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import noting_tasks
import pytest

from flowkit import DAG, FuturesExecutor, StateManager, Task, UnsupportedValueError, current


def submit(box):
    """Return a task that starts a job elsewhere once, and fails until it is repaired."""

    def submit():
        job = current().notes.get("job")
        if job is None:
            job = {"id": 17, "tags": ("a", b"x" * 500_000)}
            current().remember("job", job)
            raise ConnectionError("no answer")
        if box.broken:
            raise TimeoutError("still no answer")
        return job["id"]

    return Task(submit, retries=1, delay=0)


@pytest.mark.parametrize("executor", ["serial", "thread"])
@pytest.mark.parametrize("kind", ["file", "memory"])
def test_notes_are_kept_over_attempts_and_resumes(box, executor, kind):
    with StateManager(box.db if kind == "file" else None) as state:
        box.broken = True
        first = DAG("jobs", tasks=[submit(box)]).run(executor, state=state, raise_on_failure=False)
        assert type(first.failed["submit"]) is TimeoutError
        state.gc()
        box.broken = False
        second = DAG("jobs", tasks=[submit(box)]).run(executor, state=state, resume=True)
        assert (second.run_id, second["submit"], second.attempts) == (first.run_id, 17, {"submit": 1})
        third = DAG("jobs", tasks=[submit(box)]).run(executor, state=state, resume=True)
        assert third.attempts == {"submit": 2}, "a new run has no notes"


def test_note_that_cannot_be_stored_fails_the_task(box):
    task = Task(lambda: current().remember("job", print), name="submit")
    with pytest.raises(UnsupportedValueError, match="the note 'job' of task \"submit\""):
        DAG("jobs", tasks=[task]).run("serial", state=box.db)


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
            dag = DAG("jobs", tasks=[Task(noting_tasks.submit)])
            with pytest.raises(ConnectionError, match="job-17"):
                dag.run(executor, state=state)
            assert dag.run(executor, state=state, resume=True) == {"submit": "went on with job-17"}
    finally:
        if made is not None:
            made.shutdown()
