"""Check that a database has the tables of its version, and nothing that could run other code: views or triggers."""

from __future__ import annotations

import sqlite3
from functools import cache

from flowkit_state.errors import StateFileError, short_repr
from flowkit_state.storage import syscalls
from flowkit_state.storage.schema import MIGRATIONS

_OBJECTS = "SELECT type, name, coalesce(sql, '') FROM sqlite_master WHERE type <> 'index'"
_COLUMNS = (
    "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_xinfo(m.name) c "
    "WHERE m.type = 'table' AND c.hidden = 0"
)
_INTERNAL = ("sqlite_sequence", "sqlite_stat1", "sqlite_stat4")  # tables of SQLite
_WAY_OUT = "move the file away to start with an empty one, or copy what you need of it with the sqlite3 program."


def check_schema(connection: sqlite3.Connection, path: str, version: int) -> None:
    """Check the tables of a database.

    Args:
        connection: a connection to the database.
        path: its path, for the error.
        version: its format version, at most the supported one.

    Raises:
        StateFileError: a table or a column is missing, or there is a table, view or trigger that this version does not
            have.
    """
    expected = _tables(version)
    for kind, name, sql in syscalls.execute(connection, _OBJECTS).fetchall():
        is_plain = kind == "table" and str(sql).upper().startswith("CREATE TABLE ")
        if not is_plain or name not in (*expected, *_INTERNAL):
            what = kind if kind != "table" or is_plain else "virtual table"
            reason = f"it has the {what} {short_repr(name)}, which flowkit-state did not create; "
            hint = "drop it, or use another file." if name not in expected else _WAY_OUT
            raise StateFileError(path, reason + hint)
    found: dict[str, set[str]] = {}
    for table, column in syscalls.execute(connection, _COLUMNS).fetchall():
        found.setdefault(table, set()).add(column)
    for table, columns in expected.items():
        missing = [column for column in columns if column not in found.get(table, ())]
        if missing:
            what = f"the column {missing[0]!r} of the table {table!r}" if table in found else f"the table {table!r}"
            raise StateFileError(path, f"it is damaged: it lacks {what}; {_WAY_OUT}")


@cache
def _tables(version: int) -> dict[str, list[str]]:
    """Return the tables of a format version, each with its columns."""
    connection = sqlite3.connect(":memory:")
    try:
        for statements in MIGRATIONS[:version]:
            for statement in statements:
                connection.execute(statement)
        tables: dict[str, list[str]] = {}
        for table, column in connection.execute(_COLUMNS):
            if table not in _INTERNAL:
                tables.setdefault(table, []).append(column)
        return tables
    finally:
        connection.close()
