"""What a run records, and where."""

from __future__ import annotations

import difflib
import os
import sys
import time
from pathlib import Path

import durable_tasks
import pytest
from durable_tasks import CHAIN, RESULTS, Box, diamond, step, task_states

from flowkit import DAG, StateClosedError, StateError, StateManager, Task


def test_run_is_recorded_with_results(box, executor):
    results = diamond().run(executor, state=box.db, params=box.params)
    assert results == RESULTS
    (record,) = box.records()
    assert (record.run_id, record.pipeline, record.status) == (results.run_id, "numbers", "succeeded")
    assert task_states(record) == dict.fromkeys(RESULTS, "succeeded")
    with StateManager(box.db) as state:
        assert {name: item.result() for name, item in state.run(results.run_id).tasks.items()} == RESULTS


def test_run_without_state_creates_no_file(box, monkeypatch):
    monkeypatch.chdir(box.folder)
    results = diamond().run("serial", params=box.params)
    assert (set(results.resumed), set(results.cached)) == (set(), set())
    assert [path.name for path in Path(box.folder).iterdir()] == ["ran"]


def test_task_is_recorded_before_downstream_starts(box, executor):
    first, second = Task(durable_tasks.extract), Task(durable_tasks.read_record)
    first >> second
    results = DAG("looking", tasks=[second]).run(executor, state=box.db, params=box.params)
    assert results["read_record"] == ["running", "succeeded", [1, 2, 3]]


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_task_is_recorded_before_worker_starts_next_task(box, executor):
    """Even if the tasks are independent."""
    folder, db = box.folder, box.db

    def seen():
        with StateManager(db) as state:
            found = step(folder, "seen", task_states(state.runs()[0]))
        until = time.perf_counter() + 0.01
        while time.perf_counter() < until:  # longer than a group of results
            pass
        return found

    first, second, third = (Task(seen, name=name) for name in ("first", "second", "third"))
    results = DAG("looking", max_workers=1, tasks=[first, second, third]).run(executor, state=db)
    done = [sum(state == "succeeded" for state in value.values()) for value in results.values()]
    assert sorted(done) == [0, 1, 2]


def test_recording_reads_no_attribute_that_tasks_lack(box, monkeypatch):
    """A task looks for similar names then, which takes longer than to record it."""
    looked_for = []
    monkeypatch.setattr(difflib, "get_close_matches", lambda *names, **_options: looked_for.append(names) or [])
    mapped = Task(lambda x: x, name="mapped").map("x", limit=2)
    DAG("plain", tasks=[Task(int, name="plain"), mapped]).run(state=box.db, params={"x": [1, 2]})
    assert looked_for == []


def test_all_states_of_tasks_are_recorded(box):
    box.inject("broken", "fail")
    good = box.task("good")
    broken = box.task("broken", retries=2, delay=0)
    skipped = box.task("skipped", when=lambda: False)
    after = box.task("after")
    good >> broken >> after
    results = DAG("ends", tasks=[after, skipped]).run("serial", state=box.db, fail_fast=False, raise_on_failure=False)
    (record,) = box.records()
    assert record.status == "failed"
    assert task_states(record) == results.states
    assert task_states(record) == {
        "good": "succeeded",
        "broken": "failed",
        "after": "upstream_failed",
        "skipped": "skipped",
    }
    assert {name: len(item.attempts) for name, item in record.tasks.items() if item.attempts} == {
        "good": 1,
        "broken": 3,
    }
    assert record.tasks["skipped"].reason == results.skipped["skipped"]
    assert record.tasks["broken"].error.message == "broken is broken"


