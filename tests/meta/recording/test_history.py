"""Records of runs: `StateManager.runs()`, `run()`, and runs that are in progress."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from durable_tasks import RESULTS, TIMEOUT, ManualClock, diamond, wait_until

from flowkit import (
    DAG,
    RunInUseError,
    StateClosedError,
    StateError,
    StateManager,
    Task,
    UnknownRunError,
    UnrecordedValue,
)


@pytest.fixture(params=["file", "memory"])
def state(request, box):
    with StateManager(box.db if request.param == "file" else None) as state:
        yield state


def run(state, *tasks, name="history", **options):
    return DAG(name, tasks=tasks).run("serial", state=state, raise_on_failure=False, **options)


def test_runs_of_empty_state_is_empty(state):
    assert state.runs() == []
    assert state.runs("etl") == []


def test_runs_are_listed_newest_first(box, state):
    ids = [run(state, box.task("a"), name=name).run_id for name in ("one", "two", "one")]
    assert [record.run_id for record in state.runs()] == ids[::-1]
    assert [record.run_id for record in state.runs("one")] == [ids[2], ids[0]]
    assert [record.run_id for record in state.runs(pipeline="two")] == [ids[1]]
    assert state.runs("on") == []


def test_runs_are_listed_in_order_of_start_if_clock_is_set_back(box):
    clock = ManualClock()
    with StateManager(box.db, clock=clock) as state:
        first = run(state, box.task("a"))
        clock.now -= 86_400
        second = run(state, box.task("a"))
        assert [record.run_id for record in state.runs()] == [second.run_id, first.run_id]
        assert all(record.duration >= 0 for record in state.runs())


def test_run_record_attributes(box, state):
    before = dt.datetime.now(dt.UTC)
    results = run(state, box.task("a", value=1), params={})
    after = dt.datetime.now(dt.UTC)
    record = state.run(results.run_id)
    assert (record.run_id, record.pipeline, record.status) == (results.run_id, "history", "succeeded")
    assert record.started.tzinfo is not None
    slack = dt.timedelta(seconds=1)
    assert before - slack <= record.started <= record.ended <= after + slack
    assert 0 <= record.duration <= (after - before + slack).total_seconds()
    assert (record.resumes, record.params, record.error) == (0, {}, None)
    assert record.counts == {"succeeded": 1}
    assert list(record.tasks) == ["a"]


def test_task_record_attributes(box, state):
    results = run(state, box.task("a", value=[1]))
    item = state.run(results.run_id).tasks["a"]
    assert (item.name, item.state, len(item.attempts), item.reason, item.error) == ("a", "succeeded", 1, "", None)
    assert item.source == "run"
    assert item.started.tzinfo is not None
    assert item.duration == pytest.approx(results.durations["a"], abs=1)
    assert item.result() == [1]


def test_task_records_are_in_topological_order(box):
    results = diamond().run("thread", state=box.db, params=box.params)
    with StateManager(box.db) as state:
        assert list(state.run(results.run_id).tasks) == list(results) == list(RESULTS)


def test_params_are_recorded_as_values(state):
    values = {"rate": (1, 2), "day": dt.date(2026, 11, 30), "rows": list(range(100_000)), "other": object()}
    results = run(state, Task(lambda rate, day, rows, other: 1, name="a"), params=values)
    record = state.run(results.run_id)
    other = record.params.pop("other")
    assert record.params == {name: values[name] for name in ("rate", "day", "rows")}
    assert type(other) is UnrecordedValue
    assert (other.text, other.reason) == (repr(values["other"]), "its value was not stored")
    assert repr(other) == f"<UnrecordedValue {other.text}: its value was not stored>"


def test_error_is_recorded_with_traceback(box, state):
    def broken():
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("it is broken") from error

    results = run(state, Task(broken, retries=1, delay=0), box.task("b"), fail_fast=False)
    record = state.run(results.run_id)
    item = record.tasks["broken"]
    assert (record.status, item.state, len(item.attempts)) == ("failed", "failed", 2)
    assert item.error.type.rpartition(".")[2] == "ValueError"
    assert item.error.message == "it is broken"
    assert 'raise ValueError("it is broken") from error' in item.error.traceback
    assert Path(__file__).name in item.error.traceback
    assert "KeyError: 'missing'" in item.error.traceback
    assert "'broken'" in record.error, "several may have failed: it is a group"
    assert record.counts == {"failed": 1, "succeeded": 1}
    assert record.tasks["b"].error is None


def test_error_whose_str_raises_is_recorded(box, state):
    class Nasty(Exception):
        def __str__(self):
            raise RuntimeError("no")

        __repr__ = __str__

        def __reduce__(self):
            raise RuntimeError("no")

    def nasty():
        raise Nasty

    results = run(state, Task(nasty))
    assert state.run(results.run_id).tasks["nasty"].error.type.endswith("Nasty")


def test_error_of_worker_process_is_recorded_with_traceback(box):
    box.inject("double", "fail")
    results = diamond().run("process", state=box.db, params=box.params, raise_on_failure=False)
    with StateManager(box.db) as state:
        error = state.run(results.run_id).tasks["double"].error
    assert error.message == "double is broken"
    assert "durable_tasks.py" in error.traceback


def test_task_that_did_not_run_has_reason(box, state):
    box.inject("b", "fail")
    skipped = box.task("skipped", when=lambda: False)
    b, c = box.task("b"), box.task("c")
    b >> c
    results = run(state, skipped, c)
    record = state.run(results.run_id)
    assert record.tasks["skipped"].reason == results.skipped["skipped"]
    assert "b" in record.tasks["c"].reason
    assert record.tasks["c"].attempts == ()
    assert record.counts == {"skipped": 1, "failed": 1, "upstream_failed": 1}


def test_result_of_failed_task_raises(box, state):
    box.inject("b", "fail")
    results = run(state, box.task("b"))
    with pytest.raises((LookupError, StateError)):
        state.run(results.run_id).tasks["b"].result()


def test_unknown_run_raises(box, state):
    results = run(state, box.task("a"))
    with pytest.raises(UnknownRunError, match="no-such-run") as caught:
        state.run("no-such-run")
    assert isinstance(caught.value, StateError)
    assert isinstance(caught.value, LookupError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    for call in (state.forget, state.release, state.explain):
        with pytest.raises(UnknownRunError):
            call("no-such-run")
    assert state.run(results.run_id)


def test_closed_state_raises(box):
    state = StateManager(box.db)
    state.close()
    for call in (state.runs, state.gc, lambda: state.run("x"), lambda: state.forget("x"), state.explain):
        with pytest.raises(StateClosedError):
            call()


@pytest.mark.parametrize("call", ["runs", "gc", "explain"])
def test_json_file_raises(box, call):
    with StateManager(Path(box.folder, "state.json")) as state, pytest.raises((StateError, ValueError, TypeError)):
        getattr(state, call)()


def test_error_of_run_is_text_of_exception(box, state):
    box.inject("a", "fail")
    results = run(state, box.task("a"))
    assert state.run(results.run_id).error == "ValueError: a is broken"


def test_loaded_record_can_be_read_after_close(box):
    with StateManager(box.db) as state:
        run(state, box.task("a", value=1))
        (record,) = state.runs()
    assert record.tasks["a"].state == "succeeded"
    assert record.counts == {"succeeded": 1}
    with pytest.raises(StateClosedError):
        record.tasks["a"].result()


WAITS = """
import sys
from durable_tasks import Box, diamond
box = Box(sys.argv[1])
diamond().run("serial", state=box.db, params=box.params)
"""


@pytest.fixture
def other(box):
    """A process that runs a pipeline and waits in the last task."""
    box.inject("report", "wait")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", WAITS, box.folder], env=environment)
    try:
        wait_until(lambda: "report" in box.ran or process.poll() is not None)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait()


def test_run_of_other_process_is_running_then_succeeded(box, other):
    with StateManager(box.db) as state:
        (record,) = state.runs()
        assert (record.status, record.ended) == ("running", None)
        assert record.tasks["report"].state == "pending"
        assert record.tasks["double"].result() == RESULTS["double"]
        assert record.counts["succeeded"] == 3
        assert record.duration is None
        with pytest.raises(RunInUseError) as caught:
            diamond().run("serial", state=state, params=box.params, resume=True)
        error = caught.value
        assert (error.pid, error.run_id, error.host) == (other.pid, record.run_id, socket.gethostname())
        box.repair("report")
        assert other.wait(TIMEOUT) == 0
        record = state.run(record.run_id)
        assert (record.status, record.counts) == ("succeeded", {"succeeded": 4})
        assert record.ended >= record.started


@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
def test_run_of_killed_process_is_interrupted(box, other, reaped):
    """Also if the process is a zombie."""
    other.kill()
    if reaped:
        other.wait()
    else:
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    with StateManager(box.db) as state:
        (record,) = state.runs()
        assert record.status == "interrupted"
        assert state.run(record.run_id).status == "interrupted"
        assert record.tasks["report"].state == "pending"
        box.repair("report")
        results = diamond().run("serial", state=state, params=box.params, resume=True)
        assert results == RESULTS
        assert results.run_id == record.run_id
        record = state.run(record.run_id)
        assert (record.status, record.resumes) == ("succeeded", 1)


def test_run_of_same_process_is_running(box):
    def watch():
        with StateManager(db) as state:
            record = state.runs()[0]
            return [record.status, record.ended is None, record.tasks["watch"].state]

    db = box.db
    assert DAG("watched", tasks=[Task(watch)]).run("thread", state=db) == {"watch": ["running", True, "pending"]}


def test_forget_and_gc_keep_running_run(box, other):
    with StateManager(box.db) as state:
        (record,) = state.runs()
        with pytest.raises(RunInUseError):
            state.forget(record.run_id)
        assert state.gc(keep=0).runs == 0
        assert state.run(record.run_id).status == "running"
        box.repair("report")
        assert other.wait(TIMEOUT) == 0
        assert state.run(record.run_id).status == "succeeded"


def test_database_of_first_version_is_migrated(box):
    columns = "key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, stored REAL NOT NULL, expires REAL, metadata TEXT"
    connection = sqlite3.connect(box.db)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"CREATE TABLE entries ({columns})")
    connection.execute("CREATE INDEX entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL")
    connection.execute("PRAGMA application_id = 0x666C6F77")
    connection.execute("PRAGMA user_version = 1")
    connection.execute("INSERT INTO entries VALUES ('mine', '[1,2]', 1.0, NULL, NULL)")
    connection.commit()
    connection.close()
    with StateManager(box.db) as state:
        assert state.runs() == []
        assert state.get("mine") == [1, 2]
        results = run(state, box.task("a"))
        assert state.run(results.run_id).status == "succeeded"
        assert state.get_all() == {"mine": [1, 2]}
