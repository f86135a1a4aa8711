"""Class `Totals`: number and size of the entries of a database, and the removal of the oldest ones."""

from __future__ import annotations

from contextlib import suppress

from flowkit_state.storage.base import DIGEST_KEY
from flowkit_state.storage.schema import to_sql

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flowkit_state.storage.blobs import BlobStore
    from flowkit_state.storage.limits import Limits

_SIZE = "length(CAST(key AS BLOB)) + length(CAST(value AS BLOB)) + coalesce(length(CAST(metadata AS BLOB)), 0)"
_TOTALS = "SELECT count(*), coalesce(sum(SIZE), 0) FROM entries".replace("SIZE", _SIZE)
_ENTRY = "SELECT SIZE, beside FROM entries WHERE key = ?".replace("SIZE", _SIZE)
_OLDEST = "SELECT key, SIZE, beside FROM entries WHERE key NOT IN (?, ?) ORDER BY stored, rowid LIMIT 100".replace(
    "SIZE", _SIZE
)
_REFERENCE = (
    "SELECT 1 FROM entries WHERE beside = ? UNION ALL SELECT 1 FROM attempts WHERE beside = ? "
    "UNION ALL SELECT 1 FROM params WHERE beside = ? UNION ALL SELECT 1 FROM notes WHERE beside = ? "
    "UNION ALL SELECT 1 FROM pins WHERE name = ? LIMIT 1"
)


class Totals:
    """The totals of a database, as one connection has read them. All methods are called inside a transaction.

    They are computed when they are first needed, and again after changes of other connections.

    Args:
        execute: `SQLiteStore.execute`.
        blobs: the blob files of the database.

    Attributes:
        unused: names of blob files that may be without a row, since their entries were removed.
    """

    def __init__(self, execute: Callable[..., tuple[list[Any], int]], blobs: BlobStore) -> None:
        self._execute = execute
        self._blobs = blobs
        self._version: int | None = None  # of the database; None: the totals are unknown
        self._entries = self._size = 0
        self.unused: list[str] = []

    def forget(self) -> None:
        """Compute the totals again when they are next needed."""
        self._version = None

    def replace(self, key: str, size: int) -> None:
        """Note that an entry of this size is about to be stored under `key`."""
        version = self._select("PRAGMA data_version")[0][0]  # does not change with changes of this connection
        if version != self._version:
            self._entries, self._size = self._select(_TOTALS)[0]
            blobs = self._select("SELECT beside FROM entries WHERE beside IS NOT NULL")
            self._size += sum(self._blobs.size(name) for (name,) in blobs)
            self._version = version
        old = self._select(_ENTRY, (to_sql(key),))
        self._entries += not old
        self._size += size - sum(self._with_blob(*row) for row in old)

    def make_room(self, limits: Limits, key: str, now: float) -> None:
        """Remove expired entries, then those that were stored first, until the limits are kept; `key` stays.

        Some more than necessary are removed, because it takes a scan of the table to find them.
        """
        if not limits.exceeded(self._entries, self._size):
            return
        limits = limits.with_reserve()
        kept = (to_sql(key), DIGEST_KEY)
        for expired in (True, False):
            while limits.exceeded(self._entries, self._size):
                rows = self._oldest(kept, now if expired else None)
                for name, size, blob in rows:
                    if not expired and not limits.exceeded(self._entries, self._size):
                        return
                    self._execute("write it", "DELETE FROM entries WHERE key = ?", (name,))
                    self._entries -= 1
                    self._size -= self._with_blob(size, blob)
                    if blob is not None:
                        self.unused.append(blob)
                if not rows:
                    break

    def _oldest(self, kept: tuple[Any, Any], now: float | None) -> list[Any]:
        if now is None:
            return self._select(_OLDEST, kept)
        return self._select(_OLDEST.replace(" ORDER", " AND expires <= ? ORDER"), (*kept, now))

    def remove_unused(self) -> None:
        """Delete the blob files of removed entries that no row refers to and no process has pinned."""
        names, self.unused = self.unused, []
        for name in names:
            if not self._select(_REFERENCE, (name,) * _REFERENCE.count("?")):
                with suppress(OSError):  # gc() tries again, and reports the error
                    self._blobs.remove(name)

    def _with_blob(self, size: int, blob: str | None) -> int:
        return size if blob is None else size + self._blobs.size(blob)

    def _select(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        return self._execute("read it", sql, values)[0]
