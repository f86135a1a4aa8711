"""Files that are replaced atomically, locked between processes, readable by their owner only, and never deleted."""

from __future__ import annotations

import errno
import os
import stat
import time

from flowkit_state._warnings import warn
from flowkit_state.errors import DamagedStateWarning, StateFileError, StateLockedError, escape_control_chars
from flowkit_state.storage import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    Signature = tuple[int, int, int, int]

_CHUNK = 1 << 20
_MTIME_STEP = 1000  # nanoseconds, the smallest step that common file systems store


def failure(path: str, action: str, error: OSError) -> StateFileError:
    """Return the exception to raise for an error of the operating system, with the message "cannot <action>"."""
    reasons = {
        errno.ENOSPC: "the disk is full; free some space and try again.",
        errno.EDQUOT: "the disk quota is used up; free some space and try again.",
        errno.EROFS: "the file system is read-only; use a path that can be written.",
        errno.EACCES: "permission denied; check the permissions of the file and of its folder.",
        errno.EPERM: "not permitted; check the owner and the permissions of the file and of its folder.",
        errno.ENOTDIR: "a part of the path is a file, but must be a folder.",
        errno.EISDIR: "it is a folder, but must be a file.",
        errno.ELOOP: "it was replaced by a symbolic link, which is not followed; remove the link.",
    }
    reason = reasons.get(error.errno or 0, f"{error.strerror or error}.")
    return StateFileError(path, f"cannot {action}: {reason}", error.errno)


def signature(status: os.stat_result) -> Signature:
    """Return what identifies one version of a file that is only ever replaced."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def make_folder(path: str) -> None:
    """Create the folder of `path` and its parents, accessible to this user only."""
    missing = []
    folder = os.path.dirname(path)
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(missing):
        try:
            syscalls.mkdir(folder)
        except FileExistsError:
            continue  # created by another process; if it is not a folder, the next step fails
        syscalls.sync_folder(os.path.dirname(folder))


def read_file(path: str) -> tuple[bytes, os.stat_result]:
    """Return the content of a file and its status. Raises `OSError`."""
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
    """Replace the content of `path` by `data` atomically, also for readers, crashes and power failures.

    The caller holds the lock of the file. Mode and owner are those of `previous`; a new file has mode 0600.
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
                # Later than the previous version, so that signatures differ even if the inode is reused.
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
    """Delete the temporary files of processes that were killed. The caller holds the lock, so there are no others."""
    folder, name = os.path.split(path)
    for each in syscalls.names_in(folder):
        if each.startswith(f"{name}.") and each.endswith(".tmp"):
            _discard(os.path.join(folder, each))


def _discard(path: str) -> None:
    try:
        syscalls.unlink(path)
    except OSError:
        pass  # the next writer tries again


def rename_damaged(path: str, reason: str, companions: tuple[str, ...] = ()) -> None:
    """Rename a damaged file and the files with the suffixes `companions`, and warn with both names."""
    stem = f"{path}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    target, number = stem, 1
    while os.path.lexists(target):
        number += 1
        target = f"{stem}-{number}"
    try:
        for suffix in companions:
            if os.path.lexists(path + suffix):
                syscalls.replace(path + suffix, target + suffix)
        syscalls.replace(path, target)
    except OSError as error:
        raise StateFileError(
            path, f"it is damaged ({reason}), and cannot be renamed: {error.strerror or error}.", error.errno
        ) from error
    message = f"state file {path} is damaged ({reason}). It was renamed to {target}, and the store starts empty."
    warn(escape_control_chars(message), DamagedStateWarning)


class FileLock:
    """An advisory lock on `<path>.lock`, a file that is never replaced, truncated or removed. Not reentrant.

    The operating system releases it when the process ends, so there is nothing to clean up after a crash.
    """

    __slots__ = ("_fd", "_path", "_timeout")

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._fd = -1

    def acquire(self) -> None:
        """Wait for the lock. Raises `StateLockedError` after the timeout, `OSError` if the file cannot be locked."""
        deadline = time.monotonic() + self._timeout
        while not self._try(deadline):
            pass

    def _try(self, deadline: float) -> bool:
        """Wait for the lock of the file that is there now. Returns False if that was replaced meanwhile."""
        path = f"{self._path}.lock"
        fd = syscalls.open(path, syscalls.LOCK)
        try:
            pause = 0.0005
            while not syscalls.try_lock(fd):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise locked(self._path, self._timeout)
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, 0.02)
            if os.path.samestat(syscalls.fstat(fd), syscalls.stat(path)):
                self._fd = fd
                return True
        except FileNotFoundError:
            pass  # it was removed
        except BaseException:
            syscalls.close(fd)
            raise
        syscalls.close(fd)
        return False

    def release(self) -> None:
        """Release the lock."""
        fd, self._fd = self._fd, -1
        for step in (syscalls.unlock, syscalls.close):
            try:
                step(fd)
            except OSError:
                pass  # either step alone releases the lock


def locked(path: str, timeout: float) -> StateLockedError:
    """Return the exception to raise if another thread or process has the lock."""
    reason = (
        f"another thread or process has had it locked for {timeout:g} s; let it finish, or increase lock_timeout "
        "(a batch() locks the file until it ends)."
    )
    return StateLockedError(path, reason, errno.EAGAIN)
