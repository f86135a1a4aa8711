"""What a store keeps under a key, and what every store can do."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Changeable(Protocol):
        """What a batch works on."""

        def begin(self) -> None: ...
        def commit(self) -> None: ...
        def rollback(self) -> None: ...
        def abort(self) -> None:
            """Undo everything that this thread has begun."""

    class Store(Protocol):
        """Where records live. Every single change is all or nothing; `begin` to `commit` makes several changes one.

        Batches nest: the outermost decides. Times are seconds since the epoch, as the manager's clock tells them.
        """

        def get(self, key: str) -> Record | None: ...
        def items(self) -> list[tuple[str, Record]]: ...
        def put(self, key: str, record: Record) -> None: ...
        def remove(self, key: str) -> bool: ...
        def clear(self) -> None: ...
        def purge(self, now: float) -> int:
            """Remove what has expired by `now`, and return how many entries that were."""

        def prune(self, prefix: str, before: float) -> None:
            """Remove the entries whose keys begin with `prefix` that were stored before a time."""

        def rebase(self, now: float) -> None:
            """Count the time to live of entries that claim to be from the future from `now` on."""

        def begin(self) -> None: ...
        def commit(self) -> None: ...
        def rollback(self) -> None: ...
        def abort(self) -> None: ...
        def fetch(self, value: str | bytes, beside: str | None) -> str | bytes:
            """Return a payload that may lie in a file of its own."""

        def close(self) -> None: ...


CACHED = "flowkit.cache"
"""What the keys of cached results begin with."""


class Record:
    """One entry: JSON text or the bytes of a pickle, when it was stored, when it expires (None: never), metadata."""

    __slots__ = ("beside", "expires", "line", "metadata", "payload", "stored")

    def __init__(
        self,
        payload: str | bytes,
        stored: float,
        expires: float | None,
        metadata: str | None,
        beside: str | None = None,
    ) -> None:
        self.payload = payload
        self.stored = stored
        self.expires = expires
        self.metadata = metadata
        self.beside = beside  # the name of the file that has the payload in truth
        self.line: str | None = None  # as the JSON file has it, once that was needed

    def expired(self, now: float) -> bool:
        return self.expires is not None and now >= self.expires

    def rebased(self, now: float) -> Record:
        """Return this record as if it had been stored `now`, if its time to live counts from later than that."""
        if self.expires is None or self.stored <= now:
            return self
        return Record(self.payload, now, now + (self.expires - self.stored), self.metadata)


class Batch:
    """`with Batch(store): ...` makes every change inside it one: all of it, or none."""

    __slots__ = ("_open", "_store")

    def __init__(self, store: Changeable) -> None:
        self._store = store
        self._open = False

    def __enter__(self) -> None:
        self._open = True
        try:
            self._store.begin()
        except Exception:
            self._open = False
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._store.commit()
            else:
                self._store.rollback()
        except Exception:
            self._open = False  # the store has undone it
            raise
        self._open = False

    def __del__(self) -> None:
        if self._open:  # Ctrl-C came upon the end of it
            self._store.abort()
