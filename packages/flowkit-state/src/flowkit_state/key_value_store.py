"""Class `KeyValueStore`: values by key with a time to live, over any storage backend."""

from __future__ import annotations

from flowkit_state._validation import seconds, text
from flowkit_state.errors import StateClosedError, StateFileError, StateOptionTypeError
from flowkit_state.storage.base import Batch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self

    from flowkit_state.serialization.serializers import Serialization
    from flowkit_state.storage.base import Entry, Store

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

        Raises:
            UnsupportedValueError: the value cannot be restored exactly. The previous value of `key` is unchanged.
            StateOptionError, StateOptionTypeError: the key, the ttl or the metadata is invalid.
            StateFileError: the file cannot be written. Its contents are unchanged.

            >>> from flowkit_state import StateManager
            >>> state = StateManager()
            >>> state.set("token", b"secret", ttl=60, metadata={"source": "login"})
        """
        self._check_open()
        text("key", key)
        lifetime = self._default_ttl if ttl is None else seconds("ttl", ttl)
        if metadata is not None and type(metadata) is not dict:
            raise StateOptionTypeError("metadata", metadata, "a dict, or None")
        from flowkit_state.serialization.serializers import to_json
        from flowkit_state.storage.base import Entry

        payload = self._serialization.dump(key, value)
        notes = None if not metadata else to_json(key, metadata, root="metadata")
        now = self._now()
        if lifetime == 0:
            self._store.remove(key)
        else:
            expires = None if lifetime is None else now + lifetime
            self._store.put(key, Entry(payload, now, expires, notes))

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, a new object at each call, or `default` if there is none or it has expired.

        Raises:
            RestoreError: the value cannot be restored in this process, for example because its class is not imported.
        """
        entry = self._live(key)
        return default if entry is None else self._restore(key, entry)

    def has(self, key: str) -> bool:
        """Return whether there is an entry under `key` that has not expired. Its value may be `None`."""
        return self._live(key) is not None

    def delete(self, key: str) -> bool:
        """Remove the entry under `key`. Returns whether there was one that had not expired."""
        return self._live(key) is not None and self._store.remove(key)

    def clear(self) -> None:
        """Remove every entry."""
        self._check_open()
        self._store.clear()

    def keys(self) -> list[str]:
        """Return the keys of the entries that have not expired, oldest first."""
        return [key for key, _ in self._live_items()]

    def get_all(self) -> dict[str, Any]:
        """Return every entry that has not expired, as a dictionary of key to value."""
        return {key: self._restore(key, entry) for key, entry in self._live_items()}

    def get_metadata(self, key: str) -> dict[str, Any] | None:
        """Return the metadata given to `set`, `{}` if none was, or `None` if there is no entry or it has expired."""
        entry = self._live(key)
        if entry is None:
            return None
        if entry.metadata is None:
            return {}
        from flowkit_state.serialization.serializers import from_json

        metadata: dict[str, Any] = from_json(key, entry.metadata)
        return metadata

    def invalidate_expired(self) -> int:
        """Remove every expired entry and return how many there were.

        Expired entries are never returned; this frees the space they take.
        """
        self._check_open()
        return self._store.remove_expired(self._now())

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
        """Release the file. Closing twice is fine; any other use after this raises `StateClosedError`."""
        if not self._closed:
            self._closed = True
            self._store.close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

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

    def _live_items(self) -> list[tuple[str, Entry]]:
        self._check_open()
        items = self._store.items()
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
        payload = entry.payload if entry.blob is None else self._store.read_payload(entry.payload, entry.blob)
        return self._serialization.load(key, payload)
