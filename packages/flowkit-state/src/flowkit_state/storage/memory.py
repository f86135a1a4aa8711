"""The store in memory: a dictionary and a lock."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_state.storage.base import Record


class MemoryStore:
    """Keeps records in a dictionary. The file store builds on it."""

    def __init__(self) -> None:
        self._entries: dict[str, Record] = {}
        self._before: dict[str, Record] = {}  # what a batch goes back to
        self._depth = 0
        self._changed = False
        self._new_lock()

    def _new_lock(self) -> None:
        from threading import RLock

        self._lock = RLock()
        self._pid = os.getpid()

    def _guard(self) -> None:
        """Enter the lock. A forked child gets a lock of its own: the thread that held the old one is not there."""
        if self._pid != os.getpid():
            if self._depth:
                self._entries, self._depth = self._before, 0
            self._new_lock()
        self._lock.acquire()

    def _refresh(self) -> None:
        """Take in what others have written: nothing, in memory."""

    def get(self, key: str) -> Record | None:
        self._guard()
        try:
            self._refresh()
            return self._entries.get(key)
        finally:
            self._lock.release()

    def items(self) -> list[tuple[str, Record]]:
        self._guard()
        try:
            self._refresh()
            return list(self._entries.items())
        finally:
            self._lock.release()

    def put(self, key: str, record: Record) -> None:
        self._guard()
        try:
            self._entries[key] = record
            self._changed = True
        finally:
            self._lock.release()

    def remove(self, key: str) -> bool:
        self._guard()
        try:
            found = self._entries.pop(key, None) is not None
            self._changed |= found
            return found
        finally:
            self._lock.release()

    def clear(self) -> None:
        self._guard()
        try:
            self._changed |= bool(self._entries)
            self._entries.clear()
        finally:
            self._lock.release()

    def purge(self, now: float) -> int:
        return self._remove_if(lambda _, record: record.expired(now))

    def prune(self, prefix: str, before: float) -> None:
        self._remove_if(lambda key, record: key.startswith(prefix) and record.stored < before)

    def _remove_if(self, condition: Callable[[str, Record], bool]) -> int:
        self._guard()
        try:
            gone = [key for key, record in self._entries.items() if condition(key, record)]
            for key in gone:
                del self._entries[key]
            self._changed |= bool(gone)
            return len(gone)
        finally:
            self._lock.release()

    def rebase(self, now: float) -> None:
        self._guard()
        try:
            for key, record in self._entries.items():
                self._entries[key] = record.rebased(now)
            self._changed = True
        finally:
            self._lock.release()

    def begin(self) -> None:
        self._guard()
        if self._depth == 0:
            self._before = self._entries
            self._entries = dict(self._entries)
            self._changed = False
        self._depth += 1

    def _in_batch(self) -> bool:
        """Return whether a batch is open in this process; one that a fork has copied belongs to the parent."""
        return self._depth > 0 and self._pid == os.getpid()

    def commit(self) -> None:
        if not self._in_batch():
            return
        self._depth -= 1
        if self._depth == 0:
            self._before = {}
        self._lock.release()

    def rollback(self) -> None:
        if not self._in_batch():
            return
        self._depth -= 1
        if self._depth == 0:
            self._entries, self._before = self._before, {}
        self._lock.release()

    def abort(self) -> None:
        """Undo everything that this thread has begun."""
        try:
            while self._in_batch():
                self.rollback()
        except RuntimeError:
            pass  # it is another thread that is in a batch

    def fetch(self, value: str | bytes, _beside: str | None) -> str | bytes:
        return value

    def close(self) -> None:
        self._guard()
        self._entries = {}
        self._lock.release()
