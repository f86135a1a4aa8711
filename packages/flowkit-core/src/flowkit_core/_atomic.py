"""Countdowns that several threads may share.

With a global interpreter lock, every call of a C function is atomic; without one, a lock is needed.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from itertools import chain, repeat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether this Python has a global interpreter lock."""


def countdowns(counts: Iterable[range]) -> list[Iterator[int | None]]:
    """Return an iterator over each range, from which several threads may take items.

    Of ``len(range) + 1`` calls of ``next(countdown, None)``, exactly one returns None: the last, in any thread.
    Iterators of ranges are not tracked by the garbage collector.
    """
    return list(map(iter if GIL else _Countdown, counts))


def first_only() -> Iterator[int | None]:
    """Return an endless iterator, from which several threads may take items: the first is None, the others are 0."""
    return chain((None,), repeat(0)) if GIL else _FirstOnly()


class _FirstOnly:
    """Iterator as of `first_only` that takes items under a lock."""

    __slots__ = ("_is_first", "_lock")

    def __init__(self) -> None:
        self._is_first = True
        self._lock = allocate_lock()

    def __iter__(self) -> Iterator[int | None]:
        return self

    def __next__(self) -> int | None:
        with self._lock:
            is_first, self._is_first = self._is_first, False
            return None if is_first else 0


class _Countdown:
    """Iterator over a range that takes items under a lock."""

    __slots__ = ("_left", "_lock")

    def __init__(self, items: range) -> None:
        self._left = len(items)
        self._lock = allocate_lock()

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        with self._lock:
            if not self._left:
                raise StopIteration
            self._left -= 1
            return self._left
