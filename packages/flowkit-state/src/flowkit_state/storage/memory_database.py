"""Class `MemoryDatabase`: the tables of runs in the memory of this process."""

from __future__ import annotations

from threading import RLock

from flowkit_state.errors import StateFileError
from flowkit_state.storage import syscalls
from flowkit_state.storage.schema import MIGRATIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from sqlite3 import Cursor
    from typing import Any

    from flowkit_state.storage.ownership import Claim


class MemoryDatabase:
    """A `Database` with one connection to a SQLite database in memory, used by one thread at a time."""

    path = None
    in_batch = False  # StateManager.batch() begins a group of changes of the store, which is another object

    def __init__(self) -> None:
        self._lock = RLock()
        self._connection = syscalls.connect(":memory:", 0.0)
        self._depth = 0
        for statements in MIGRATIONS:
            for statement in statements:
                self._connection.execute(statement)

    def execute(self, action: str, sql: str, values: Sequence[Any] = ()) -> tuple[list[Any], int]:
        return self._run(action, self._connection.execute, sql, values)

    def execute_many(self, action: str, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._run(action, self._connection.executemany, sql, rows)

    def append(self, action: str, sql: str, values: Sequence[Any]) -> None:
        self._run(action, self._connection.execute, sql, values)

    def _run(self, action: str, execute: Callable[..., Cursor], sql: str, values: Any) -> tuple[list[Any], int]:
        import sqlite3

        with self._lock:
            try:
                cursor = execute(sql, values)
                return cursor.fetchall(), cursor.rowcount
            except sqlite3.Error as error:
                raise StateFileError("(in memory)", f"cannot {action}: SQLite reports: {error}.") from error

    def begin(self) -> None:
        self._lock.acquire()
        self._depth += 1
        if self._depth == 1:
            self._connection.execute("BEGIN")

    def commit(self) -> None:
        self._end("COMMIT")

    def rollback(self) -> None:
        self._end("ROLLBACK")

    def abort(self) -> None:
        while self._depth:
            self._end("ROLLBACK")

    def _end(self, statement: str) -> None:
        try:
            self._depth -= 1
            if not self._depth and self._connection.in_transaction:
                self._connection.execute(statement)
        finally:
            self._lock.release()

    def write_blob(self, payload: str | bytes, _claim: Claim) -> tuple[str | bytes, str | None]:
        return payload, None

    def read_payload(self, value: str | bytes, _blob: str | None) -> str | bytes:
        return value

    def unpin(self, blob: str, claim: Claim) -> None:
        """Do nothing: there are no blob files."""

    def check_not_replaced(self) -> None:
        """Do nothing: there is no file."""

    def collect_garbage(self) -> tuple[int, int]:
        return 0, 0

    def close(self) -> None:
        self._connection.close()

    def __del__(self) -> None:
        self.close()
