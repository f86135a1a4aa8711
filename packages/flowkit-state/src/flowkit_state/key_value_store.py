"""Class `KeyValueStore`: values by key with a time to live, over any storage backend."""

from __future__ import annotations

from flowkit_state._validation import integer, seconds, text
from flowkit_state.errors import (
    MissingKeyError,
    RestoreError,
    StateClosedError,
    StateFileError,
    StateOptionTypeError,
    short_repr,
)
from flowkit_state.storage.base import Batch, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, Self

    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.base import Store

_CLOCK_SLACK = 5.0  # an entry stored more than this many seconds in the future means that the clock was set back


class KeyValueStore:
    """The key-value part of `StateManager`.

    Args:
        store: the storage backend.
        serialization: converts values to what the backend stores, and back.
        path: the absolute path of the file; `None` for a store in memory.
        default_ttl: time to live in seconds of entries set without one; `None`: they do not expire.
        clock: returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        serialization: Serialization,
        *,
        path: str | None,
        default_ttl: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._path = path
        self._default_ttl = default_ttl
        self._clock = clock
        self._closed = False
        self._serialization = serialization

    @property
    def path(self) -> str | None:
        """The absolute path of the file, or `None` for a store in memory."""
        return self._path

    @property
    def default_ttl(self) -> float | None:
        """Time to live in seconds of entries that `set` is given none for; `None`: they do not expire."""
        return self._default_ttl

    def set(self, key: str, value: Any, ttl: float | None = None, metadata: dict[str, Any] | None = None) -> None:
        """Store `value` under `key`, replacing any previous value. It is in the file when this returns.

        Args:
            key: any text.
            value: the value. A snapshot is stored: changing the object later does not change the store.
            ttl: seconds until the entry expires. `None`: the `default_ttl` of the manager; infinity: never;
                0: the entry is removed at once.
            metadata: a dictionary stored with the value, for `get_metadata`. It supports the same types as values.

        `state[key] = value` is the same without options.

        Raises:
            UnsupportedValueError: the value cannot be restored exactly. The previous value of `key` is unchanged.
            StateOptionError, StateOptionTypeError: the key, the ttl or the metadata is invalid.
            ValueTooLargeError: the value alone exceeds `max_bytes`.
            StateFileError: the file cannot be written. Its contents are unchanged.

            >>> from flowkit_state import StateManager
            >>> state = StateManager()
            >>> state.set("token", b"secret", ttl=60, metadata={"source": "login"})
        """
        self._check_open()
        text("key", key)
        lifetime = self._lifetime(ttl)
        payload, notes = self._stored_form(key, value, metadata)
        self._put(key, payload, notes, lifetime)

    def add(self, key: str, value: Any, ttl: float | None = None, metadata: dict[str, Any] | None = None) -> bool:
        """Store `value` under `key`, unless there is an entry that has not expired.

        Of several threads or processes that add the same key at once, one succeeds.

        Args:
            key: any text.
            value: the value.
            ttl: seconds until the entry expires, as for `set`.
            metadata: a dictionary stored with the value, as for `set`.

        Returns:
            whether the value was stored.

        Raises:
            UnsupportedValueError: the value cannot be restored exactly.
            StateOptionError, StateOptionTypeError: the key, the ttl or the metadata is invalid.
            ValueTooLargeError: the value alone exceeds `max_bytes`.
            StateFileError: the file cannot be written. Its contents are unchanged.

            >>> from flowkit_state import StateManager
            >>> state = StateManager()
            >>> state.add("leader", "worker 1", ttl=30), state.add("leader", "worker 2", ttl=30)
            (True, False)
        """
        self._check_open()
        text("key", key)
        lifetime = self._lifetime(ttl)
        payload, notes = self._stored_form(key, value, metadata)
        with Batch(self._store):
            if self._live(key) is not None:
                return False
            self._put(key, payload, notes, lifetime)
        return True

    def incr(self, key: str, delta: int = 1, default: int = 0, ttl: float | None = None) -> int:
        """Add `delta` to the integer under `key`, and return the sum.

        No change of another thread or process is lost. The entry keeps its metadata and its time of expiry.

        Args:
            key: any text.
            delta: what to add; it may be negative.
            default: the value to begin with if there is no entry or it has expired.
            ttl: seconds until an entry that did not exist expires, as for `set`.

        Raises:
            StateOptionTypeError: `delta` or `default` is not an `int`, the value under `key` is not an `int`, or the
                key or the ttl has the wrong type. Nothing was changed.
            StateOptionError: the ttl is invalid.
            RestoreError: the value cannot be restored.
            StateFileError: the file cannot be written. Its contents are unchanged.

            >>> from flowkit_state import StateManager
            >>> state = StateManager()
            >>> state.incr("visits"), state.incr("visits", 10)
            (1, 11)
        """
        self._check_open()
        text("key", key)
        integer("delta", delta)
        integer("default", default)
        lifetime = self._lifetime(ttl)
        with Batch(self._store):
            entry = self._live(key)
            value = default if entry is None else self._restore(key, entry)
            if type(value) is not int:
                raise StateOptionTypeError(
                    f"the value of key {short_repr(key)}", value, "an int for incr() and decr(); set() replaces it"
                )
            value += delta
            payload = self._serialization.dump(key, value)
            if entry is None:
                self._put(key, payload, None, lifetime)
            else:
                self._store.put(key, Entry(payload, self._now(), entry.expires, entry.metadata))
        return value

    def decr(self, key: str, delta: int = 1, default: int = 0, ttl: float | None = None) -> int:
        """Subtract `delta` from the integer under `key`, and return the difference; see `incr`.

        >>> from flowkit_state import StateManager
        >>> state = StateManager()
        >>> state.set("seats", 100)
        >>> state.decr("seats", 2)
        98
        """
        return self.incr(key, -integer("delta", delta), default, ttl)

    def touch(self, key: str, ttl: float | None = None) -> bool:
        """Let the time to live of an entry begin now. Its value and its metadata stay.

        Args:
            key: any text.
            ttl: seconds until the entry expires. `None`: the `default_ttl` of the manager; infinity: never; 0: the
                entry is removed at once.

        Returns:
            whether there was an entry that had not expired.

        Raises:
            StateOptionError, StateOptionTypeError: the key or the ttl is invalid.
            StateFileError: the file cannot be written. Its contents are unchanged.

            >>> from flowkit_state import StateManager
            >>> state = StateManager()
            >>> state.set("session", {"user": 7}, ttl=60)
            >>> state.touch("session", ttl=3600), state.touch("another session")
            (True, False)
        """
        self._check_open()
        text("key", key)
        lifetime = self._lifetime(ttl)
        with Batch(self._store):
            if self._live(key) is None:
                return False
            if lifetime == 0:
                self._store.remove(key)
            else:
                now = self._now()
                self._store.touch(key, now, None if lifetime is None else now + lifetime)
        return True

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, a new object at each call, or `default` if there is none or it has expired.

        Raises:
            RestoreError: the value cannot be restored in this process, for example because its class is not imported.
            StateFileError: the file cannot be read.

            >>> from flowkit_state import StateManager
            >>> state = StateManager()
            >>> state.set("rows", (1, 2))
            >>> state.get("rows"), state.get("columns", "none")
            ((1, 2), 'none')
        """
        entry = self._live(key)
        return default if entry is None else self._restore(key, entry)

    def pop(self, key: str, default: Any = None) -> Any:
        """Remove the entry under `key` and return its value, or `default` if there is none or it has expired.

        Of several threads or processes that pop the same key at once, one gets the value.

        Raises:
            RestoreError: the value cannot be restored in this process. The entry is not removed.
            StateFileError: the file cannot be written. Its contents are unchanged.

            >>> from flowkit_state import StateManager
            >>> state = StateManager()
            >>> state.set("job", "resize 17.png")
            >>> state.pop("job"), state.pop("job")
            ('resize 17.png', None)
        """
        self._check_open()
        text("key", key)
        with Batch(self._store):
            entry = self._live(key)
            if entry is None:
                return default
            value = self._restore(key, entry)
            self._store.remove(key)
        return value

    def has(self, key: str) -> bool:
        """Return whether there is an entry under `key` that has not expired. Its value may be `None`.

        `key in state` is the same.

            >>> from flowkit_state import StateManager
            >>> state = StateManager()
            >>> state.set("answer", None)
            >>> state.has("answer"), "question" in state
            (True, False)
        """
        return self._live(key) is not None

    def delete(self, key: str) -> bool:
        """Remove the entry under `key`. Returns whether there was one that had not expired.

        >>> from flowkit_state import StateManager
        >>> state = StateManager()
        >>> state.set("rows", 3)
        >>> state.delete("rows"), state.delete("rows")
        (True, False)
        """
        try:
            live = self._live(key) is not None
        except RestoreError:
            live = True  # a damaged entry
        return live and self._store.remove(key)

    def clear(self) -> None:
        """Remove every entry.

        >>> from flowkit_state import StateManager
        >>> state = StateManager()
        >>> state.set("rows", 3)
        >>> state.clear()
        >>> state.get_all()
        {}
        """
        self._check_open()
        self._store.clear()

    def keys(self) -> list[str]:
        """Return the keys of the entries that have not expired, in the order in which they were first stored.

        Iteration over a manager yields the same keys: those at the time when it begins.

            >>> from flowkit_state import StateManager
            >>> state = StateManager()
            >>> state.set("b", 1)
            >>> state.set("a", 2)
            >>> state.keys(), list(state), len(state)
            (['b', 'a'], ['b', 'a'], 2)
        """
        self._check_open()
        return [key for key, _ in self._without_expired(self._store.headers())]

    def get_all(self) -> dict[str, Any]:
        """Return every entry that has not expired, as a dictionary of key to value.

        >>> from flowkit_state import StateManager
        >>> state = StateManager()
        >>> state.set("b", 1)
        >>> state.set("a", 2)
        >>> state.get_all()
        {'b': 1, 'a': 2}
        """
        self._check_open()
        return {key: self._restore(key, entry) for key, entry in self._without_expired(self._store.items())}

    def get_metadata(self, key: str) -> dict[str, Any] | None:
        """Return the metadata given to `set`, `{}` if none was, or `None` if there is no entry or it has expired.

        >>> from flowkit_state import StateManager
        >>> state = StateManager()
        >>> state.set("rows", 3, metadata={"source": "orders.csv"})
        >>> state.get_metadata("rows")
        {'source': 'orders.csv'}
        """
        entry = self._live(key)
        if entry is None:
            return None
        if entry.metadata is None:
            return {}
        from flowkit_state.serialization.serializers import from_json

        try:
            metadata = from_json(key, entry.metadata)
        except RestoreError as error:
            raise self._located(key, error) from error
        if type(metadata) is not dict:
            reason = f"its metadata is damaged: it is a {type(metadata).__name__}, but must be a dict."
            raise self._located(key, RestoreError(key, reason, damaged=True))
        return metadata

    def expire(self) -> int:
        """Remove every expired entry and return how many there were.

        Expired entries are never returned; this frees the space they take. A store in memory or in a JSON file also
        does it at each change.

            >>> from flowkit_state import StateManager
            >>> StateManager().expire()
            0
        """
        self._check_open()
        return self._store.remove_expired(self._now())

    def invalidate_expired(self) -> int:
        """Do the same as `expire`.

        >>> from flowkit_state import StateManager
        >>> StateManager().invalidate_expired()
        0
        """
        return self.expire()

    def batch(self) -> Batch:
        """Combine several changes into one: `with state.batch(): ...` writes all of them at its end, or none on error.

        For a JSON file that is one write instead of many. Other threads and processes wait meanwhile, so do not
        compute in a batch. A batch inside a batch belongs to the outer one.

            >>> from flowkit_state import StateManager
            >>> state = StateManager()
            >>> with state.batch():
            ...     for number in range(1000):
            ...         state.set(f"row {number}", number)
        """
        self._check_open()
        return Batch(self._store)

    def close(self) -> None:
        """Release the file. Closing twice is fine; any other use after this raises `StateClosedError`.

        The end of a `with` block over the manager does the same.

            >>> from flowkit_state import StateManager
            >>> state = StateManager()
            >>> state.close()
        """
        if not self._closed:
            self._closed = True
            self._store.close()

    def __contains__(self, key: str) -> bool:
        return self.has(key)

    def __len__(self) -> int:
        """Return the number of entries that have not expired."""
        return len(self.keys())

    def __bool__(self) -> bool:
        """Return True, also for a manager without entries: `state or another` tests whether there is a manager."""
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __getitem__(self, key: str) -> Any:
        entry = self._live(key)
        if entry is None:
            raise MissingKeyError(key, self._path)
        return self._restore(key, entry)

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise MissingKeyError(key, self._path)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _lifetime(self, ttl: float | None) -> float | None:
        """Return the time to live of an entry in seconds; `None`: it does not expire."""
        return self._default_ttl if ttl is None else seconds("ttl", ttl)

    def _stored_form(self, key: str, value: Any, metadata: dict[str, Any] | None) -> tuple[str | bytes, str | None]:
        """Return what to store for a value and its metadata."""
        if metadata is not None and type(metadata) is not dict:
            raise StateOptionTypeError("metadata", metadata, "a dict, or None")
        from flowkit_state.serialization.serializers import to_json

        payload = self._serialization.dump(key, value)
        return payload, None if not metadata else to_json(key, metadata, root="metadata")

    def _put(self, key: str, payload: str | bytes, metadata: str | None, lifetime: float | None) -> None:
        now = self._now()
        if lifetime == 0:
            self._store.remove(key)
        else:
            self._store.put(key, Entry(payload, now, None if lifetime is None else now + lifetime, metadata))

    def _now(self) -> float:
        return float(self._clock())

    def _check_open(self) -> None:
        if self._closed:
            raise StateClosedError(self._path)

    def _live(self, key: str) -> Entry | None:
        """Return the entry under `key`, unless it has expired. If it has, all expired entries are removed."""
        self._check_open()
        entry = self._store.get(text("key", key))
        if entry is None or entry.expires is None:
            return entry
        now = self._now()
        if entry.expired(now):
            self._try(self._store.remove_expired, now)
            return None
        if entry.stored > now + _CLOCK_SLACK:
            self._try(self._store.restart_lifetimes, now)
        return entry

    def _without_expired(self, items: list[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
        now = self._now()
        live = [(key, entry) for key, entry in items if not entry.expired(now)]
        if len(live) < len(items):
            self._try(self._store.remove_expired, now)
        if any(entry.expires is not None and entry.stored > now + _CLOCK_SLACK for _, entry in live):
            self._try(self._store.restart_lifetimes, now)
        return live

    @staticmethod
    def _try(action: Callable[[float], object], now: float) -> None:
        try:
            action(now)
        except StateFileError:
            pass  # the file may be read-only, and the entries returned are correct without it

    def _restore(self, key: str, entry: Entry) -> Any:
        try:
            payload = entry.payload if entry.blob is None else self._store.read_payload(entry.payload, entry.blob)
            return self._serialization.load(key, payload)
        except RestoreError as error:
            raise self._located(key, error) from error

    def _located(self, key: str, error: RestoreError) -> RestoreError:
        """Return the error with the key, the file and the way out."""
        reason = error.reason
        if error.damaged:
            reason = f"{reason} delete({short_repr(key)}) removes the entry, set() replaces it."
        return RestoreError(key, reason, error.task, self._path, error.damaged)
