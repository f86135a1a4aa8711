"""Class `WakeUp`: an event that one thread waits for."""

from __future__ import annotations

import sys
from _thread import TIMEOUT_MAX, allocate_lock
from time import monotonic

_INTERRUPT_INTERVAL = 0.25 if sys.platform == "win32" else None  # there, only a wait with a timeout can be interrupted


class WakeUp:
    """An event that one thread waits for. Waiting resets it. It costs less than `threading.Event`."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    now = staticmethod(monotonic)
    """Return the current time in seconds."""

    def set(self) -> None:
        """Wake the waiting thread, or the next one that waits."""
        try:
            self._lock.release()
        except RuntimeError:  # it is set already
            pass

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the event, ``timeout`` seconds at most. Ctrl-C interrupts it."""
        if timeout is not None:
            self._lock.acquire(timeout=min(timeout, TIMEOUT_MAX))
        elif _INTERRUPT_INTERVAL is None:
            self._lock.acquire()
        else:
            while not self._lock.acquire(timeout=_INTERRUPT_INTERVAL):
                pass
