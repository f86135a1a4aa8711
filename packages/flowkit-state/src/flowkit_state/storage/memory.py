"""Class `MemoryStore`: entries in a dictionary with a lock."""

from __future__ import annotations

import os
from heapq import heapify, heappop, heappush

from flowkit_state.storage.base import DIGEST_KEY, Entry
from flowkit_state.storage.limits import Limits, Usage, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_STALE_EXPIRIES = 100


class MemoryStore:
    """A `Store` in the memory of this process, and the base class of `JSONStore`.

    Each change removes the entries that have expired. A store with limits removes the entries that were used least
    recently.
    """

    _reading_is_use = True

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or None
        self._entries: dict[str, Entry] = {}
        self._usage: Usage | None = None  # computed when it is first needed
        self._expiries: list[tuple[float, str]] | None = None  # a heap; likewise. It may have outdated items.
        self._snapshot: tuple[dict[str, Entry], Usage | None] = {}, None  # before the batch that is open
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
                self._restore_snapshot()
                self._depth = 0
            self._new_lock()
        self._lock.acquire()

    def _restore_snapshot(self) -> None:
        self._entries, self._usage = self._snapshot
        self._snapshot, self._expiries = ({}, None), None

    def _set_entries(self, entries: dict[str, Entry]) -> None:
        """Replace all entries."""
        self._entries, self._usage, self._expiries = entries, None, None

    def _refresh(self) -> None:
        """Read the changes of other processes: none, for a store in memory."""

    def get(self, key: str) -> Entry | None:
        self._acquire()
        try:
            self._refresh()
            if self._usage is not None and self._reading_is_use:
                self._usage.use(key)
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

    headers = items

    def put(self, key: str, entry: Entry) -> None:
        self._acquire()
        try:
            if self._limits is None:
                self._entries[key] = entry
            else:
                self._put_within_limits(key, entry, self._limits)
            self._changed = True
            self._remove_expired(key, entry)
        finally:
            self._lock.release()

    def _put_within_limits(self, key: str, entry: Entry, limits: Limits) -> None:
        if self._usage is None:
            self._usage = Usage(self._entries)
        size = size_of(key, entry)
        limits.check(key, size)
        self._entries[key] = entry
        self._usage.put(key, size)
        if surplus := self._usage.surplus(limits, (key, DIGEST_KEY)):
            if self._remove_if(lambda _, other: other.expired(entry.stored)):
                surplus = self._usage.surplus(limits, (key, DIGEST_KEY))
            for each in surplus:
                self._discard(each)

    def _remove_expired(self, key: str, entry: Entry) -> None:
        """Remove the entries that have expired when `entry` is stored under `key`."""
        if self._expiries is None or len(self._expiries) > 2 * len(self._entries) + _STALE_EXPIRIES:
            found = self._entries.items()
            self._expiries = [(each.expires, name) for name, each in found if each.expires is not None]
            heapify(self._expiries)
        elif entry.expires is not None:
            heappush(self._expiries, (entry.expires, key))
        while self._expiries and self._expiries[0][0] <= entry.stored:
            _, name = heappop(self._expiries)
            other = self._entries.get(name)
            if other is not None and other.expired(entry.stored):
                self._discard(name)

    def touch(self, key: str, stored: float, expires: float | None) -> None:
        self._acquire()
        try:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries[key] = Entry(entry.payload, stored, expires, entry.metadata, entry.blob)
                self._changed = True
                if self._usage is not None:
                    self._usage.use(key)
                if self._expiries is not None and expires is not None:
                    heappush(self._expiries, (expires, key))
        finally:
            self._lock.release()

    def remove(self, key: str) -> bool:
        self._acquire()
        try:
            return self._discard(key)
        finally:
            self._lock.release()

    def _discard(self, key: str) -> bool:
        removed = self._entries.pop(key, None) is not None
        if self._usage is not None:
            self._usage.remove(key)
        self._changed |= removed
        return removed

    def clear(self) -> None:
        self._acquire()
        try:
            self._changed |= bool(self._entries)
            self._set_entries({})
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
                self._discard(key)
            return len(keys)
        finally:
            self._lock.release()

    def restart_lifetimes(self, now: float) -> None:
        self._acquire()
        try:
            for key, entry in self._entries.items():
                self._entries[key] = entry.with_lifetime_from(now)
            self._expiries = None
            self._changed = True
        finally:
            self._lock.release()

    def begin(self) -> None:
        self._acquire()
        if self._depth == 0:
            self._snapshot = self._entries, self._usage
            self._entries = dict(self._entries)
            self._usage = None if self._usage is None else self._usage.copy()
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
            self._snapshot = {}, None
        self._lock.release()

    def rollback(self) -> None:
        if not self._in_batch():
            return
        self._depth -= 1
        if self._depth == 0:
            self._restore_snapshot()
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
        self._set_entries({})
        self._lock.release()
