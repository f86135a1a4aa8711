"""Class `SQLiteStore`: entries and runs in a SQLite database with a write-ahead log, one connection per thread."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref

from flowkit_state.errors import RestoreError, StateClosedError, StateFileError
from flowkit_state.storage import atomic_files, syscalls
from flowkit_state.storage.base import CACHE_PREFIX, Batch, Entry
from flowkit_state.storage.blobs import INLINE_LIMIT, BlobStore
from flowkit_state.storage.database_file import Connection, DatabaseFile
from flowkit_state.storage.limits import Limits, size_of
from flowkit_state.storage.ownership import Claim, live_claim
from flowkit_state.storage.row_check import entry_of
from flowkit_state.storage.schema import to_sql
from flowkit_state.storage.totals import Totals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_BLOB_KEY_PREFIX = f"{CACHE_PREFIX}:"  # only cached results go to blob files, which gc() deletes with them
_BEGIN = "BEGIN IMMEDIATE"
_MAX_AGE_OF_CHECK = 0.005  # seconds; two calls of stat() take as long as a third of a commit
_SELECT = "SELECT key, value, stored, expires, metadata, beside FROM entries"
_PUT = (
    "INSERT INTO entries (key, value, stored, expires, metadata, beside) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, stored = excluded.stored, expires = excluded.expires, "
    "metadata = excluded.metadata, beside = excluded.beside"
)


class SQLiteStore:
    """A `Store` and a `Database` in the file `path`, an absolute path. The file is created at once if it is missing."""

    def __init__(self, path: str, lock_timeout: float, limits: Limits | None = None) -> None:
        self._path = path
        self._limits = limits or None
        self._file = DatabaseFile(path, lock_timeout)
        self._blobs = BlobStore(path)
        self._closed = False
        self._local = threading.local()
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._connection()

    @property
    def path(self) -> str:
        return self._path

    def _connection(self) -> Connection:
        """Return the connection of this thread. A forked child opens connections of its own."""
        current: Connection | None = getattr(self._local, "connection", None)
        if current is None or current.pid != os.getpid():
            current = self._local.connection = self._file.open()
            self._connections.add(current)
        return current

    def execute(self, action: str, sql: str, values: Sequence[Any] = ()) -> tuple[list[Any], int]:
        return self._run(action, syscalls.execute, sql, values)

    def execute_many(self, action: str, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._run(action, syscalls.execute_many, sql, rows)

    def append(self, action: str, sql: str, values: Sequence[Any]) -> None:
        self._run(action, syscalls.execute, sql, values, _MAX_AGE_OF_CHECK)

    def _run(
        self, action: str, execute: Callable[..., sqlite3.Cursor], sql: str, values: Any, max_age: float = 0.0
    ) -> tuple[list[Any], int]:
        """Execute a statement; `max_age` is the age in seconds up to which the last check of the file suffices."""
        if self._closed:
            raise StateClosedError(self._path)
        current = self._connection()
        try:
            cursor = execute(current.connection, sql, values)
            found = cursor.fetchall(), cursor.rowcount
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._file.check_not_replaced(current)  # that explains the error
            raise self._file.failure(action, error) from error
        except OverflowError as error:
            raise self._file.failure(action, sqlite3.DataError(str(error))) from error
        if not current.connection.in_transaction or sql == _BEGIN:
            now = time.monotonic() if max_age else 0.0
            if not max_age or now - current.checked >= max_age:
                self._file.check_not_replaced(current)
                current.checked = now
        return found

    # ---- entries -------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Entry | None:
        rows, _ = self.execute("read it", f"{_SELECT} WHERE key = ?", (to_sql(key),))
        return entry_of(self._path, rows[0])[1] if rows else None

    def items(self) -> list[tuple[str, Entry]]:
        rows, _ = self.execute("read it", f"{_SELECT} ORDER BY rowid")
        return [entry_of(self._path, row) for row in rows]

    def headers(self) -> list[tuple[str, Entry]]:
        rows, _ = self.execute("read it", "SELECT key, '', stored, expires, NULL, NULL FROM entries ORDER BY rowid")
        return [entry_of(self._path, row) for row in rows]

    def put(self, key: str, entry: Entry) -> None:
        if self._limits is None:
            self._put_entry(key, entry)
            return
        size = size_of(key, entry)
        self._limits.check(key, size)
        with Batch(self):
            current = self._connection()
            totals = current.totals = current.totals or Totals(self.execute, self._blobs)
            totals.replace(key, size)
            self._put_entry(key, entry)
            totals.make_room(self._limits, key, entry.stored)

    def _forget_totals(self) -> None:
        totals: Totals | None = self._connection().totals
        if totals is not None:
            totals.forget()

    def touch(self, key: str, stored: float, expires: float | None) -> None:
        sql = "UPDATE entries SET stored = ?, expires = ? WHERE key = ?"
        self.execute("write it", sql, (stored, expires, to_sql(key)))

    def _put_entry(self, key: str, entry: Entry) -> None:
        if not key.startswith(_BLOB_KEY_PREFIX) or len(entry.payload) <= INLINE_LIMIT:
            self._put(key, entry, entry.payload, None)
            return
        claim = Claim()
        try:
            value, blob = self.write_blob(entry.payload, claim)
            with Batch(self):
                self._put(key, entry, value, blob)
                if blob is not None:
                    self.unpin(blob, claim)
        finally:
            claim.release()

    def _put(self, key: str, entry: Entry, value: str | bytes, blob: str | None) -> None:
        self.execute("write it", _PUT, (to_sql(key), value, entry.stored, entry.expires, entry.metadata, blob))

    def remove(self, key: str) -> bool:
        self._forget_totals()
        return self.execute("write it", "DELETE FROM entries WHERE key = ?", (to_sql(key),))[1] > 0

    def clear(self) -> None:
        self._forget_totals()
        self.execute("write it", "DELETE FROM entries")

    def remove_expired(self, now: float) -> int:
        self._forget_totals()
        return self.execute("write it", "DELETE FROM entries WHERE expires <= ?", (now,))[1]

    def remove_older(self, prefix: str, before: float) -> None:
        self._forget_totals()
        sql = "DELETE FROM entries WHERE substr(key, 1, ?) = ? AND stored < ?"
        self.execute("write it", sql, (len(prefix), prefix, before))

    def restart_lifetimes(self, now: float) -> None:
        sql = "UPDATE entries SET expires = ? + (expires - stored), stored = ? WHERE expires IS NOT NULL AND stored > ?"
        self.execute("write it", sql, (now, now, now))

    # ---- blob files ----------------------------------------------------------------------------------------------

    def write_blob(self, payload: str | bytes, claim: Claim) -> tuple[str | bytes, str | None]:
        if len(payload) <= INLINE_LIMIT:
            return payload, None
        data = payload if isinstance(payload, bytes) else payload.encode()
        name = self._blobs.name_of(data)
        pin = "INSERT OR IGNORE INTO pins (name, token, owner) VALUES (?, ?, ?)"
        self.execute("write it", pin, (name, claim.token, claim.text()))  # before the file is there: gc() may run
        self._blobs.write(name, data)
        return (b"" if isinstance(payload, bytes) else ""), name

    def read_payload(self, value: str | bytes, blob: str | None) -> str | bytes:
        if blob is None:
            return value
        data = self._blobs.read(blob)
        try:
            return data if isinstance(value, bytes) else data.decode()
        except UnicodeDecodeError:
            reason = f"the stored value is damaged: its file {blob} is not text."
            raise RestoreError(None, reason, damaged=True) from None

    def unpin(self, blob: str, claim: Claim) -> None:
        self.execute("write it", "DELETE FROM pins WHERE name = ? AND token = ?", (blob, claim.token))

    def collect_garbage(self) -> tuple[int, int]:
        files = size = 0
        with Batch(self):  # no writer can pin a file meanwhile
            pins, _ = self.execute("read it", "SELECT DISTINCT token, owner FROM pins")
            for token, owner in pins:
                if live_claim(owner) is None:
                    self.execute("write it", "DELETE FROM pins WHERE token = ?", (token,))
            pinned = {name for (name,) in self.execute("read it", "SELECT name FROM pins")[0]}
            rows, _ = self.execute(
                "read it",
                "SELECT beside FROM attempts WHERE beside IS NOT NULL UNION "
                "SELECT beside FROM elements WHERE beside IS NOT NULL UNION "
                "SELECT beside FROM params WHERE beside IS NOT NULL UNION "
                "SELECT beside FROM notes WHERE beside IS NOT NULL UNION "
                "SELECT beside FROM entries WHERE beside IS NOT NULL",
            )
            needed = pinned.union(name for (name,) in rows)
            try:
                for name, length in list(self._blobs.sizes()):
                    if name not in needed and name[:64] not in pinned:  # or a temporary file of a pinned name
                        self._blobs.remove(name)
                        files, size = files + 1, size + length
            except OSError as error:
                raise atomic_files.failure(self._blobs.folder, "delete files in it", error) from error
        return files, size

    # ---- batches -------------------------------------------------------------------------------------------------

    @property
    def in_batch(self) -> bool:
        current: Connection | None = getattr(self._local, "connection", None)
        if current is None or not current.depth or current.pid != os.getpid():
            return False
        return current.connection.in_transaction

    def begin(self) -> None:
        current = self._connection()
        if not current.connection.in_transaction:
            current.depth = 0  # KeyboardInterrupt may have been raised at the end of the last batch
        try:
            if current.depth == 0:
                self.execute("lock it", _BEGIN)
            current.depth += 1
        except BaseException:
            if current.depth == 0 and not current.rollback():
                self._local.connection = None
            raise

    def commit(self) -> None:
        current = self._connection()
        if current.depth == 1:
            try:
                self.execute("write it", "COMMIT")
            except BaseException:
                self.rollback()
                raise
        current.depth = max(current.depth - 1, 0)  # it is 0 in a forked child: the batch belongs to the parent
        if current.depth == 0 and current.totals is not None and current.totals.unused:
            try:
                with Batch(self):
                    current.totals.remove_unused()
            except StateFileError:
                pass  # the changes are stored; gc() deletes the files

    def rollback(self) -> None:
        current = self._connection()
        if current.totals is not None:
            current.totals = None
        if current.depth == 1 and not current.rollback():
            self._local.connection = None
        current.depth = max(current.depth - 1, 0)

    def abort(self) -> None:
        current: Connection | None = getattr(self._local, "connection", None)
        if current is not None and current.pid == os.getpid() and not self._closed:
            current.depth = 0
            current.totals = None
            if not current.rollback():
                self._local.connection = None

    # ---- the file ------------------------------------------------------------------------------------------------

    def check_not_replaced(self) -> None:
        self._file.check_not_replaced(self._connection())

    def close(self) -> None:
        """Move the write-ahead log into the database, and close the connections of all threads."""
        try:
            self.execute("close it", "PRAGMA wal_checkpoint(TRUNCATE)")
        except (StateFileError, StateClosedError):
            pass  # the log is complete, and the next process that opens the file reads it
        finally:
            self._closed = True
            for each in list(self._connections):
                if each.pid == os.getpid():
                    each.connection.close()
