"""Class `DatabaseFile`: creates, opens, migrates and checks the SQLite file of a store."""

from __future__ import annotations

import errno
import os
import sqlite3
import time

from flowkit_state.errors import StateFileError, StateVersionError
from flowkit_state.storage import atomic_files, syscalls
from flowkit_state.storage.schema import APPLICATION_ID, MIGRATIONS, VERSION
from flowkit_state.storage.schema_check import check_schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    FileId = tuple[tuple[int, int] | None, tuple[int, int] | None]

    from flowkit_state.storage.totals import Totals

_COMPANIONS = ("-wal", "-shm", "-journal")
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and try again.",
    sqlite3.SQLITE_READONLY: "it cannot be written; check the permissions of the file and of its folder.",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder exists and can be written.",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away to start with an empty file, or try `sqlite3 FILE .recover`.",
    sqlite3.SQLITE_TOOBIG: "the value is too large for SQLite; store it in a file of its own, and its path here.",
}
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_RETRY_DELAY = 0.005  # seconds

_connections_of_parent: list[sqlite3.Connection] = []


class Connection:
    """A connection of one thread of one process.

    Attributes:
        connection: the SQLite connection.
        checked: when `SQLiteStore.append` last checked whether the file was replaced, by `time.monotonic()`.
        depth: number of open batches.
        file_id: what identifies the file, and its write-ahead log.
        pid: the process that opened it.
        totals: number and size of the entries; `None` until a store with limits needs them.
    """

    _getpid = staticmethod(os.getpid)  # when Python exits, the globals are gone before the last connections

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.checked = 0.0
        self.depth = 0
        self.file_id: FileId = None, None
        self.pid = self._getpid()
        self.totals: Totals | None = None

    def rollback(self) -> bool:
        """Roll back the open transaction. Returns False if only closing the connection could do that."""
        try:
            if self.connection.in_transaction:
                syscalls.execute(self.connection, "ROLLBACK")
        except sqlite3.Error:
            self.connection.close()
            return False
        return True

    def __del__(self) -> None:
        if self.pid == self._getpid():
            self.connection.close()
        else:
            _connections_of_parent.append(self.connection)  # closing it in a forked child would corrupt the database


