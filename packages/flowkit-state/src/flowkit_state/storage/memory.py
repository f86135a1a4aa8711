"""Class `MemoryStore`: entries in a dictionary with a lock."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_state.storage.base import Entry


class MemoryStore:
    """A `Store` in the memory of this process, and the base class of `JSONStore`."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._snapshot: dict[str, Entry] = {}  # the entries before the batch that is open
        self._depth = 0
        self._changed = False
        self._new_lock()

    def _new_lock(self) -> None:
        from threading import RLock

        self._lock = RLock()
        self._pid = os.getpid()

    def _acquire(self) -> None:
        """Acquire the lock. In a forked child, replace it first: the thread that may hold it does not exist there."""
        if self._pid != os.getpid():
            if self._depth:
                self._entries, self._depth = self._snapshot, 0
            self._new_lock()
        self._lock.acquire()

    def _refresh(self) -> None:
        """Read the changes of other processes: none, for a store in memory."""

    def get(self, key: str) -> Entry | None:
        self._acquire()
        try:
            self._refresh()
            return self._entries.get(key)
        finally:
            self._lock.release()

    def items(self) -> list[tuple[str, Entry]]:
        self._acquire()
        try:
            self._refresh()
            return list(self._entries.items())
        finally:
            self._lock.release()

    def put(self, key: str, entry: Entry) -> None:
        self._acquire()
        try:
            self._entries[key] = entry
            self._changed = True
        finally:
            self._lock.release()

    def remove(self, key: str) -> bool:
        self._acquire()
        try:
            removed = self._entries.pop(key, None) is not None
            self._changed |= removed
            return removed
        finally:
            self._lock.release()

    def clear(self) -> None:
        self._acquire()
        try:
            self._changed |= bool(self._entries)
            self._entries.clear()
        finally:
            self._lock.release()

    def remove_expired(self, now: float) -> int:
        return self._remove_if(lambda _, entry: entry.expired(now))

    def remove_older(self, prefix: str, before: float) -> None:
        self._remove_if(lambda key, entry: key.startswith(prefix) and entry.stored < before)

    def _remove_if(self, condition: Callable[[str, Entry], bool]) -> int:
        self._acquire()
        try:
            keys = [key for key, entry in self._entries.items() if condition(key, entry)]
            for key in keys:
                del self._entries[key]
            self._changed |= bool(keys)
            return len(keys)
        finally:
            self._lock.release()

    def restart_lifetimes(self, now: float) -> None:
        self._acquire()
        try:
            for key, entry in self._entries.items():
                self._entries[key] = entry.with_lifetime_from(now)
            self._changed = True
        finally:
            self._lock.release()

    def begin(self) -> None:
        self._acquire()
        if self._depth == 0:
            self._snapshot = self._entries
            self._entries = dict(self._entries)
            self._changed = False
        self._depth += 1

    def _in_batch(self) -> bool:
        """Return whether a batch of this process is open. A batch that was open at a fork belongs to the parent."""
        return self._depth > 0 and self._pid == os.getpid()

    def commit(self) -> None:
        if not self._in_batch():
            return
        self._depth -= 1
        if self._depth == 0:
            self._snapshot = {}
        self._lock.release()

    def rollback(self) -> None:
        if not self._in_batch():
            return
        self._depth -= 1
        if self._depth == 0:
            self._entries, self._snapshot = self._snapshot, {}
        self._lock.release()

    def abort(self) -> None:
        try:
            while self._in_batch():
                self.rollback()
        except RuntimeError:
            pass  # the lock belongs to another thread, and so does the batch

    def read_payload(self, value: str | bytes, _blob: str | None) -> str | bytes:
        return value

    def close(self) -> None:
        self._acquire()
        self._entries = {}
        self._lock.release()
