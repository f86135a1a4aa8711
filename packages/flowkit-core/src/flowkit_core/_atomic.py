"""What is atomic for other threads: with a global interpreter lock every call into C, without one what takes a lock."""

from __future__ import annotations

import sys
from _thread import allocate_lock

TYPE_CHECKING = False  # what type checkers take for true; importing typing for it would cost 5 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether this Python has a global interpreter lock."""


def countdowns(counts: Iterable[range]) -> list[Iterator[int]]:
    """Return an iterator over each range, from which several threads may take.

    ``next(countdown, None)`` is None for exactly one of ``len(range) + 1`` callers, the last, whatever thread it is in.
    (Iterators of ranges are nothing for the garbage collector.)
    """
    return list(map(iter if GIL else _Countdown, counts))


class _Countdown:
    """Does what an iterator over a range does, under a lock."""

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
