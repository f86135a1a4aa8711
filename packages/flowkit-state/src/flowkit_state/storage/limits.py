"""Class `Limits`: how large a store may become; class `Usage`: the entries of a store by their last use."""

from __future__ import annotations

from flowkit_state.errors import ValueTooLargeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from flowkit_state.storage.base import Entry


def size_of(key: str, entry: Entry) -> int:
    """Return the size of an entry in bytes: its key, its value and its metadata as they are stored."""
    key_size = len(key) if key.isascii() else len(key.encode("utf-8", "surrogatepass"))
    return key_size + len(entry.payload) + len(entry.metadata or "")


class Limits:
    """The limits of a store.

    Args:
        max_entries: maximum number of entries, 1 or more; `None`: no limit.
        max_bytes: maximum of the sizes of all entries in bytes, 1 or more; `None`: no limit.
    """

    __slots__ = ("max_bytes", "max_entries")

    def __init__(self, max_entries: int | None = None, max_bytes: int | None = None) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes

    def __bool__(self) -> bool:
        return self.max_entries is not None or self.max_bytes is not None

    def check(self, key: str, size: int) -> None:
        """Raise `ValueTooLargeError` if an entry of this size could not be stored in the empty store."""
        if self.max_bytes is not None and size > self.max_bytes:
            raise ValueTooLargeError(key, size, self.max_bytes)

    def exceeded(self, entries: int, size: int) -> bool:
        """Return whether a number of entries or their size is more than the maximum."""
        return (self.max_entries is not None and entries > self.max_entries) or (
            self.max_bytes is not None and size > self.max_bytes
        )

    def with_reserve(self) -> Limits:
        """Return limits that are 5 % lower."""
        entries, size = self.max_entries, self.max_bytes
        return Limits(
            None if entries is None else entries - entries // 20,
            None if size is None else size - size // 20,
        )


class Usage:
    """The sizes of the entries of a store in memory, the one that was used least recently first.

    Args:
        entries: the entries of the store; those that were stored first count as used least recently.
    """

    __slots__ = ("_sizes", "_total")

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        by_age = sorted(entries.items(), key=lambda item: item[1].stored)
        self._sizes = {key: size_of(key, entry) for key, entry in by_age}
        self._total = sum(self._sizes.values())

    def copy(self) -> Usage:
        """Return a copy."""
        copied = Usage({})
        copied._sizes, copied._total = dict(self._sizes), self._total
        return copied

    def use(self, key: str) -> None:
        """Note that an entry was used."""
        if key in self._sizes:
            self._sizes[key] = self._sizes.pop(key)

    def put(self, key: str, size: int) -> None:
        """Note that an entry was stored."""
        self.remove(key)
        self._sizes[key] = size
        self._total += size

    def remove(self, key: str) -> None:
        """Note that an entry was removed."""
        self._total -= self._sizes.pop(key, 0)

    def surplus(self, limits: Limits, kept: Collection[str]) -> list[str]:
        """Return the keys of the entries to remove until the limits are kept; those in `kept` stay."""
        entries, size = len(self._sizes), self._total
        keys = []
        for key in self._sizes:
            if not limits.exceeded(entries, size):
                break
            if key not in kept:
                keys.append(key)
                entries, size = entries - 1, size - self._sizes[key]
        return keys
