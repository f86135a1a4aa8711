"""Files that survive: replaced in one step, locked among processes, private, and never silently lost."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
import warnings

from flowkit_state.errors import DamagedStateWarning, StateFileError, StateLockedError, plain
from flowkit_state.module_names import OURS
from flowkit_state.storage import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    Signature = tuple[int, int, int, int]

_CHUNK = 1 << 20
_MTIME_STEP = 1000  # nanoseconds, the finest step that common file systems keep


def failure(path: str, doing: str, error: OSError) -> StateFileError:
    """Return the error to raise when an operating system call failed."""
    ways = {
        errno.ENOSPC: "the disk is full; free some space and try again.",
        errno.EDQUOT: "the disk quota is used up; free some space and try again.",
        errno.EROFS: "the file system is read-only; use a path that can be written.",
        errno.EACCES: "permission denied; check the permissions of the file and of its folder.",
        errno.EPERM: "not permitted; check the owner and the permissions of the file and of its folder.",
        errno.ENOTDIR: "a part of the path that should be a folder is a file.",
        errno.EISDIR: "it is a folder, and must be a file.",
        errno.ELOOP: "a symbolic link was put in its place after the path was resolved; it is not followed.",
    }
    reason = ways.get(error.errno or 0, f"{error.strerror or error}.")
    return StateFileError(path, f"cannot {doing}: {reason}", error.errno)


def signature(status: os.stat_result) -> Signature:
    """Return what tells one version of a replaced file from every other."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def make_folder(path: str) -> None:
    """Create the folder that `path` lies in, and those above it, private to this user."""
    missing = []
    folder = os.path.dirname(path)
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        try:
            syscalls.mkdir(folder)
        except FileExistsError:
            continue  # another process was faster; if it is no folder, the next step says so
        syscalls.sync_folder(os.path.dirname(folder))


def read_file(path: str) -> tuple[bytes, os.stat_result]:
    """Return the contents of a file, and the status that belongs to them. Raises `OSError`."""
    fd = syscalls.open(path, syscalls.READ)
    try:
        status = syscalls.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
            raise OSError(code, "it is not a regular file")
        chunks = []
        while chunk := syscalls.read(fd, _CHUNK):
            chunks.append(chunk)
        return b"".join(chunks), status
    finally:
        syscalls.close(fd)


def write_file(path: str, data: bytes, previous: os.stat_result | None) -> os.stat_result:
    """Replace `path` by `data` in one step that a reader, a crash or a power cut sees wholly or not at all.

    The caller holds the lock of the file. Mode and owner are those of `previous`; a new file is private.
    """
    temporary = f"{path}.{os.getpid()}-{os.urandom(6).hex()}.tmp"
    fd = syscalls.open(temporary, syscalls.CREATE)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[syscalls.write(fd, rest) :]
            if previous is not None:
                syscalls.copy_owner_and_mode(temporary, previous)
                # Strictly later than the version before it: so no two versions look alike, even on a reused inode.
                syscalls.set_mtime(temporary, max(time.time_ns(), previous.st_mtime_ns + _MTIME_STEP))
            syscalls.fsync(fd)
            status = syscalls.fstat(fd)
        finally:
            syscalls.close(fd)
        syscalls.replace(temporary, path)
    except BaseException:
        _discard(temporary)
        raise
    syscalls.sync_folder(os.path.dirname(path))
    return status


def remove_leftovers(path: str) -> None:
    """Delete temporary files of writers that died. Under the lock there are no others."""
    folder, name = os.path.split(path)
    for found in syscalls.names_in(folder):
        if found.startswith(f"{name}.") and found.endswith(".tmp"):
            _discard(os.path.join(folder, found))


def _discard(path: str) -> None:
    try:
        syscalls.unlink(path)
    except OSError:
        pass  # it is only litter, and the next writer tries again


def set_aside(path: str, reason: str, companions: tuple[str, ...] = ()) -> None:
    """Rename a damaged file, which is never deleted or overwritten, and warn with both names."""
    stem = f"{path}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    kept, number = stem, 1
    while os.path.lexists(kept):
        number += 1
        kept = f"{stem}-{number}"
    try:
        for suffix in companions:
            if os.path.lexists(path + suffix):
                syscalls.replace(path + suffix, kept + suffix)
        syscalls.replace(path, kept)
    except OSError as error:
        raise StateFileError(
            path, f"it is damaged ({reason}), and cannot be set aside: {error.strerror or error}.", error.errno
        ) from error
    message = f"state file {path} is damaged ({reason}). It was kept as {kept}, and the store starts empty."
    warnings.warn(plain(message), DamagedStateWarning, stacklevel=_depth_of_caller())


def _depth_of_caller() -> int:
    """Return the `stacklevel` at which a warning points at the user's line, not at ours."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in OURS:
        depth, frame = depth + 1, frame.f_back
    return depth


class FileLock:
    """The kernel's lock on `<path>.lock`, a side file that is never replaced, truncated or removed.

    It vanishes with the process that holds it, so there is nothing to clean up after a crash. Not reentrant.
    """

    __slots__ = ("_fd", "_path", "_timeout")

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._fd = -1

    def acquire(self) -> None:
        """Wait for the lock. Raises `StateLockedError` after the timeout, `OSError` where there can be no lock."""
        fd = syscalls.open(f"{self._path}.lock", syscalls.LOCK)
        try:
            deadline = time.monotonic() + self._timeout
            pause = 0.0005
            while not syscalls.try_lock(fd):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise locked(self._path, self._timeout)
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, 0.02)
        except BaseException:
            syscalls.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        for step in (syscalls.unlock, syscalls.close):
            try:
                step(fd)
            except OSError:
                pass  # what was written is written, and either step alone sets the lock free


def locked(path: str, timeout: float) -> StateLockedError:
    """Return the error to raise when somebody else keeps the file locked."""
    reason = (
        f"another thread or process has kept it locked for {timeout:g} s; let it finish, or raise lock_timeout "
        "(a batch() keeps the file locked until it ends)."
    )
    return StateLockedError(path, reason, errno.EAGAIN)
