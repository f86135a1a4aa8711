"""`StateManager`: values by key, with expiry, in memory or in a file."""

from __future__ import annotations

import time

from flowkit_state._options import SQLITE_SUFFIXES, seconds, state_path, text
from flowkit_state._record import Batch
from flowkit_state.errors import StateClosedError, StateFileError, StateOptionError, StateOptionTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Literal, Self

    from flowkit_state._record import Record, Store

_CLOCK_SLACK = 5.0  # seconds by which an entry may come from the future before the clock is taken to have been set back


class StateManager:
    """A key-value store that gives back exactly what was put in, type included, and survives crashes.

    Args:
        storage_path: where to keep the entries. `None`: in the memory of this process. A path that ends in `.json`: a
            JSON file. One that ends in `.db`, `.sqlite` or `.sqlite3`: a SQLite database. The path is made absolute
            and its links are followed once, here. Missing folders are created, private to this user, as is the file.
        default_ttl: how many seconds an entry lives when `set` is not told otherwise. `None` or infinity: for ever;
            0: expired at once.
        serializer: `"json"` keeps the types listed in the documentation and refuses all others. `"pickle"` keeps what
            pickle can; loading a pickle can run any code, so one that another user could have written is refused.
        lock_timeout: how many seconds to wait for another thread or process that is writing the file.
        clock: what tells the time, in seconds since the epoch; tests pass their own.

    Raises:
        StateOptionError, StateOptionTypeError: an argument cannot be meant.
        StateFileError: the file cannot be read or created.
        StateVersionError: the file was written by a newer flowkit-state.

    A damaged file is renamed to `<name>.corrupt-<time>`, with a `DamagedStateWarning`, and the store starts empty. One
    manager may be used from many threads, and one file from many managers and processes.

        >>> with StateManager(default_ttl=3600) as state:
        ...     state.set("user", {"id": 7, "tags": {"new"}})
        ...     state.get("user")
        {'id': 7, 'tags': {'new'}}
    """

    def __init__(
        self,
        storage_path: str | os.PathLike[str] | None = None,
        default_ttl: float | None = None,
        *,
        serializer: Literal["json", "pickle"] = "json",
        lock_timeout: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if serializer not in ("json", "pickle"):
            raise StateOptionError("serializer", serializer, '"json" or "pickle"')
        timeout = seconds("lock_timeout", lock_timeout)
        self._default_ttl = seconds("default_ttl", default_ttl)
        self._pickled = serializer == "pickle"
        self._timeout = 1e6 if timeout is None else min(timeout, 1e6)  # SQLite counts milliseconds in 32 bits
        self._clock = clock
        self._path: str | None = None
        self._closed = False
        self._store: Store
        if storage_path is None:
            from flowkit_state._memory import MemoryStore

            self._store = MemoryStore()
            return
        self._path, suffix = state_path(storage_path)
        if suffix in SQLITE_SUFFIXES:
            from flowkit_state._sqlite import SQLiteStore

            self._store = SQLiteStore(self._path, self._timeout)
        else:
            from flowkit_state._jsonfile import JSONStore

            self._store = JSONStore(self._path, self._timeout)

    @property
    def path(self) -> str | None:
        """The absolute path of the file, or `None` for a store in memory."""
        return self._path

    @property
    def default_ttl(self) -> float | None:
        """How many seconds an entry lives when `set` is not told otherwise. `None`: for ever."""
        return self._default_ttl

    def set(self, key: str, value: Any, ttl: float | None = None, metadata: dict[str, Any] | None = None) -> None:
        """Keep `value` under `key`, in place of what was there. When this returns, it is in the file.

        Args:
            key: any text.
            value: what to keep. A snapshot is taken: changing the object later does not change the store.
            ttl: seconds from now after which the entry is gone. `None`: the manager's `default_ttl`; infinity: never;
                0: it is gone at once.
            metadata: a dictionary kept beside the value, for `get_metadata`. The types are those of values.

        Raises:
            UnsupportedValueError: it would not come back as it is. What was under `key` is untouched.
            StateOptionError, StateOptionTypeError: the key, the ttl or the metadata cannot be meant.
            StateFileError: the file cannot be written. What it held is untouched.

            >>> state = StateManager()
            >>> state.set("token", b"secret", ttl=60, metadata={"source": "login"})
        """
        self._check_open()
        text("key", key)
        lifetime = self._default_ttl if ttl is None else seconds("ttl", ttl)
        if metadata is not None and type(metadata) is not dict:
            raise StateOptionTypeError("metadata", metadata, "a dict, or None")
        from flowkit_state import _serializers
        from flowkit_state._record import Record

        payload = _serializers.to_pickle(key, value) if self._pickled else _serializers.to_json(key, value)
        notes = None if not metadata else _serializers.to_json(key, metadata, root="metadata")
        now = float(self._clock())
        if lifetime == 0:
            self._store.remove(key)
        else:
            expires = None if lifetime is None else now + lifetime
            self._store.put(key, Record(payload, now, expires, notes))

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value kept under `key`, made anew at each call, or `default` if there is none or it has expired.

        Raises `RestoreError` where the value cannot be made here, for example because its class is not imported.
        """
        record = self._live(key)
        return default if record is None else self._restore(key, record)

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
        return {key: self._restore(key, record) for key, record in self._live_items()}

    def get_metadata(self, key: str) -> dict[str, Any] | None:
        """Return the metadata given to `set`, `{}` if none was, or `None` if there is no entry or it has expired."""
        record = self._live(key)
        if record is None:
            return None
        if record.metadata is None:
            return {}
        from flowkit_state import _serializers

        found: dict[str, Any] = _serializers.restore(key, record.metadata, None, pickled=False)
        return found

    def invalidate_expired(self) -> int:
        """Remove every entry that has expired, and return how many that were.

        Expired entries are never returned anyway; this gives their room back.
        """
        self._check_open()
        return self._store.purge(float(self._clock()))

    def batch(self) -> Batch:
        """Make several changes one: `with state.batch(): ...` writes all of them when it ends, or none if it raises.

        For a JSON file that is one write instead of many. Other threads and processes wait meanwhile, so do not
        compute in a batch. A batch inside a batch belongs to the outer one.

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

    def __repr__(self) -> str:
        place = "" if self._path is None else f"{self._path!r}, "
        serializer = ', serializer="pickle"' if self._pickled else ""
        closed = " (closed)" if self._closed else ""
        return f"StateManager({place}default_ttl={self._default_ttl}{serializer}){closed}"

    def __getstate__(self) -> dict[str, Any]:
        if self._path is None:
            raise StateOptionTypeError("what is pickled", self, "a StateManager over a file, which others can open too")
        serializer = "pickle" if self._pickled else "json"
        return {
            "storage_path": self._path,
            "default_ttl": self._default_ttl,
            "serializer": serializer,
            "lock_timeout": self._timeout,
            "clock": self._clock,
        }

    def __setstate__(self, options: dict[str, Any]) -> None:
        self.__init__(**options)  # type: ignore[misc]

    def _check_open(self) -> None:
        if self._closed:
            raise StateClosedError(self._path)

    def _live(self, key: str) -> Record | None:
        """Return the record under `key`, unless it has expired. Then all that has expired is removed."""
        self._check_open()
        record = self._store.get(text("key", key))
        if record is None or record.expires is None:
            return record
        now = float(self._clock())
        if record.expired(now):
            self._tidy(self._store.purge, now)
            return None
        if record.stored > now + _CLOCK_SLACK:
            self._tidy(self._store.rebase, now)
        return record

    def _live_items(self) -> list[tuple[str, Record]]:
        self._check_open()
        items = self._store.items()
        now = float(self._clock())
        live = [(key, record) for key, record in items if not record.expired(now)]
        if len(live) < len(items):
            self._tidy(self._store.purge, now)
        if any(record.expires is not None and record.stored > now + _CLOCK_SLACK for _, record in live):
            self._tidy(self._store.rebase, now)
        return live

    @staticmethod
    def _tidy(action: Callable[[float], object], now: float) -> None:
        try:
            action(now)
        except StateFileError:
            pass  # the answer is right without it, also where the file cannot be written

    def _restore(self, key: str, record: Record) -> Any:
        from flowkit_state import _serializers

        return _serializers.restore(key, record.payload, self._path, pickled=self._pickled)