class DatabaseFile:
    """The SQLite file `path`, an absolute path."""

    def __init__(self, path: str, lock_timeout: float) -> None:
        self.path = path
        self._lock_timeout = lock_timeout

    def open(self) -> Connection:
        """Open the file, after creating or migrating it if necessary. A damaged file is renamed first."""
        try:
            if os.path.isdir(self.path):
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            atomic_files.make_folder(self.path)
            self._create_private()
        except OSError as error:
            raise atomic_files.failure(self.path, "create it", error) from error
        deadline = time.monotonic() + self._lock_timeout
        while True:
            try:
                return self._connect()
            except (sqlite3.Error, UnicodeDecodeError) as error:
                if _code(error) in _LOCKED and time.monotonic() < deadline:
                    time.sleep(_RETRY_DELAY)  # SQLite does not wait while another process changes the journal mode
                    continue
                if _code(error) not in _DAMAGED:
                    raise self.failure("open it", error) from error
                self._rename_if_damaged()
            return self.open()

    def file_id(self) -> FileId:
        """Return device and inode of the files at the path now: the database and its write-ahead log, or `None`."""
        return self._inode(self.path), self._inode(self.path + "-wal")

    def _inode(self, path: str) -> tuple[int, int] | None:
        try:
            status = syscalls.stat(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise atomic_files.failure(path, "get its status", error) from error
        return status.st_dev, status.st_ino

    def check_not_replaced(self, opened: Connection) -> None:
        """Raise `StateFileError` if the file was moved, removed or replaced since a connection was opened."""
        try:
            current = self.file_id()
        except StateFileError:
            return  # not known: a commit that this follows has succeeded all the same
        if current == opened.file_id:
            return
        if current[0] == opened.file_id[0] and opened.file_id[1] is None:
            opened.file_id = current  # another process has created the write-ahead log
            return
        what = "it was" if current[0] != opened.file_id[0] else f"its write-ahead log {self.path}-wal was"
        reason = (
            f"{what} moved, removed or replaced while it was in use; later changes are not in this file. Open another "
            "StateManager to use the file that is there now."
        )
        raise StateFileError(self.path, reason)

    def failure(self, action: str, error: sqlite3.Error | UnicodeDecodeError) -> StateFileError:
        """Return the exception to raise for an error of SQLite."""
        code = _code(error)
        if code in _LOCKED:
            return atomic_files.locked(self.path, self._lock_timeout)
        return StateFileError(self.path, f"cannot {action}: {_REASONS.get(code, f'SQLite reports: {error}.')}")

    def _create_private(self) -> None:
        """Create an empty file of mode 0600, because SQLite would use the umask.

        It is closed before it is linked to its name: closing a file that SQLite has open drops the locks of SQLite.
        """
        if os.path.lexists(self.path):
            return
        temporary = f"{self.path}.{os.getpid()}-{os.urandom(6).hex()}.tmp"
        syscalls.close(syscalls.open(temporary, syscalls.CREATE))
        try:
            syscalls.link(temporary, self.path)
        except FileExistsError:
            pass  # another thread or process has created it
        except OSError:  # a file system without hard links
            syscalls.close(syscalls.open(self.path, syscalls.CREATE))
        finally:
            syscalls.unlink(temporary)

    def _connect(self) -> Connection:
        before = self._inode(self.path)
        opened = Connection(syscalls.connect(self.path, self._lock_timeout))
        connection = opened.connection
        try:
            syscalls.execute(connection, "PRAGMA trusted_schema = OFF")
            syscalls.execute(connection, "BEGIN")  # another process may create the tables meanwhile
            try:
                version = self._version(connection)
                check_schema(connection, self.path, version)
            finally:
                opened.rollback()
            if version < VERSION:
                self._migrate(opened)
            syscalls.execute(connection, "PRAGMA synchronous = NORMAL")
            syscalls.execute(connection, "PRAGMA wal_autocheckpoint = 4000")  # pages, 4 MB
            opened.file_id = before, self._inode(self.path + "-wal")
            self.check_not_replaced(opened)
        except BaseException:
            connection.close()
            raise
        return opened

    def _migrate(self, opened: Connection) -> None:
        connection = opened.connection
        syscalls.execute(connection, "PRAGMA page_size = 1024")  # for a new file: a commit writes whole pages
        syscalls.execute(connection, "PRAGMA journal_mode = WAL")
        syscalls.execute(connection, "BEGIN IMMEDIATE")
        try:
            for statements in MIGRATIONS[self._version(connection) :]:
                for statement in statements:
                    syscalls.execute(connection, statement)
            syscalls.execute(connection, f"PRAGMA user_version = {VERSION}")
            syscalls.execute(connection, "COMMIT")
        except BaseException:
            opened.rollback()
            raise

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the version of the schema, 0 for a new file. Raises for newer versions and for foreign databases.

        The connection is in a transaction, so that the queries see the same state.
        """
        tables, version, application_id = (
            int(syscalls.execute(connection, query).fetchone()[0])
            for query in ("SELECT count(*) FROM sqlite_master", "PRAGMA user_version", "PRAGMA application_id")
        )
        if application_id != APPLICATION_ID and (tables or version or application_id):
            raise StateFileError(self.path, "it is a SQLite database of another program; use another path.")
        if version > VERSION:
            raise StateVersionError(self.path, version, VERSION)
        if version < 0:
            reason = f"it is damaged: its format version is {version}; move the file away to start with an empty one."
            raise StateFileError(self.path, reason)
        return version

    def _rename_if_damaged(self) -> None:
        """Rename the file if it is damaged, which is checked again under the lock."""
        lock = atomic_files.FileLock(self.path, self._lock_timeout)
        try:
            lock.acquire()
        except StateFileError:
            raise
        except OSError as error:
            raise atomic_files.failure(f"{self.path}.lock", "lock it", error) from error
        try:
            damage = self._damage()
            if damage is not None:
                atomic_files.rename_damaged(self.path, damage, _COMPANIONS)
        finally:
            lock.release()

    def _damage(self) -> str | None:
        if not os.path.exists(self.path):
            return None  # another process has renamed it
        connection = syscalls.connect(self.path, self._lock_timeout)
        try:
            report = str(syscalls.execute(connection, "PRAGMA quick_check(1)").fetchone()[0])
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if _code(error) not in _DAMAGED:
                raise self.failure("check it", error) from error
            return "its schema is not text" if isinstance(error, UnicodeDecodeError) else str(error)
        finally:
            connection.close()
        return None if report == "ok" else report


def _code(error: sqlite3.Error | UnicodeDecodeError) -> int:
    """Return the code of an error of SQLite, whose message Python cannot decode if it quotes a damaged schema."""
    if isinstance(error, UnicodeDecodeError):
        return sqlite3.SQLITE_CORRUPT
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
