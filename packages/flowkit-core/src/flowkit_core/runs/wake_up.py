"""Class `WakeUp`: lets one thread wait until another wakes it."""

from __future__ import annotations

import sys
from _thread import allocate_lock

_SLICE = 0.25 if sys.platform == "win32" else None  # there, only a wait with a timeout can be interrupted


class WakeUp:
    """A signal from any thread to one waiting thread. A signal that comes before the wait is kept."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the waiting thread, or the next that waits."""
        try:
            self._lock.release()
        except RuntimeError:  # it was set already
            pass

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the signal, at most so many seconds. Ctrl-C interrupts the wait."""
        if seconds is not None:
            self._lock.acquire(timeout=seconds)
        elif _SLICE is None:
            self._lock.acquire()
        else:
            while not self._lock.acquire(timeout=_SLICE):
                pass
