"""Databases with views, triggers and tables that flowkit-state did not create are refused, and not changed."""

from __future__ import annotations

import sqlite3

import pytest

from flowkit_state import StateFileError, StateManager

ENDLESS = "WITH RECURSIVE c(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM c) SELECT"
COLUMNS = "'a' AS key, x AS value, 1.0 AS stored, NULL AS expires, NULL AS metadata, NULL AS beside FROM c"

FOREIGN = {
    "trigger": "CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM runs; END",
    "endless trigger": f"CREATE TRIGGER t BEFORE DELETE ON entries BEGIN {ENDLESS} count(*) FROM c; END",
    "trigger on runs": "CREATE TRIGGER t AFTER UPDATE ON runs BEGIN SELECT load_extension('x'); END",
    "view": "CREATE VIEW v AS SELECT * FROM entries",
    "view in place of table": f"DROP TABLE entries; CREATE VIEW entries AS {ENDLESS} {COLUMNS}",
    "view in place of settings": "DROP TABLE settings; CREATE VIEW settings AS SELECT 'digest key' AS name, 1 AS value",
    "table": "CREATE TABLE people (name)",
    "virtual table": "CREATE VIRTUAL TABLE entries2 USING fts5(x)",
    "virtual table in place of table": "DROP TABLE pins; CREATE VIRTUAL TABLE pins USING fts5(name, token, owner)",
    "missing table": "DROP TABLE attempts",
    "missing column": "DROP TABLE plans; CREATE TABLE plans (key TEXT PRIMARY KEY NOT NULL)",
    "other columns": "DROP TABLE settings; CREATE TABLE settings (a, b, c)",
    "generated column": ("DROP TABLE settings; CREATE TABLE settings (name, value AS (upper(name)) STORED)"),
    "negative version": "PRAGMA user_version = -1",
}


@pytest.mark.parametrize("statements", FOREIGN.values(), ids=FOREIGN)
def test_foreign_schema_is_refused_and_unchanged(tmp_path, statements):
    path = tmp_path / "state.db"
    with StateManager(path) as state:
        state.set("a", 1)
    connection = sqlite3.connect(path)
    try:
        connection.executescript(statements)
    except sqlite3.OperationalError as error:
        if "no such module" in str(error):
            pytest.skip("platform: SQLite without FTS5")
        raise
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateFileError, match=r"did not create|it is damaged: it") as caught:
        StateManager(path)
    assert caught.value.path == str(path)
    assert any(hint in str(caught.value) for hint in ("use another file", "move the file away"))
    assert path.read_bytes() == before


def test_indexes_and_statistics_of_user_are_accepted(tmp_path):
    path = tmp_path / "state.db"
    with StateManager(path) as state:
        state.set("a", 1)
    connection = sqlite3.connect(path)
    connection.executescript("CREATE INDEX i ON entries (stored); ANALYZE")
    connection.close()
    with StateManager(path) as state:
        assert state.get("a") == 1


def test_functions_in_schema_are_not_trusted(tmp_path):
    with StateManager(tmp_path / "state.db") as state:
        assert state._store.execute("read it", "PRAGMA trusted_schema")[0] == [(0,)]
