"""The system calls of the storage backends, and how they differ on Windows: locks, replaced files, owners and modes.

They are in one module so that tests can make any of them fail. Other modules call them as `syscalls.write(...)`, never
as `os.write(...)`.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from typing import Any

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_REPLACE_TIMEOUT = 1.0  # seconds, on Windows: a virus scanner or a reader may have the file open for a moment

READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO must not block
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
LOCK = os.O_RDWR | os.O_CREAT

HAS_OWNERS = sys.platform != "win32"
"""Whether owner and mode of a file say who can write it. On Windows its access list does."""


def open(path: str, flags: int) -> int:
    return os.open(path, flags | _FLAGS, 0o600)


def read(fd: int, size: int) -> bytes:
    return os.read(fd, size)


def write(fd: int, data: memoryview) -> int:
    return os.write(fd, data)


def close(fd: int) -> None:
    os.close(fd)


def fsync(fd: int) -> None:
    os.fsync(fd)


def fstat(fd: int) -> os.stat_result:
    return os.fstat(fd)


def stat(path: str) -> os.stat_result:
    return os.stat(path, follow_symlinks=False)


def set_mtime(path: str, nanoseconds: int) -> None:
    os.utime(path, ns=(nanoseconds, nanoseconds))


def copy_owner_and_mode(path: str, source: os.stat_result) -> None:
    """Give `path` the mode of `source`, and its owner if the operating system permits that."""
    if HAS_OWNERS:
        created = os.stat(path)
        if (created.st_uid, created.st_gid) != (source.st_uid, source.st_gid):
            try:
                os.chown(path, source.st_uid, source.st_gid)
            except PermissionError:
                pass  # only root may change the owner
        os.chmod(path, source.st_mode & 0o777)


def replace(source: str, target: str) -> None:
    deadline = time.monotonic() + (_REPLACE_TIMEOUT if sys.platform == "win32" else 0.0)
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def link(source: str, target: str) -> None:
    os.link(source, target)


def unlink(path: str) -> None:
    os.unlink(path)


def mkdir(path: str) -> None:
    os.mkdir(path, 0o700)


def names_in(folder: str) -> list[str]:
    return os.listdir(folder)


def sync_folder(folder: str) -> None:
    """Make a rename in `folder` survive a power failure. Windows has no such call and does not need one."""
    if sys.platform != "win32":
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def try_lock(fd: int) -> bool:
    """Lock an open file without waiting. Returns False if another process has the lock."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock(fd: int) -> None:
    """Release the lock, also for copies of the descriptor in forked children."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_UN)


def connect(path: str, timeout: float) -> sqlite3.Connection:
    import sqlite3

    # check_same_thread=False, so that close() can close the connections of other threads.
    return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)


def execute(connection: sqlite3.Connection, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
    return connection.execute(sql, values)


def execute_many(connection: sqlite3.Connection, sql: str, rows: Sequence[Sequence[Any]]) -> sqlite3.Cursor:
    return connection.executemany(sql, rows)
