"""Each column of each table is damaged in many ways: every error names the file, and is one of flowkit-state."""

from __future__ import annotations

import itertools
import shutil
import sqlite3

import pytest
import recorded_runs

from flowkit_state import RestoreError, StateError, StateFileError, StateManager, TaskCache, UnknownRunError
from flowkit_state.storage import syscalls

LARGE = "x" * 400_000
BASIC = [
    None,
    0,
    -1,
    1.5,
    7,
    2**63 - 1,
    -(2**63),
    9e999,
    -9e999,
    1e300,
    "",
    "text",
    "null",
    "7",
    "1e400",
    "{",
    "[[[",
    "[1, 2]",
    "{}",
    '{"$tuple": 5}',
    '{"$int": "zz"}',
    '{"$datetime": [1, 2, 3]}',
    '{"$dataclass": ["a", "b"]}',
    '{"$": 1}',
    '{"tasks": [[1]], "codes": 3}',
    '{"token": 1, "pid": "x"}',
    '{"components": 7}',
    "[" * 5000,
    "9" * 5000,
    "\0",
    b"",
    b"\xff\xfe\xed\xa0",
    b"\x80\x05garbage.",
    "a" * 64,
    "../../../etc/passwd",
]


def damaged(value, number):
    """Yield values in place of `value`: of other types, and truncated or changed ones; a third for each `number`."""
    yield from [*itertools.islice(all_damaged(value), number % 3, None, 3)]


def all_damaged(value):
    yield from BASIC
    if isinstance(value, (str, bytes)) and value:
        zero = value[:0]
        yield value[: len(value) // 2]
        yield value[1:]
        yield value + value
        yield value.encode() if isinstance(value, str) else value.decode("latin-1")
        for place in sorted({0, len(value) // 3, len(value) // 2, len(value) - 1}):
            part = value[place : place + 1]
            other = chr(ord(part) ^ 1) if isinstance(value, str) else bytes([part[0] ^ 1])
            yield zero.join([value[:place], other, value[place + 1 :]])


def relax(path):
    """Remove the constraints of all tables, so that any value can be stored."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'")
    connection.commit()
    connection.close()


def contents(path):
    """Return table, column, row number and value of every cell."""
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    cells = []
    for table in tables:
        if table.startswith("sqlite_"):
            continue
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        for row in connection.execute(f"SELECT * FROM {table}").fetchall():  # noqa: S608
            keys = dict(zip(names, row, strict=True))
            cells += [(table, column, keys, value) for column, value in keys.items()]
    connection.close()
    return cells


def change(path, table, column, row, value):
    """Store `value` in a cell. Returns False if the database refuses it."""
    connection = sqlite3.connect(path)
    try:
        where = " AND ".join(f"{name} IS ?" for name in row)
        sql = f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {where}"  # noqa: S608
        connection.execute(sql, (value, *row.values()))
        connection.commit()
    except (sqlite3.Error, OverflowError):
        return False
    finally:
        connection.close()
    return True


def attempt(path, operation):
    """Return the result of an operation, or the error, which must be one of flowkit-state that names the file."""
    try:
        return operation()
    except UnknownRunError as error:
        return error
    except (RestoreError, StateFileError) as error:
        assert error.path == str(path)
        assert str(path) in str(error)
        assert error.reason
        assert str(error).rstrip().endswith((".", '".'))
        return error


def check_entries(path):
    with StateManager(path) as state:
        keys = attempt(path, state.keys)
        if isinstance(keys, list):
            assert all(type(key) is str for key in keys)
        for key in ("number", "nested", "expires"):
            attempt(path, lambda key=key: state.get(key))
            metadata = attempt(path, lambda key=key: state.get_metadata(key))
            assert metadata is None or isinstance(metadata, (dict, StateError))
            attempt(path, lambda key=key: state.has(key))
            attempt(path, lambda key=key: state.add(key, 1))
            attempt(path, lambda key=key: state.touch(key, 5))
        attempt(path, state.get_all)
        attempt(path, state.expire)
        attempt(path, state.gc)
        for key in ("number", "nested", "expires"):
            state.delete(key)
            assert not state.has(key)
            state.set(key, 1)
            assert state.get(key) == 1


def check_cache(path):
    with StateManager(path) as state:
        squared(state)(3)  # what is damaged and still JSON is a result
        assert squared(state)(4) == 16
        TaskCache(state)(large)()
        attempt(path, lambda: squared(state).explain(3))
        attempt(path, lambda: state.gc(older_than=0))


def squared(state):
    @TaskCache(state)
    def square(number):
        return number * number

    return square


def check_runs(path):
    with StateManager(path) as state:
        for operation in (state.runs, lambda: state.runs("etl"), state.explain, lambda: state.run("a")):
            found = attempt(path, operation)
            for run in found if isinstance(found, list) else []:
                assert type(run.run_id) is str
                assert type(run.status) is str
                assert run.counts is not None
                for task in run.tasks.values():
                    if task.state == "succeeded":
                        attempt(path, task.result)
        for resume in (True, "force"):
            journal = attempt(path, lambda resume=resume: recorded_runs.begin(state, "b", resume=resume))
            if not isinstance(journal, Exception):
                attempt(path, lambda journal=journal: journal.close("failed", [], None))
        attempt(path, lambda: state.release("a"))
        attempt(path, lambda: state.gc(keep=5, older_than=1e9))
        attempt(path, lambda: state.forget("a"))
        state.gc(keep=0)


def make_entries(path):
    with StateManager(path) as state:
        state.set("number", 1, metadata={"n": 1})
        state.set("nested", {"rows": [(1, 2), {3}], "at": b"x"}, metadata={"t": (1,)})
        state.set("expires", "x", ttl=1e6)


def make_cache(path):
    with StateManager(path) as state:
        squared(state)(3)
        TaskCache(state)(large)()


def large():
    return LARGE


def make_runs(path):
    with StateManager(path) as state:
        journal = recorded_runs.begin(state, "a", params={"day": "monday"})
        recorded_runs.record(journal, 0, LARGE, why="it is new")
        recorded_runs.record(journal, 1, None, "failed", error=ValueError("x"), reason="because")
        journal.close("failed", [], ValueError("x"))


def do_not_wait_for_disk(monkeypatch):
    execute = syscalls.execute

    def without_sync(connection, sql, values=()):
        return execute(connection, sql.replace("synchronous = NORMAL", "synchronous = OFF"), values)

    monkeypatch.setattr(syscalls, "execute", without_sync)
    monkeypatch.setattr(syscalls, "fsync", lambda fd: None)
    monkeypatch.setattr(syscalls, "sync_folder", lambda folder: None)


@pytest.mark.parametrize(
    ("make", "check"),
    [(make_entries, check_entries), (make_cache, check_cache), (make_runs, check_runs)],
    ids=["entries", "cache", "runs"],
)
def test_damaged_cell_is_error_that_names_file(tmp_path, monkeypatch, make, check):
    do_not_wait_for_disk(monkeypatch)
    original = tmp_path / "original.db"
    make(original)
    relax(original)
    data = original.read_bytes()
    files = original.with_name("original.db.files")
    path = tmp_path / "state.db"
    changed = 0
    for number, (table, column, row, value) in enumerate(contents(original)):
        for other in damaged(value, number):
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            path.write_bytes(data)
            if files.exists():
                shutil.copytree(files, path.with_name("state.db.files"), dirs_exist_ok=True)
            if change(path, table, column, row, other):
                changed += 1
                try:
                    check(path)
                except Exception as error:
                    error.add_note(f"{table}.{column} = {other!r:.100} instead of {value!r:.100}")
                    raise
    assert changed > 150
