"""Protocols of the storage backends (`Store`, `Database`), and what they share: `Entry` and `Batch`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from flowkit_state.storage.ownership import Claim

    class Transactional(Protocol):
        """A backend whose changes can be grouped. Groups nest: the outermost one commits or rolls back all changes."""

        def begin(self) -> None:
            """Begin a group of changes."""

        def commit(self) -> None:
            """End the group. If it is the outermost one, make its changes permanent."""

        def rollback(self) -> None:
            """End the group. If it is the outermost one, undo its changes."""

        def abort(self) -> None:
            """Undo all uncommitted changes of this thread, whatever the depth of its groups."""

    class Store(Transactional, Protocol):
        """Entries by key. Each change is atomic. Times are seconds since the epoch."""

        def get(self, key: str) -> Entry | None:
            """Return the entry under `key`, also if it has expired."""

        def items(self) -> list[tuple[str, Entry]]:
            """Return all keys and entries, in the order in which they were first stored."""

        def headers(self) -> list[tuple[str, Entry]]:
            """Return the same as `items`, perhaps with entries without payload and metadata."""

        def put(self, key: str, entry: Entry) -> None:
            """Store an entry, replacing any other under the same key.

            Raises:
                ValueTooLargeError: the entry alone is larger than the limit of the store.
            """

        def touch(self, key: str, stored: float, expires: float | None) -> None:
            """Change the times of an entry, if there is one."""

        def remove(self, key: str) -> bool:
            """Remove an entry. Returns whether there was one."""

        def clear(self) -> None:
            """Remove all entries."""

        def remove_expired(self, now: float) -> int:
            """Remove the entries that have expired at the time `now`. Returns how many there were."""

        def remove_older(self, prefix: str, before: float) -> None:
            """Remove the entries whose keys begin with `prefix` and that were stored before a time."""

        def restart_lifetimes(self, now: float) -> None:
            """Let the time to live of entries that were stored later than `now` begin at `now`."""

        def read_payload(self, value: str | bytes, blob: str | None) -> str | bytes:
            """Return the payload of an entry: `value`, or the content of the blob file of that name."""

        def close(self) -> None:
            """Release the file."""

    class Database(Transactional, Protocol):
        """A SQL database with the tables of `schema.py`."""

        @property
        def path(self) -> str | None:
            """The absolute path of the file; `None` for a database in memory."""

        @property
        def in_batch(self) -> bool:
            """Whether this thread has begun a group of changes and not ended it."""

        def execute(self, action: str, sql: str, values: Sequence[Any] = ()) -> tuple[list[Any], int]:
            """Execute one statement.

            Args:
                action: what the statement does, such as `"read it"`, for the error "cannot read it".
                sql: the statement.
                values: its parameters.

            Returns:
                its rows and the number of rows that it changed.

            Raises:
                StateFileError: the database reports an error.
            """

        def execute_many(self, action: str, sql: str, rows: Sequence[Sequence[Any]]) -> None:
            """Execute one statement for each row of parameters. See `execute`."""

        def append(self, action: str, sql: str, values: Sequence[Any]) -> None:
            """Execute and commit a statement that is executed often.

            Whether the file was replaced is checked every few milliseconds only. See `execute`.
            """

        def write_blob(self, payload: str | bytes, claim: Claim) -> tuple[str | bytes, str | None]:
            """Write a large payload to a blob file, and pin that until `unpin` is called.

            Returns what to store in the row: the payload and None, or an empty value and the name of the blob file.
            """

        def read_payload(self, value: str | bytes, blob: str | None) -> str | bytes:
            """Return the payload of a row: `value`, or the content of the blob file of that name."""

        def unpin(self, blob: str, claim: Claim) -> None:
            """Remove the pin of a blob file, once a row refers to it."""

        def check_not_replaced(self) -> None:
            """Raise `StateFileError` if the file was moved, removed or replaced since it was opened."""

        def collect_garbage(self) -> tuple[int, int]:
            """Delete the blob files that no row refers to and no process has pinned. Returns their number and size."""

        def close(self) -> None:
            """Release the file."""


CACHE_PREFIX = "flowkit.cache"
"""What the keys of cached results begin with."""

DIGEST_KEY = "flowkit.digest key"
"""The key of an entry that `gc` and limits keep: the keys of cached results are made with it."""


class Entry:
    """One stored value.

    Attributes:
        payload: JSON text, or the bytes of a pickle; empty if it is in a blob file.
        stored: when it was stored, in seconds since the epoch.
        expires: when it expires, in seconds since the epoch; `None`: never.
        metadata: JSON text, or `None`.
        blob: the name of the blob file with the payload, or `None`.
        json_line: the line of a JSON file that holds this entry, once it was rendered.
    """

    __slots__ = ("blob", "expires", "json_line", "metadata", "payload", "stored")

    def __init__(
        self,
        payload: str | bytes,
        stored: float,
        expires: float | None,
        metadata: str | None,
        blob: str | None = None,
    ) -> None:
        self.payload = payload
        self.stored = stored
        self.expires = expires
        self.metadata = metadata
        self.blob = blob
        self.json_line: str | None = None

    def expired(self, now: float) -> bool:
        """Return whether the entry has expired at the time `now`."""
        return self.expires is not None and now >= self.expires

    def with_lifetime_from(self, now: float) -> Entry:
        """Return this entry as if it had been stored at `now`, if it expires and was stored later than that."""
        if self.expires is None or self.stored <= now:
            return self
        return Entry(self.payload, now, now + (self.expires - self.stored), self.metadata)


class Batch:
    """Context manager that makes the changes inside it atomic: all of them are stored, or none."""

    __slots__ = ("_open", "_target")

    def __init__(self, target: Transactional) -> None:
        self._target = target
        self._open = False

    def __enter__(self) -> None:
        self._open = True
        try:
            self._target.begin()
        except Exception:
            self._open = False
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._target.commit()
            else:
                self._target.rollback()
        except Exception:
            self._open = False  # the backend has rolled back
            raise
        self._open = False

    def __del__(self) -> None:
        if self._open:  # KeyboardInterrupt was raised inside __exit__
            self._target.abort()
