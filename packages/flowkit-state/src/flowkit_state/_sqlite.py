"""The store in a SQLite database: one row an entry, write-ahead log, a connection for each thread of each process."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import weakref

from flowkit_state import _files, _oscalls
from flowkit_state._record import Record
from flowkit_state.errors import StateFileError, StateVersionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_APPLICATION = 0x666C6F77  # "flow": tells our databases from those of other programs
_VERSION = 1
_COMPANIONS = ("-wal", "-shm", "-journal")
_COLUMNS = "key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, stored REAL NOT NULL, expires REAL, metadata TEXT"
_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS entries ({_COLUMNS})",
    "CREATE INDEX IF NOT EXISTS entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)
_PUT = (
    "INSERT INTO entries (key, value, stored, expires, metadata) VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE "
    "SET value = excluded.value, stored = excluded.stored, expires = excluded.expires, metadata = excluded.metadata"
)
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and try again.",
    sqlite3.SQLITE_READONLY: "it cannot be written; check the permissions of the file and of its folder.",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder is there and can be written.",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away to start anew, or try `sqlite3 FILE .recover`.",
    sqlite3.SQLITE_TOOBIG: "the value is too large for SQLite; keep it in a file of its own, and its path here.",
}
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_abandoned: list[sqlite3.Connection] = []


class _Handle:
    """One connection, the process it belongs to, and how many batches are open on it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.depth = 0
        self.pid = os.getpid()

    def __del__(self) -> None:
        if self.pid == os.getpid():
            self.connection.close()
        else:
            _abandoned.append(self.connection)  # a forked child must not touch what its parent has open


