"""The store in a SQLite database: one row an entry, write-ahead log, a connection for each thread of each process."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
import weakref

from flowkit_state.errors import StateClosedError, StateFileError, StateVersionError
from flowkit_state.storage import atomic_files, syscalls
from flowkit_state.storage.base import CACHED, Batch, Record
from flowkit_state.storage.blobs import COMFORT, Beside
from flowkit_state.storage.ownership import Claim, holder
from flowkit_state.storage.schema import APPLICATION, MIGRATIONS, VERSION, from_sql, to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_COMPANIONS = ("-wal", "-shm", "-journal")
_ROOMY = f"{CACHED}:"  # results of tasks may be large: those go into files, and `gc` reclaims them
_PUT = (
    "INSERT INTO entries (key, value, stored, expires, metadata, beside) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, stored = excluded.stored, expires = excluded.expires, "
    "metadata = excluded.metadata, beside = excluded.beside"
)
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and try again.",
    sqlite3.SQLITE_READONLY: "it cannot be written; check the permissions of the file and of its folder.",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder is there and can be written.",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away to start anew, or try `sqlite3 FILE .recover`.",
    sqlite3.SQLITE_TOOBIG: "the value is too large for SQLite; keep it in a file of its own, and its path here.",
}
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_PAUSE = 0.005  # seconds

_abandoned: list[sqlite3.Connection] = []


class _Handle:
    """One connection, the process it belongs to, and how many batches are open on it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.place: tuple[int, int] | None = None  # device and number of the file
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
        self._beside = Beside(path)
        self._timeout = lock_timeout
        self._closed = False
        self._local = threading.local()
        self._handles: weakref.WeakSet[_Handle] = weakref.WeakSet()
        self._handle()

    @property
    def path(self) -> str:
        """Where the database is."""
        return self._path

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
            atomic_files.make_folder(self._path)
            self._create_private()
        except OSError as error:
            raise atomic_files.failure(self._path, "create it", error) from error
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return self._connect()
            except sqlite3.Error as error:
                if _code(error) in _LOCKED and time.monotonic() < deadline:
                    time.sleep(_PAUSE)  # SQLite does not wait for who makes the file a database, or changes its journal
                    continue
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
        syscalls.close(syscalls.open(temporary, syscalls.CREATE))
        try:
            syscalls.link(temporary, self._path)
        except FileExistsError:
            pass  # another thread or process was faster, and as private
        except OSError:  # a file system without hard links
            syscalls.close(syscalls.open(self._path, syscalls.CREATE))
        finally:
            syscalls.unlink(temporary)

    def _connect(self) -> _Handle:
        handle = _Handle(syscalls.connect(self._path, self._timeout))
        connection = handle.connection
        try:
            if self._version(connection) < VERSION:
                syscalls.execute(connection, "PRAGMA page_size = 1024")  # of a new file: a commit writes whole pages
                syscalls.execute(connection, "PRAGMA journal_mode = WAL")
                syscalls.execute(connection, "BEGIN IMMEDIATE")
                try:
                    for statements in MIGRATIONS[self._version(connection) :]:
                        for statement in statements:
                            syscalls.execute(connection, statement)
                    syscalls.execute(connection, f"PRAGMA user_version = {VERSION}")
                    syscalls.execute(connection, "COMMIT")
                except BaseException:
                    _undo(connection)
                    raise
            syscalls.execute(connection, "PRAGMA synchronous = NORMAL")
            syscalls.execute(connection, "PRAGMA wal_autocheckpoint = 4000")  # pages, 4 MB
            handle.place = self._place()
        except BaseException:
            connection.close()
            raise
        return handle

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the version of the database, 0 if it is new. Refuses what is newer, and what is not ours."""
        alone = not connection.in_transaction
        if alone:
            syscalls.execute(connection, "BEGIN")  # or another process might fill the file between the questions
        try:
            tables, version, application = (
                int(syscalls.execute(connection, question).fetchone()[0])
                for question in ("SELECT count(*) FROM sqlite_master", "PRAGMA user_version", "PRAGMA application_id")
            )
        finally:
            if alone:
                _undo(connection)
        if application != APPLICATION and (tables or version or application):
            raise StateFileError(self._path, "it is a SQLite database of another program; use another path.")
        if version > VERSION:
            raise StateVersionError(self._path, version, VERSION)
        return version

    def _set_aside(self) -> bool:
        """Set the database aside if it is damaged, judged again under the lock. Returns whether to open anew."""
        lock = atomic_files.FileLock(self._path, self._timeout)
        try:
            lock.acquire()
        except StateFileError:
            raise
        except OSError as error:
            raise atomic_files.failure(f"{self._path}.lock", "lock it", error) from error
        try:
            reason = self._damage()
            if reason is not None:
                atomic_files.set_aside(self._path, reason, _COMPANIONS)
            return True
        finally:
            lock.release()

    def _damage(self) -> str | None:
        if not os.path.exists(self._path):
            return None  # another process has set it aside meanwhile
        connection = syscalls.connect(self._path, self._timeout)
        try:
            found = str(syscalls.execute(connection, "PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.DatabaseError as error:
            if _code(error) not in _DAMAGED:
                raise self._failure("check it", error) from error
            return str(error)
        finally:
            connection.close()
        return None if found == "ok" else found

    def _failure(self, doing: str, error: sqlite3.Error) -> StateFileError:
        code = _code(error)
        if code in _LOCKED:
            return atomic_files.locked(self._path, self._timeout)
        return StateFileError(self._path, f"cannot {doing}: {_REASONS.get(code, f'SQLite says: {error}.')}")

    def run(self, doing: str, sql: str, values: Sequence[Any] = ()) -> tuple[list[Any], int]:
        """Run one statement, which is one change of its own outside a batch. Returns its rows and their number."""
        if self._closed:
            raise StateClosedError(self._path)
        connection = self._handle().connection
        try:
            cursor = syscalls.execute(connection, sql, values)
            return cursor.fetchall(), cursor.rowcount
        except sqlite3.Error as error:
            raise self._failure(doing, error) from error
        except OverflowError as error:
            raise self._failure(doing, sqlite3.DataError(str(error))) from error

    def get(self, key: str) -> Record | None:
        rows, _ = self.run("read it", f"{_SELECT} WHERE key = ?", (to_sql(key),))
        return Record(*rows[0][1:]) if rows else None

    def items(self) -> list[tuple[str, Record]]:
        rows, _ = self.run("read it", f"{_SELECT} ORDER BY rowid")
        return [(from_sql(row[0]), Record(*row[1:])) for row in rows]

    def put(self, key: str, record: Record) -> None:
        if not key.startswith(_ROOMY) or len(record.payload) <= COMFORT:
            self._put(key, record, record.payload, None)
            return
        claim = Claim()
        try:
            value, beside = self.set_down(record.payload, claim)
            with Batch(self):
                self._put(key, record, value, beside)
                if beside is not None:
                    self.unpin(beside, claim)
        finally:
            claim.let_go()

    def _put(self, key: str, record: Record, value: str | bytes, beside: str | None) -> None:
        self.run("write it", _PUT, (to_sql(key), value, record.stored, record.expires, record.metadata, beside))

    def set_down(self, stored: str | bytes, claim: Claim) -> tuple[str | bytes, str | None]:
        """Write a large value into a file beside, pinned until `unpin`, and return what goes into the row."""
        if len(stored) <= COMFORT:
            return stored, None
        data = stored if isinstance(stored, bytes) else stored.encode()
        name = self._beside.name_of(data)
        pin = "INSERT OR IGNORE INTO pins (name, token, owner) VALUES (?, ?, ?)"
        self.run("write it", pin, (name, claim.token, claim.text()))  # before the file: it is never unneeded
        self._beside.write(name, data)
        return (b"" if isinstance(stored, bytes) else ""), name

    def fetch(self, value: str | bytes, beside: str | None) -> str | bytes:
        """Return a value from what was in its row."""
        if beside is None:
            return value
        data = self._beside.read(beside)
        return data if isinstance(value, bytes) else data.decode()

    def unpin(self, beside: str, claim: Claim) -> None:
        """Let a file go that a row names by now."""
        self.run("write it", "DELETE FROM pins WHERE name = ? AND token = ?", (beside, claim.token))

    def _place(self) -> tuple[int, int] | None:
        try:
            status = syscalls.stat(self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise atomic_files.failure(self._path, "look at it", error) from error
        return status.st_dev, status.st_ino

    def check_place(self) -> None:
        """Raise `StateFileError` if the file was moved, removed or replaced since it was opened."""
        if self._place() != self._handle().place:
            reason = (
                "it was moved, removed or replaced by another while it was in use: what was kept since is not in it."
            )
            raise StateFileError(self._path, reason)

    def sweep(self) -> tuple[int, int]:
        """Delete the files beside that neither a row nor a writer at work needs. Returns how many, and their bytes."""
        files = size = 0
        with Batch(self):  # no writer can pin a file meanwhile
            pins, _ = self.run("read it", "SELECT DISTINCT token, owner FROM pins")
            for token, owner in pins:
                if holder(owner) is None:
                    self.run("write it", "DELETE FROM pins WHERE token = ?", (token,))
            needed, _ = self.run(
                "read it",
                "SELECT beside FROM tasks WHERE beside IS NOT NULL UNION "
                "SELECT beside FROM entries WHERE beside IS NOT NULL UNION SELECT name FROM pins",
            )
            needs = {name for (name,) in needed}
            pinned = {name for (name,) in self.run("read it", "SELECT name FROM pins")[0]}
            try:
                for name, length in list(self._beside.sizes()):
                    if name not in needs and name[:64] not in pinned:  # what a writer at work has not renamed yet
                        self._beside.remove(name)
                        files, size = files + 1, size + length
            except OSError as error:
                raise atomic_files.failure(self._beside.folder, "clear it", error) from error
        return files, size

    def remove(self, key: str) -> bool:
        return self.run("write it", "DELETE FROM entries WHERE key = ?", (to_sql(key),))[1] > 0

    def clear(self) -> None:
        self.run("write it", "DELETE FROM entries")

    def purge(self, now: float) -> int:
        return self.run("write it", "DELETE FROM entries WHERE expires <= ?", (now,))[1]

    def prune(self, prefix: str, before: float) -> None:
        sql = "DELETE FROM entries WHERE substr(key, 1, ?) = ? AND stored < ?"
        self.run("write it", sql, (len(prefix), prefix, before))

    def rebase(self, now: float) -> None:
        sql = "UPDATE entries SET expires = ? + (expires - stored), stored = ? WHERE expires IS NOT NULL AND stored > ?"
        self.run("write it", sql, (now, now, now))

    @property
    def in_batch(self) -> bool:
        """Whether this thread is in a batch."""
        handle = self._handle()
        return handle.depth > 0 and handle.connection.in_transaction

    def begin(self) -> None:
        handle = self._handle()
        if not handle.connection.in_transaction:
            handle.depth = 0  # Ctrl-C may have come upon the end of the last one
        try:
            if handle.depth == 0:
                self.run("lock it", "BEGIN IMMEDIATE")
            handle.depth += 1
        except BaseException:
            if handle.depth == 0:
                _undo(handle.connection)
            raise

    def commit(self) -> None:
        handle = self._handle()
        if handle.depth == 1:
            try:
                self.run("write it", "COMMIT")
            except BaseException:
                self.rollback()
                raise
        handle.depth = max(handle.depth - 1, 0)  # 0 before: a batch that a fork has copied belongs to the parent

    def rollback(self) -> None:
        handle = self._handle()
        if handle.depth == 1 and not _undo(handle.connection):
            self._local.handle = None
        handle.depth = max(handle.depth - 1, 0)

    def abort(self) -> None:
        """Undo everything that this thread has begun."""
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is not None and handle.pid == os.getpid() and not self._closed:
            handle.depth = 0
            if not _undo(handle.connection):
                self._local.handle = None

    def close(self) -> None:
        """Move the write-ahead log into the database, and close the connections of every thread."""
        try:
            self.run("close it", "PRAGMA wal_checkpoint(TRUNCATE)")
        except (StateFileError, StateClosedError):
            pass  # everything is in the log, and the next process that opens the file takes it in
        finally:
            self._closed = True
            for handle in list(self._handles):
                if handle.pid == os.getpid():
                    handle.connection.close()


_SELECT = "SELECT key, value, stored, expires, metadata, beside FROM entries"


def _undo(connection: sqlite3.Connection) -> bool:
    """Roll back. Returns False where only closing the connection did that, as it always does."""
    try:
        if connection.in_transaction:
            syscalls.execute(connection, "ROLLBACK")
    except sqlite3.Error:
        connection.close()
        return False
    return True


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
