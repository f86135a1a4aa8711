"""Databases that another process has locked."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import pytest
from crash_scripts import assert_resumed, start_script, wait_for_exit
from durable_tasks import RESULTS, diamond

from flowkit import DAG, StateLockedError, StateManager, TaskStarted

pytestmark = pytest.mark.slow

LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


@pytest.fixture
def locker(box):
    """A process that locks the database on demand; it is stopped at the end of the test."""
    locker = Locker(box)
    yield locker
    if locker.process is not None:
        locker.unlock()


class Locker:
    """An observer that starts a process which locks the database when a given task starts."""

    events = (TaskStarted,)

    def __init__(self, box):
        self.path = Path(box.folder, "lock.py")
        self.path.write_text(LOCK)
        self.db = box.db
        self.task = None
        self.process = None

    def __call__(self, event):
        if event.task == self.task and self.process is None:
            self.lock()

    def lock(self):
        self.process = start_script(self.path, self.db)
        assert self.process.stdout.readline() == "locked\n"

    def unlock(self):
        process, self.process, self.task = self.process, None, None
        assert wait_for_exit(process)[0] == 0


def test_database_locked_before_run_raises_before_any_task_runs(failed_box, locker):
    locker.lock()
    ran = failed_box.ran
    with StateManager(failed_box.db, lock_timeout=0.05) as state, pytest.raises(StateLockedError, match=r"runs\.db"):
        diamond().run("serial", state=state, params=failed_box.params, resume=True)
    locker.unlock()
    assert failed_box.ran == ran
    assert_resumed(failed_box)


@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_database_locked_during_task_raises_and_keeps_results(box, locker, executor):
    locker.task = "report"
    with StateManager(box.db, lock_timeout=0.05) as state:
        with pytest.raises(StateLockedError) as caught:
            diamond().run(executor, state=state, params=box.params, observers=[locker])
        assert any("report" in note for note in caught.value.__notes__)
        assert caught.value.flowkit_results == RESULTS
        locker.unlock()
        assert Counter(box.ran) == dict.fromkeys(RESULTS, 1)
        assert_resumed(box, state)


def test_cleanup_task_runs_if_database_is_locked(box, locker):
    work, after, tidy = box.task("work"), box.task("after"), box.task("tidy", trigger="all_done")
    work >> after >> tidy
    pipeline = DAG("cleanup", tasks=[tidy])
    locker.task = "work"
    with StateManager(box.db, lock_timeout=0.05) as state:
        with pytest.raises(StateLockedError) as caught:
            pipeline.run("serial", state=state, observers=[locker])
        locker.unlock()
        assert box.ran == ["work", "tidy"]
        assert caught.value.flowkit_results["work"] == "work"
        results = pipeline.run("serial", state=state, resume=True)
    assert {"work", "after"} <= set(results)
    assert Counter(box.ran) == {"work": 2, "after": 1, "tidy": 2}


def test_database_locked_with_state_errors_warn_continues_run(box, locker):
    locker.task = "double"
    with StateManager(box.db, lock_timeout=0.05) as state:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            results = diamond().run("serial", state=state, params=box.params, observers=[locker], state_errors="warn")
        warned = [warning for warning in warned if warning.category is not ResourceWarning]  # from earlier tests
        assert {warning.category for warning in warned} == {RuntimeWarning}
        assert "'double'" in str(warned[0].message)
        assert "locked" in str(warned[0].message)
        assert results == RESULTS
        assert results.states == dict.fromkeys(RESULTS, "succeeded")
        locker.unlock()
        assert Counter(box.ran) == dict.fromkeys(RESULTS, 1)
        assert diamond().run("serial", state=state, params=box.params, resume=True) == RESULTS
    assert box.ran.count("extract") == 1


def test_unrecorded_task_runs_again_on_resume(box, locker):
    """Even if the lock was released before the run ended."""

    def unlock(event):
        if event.task == "count" and locker.process is not None:
            locker.unlock()

    unlock.events = (TaskStarted,)
    locker.task = "double"
    box.inject("report", "fail")
    with StateManager(box.db, lock_timeout=0.05) as state:
        with pytest.warns(RuntimeWarning, match="'double'"):
            diamond().run(
                "serial",
                state=state,
                params=box.params,
                observers=[locker, unlock],
                state_errors="warn",
                raise_on_failure=False,
            )
        box.repair("report")
        recorded = {name for name, item in state.runs()[0].tasks.items() if item.state == "succeeded"}
        assert "extract" in recorded
        assert "double" not in recorded
        results = diamond().run("serial", state=state, params=box.params, resume=True)
    assert results == RESULTS
    assert set(results.resumed) == recorded
    assert all(box.ran.count(name) == 1 for name in recorded)
    assert box.ran.count("double") == 2