def test_names_and_messages_with_special_characters_are_recorded(box):
    text = "a 'name'\n\0 \ud800 \U0001f600 %s"
    folder = box.folder

    def fails(first):
        step(folder, "fails", None)
        if not Path(folder, "repaired").exists():
            raise ValueError(text)
        return first

    first, second = box.task("first", value=text).with_options(name=text), Task(fails, name=f"{text} 2")
    first >> second
    pipeline = DAG(text, tasks=[second])
    box.failing_run(pipeline)
    (record,) = box.records()
    assert record.tasks.keys() == {text, f"{text} 2"}
    assert record.tasks[f"{text} 2"].error.message == text
    assert record.tasks[text].result() == text
    assert [run.run_id for run in box.state().runs(text)] == [record.run_id]
    Path(folder, "repaired").touch()
    results = pipeline.run("serial", state=box.db, resume=True)
    assert results == {text: text, f"{text} 2": text}
    assert box.ran == ["first", "fails", "fails"]


class ExitText(Exception):
    """Its text cannot be formatted, and the attempt ends the program."""

    def __str__(self):  # noqa: PLE0307 - it never returns
        sys.exit("no text")

    __repr__ = __str__


def deep_group():
    error = ValueError("leaf")
    for _ in range(2 * sys.getrecursionlimit()):
        error = ExceptionGroup("level", [error])
    return error


@pytest.mark.parametrize("make", [ExitText, deep_group])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_exception_that_cannot_be_formatted_is_recorded(box, make, is_mapped):
    def fail(row):
        raise make()

    rows, bad, other = Task(lambda: [1], name="rows"), Task(fail), Task(int)
    rows >> (bad.map() if is_mapped else bad)
    dag = DAG("odd", tasks=[bad, other])
    results = dag.run("serial", state=box.db, fail_fast=False, raise_on_failure=False)
    assert results.states == {"rows": "succeeded", "int": "succeeded", "fail": "failed"}
    assert not results.unrecorded
    (record,) = box.records()
    assert (record.status, task_states(record)) == ("failed", results.states)
    name = type(results.failed["fail"]).__name__
    assert record.tasks["fail"].error.type.rpartition(".")[2] == name
    assert name in record.error


@pytest.mark.parametrize("name", ["a b.db", "what?.db", "per%20cent.db", "hash#.db", "file:x.db", "\u00fc.db", "-x.db"])
def test_file_name_with_special_characters(box, monkeypatch, name):
    monkeypatch.chdir(box.folder)
    large = box.task("large", value="x" * 300_000)
    DAG("names", tasks=[large]).run("serial", state=name)
    assert Path(box.folder, name).exists()
    assert Path(box.folder, name + ".files").exists()


def test_nested_run_is_recorded_as_separate_run(box):
    folder, db = box.folder, box.db
    box.inject("c", "fail")

    def outer():
        return step(folder, "outer", dict(Box(folder).chain().run("serial", state=db, resume=True)))

    pipeline = DAG("outer", tasks=[Task(outer)])
    with pytest.raises(ValueError, match="c is broken"):
        pipeline.run("serial", state=db)
    box.repair("c")
    assert pipeline.run("serial", state=db, resume=True) == {"outer": CHAIN}
    assert box.ran == ["a", "b", "c", "c", "outer"]


@pytest.mark.parametrize("kind", ["text", "Path", "manager", "memory", "sqlite", "sqlite3"])
def test_state_accepts_path_and_manager(box, kind):
    state = {
        "text": lambda: box.db,
        "Path": lambda: Path(box.db),
        "manager": lambda: StateManager(box.db),
        "memory": StateManager,
        "sqlite": lambda: box.db.replace(".db", ".sqlite"),
        "sqlite3": lambda: box.db.replace(".db", ".sqlite3"),
    }[kind]()
    pipeline = box.chain()
    box.inject("b", "fail")
    with pytest.raises(ValueError, match="b is broken"):
        pipeline.run("serial", state=state)
    box.repair("b")
    assert pipeline.run("serial", state=state, resume=True) == CHAIN
    assert box.ran == ["a", "b", "b", "c"]
    if isinstance(state, StateManager):
        assert [record.status for record in state.runs()] == ["succeeded"]
        state.set("mine", 1)  # run() does not close a manager that it did not open
        state.close()


