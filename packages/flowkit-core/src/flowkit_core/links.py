"""Neighbors of a vertex of the wiring: how they are kept, joined, and remembered when they are defined anew."""

from __future__ import annotations

from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._typing import Any

    Neighbors = tuple[Any, ...] | dict[Any, None]

MANY = 8


def joined(vertex: Any, known: Neighbors, other: Any, same: Callable[[Any, Any], bool]) -> Neighbors:
    """Return neighbors and another one; one defined anew takes its old place, to keep arguments in order."""
    if vertex._ghosts:
        ghost = next((ghost for ghost in vertex._ghosts if ghost in known and same(ghost, other)), None)
        if ghost is not None:
            renewed = [other if each is ghost else each for each in known]
            return tuple(renewed) if isinstance(known, tuple) else dict.fromkeys(renewed)
    if isinstance(known, tuple):
        if len(known) < MANY:
            return (*known, other)
        known = dict.fromkeys(known)
    known[other] = None
    return known


def unlink(vertex: Any) -> None:
    """Take a replaced task out of the wiring; its neighbors remember the place it had."""
    for neighbor in (*vertex._upstream, *vertex._downstream):
        neighbor._ghosts = (*neighbor._ghosts, vertex)
    if vertex._upstream:
        vertex._bereft = True
    vertex._upstream = vertex._downstream = ()


def lost(vertex: Any) -> list[Any]:
    """Return the neighbors of a vertex that were defined anew, and have not been wired to it again since."""
    return [ghost for ghost in vertex._ghosts if ghost in vertex._upstream or ghost in vertex._downstream]


def present(vertex: Any, known: Neighbors) -> Neighbors:
    """Return neighbors of a vertex without those that were defined anew."""
    return tuple([other for other in known if other not in vertex._ghosts]) if vertex._ghosts else known
