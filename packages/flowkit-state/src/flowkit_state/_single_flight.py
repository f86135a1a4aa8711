"""Class `SingleFlight`: of threads that need the same result at the same time, one computes it, the others wait."""

from __future__ import annotations

import os


class SingleFlight:
    """One lock for each key in use. In a forked child, all keys are unlocked."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        from threading import Lock

        self._lock = Lock()
        self._in_use: dict[str, KeyLock] = {}
        self._pid = os.getpid()

    def lock(self, key: str) -> KeyLock:
        """Return the lock of `key`, a context manager. The caller must enter it once."""
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            lock = self._in_use.setdefault(key, KeyLock(self, key))
            lock.users += 1
            return lock

    def _discard(self, lock: KeyLock) -> None:
        with self._lock:
            lock.users -= 1
            if not lock.users:
                self._in_use.pop(lock.key, None)


class KeyLock:
    """The lock of one key, and how many threads hold it or wait for it. Reentrant."""

    __slots__ = ("_flights", "_lock", "key", "users")

    def __init__(self, flights: SingleFlight, key: str) -> None:
        from threading import RLock

        self._flights = flights
        self._lock = RLock()
        self.key = key
        self.users = 0

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._flights._discard(self)
