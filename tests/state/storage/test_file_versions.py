"""State files of older and newer versions, and files of other programs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from recorded_runs import begin, record

from flowkit_state import (
    StateFileError,
    StateManager,
    StateVersionError,
)


def test_newer_json_file_is_refused_and_unchanged(tmp_path):
    path = tmp_path / "state.json"
    path.write_text('{"format": "flowkit-state", "version": 9, "something": "new"}')
    before = path.read_bytes()
    with pytest.raises(
        StateVersionError, match=r"format version 9, and this .* supports versions up to 1; update"
    ) as caught:
        StateManager(path)
    assert (caught.value.found, caught.value.supported, caught.value.path) == (9, 1, str(path))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_json_file_replaced_by_newer_one_is_not_written(tmp_path):
    path = tmp_path / "state.json"
    with StateManager(path) as state:
        state.set("a", 1)
        path.write_text('{"format": "flowkit-state", "version": 9}')
        for use in (lambda: state.set("a", 2), lambda: state.get("a"), state.clear):
            with pytest.raises(StateVersionError):
                use()
    assert path.read_text() == '{"format": "flowkit-state", "version": 9}'


def test_newer_database_is_refused_and_unchanged(tmp_path):
    path = tmp_path / "state.db"
    with StateManager(path) as state:
        state.set("a", 1)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateVersionError, match="format version 9"):
        StateManager(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "setup", ["CREATE TABLE people (name)", "PRAGMA application_id = 7", "PRAGMA user_version = 3"]
)
def test_database_of_other_program_is_refused_and_unchanged(tmp_path, setup):
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute(setup)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateFileError, match="database of another program"):
        StateManager(path)
    assert path.read_bytes() == before


def database_of_version(version, path):
    """Create a database of an older version, in which failed runs, a finished and an interrupted one are recorded."""
    database = sqlite3.connect(path)
    database.executescript(Path(__file__).with_name(f"version_{version}.sql").read_text())
    database.close()
    return path


@pytest.fixture
def version_2(tmp_path):
    return database_of_version(2, tmp_path / "runs.db")


@pytest.fixture
def version_3(tmp_path):
    return database_of_version(3, tmp_path / "runs.db")


def test_database_of_version_2_is_migrated(version_2):
    with StateManager(version_2) as state:
        assert state.get("rows") == (1, 2)
        assert [(run.run_id, run.status) for run in state.runs("etl")] == [
            ("d", "failed"),
            ("c", "interrupted"),
            ("b", "succeeded"),
            ("a", "failed"),
        ]
        assert {name: value.text for name, value in state.run("a").params.items()} == {
            "day": "'2026-11-29'",
            "limit": "3",
        }
        assert state.run("a").tasks["extract"].result() == [3]
        assert state.run("b").tasks["transform"].result() == [5]


@pytest.mark.parametrize(
    ("params", "run_id", "done"),
    [
        ({"day": "2026-11-29", "limit": 3}, "a", {0: [3]}),
        ({"limit": 3, "day": "2026-11-29"}, "a", {0: [3]}),
        ({"day": "2026-11-30", "limit": 3}, "new", {}),
        ({"day": object(), "limit": 3}, "new", {}),
        ({"day": None, "limit": 3}, "new", {}),
        ({}, "d", {0: [7]}),
    ],
    ids=["failed", "other order", "finished", "cannot be compared", "other value", "no parameters"],
)
@pytest.mark.filterwarnings("ignore:.*starts a new run")
def test_run_of_version_2_is_resumed_if_params_are_equal(version_2, params, run_id, done):
    managers = [StateManager(version_2) for _ in range(2)]
    journal = begin(managers[0], "new", params=params, resume=True)
    assert (journal.run_id, {place: task.value for place, task in journal.done.items()}) == (run_id, done)
    record(journal, 1, [8])
    journal.close("succeeded", [], None)
    assert managers[1].run(run_id).tasks["transform"].result() == [8]
    for state in managers:
        state.close()


@pytest.mark.parametrize("params", ["[", "[1]", '{"day": 1}', '{"day": []}'])
def test_run_of_version_2_with_damaged_params_does_not_prevent_resume_of_others(version_2, params):
    database = sqlite3.connect(version_2)
    with database:
        database.execute("UPDATE runs SET params = ? WHERE run_id = 'c'", (params,))
    database.close()
    with StateManager(version_2) as state:
        assert begin(state, "new", resume=True).run_id == "d"


def test_history_of_version_3_is_migrated(version_3):
    """The file has the last attempt of each task only, and no process."""
    with StateManager(version_3) as state:
        failed = state.run("a")
        (execution,) = failed.executions
        assert (execution.number, execution.outcome, execution.error) == (1, "failed", "ValueError: no")
        assert (execution.started, execution.ended) == (failed.started, failed.ended)
        assert (execution.process, execution.host) == (None, None)
        (attempt,) = failed.tasks["transform"].attempts
        assert (attempt.number, attempt.outcome, str(attempt.error)) == (3, "failed", "ValueError: no")
        assert (attempt.process, attempt.ready, attempt.waited, attempt.duration) == (None, None, None, 0.5)
        assert 'raise ValueError("no")' in failed.tasks["transform"].error.traceback
        assert [task.result() for task in state.run("b").tasks.values()] == [[4], [5]]
        cancelled = state.run("c").tasks["transform"]
        assert (cancelled.state, cancelled.reason, cancelled.attempts) == ("cancelled", "called off", ())


def test_resumed_run_of_version_3_continues_its_numbers(version_3):
    with StateManager(version_3) as state:
        assert (state.run("d").resumes, [each.number for each in state.run("d").executions]) == (1, [2])
        journal = begin(state, "new", resume=True)
        assert (journal.run_id, journal.done[0].value) == ("d", [7])
        record(journal, 1, [8])
        journal.close("succeeded", [], None)
        resumed = state.run("d")
        assert (resumed.resumes, [each.number for each in resumed.executions]) == (2, [2, 3])
        assert [each.outcome for each in resumed.executions] == ["failed", "succeeded"]
        assert {name: task.state for name, task in resumed.tasks.items()} == dict.fromkeys(
            ("extract", "transform"), "succeeded"
        )
        assert [attempt.execution for attempt in resumed.tasks["transform"].attempts] == [3]


def test_database_of_version_1_is_migrated(tmp_path):
    path = tmp_path / "runs.db"
    database = sqlite3.connect(path)
    database.executescript("""
        PRAGMA journal_mode = WAL;
        CREATE TABLE entries (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, stored REAL NOT NULL, expires REAL,
            metadata TEXT);
        CREATE INDEX entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL;
        INSERT INTO entries VALUES ('rows', '{"$tuple":[1,2]}', 1700000000.0, NULL, '{"from":"before"}');
        PRAGMA application_id = 1718382455;
        PRAGMA user_version = 1;
    """)
    database.close()
    managers = [StateManager(path) for _ in range(2)]
    for state in managers:
        assert state.get("rows") == (1, 2)
        assert state.get_metadata("rows") == {"from": "before"}
    journal = begin(managers[0])
    record(journal, 0, [1])
    journal.close("failed", [], None)
    assert managers[1].run("a").tasks["extract"].result() == [1]
    for state in managers:
        state.close()


def test_executions_of_version_4_are_migrated(tmp_path):
    """The file has no executor, no place of the pipeline, no CPU time, and no log."""
    with StateManager(database_of_version(4, tmp_path / "runs.db")) as state:
        run = state.run("a")
        (execution,) = run.executions
        assert (execution.number, execution.outcome, execution.host) == (1, "failed", "vm")
        known = [execution.executor, execution.target, execution.folder, execution.python, execution.cpu]
        assert known == [None] * 5
        assert [attempt.worker for attempt in run.tasks["transform"].attempts] == ["w1", "w1"]
        assert state.logs("a") == []
        journal = begin(state, "new", params={"day": "2026-11-29"}, resume=True)
        journal.describe("thread", "etl:dag", "/jobs")
        journal.close("failed", [], None)
        assert [each.executor for each in state.run("a").executions] == [None, "thread"]
