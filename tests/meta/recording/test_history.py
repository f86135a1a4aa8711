"""What was: the runs that a file knows, how they ended, and what is thrown away when nobody needs it."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from durable_tasks import RESULTS, TIMEOUT, ManualClock, diamond, wait_until

from flowkit import DAG, RunInUseError, StateClosedError, StateError, StateManager, Task, UnknownRunError


@pytest.fixture(params=["file", "memory"])
def state(request, box):
    with StateManager(box.db if request.param == "file" else None) as state:
        yield state


def run(state, *tasks, name="history", **options):
    return DAG(name, tasks=tasks).run("serial", state=state, raise_on_failure=False, **options)


# Runs


def test_a_state_that_saw_no_run_knows_none(state):
    assert state.runs() == []
    assert state.runs("etl") == []


def test_runs_are_listed_newest_first(box, state):
    ids = [run(state, box.task("a"), name=name).run_id for name in ("one", "two", "one")]
    assert [record.run_id for record in state.runs()] == ids[::-1]
    assert [record.run_id for record in state.runs("one")] == [ids[2], ids[0]]
    assert [record.run_id for record in state.runs(pipeline="two")] == [ids[1]]
    assert state.runs("on") == []


def test_runs_are_listed_in_their_order_whatever_the_clock_says(box):
    clock = ManualClock()
    with StateManager(box.db, clock=clock) as state:
        first = run(state, box.task("a"))
        clock.now -= 86_400
        second = run(state, box.task("a"))
        assert [record.run_id for record in state.runs()] == [second.run_id, first.run_id]
        assert all(record.duration >= 0 for record in state.runs())


def test_a_record_of_a_run(box, state):
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


def test_a_record_of_a_task(box, state):
    results = run(state, box.task("a", value=[1]))
    item = state.run(results.run_id).tasks["a"]
    assert (item.name, item.state, item.attempts, item.reason, item.error) == ("a", "succeeded", 1, "", None)
    assert item.source == "run"
    assert item.started.tzinfo is not None
    assert item.duration == pytest.approx(results.durations["a"], abs=1)
    assert item.result() == [1]


def test_tasks_are_listed_in_topological_order(box):
    results = diamond().run("thread", state=box.db, params=box.params)
    with StateManager(box.db) as state:
        assert list(state.run(results.run_id).tasks) == list(results) == list(RESULTS)


def test_params_are_recorded_as_text(state):
    secret = object()
    results = run(state, Task(lambda rate, other: 1, name="a"), params={"rate": [1, 2], "other": secret})
    record = state.run(results.run_id)
    assert record.params.keys() == {"rate", "other"}
    assert record.params["rate"] == "[1, 2]"
    assert all(type(text) is str for text in record.params.values())


def test_an_error_is_recorded_with_its_traceback(box, state):
    def broken():
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("it is broken") from error

    results = run(state, Task(broken, retries=1, delay=0), box.task("b"), fail_fast=False)
    record = state.run(results.run_id)
    item = record.tasks["broken"]
    assert (record.status, item.state, item.attempts) == ("failed", "failed", 2)
    assert item.error.type.rpartition(".")[2] == "ValueError"
    assert item.error.message == "it is broken"
    assert 'raise ValueError("it is broken") from error' in item.error.traceback
    assert Path(__file__).name in item.error.traceback
    assert "KeyError: 'missing'" in item.error.traceback
    assert "'broken'" in record.error, "several may have failed: it is a group"
    assert record.counts == {"failed": 1, "succeeded": 1}
    assert record.tasks["b"].error is None


def test_an_error_that_cannot_be_shown_is_recorded_all_the_same(box, state):
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


def test_the_error_of_a_worker_process_is_recorded_with_its_traceback(box):
    box.inject("double", "fail")
    results = diamond().run("process", state=box.db, params=box.params, raise_on_failure=False)
    with StateManager(box.db) as state:
        error = state.run(results.run_id).tasks["double"].error
    assert error.message == "double is broken"
    assert "durable_tasks.py" in error.traceback


def test_what_did_not_run_says_why(box, state):
    box.inject("b", "fail")
    skipped = box.task("skipped", when=lambda: False)
    b, c = box.task("b"), box.task("c")
    b >> c
    results = run(state, skipped, c)
    record = state.run(results.run_id)
    assert record.tasks["skipped"].reason == results.skipped["skipped"]
    assert "b" in record.tasks["c"].reason
    assert record.tasks["c"].attempts == 0
    assert record.counts == {"skipped": 1, "failed": 1, "upstream_failed": 1}


def test_a_task_without_a_result_has_none_to_give(box, state):
    """A KeyError or a StateError, never a None that nobody returned."""
    box.inject("b", "fail")
    results = run(state, box.task("b"))
    with pytest.raises((LookupError, StateError)):
        state.run(results.run_id).tasks["b"].result()


def test_a_run_that_nobody_knows(box, state):
    known = run(state, box.task("a"))
    with pytest.raises(UnknownRunError, match="no-such-run") as caught:
        state.run("no-such-run")
    assert isinstance(caught.value, StateError)
    assert isinstance(caught.value, LookupError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    for call in (state.forget, state.release, state.explain):
        with pytest.raises(UnknownRunError):
            call("no-such-run")
    assert state.run(known.run_id)


def test_a_closed_state_tells_nothing(box):
    state = StateManager(box.db)
    state.close()
    for call in (state.runs, state.gc, lambda: state.run("x"), lambda: state.forget("x"), state.explain):
        with pytest.raises(StateClosedError):
            call()


@pytest.mark.parametrize("call", ["runs", "gc", "explain"])
def test_a_json_file_keeps_no_runs(box, call):
    """It says so, rather than that there were none."""
    with StateManager(Path(box.folder, "state.json")) as state, pytest.raises((StateError, ValueError, TypeError)):
        getattr(state, call)()


def test_the_error_of_a_run_is_what_it_raised(box, state):
    box.inject("a", "fail")
    results = run(state, box.task("a"))
    assert state.run(results.run_id).error == "ValueError: a is broken"


def test_what_a_record_says_it_says_after_its_state_is_closed(box):
    with StateManager(box.db) as state:
        run(state, box.task("a", value=1))
        (record,) = state.runs()
    assert record.tasks["a"].state == "succeeded"
    assert record.counts == {"succeeded": 1}
    with pytest.raises(StateClosedError):
        record.tasks["a"].result()


# A run that is going on, and one whose process died


WAITS = """
import sys
from durable_tasks import Box, diamond
box = Box(sys.argv[1])
diamond().run("serial", state=box.db, params=box.params)
"""


@pytest.fixture
def other(box):
    """A process that runs a pipeline, and waits in its last task."""
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


def test_a_run_of_another_process_can_be_watched(box, other):
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
def test_a_run_whose_process_is_dead_reads_interrupted(box, other, reaped):
    """Also while nobody has asked how the process ended."""
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


def test_a_run_of_this_process_can_be_watched_from_within(box):
    def watch():
        with StateManager(db) as state:
            record = state.runs()[0]
            return [record.status, record.ended is None, record.tasks["watch"].state]

    db = box.db
    assert DAG("watched", tasks=[Task(watch)]).run("thread", state=db) == {"watch": ["running", True, "pending"]}


# Forgetting


def test_forget(box, state):
    first, second = run(state, box.task("a")), run(state, box.task("a"))
    state.forget(first.run_id)
    assert [record.run_id for record in state.runs()] == [second.run_id]
    with pytest.raises(UnknownRunError):
        state.run(first.run_id)


def test_what_was_forgotten_is_not_resumed(box, state):
    box.inject("b", "fail")
    a, b = box.task("a"), box.task("b")
    a >> b
    failed = run(state, b)
    state.forget(failed.run_id)
    box.repair("b")
    results = run(state, b, resume=True)
    assert results.run_id != failed.run_id
    assert set(results.resumed) == set()


def test_a_run_that_is_going_on_is_not_forgotten(box, other):
    """Its process would go on writing into nothing."""
    with StateManager(box.db) as state:
        (record,) = state.runs()
        with pytest.raises(RunInUseError):
            state.forget(record.run_id)
        assert state.gc(keep=0).runs == 0
        assert state.run(record.run_id).status == "running"
        box.repair("report")
        assert other.wait(TIMEOUT) == 0
        assert state.run(record.run_id).status == "succeeded"


# Garbage


LARGE = 300_000


def files(box):
    folder = Path(box.db + ".files")
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def test_gc_of_nothing(state):
    reclaimed = state.gc()
    assert (reclaimed.runs, reclaimed.files, reclaimed.bytes) == (0, 0, 0)


def test_gc_removes_files_that_nobody_needs(box):
    with StateManager(box.db) as state:
        one = run(state, box.task("a", value="x" * LARGE), box.task("b", value="y" * LARGE))
        two = run(state, box.task("a", value="x" * LARGE))
        assert len(files(box)) == 2
        assert state.gc().files == 0
        state.forget(one.run_id)
        reclaimed = state.gc()
        assert (reclaimed.runs, reclaimed.files) == (0, 1)
        assert reclaimed.bytes > 0
        assert len(files(box)) == 1
        assert state.run(two.run_id).tasks["a"].result() == "x" * LARGE
        state.forget(two.run_id)
        assert state.gc().files == 1
        assert files(box) == []
        assert state.gc().files == 0


def test_gc_keeps_the_newest_runs_of_each_pipeline(box):
    with StateManager(box.db) as state:
        ids = {
            name: [run(state, box.task("a", value=f"{name}{number}" * LARGE), name=name).run_id for number in range(3)]
            for name in ("one", "two")
        }
        box.inject("a", "fail")
        unfinished = run(state, box.task("a"), name="one").run_id
        reclaimed = state.gc(keep=1)
        assert (reclaimed.runs, reclaimed.files) == (4, 4)
        assert {record.run_id for record in state.runs()} == {ids["one"][2], ids["two"][2], unfinished}
        assert len(files(box)) == 2
        assert state.gc(keep=1).runs == 0
        assert state.run(ids["one"][2]).tasks["a"].result() == "one2" * LARGE
        assert state.gc(keep=0).runs == 2
        assert [record.run_id for record in state.runs()] == [unfinished]


def test_gc_without_keep_forgets_no_run(box, state):
    for _ in range(3):
        run(state, box.task("a"))
    assert state.gc().runs == 0
    assert len(state.runs()) == 3


def test_gc_keeps_what_a_cache_needs(box):
    cached = box.task("a", value="x" * LARGE, cache=True)
    with StateManager(box.db) as state:
        run(state, cached)
        assert state.gc(keep=0).runs == 1
        assert len(files(box)) == 1
        assert run(state, cached) == {"a": "x" * LARGE}
    assert box.ran == ["a"]


@pytest.mark.parametrize("keep", [-1, 1.5, "2", True])
def test_keep_is_a_number_of_runs(state, keep):
    with pytest.raises((ValueError, TypeError), match="keep"):
        state.gc(keep=keep)


def test_gc_beside_runs_takes_nothing_that_they_need(box):
    """A file is written before the row that names it: gc must not come between."""
    stop = threading.Event()
    problems = []

    def collect():
        with StateManager(box.db) as state:
            while not stop.is_set():
                try:
                    state.gc()
                except Exception as error:
                    problems.append(error)
                    return
                stop.wait(0.001)  # it must not keep the others from the file

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for number in range(8):
            tasks = [box.task(f"t{index}", value=f"{number}.{index}" * LARGE) for index in range(3)]
            last = box.task("last")
            tasks >> last
            results = DAG("beside", max_workers=2, tasks=[last]).run("thread", state=box.db)
            with StateManager(box.db) as state:
                found = {name: item.result() for name, item in state.run(results.run_id).tasks.items()}
                assert found == results
    finally:
        stop.set()
        collector.join()
    assert problems == []


# Older and newer files


def test_a_file_of_the_first_version_is_taken_over(box):
    """With all its entries."""
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