def test_missing_folder_of_state_is_created(box):
    path = Path(box.folder, "deep", "below", "runs.db")
    box.chain().run("serial", state=path)
    assert path.exists()


def test_relative_path_is_resolved_when_run_starts(box, monkeypatch, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    text = str(elsewhere)

    def move():
        os.chdir(text)

    first, second = Task(move), box.task("second")
    first >> second
    DAG("moving", tasks=[second]).run("serial", state="runs.db")
    assert list(elsewhere.iterdir()) == []
    assert task_states(box.records()[0]) == {"move": "succeeded", "second": "succeeded"}


def test_runs_and_entries_share_file_but_are_separate(box):
    with StateManager(box.db) as state:
        state.set("mine", [1], ttl=3600)
        box.chain().run("serial", state=state)
        assert state.keys() == ["mine"]
        assert state.get("mine") == [1]
        assert len(state.runs()) == 1
    with StateManager(box.db) as state:
        assert state.get_all() == {"mine": [1]}
        assert len(state.runs()) == 1


def test_database_given_as_path_is_closed_after_run(box):
    box.chain().run("thread", state=box.db)
    wal = Path(box.db + "-wal")
    assert not wal.exists() or wal.stat().st_size == 0


@pytest.mark.parametrize("make", [str, Path, StateManager], ids=["text", "Path", "manager"])
def test_json_file_raises(box, monkeypatch, make):
    monkeypatch.chdir(box.folder)  # messages truncate long paths
    state = make("runs.json")
    with pytest.raises((ValueError, TypeError), match=r"(?s)\.json.*(SQLite|\.db)"):
        box.chain().run("serial", state=state)
    assert box.ran == []


def test_run_within_batch_raises(box):
    """Its records would be committed only when the batch ends."""
    with StateManager(box.db) as state, state.batch(), pytest.raises(StateError, match="batch"):
        box.chain().run("serial", state=state)
    assert box.ran == []


def test_closed_state_raises(box):
    state = StateManager(box.db)
    state.close()
    with pytest.raises(StateClosedError):
        box.chain().run("serial", state=state)
    assert box.ran == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": 42}, "42"),
        ({"state": "runs.txt"}, "runs.txt"),
        ({"state": b"runs.db"}, ""),
        ({"state": True}, "True"),
        ({"resume": True}, "state"),
        ({"resume": "force"}, "state"),
        ({"state": None, "resume": True}, "state"),
        ({"state": "runs.db", "resume": "yes"}, "'yes'"),
        ({"state": "runs.db", "resume": 2}, "2"),
        ({"state": "runs.db", "resume": None}, "None"),
        ({"state": "runs.db", "resume": "Force"}, "'Force'"),
        ({"state": "runs.db", "refresh": "a"}, "'a'"),
        ({"state": "runs.db", "refresh": {"extrac"}}, "extract"),
        ({"state": "runs.db", "refresh": [1]}, "1"),
        ({"state": "runs.db", "refresh": 1.5}, "1.5"),
        ({"state": "runs.db", "state_errors": "ignore"}, "'ignore'"),
    ],
)
def test_invalid_argument_raises_before_any_task_runs(box, monkeypatch, options, words):
    monkeypatch.chdir(box.folder)
    with pytest.raises((ValueError, TypeError)) as caught:
        diamond().run("serial", params=box.params, **options)
    for name in {"resume", "refresh", "state_errors"} & set(options):
        assert name in str(caught.value)
    assert words in str(caught.value)
    assert box.ran == []
    assert box.records() == []


def test_unknown_name_in_refresh_raises_and_suggests_name(box):
    with pytest.raises(ValueError, match=r"'repot'.*report") as caught:
        diamond().run("serial", params=box.params, state=box.db, refresh={"repot"})
    assert "refresh" in str(caught.value)


def test_binding_error_is_raised_before_run_is_recorded(box):
    def needs(missing):
        return missing

    with pytest.raises(TypeError, match="missing"):
        DAG("wrong", tasks=[Task(needs)]).run("serial", state=box.db)
    assert box.records() == []
