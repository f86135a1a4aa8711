"""Class `TicketFile`: the tickets of one worker, in a file that this process and the worker map into memory."""

from __future__ import annotations

import mmap
import os
from time import sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CAPACITY = 4096
"""Maximum number of tickets in the file."""
_TAKEN, _ISSUED, _REFUSED, _FIRST = range(4)  # words of the file: two counters, a mark, and the ring of tickets
_SIZE = 8 * (_FIRST + CAPACITY)

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    import msvcrt

    def _lock(descriptor: int) -> None:
        """Wait for the lock of a file."""
        while True:
            try:
                return msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,no-any-return,unused-ignore]
            except OSError:  # the other process has it, for microseconds; LK_LOCK would wait for a second
                sleep(0)

    def _unlock(descriptor: int) -> None:
        """Release the lock of a file."""
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]

else:

    def _lock(descriptor: int) -> None:
        """Wait for the lock of a file."""
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _unlock(descriptor: int) -> None:
        """Release the lock of a file."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class TicketFile:
    """Tickets that the calling process issues; it or the worker takes each of them, and owns its call then.

    The file is a ring of tickets and two counters, of those that were issued and taken. A lock of the operating system,
    which ends with the process that holds it, makes sure that no ticket is taken twice.

    Args:
        path: path of the file.
        create: whether to create it.
    """

    def __init__(self, path: str, *, create: bool = False) -> None:
        self.path = path
        flags = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
        self._descriptor = os.open(path, flags | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
        self._has_lock = False
        try:
            if create:
                os.ftruncate(self._descriptor, _SIZE)
            self._words = memoryview(mmap.mmap(self._descriptor, _SIZE)).cast("Q")
        except BaseException:
            os.close(self._descriptor)
            raise

    def issue(self, tickets: Iterable[int]) -> None:
        """Add tickets."""
        words = self._words
        self._acquire()
        try:
            end = words[_ISSUED]
            for ticket in tickets:
                words[_FIRST + end % CAPACITY] = ticket
                end += 1
            words[_ISSUED] = end
        finally:
            self._release()

    def take(self) -> int | None:
        """Take the oldest ticket and return it; None if there is none."""
        words = self._words
        if words[_TAKEN] == words[_ISSUED]:
            return None
        self._acquire()
        try:
            start = words[_TAKEN]
            if start == words[_ISSUED]:
                return None
            ticket = words[_FIRST + start % CAPACITY]
            words[_TAKEN] = start + 1
        finally:
            self._release()
        return ticket

    def take_all(self) -> list[int]:
        """Take all tickets and return them, the oldest first."""
        words = self._words
        self._acquire()
        try:
            start, end = words[_TAKEN], words[_ISSUED]
            found = [words[_FIRST + number % CAPACITY] for number in range(start, end)]
            words[_TAKEN] = end
        finally:
            self._release()
        return found

    @property
    def is_refused(self) -> bool:
        """Whether a program that is not a worker was started in its place, see :func:`refuse`."""
        return bool(self._words[_REFUSED])

    def close(self) -> None:
        """Close the file. May be called more than once."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._words.release()  # its last view ends the mapping
            os.close(descriptor)

    def _acquire(self) -> None:
        if self._has_lock:  # an exception of a signal handler has prevented its release
            self._release()
        self._has_lock = True
        _lock(self._descriptor)

    def _release(self) -> None:
        try:
            _unlock(self._descriptor)
        except OSError:  # an exception of a signal handler has prevented that it was acquired
            pass
        self._has_lock = False


def refuse(path: str) -> None:
    """Mark the file of a worker: this program, which is not a worker, was started in its place."""
    with open(path, "r+b", buffering=0) as file:
        file.seek(8 * _REFUSED)
        file.write((1).to_bytes(8, "little"))