class SQLiteStore:
    """Keeps records in the database `path`, an absolute path, which is created at once if it is not there."""

    def __init__(self, path: str, lock_timeout: float) -> None:
        self._path = path
        self._timeout = lock_timeout
        self._local = threading.local()
        self._handles: weakref.WeakSet[_Handle] = weakref.WeakSet()
        self._handle()

    def _handle(self) -> _Handle:
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is None or handle.pid != os.getpid():
            handle = self._local.handle = self._open()
            self._handles.add(handle)
        return handle

    def _open(self) -> _Handle:
        try:
            if os.path.isdir(self._path):
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            _files.make_folder(self._path)
            self._create_private()
        except OSError as error:
            raise _files.failure(self._path, "create it", error) from error
        try:
            return self._connect()
        except sqlite3.Error as error:
            if _code(error) not in _DAMAGED or not self._set_aside():
                raise self._failure("open it", error) from error
        return self._open()

    def _create_private(self) -> None:
        """Create an empty file of mode 0600, for SQLite would use the umask.

        It is linked into place already closed: closing a database file by hand would drop SQLite's own locks on it.
        """
        if os.path.lexists(self._path):
            return
        temporary = f"{self._path}.{os.getpid()}-{os.urandom(6).hex()}.tmp"
        _oscalls.close(_oscalls.open(temporary, _oscalls.CREATE))
        try:
            _oscalls.link(temporary, self._path)
        except FileExistsError:
            pass  # another thread or process was faster, and as private
        except OSError:  # a file system without hard links
            _oscalls.close(_oscalls.open(self._path, _oscalls.CREATE))
        finally:
            _oscalls.unlink(temporary)

    def _connect(self) -> _Handle:
        handle = _Handle(_oscalls.connect(self._path, self._timeout))
        connection = handle.connection
        try:
            if self._version(connection) == 0:
                _oscalls.execute(connection, "PRAGMA journal_mode = WAL")
                _oscalls.execute(connection, "BEGIN IMMEDIATE")
                try:
                    if self._version(connection) == 0:
                        for statement in _SCHEMA:
                            _oscalls.execute(connection, statement)
                    _oscalls.execute(connection, "COMMIT")
                except BaseException:
                    _undo(connection)
                    raise
            _oscalls.execute(connection, "PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return handle

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the version of the database, 0 if it is new. Refuses what is newer, and what is not ours."""
        version = int(_oscalls.execute(connection, "PRAGMA user_version").fetchone()[0])
        application = int(_oscalls.execute(connection, "PRAGMA application_id").fetchone()[0])
        tables = int(_oscalls.execute(connection, "SELECT count(*) FROM sqlite_master").fetchone()[0])
        if application != _APPLICATION and (tables or version or application):
            raise StateFileError(self._path, "it is a SQLite database of another program; use another path.")
        if version > _VERSION:
            raise StateVersionError(self._path, version, _VERSION)
        return version

    def _set_aside(self) -> bool:
        """Set the database aside if it is damaged, judged again under the lock. Returns whether to open anew."""
        lock = _files.FileLock(self._path, self._timeout)
        try:
            lock.acquire()
        except StateFileError:
            raise
        except OSError as error:
            raise _files.failure(f"{self._path}.lock", "lock it", error) from error
        try:
            reason = self._damage()
            if reason is not None:
                _files.set_aside(self._path, reason, _COMPANIONS)
            return True
        finally:
            lock.release()

    def _damage(self) -> str | None:
        if not os.path.exists(self._path):
            return None  # another process has set it aside meanwhile
        connection = _oscalls.connect(self._path, self._timeout)
        try:
            found = str(_oscalls.execute(connection, "PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.DatabaseError as error:
            if _code(error) not in _DAMAGED:
                raise self._failure("check it", error) from error
            return str(error)
        finally:
            connection.close()
        return None if found == "ok" else found

    def _failure(self, doing: str, error: sqlite3.Error) -> StateFileError:
        code = _code(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return _files.locked(self._path, self._timeout)
        return StateFileError(self._path, f"cannot {doing}: {_REASONS.get(code, f'SQLite says: {error}.')}")

    def _run(self, doing: str, sql: str, values: Sequence[Any] = ()) -> tuple[list[Any], int]:
        """Run one statement, which is one change of its own outside a batch. Returns its rows and their number."""
        connection = self._handle().connection
        try:
            cursor = _oscalls.execute(connection, sql, values)
            return cursor.fetchall(), cursor.rowcount
        except (sqlite3.Error, OverflowError) as error:
            problem = error if isinstance(error, sqlite3.Error) else sqlite3.DataError(str(error))
            raise self._failure(doing, problem) from error

    def get(self, key: str) -> Record | None:
        rows, _ = self._run("read it", f"{_SELECT} WHERE key = ?", (_key(key),))
        return Record(*rows[0][1:]) if rows else None

    def items(self) -> list[tuple[str, Record]]:
        rows, _ = self._run("read it", f"{_SELECT} ORDER BY rowid")
        return [(_text(row[0]), Record(*row[1:])) for row in rows]

    def put(self, key: str, record: Record) -> None:
        row = (_key(key), record.payload, record.stored, record.expires, record.metadata)
        self._run("write it", _PUT, row)

    def remove(self, key: str) -> bool:
        return self._run("write it", "DELETE FROM entries WHERE key = ?", (_key(key),))[1] > 0

    def clear(self) -> None:
        self._run("write it", "DELETE FROM entries")

    def purge(self, now: float) -> int:
        return self._run("write it", "DELETE FROM entries WHERE expires <= ?", (now,))[1]

    def rebase(self, now: float) -> None:
        sql = "UPDATE entries SET expires = ? + (expires - stored), stored = ? WHERE expires IS NOT NULL AND stored > ?"
        self._run("write it", sql, (now, now, now))

    def begin(self) -> None:
        handle = self._handle()
        if handle.depth == 0:
            self._run("lock it", "BEGIN IMMEDIATE")
        handle.depth += 1

    def commit(self) -> None:
        handle = self._handle()
        if handle.depth == 1:
            try:
                self._run("write it", "COMMIT")
            except BaseException:
                self.rollback()
                raise
        handle.depth = max(handle.depth - 1, 0)  # 0 before: a batch that a fork has copied belongs to the parent

    def rollback(self) -> None:
        handle = self._handle()
        if handle.depth == 1 and not _undo(handle.connection):
            self._local.handle = None
        handle.depth = max(handle.depth - 1, 0)

    def close(self) -> None:
        """Move the write-ahead log into the database, and close the connections of every thread."""
        try:
            self._run("close it", "PRAGMA wal_checkpoint(TRUNCATE)")
        except StateFileError:
            pass  # everything is in the log, and the next process that opens the file takes it in
        for handle in list(self._handles):
            if handle.pid == os.getpid():
                handle.connection.close()


_SELECT = "SELECT key, value, stored, expires, metadata FROM entries"


def _undo(connection: sqlite3.Connection) -> bool:
    """Roll back. Returns False where only closing the connection did that, as it always does."""
    try:
        if connection.in_transaction:
            _oscalls.execute(connection, "ROLLBACK")
    except sqlite3.Error:
        connection.close()
        return False
    return True


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _key(key: str) -> str | bytes:
    """Return the key as SQLite can hold it: text, or bytes where it has lone surrogates, which UTF-8 does not."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return key.encode("utf-8", "surrogatepass")
    return key


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode("utf-8", "surrogatepass")
