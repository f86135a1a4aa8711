"""The tables of a state database, in every version there was, and what the record of runs needs of a database."""

from __future__ import annotations

from threading import RLock

from flowkit_state.errors import StateFileError
from flowkit_state.storage import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from flowkit_state.storage.ownership import Claim

    class Database(Protocol):
        """A SQL database that holds the tables of runs. `begin` to `commit` makes several statements one change."""

        @property
        def path(self) -> str | None:
            """Where it is; None for one in memory."""

        def run(self, doing: str, sql: str, values: Sequence[Any] = ()) -> tuple[list[Any], int]:
            """Run one statement. Returns its rows and their number. Raises `StateFileError`."""

        @property
        def in_batch(self) -> bool:
            """Whether this thread has begun a change and not ended it."""

        def begin(self) -> None: ...
        def commit(self) -> None: ...
        def rollback(self) -> None: ...
        def abort(self) -> None: ...
        def set_down(self, stored: str | bytes, claim: Claim) -> tuple[str | bytes, str | None]:
            """Write a large value into a file beside, and pin that until `unpin`. Returns what goes into the row."""

        def fetch(self, value: str | bytes, beside: str | None) -> str | bytes:
            """Return a value from what was in its row."""

        def unpin(self, beside: str, claim: Claim) -> None:
            """Let a file go that a row names by now."""

        def close(self) -> None: ...
        def check_place(self) -> None:
            """Raise `StateFileError` if the file is not where it was opened any more."""

        def sweep(self) -> tuple[int, int]:
            """Delete the files that nothing needs. Returns how many, and how many bytes."""


APPLICATION = 0x666C6F77  # "flow": tells our databases from those of other programs
MIGRATIONS = (
    (  # to version 1: the entries of a StateManager
        """CREATE TABLE IF NOT EXISTS entries (
            key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, stored REAL NOT NULL, expires REAL, metadata TEXT)""",
        "CREATE INDEX IF NOT EXISTS entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL",
        f"PRAGMA application_id = {APPLICATION}",
    ),
    (  # to version 2: runs, and large results in files beside
        "ALTER TABLE entries ADD COLUMN beside TEXT",
        "CREATE TABLE plans (key TEXT PRIMARY KEY NOT NULL, content TEXT NOT NULL)",
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, pipeline TEXT NOT NULL,
            plan TEXT NOT NULL REFERENCES plans (key), params TEXT NOT NULL, status TEXT NOT NULL,
            started REAL NOT NULL, ended REAL, seconds REAL, resumes INTEGER NOT NULL DEFAULT 0, error TEXT,
            owner TEXT)""",
        "CREATE INDEX runs_by_pipeline ON runs (pipeline, id)",
        """CREATE TABLE tasks (
            run INTEGER NOT NULL REFERENCES runs (id), place INTEGER NOT NULL, name TEXT NOT NULL,
            state TEXT NOT NULL, attempts INTEGER NOT NULL, ended REAL NOT NULL, seconds REAL NOT NULL, value BLOB,
            beside TEXT, reason TEXT, error TEXT, source TEXT NOT NULL, why TEXT,
            PRIMARY KEY (run, place)) WITHOUT ROWID""",
        "CREATE TABLE pins (name TEXT NOT NULL, token TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (name, token))",
    ),
)
VERSION = len(MIGRATIONS)


def to_sql(text: str) -> str | bytes:
    """Return a text as SQLite can hold it: bytes where it has lone surrogates, which UTF-8 does not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_sql(text: str | bytes) -> str:
    """Return the text."""
    return text if isinstance(text, str) else text.decode("utf-8", "surrogatepass")


class MemoryDatabase:
    """The tables of runs in the memory of this process: one connection, used by one thread at a time."""

    path = None

    def __init__(self) -> None:
        self._lock = RLock()
        self._connection = syscalls.connect(":memory:", 0.0)
        self._depth = 0
        for statements in MIGRATIONS:
            for statement in statements:
                self._connection.execute(statement)

    def run(self, doing: str, sql: str, values: Sequence[Any] = ()) -> tuple[list[Any], int]:
        """Run one statement. Returns its rows and their number."""
        import sqlite3

        with self._lock:
            try:
                cursor = self._connection.execute(sql, values)
                return cursor.fetchall(), cursor.rowcount
            except sqlite3.Error as error:
                raise StateFileError("(in memory)", f"cannot {doing}: SQLite says: {error}.") from error

    @property
    def in_batch(self) -> bool:
        """Whether a change is under way: never one of the user's, whose batches are of the store."""
        return False

    def begin(self) -> None:
        """Begin a change of several statements; other threads wait."""
        self._lock.acquire()
        self._depth += 1
        if self._depth == 1:
            self._connection.execute("BEGIN")

    def commit(self) -> None:
        """End it."""
        self._end("COMMIT")

    def rollback(self) -> None:
        """Undo it."""
        self._end("ROLLBACK")

    def abort(self) -> None:
        """Undo it, whoever was to."""
        while self._depth:
            self._end("ROLLBACK")

    def _end(self, statement: str) -> None:
        try:
            self._depth -= 1
            if not self._depth and self._connection.in_transaction:
                self._connection.execute(statement)
        finally:
            self._lock.release()

    def set_down(self, stored: str | bytes, _claim: Claim) -> tuple[str | bytes, str | None]:
        """Return the value as it is: there is no file beside memory."""
        return stored, None

    def fetch(self, value: str | bytes, _beside: str | None) -> str | bytes:
        """Return the value as it is."""
        return value

    def unpin(self, beside: str, claim: Claim) -> None:
        """Do nothing: there are no files."""

    def check_place(self) -> None:
        """Do nothing: memory stays where it is."""

    def sweep(self) -> tuple[int, int]:
        """Do nothing: there are no files."""
        return 0, 0

    def close(self) -> None:
        """Forget everything."""
        self._connection.close()

    def __del__(self) -> None:
        self.close()
