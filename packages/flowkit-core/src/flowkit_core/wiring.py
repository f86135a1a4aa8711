"""Wiring with ``>>``: what stands on either side, and what it says about who needs whom."""

from __future__ import annotations

from . import discovery
from ._typing import TYPE_CHECKING, TypeVar, overload
from .errors import plain, shown
from .links import MANY, joined

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet
    from typing import NoReturn

    from .links import Neighbors

V = TypeVar("V", bound="Vertex")


class Vertex:
    """A vertex of the wiring: knows its neighbors, not its types. Tasks are vertices; only tasks are meant to be.

    Neighbors are kept in order of declaration: in a tuple while they are few, which is nearly always and weighs little,
    and in a dictionary when they are many.
    """

    _upstream: Neighbors = ()
    _downstream: Neighbors = ()
    _ghosts: tuple[Vertex, ...] = ()  # neighbors that were defined anew, and have not been wired again since
    _bereft = False  # whether it was defined anew itself, and lost its upstreams with that
    _in_blocks: AbstractSet[Vertex] = frozenset()  # upstreams to which with blocks of DAGs alone have wired it

    @overload
    def __rshift__(self, other: V) -> V: ...
    @overload
    def __rshift__(self, other: Iterable[Vertex]) -> Group: ...
    def __rshift__(self, other: Vertex | Iterable[Vertex]) -> Vertex | Group:
        if isinstance(other, Vertex):
            _link(self, other)
            return other
        return Group((self,)) >> other

    def __rrshift__(self: V, other: Iterable[object]) -> V:
        return Group(_vertices(other)) >> self

    def __lshift__(self, other: object) -> NoReturn:
        raise TypeError("tasks are wired with '>>', in the direction in which results go: write upstream >> downstream")


class Group(tuple[Vertex, ...]):
    """Tasks side by side, as ``a >> [b, c]`` returns them.

    Needed by name only to wire a list to a list, which Python cannot spell otherwise:

    Examples:
        >>> from flowkit_core import task
        >>> @task
        ... def a(): return 1
        >>> @task
        ... def b(): return 2
        >>> @task
        ... def total(a, b): return a + b
        >>> @task
        ... def product(a, b): return a * b
        >>> Group([a, b]) >> [total, product]
        Group([total, product])
    """

    __slots__ = ()

    def __new__(cls, tasks: Iterable[Vertex]) -> Group:  # noqa: D102 - see the class
        return super().__new__(cls, _vertices(tasks))

    @overload
    def __rshift__(self, other: V) -> V: ...
    @overload
    def __rshift__(self, other: Iterable[Vertex]) -> Group: ...
    def __rshift__(self, other: Vertex | Iterable[Vertex]) -> Vertex | Group:
        after = (other,) if isinstance(other, Vertex) else Group(other)
        for downstream in after:
            for upstream in self:
                _link(upstream, downstream)
        return other if isinstance(other, Vertex) else after  # type: ignore[return-value]

    def __rrshift__(self, other: Iterable[object]) -> Group:
        return Group(_vertices(other)) >> self

    def __repr__(self) -> str:
        return f"Group([{', '.join(plain(getattr(item, 'name', '?')) for item in self)}])"


def _vertices(items: Iterable[object]) -> list[Vertex]:
    if isinstance(items, (str, bytes)) or not hasattr(items, "__iter__"):
        raise TypeError(
            f"next to '>>' stands {shown(items)}, of type {type(items).__name__}, not a task: decorate a function with "
            f"@task, and write its name without parentheses"
        )
    vertices = []
    for position, item in enumerate(items):
        if not isinstance(item, Vertex):
            raise TypeError(
                f"item {position} of the list next to '>>' is {shown(item)}, of type {type(item).__name__}, not a "
                f"task: decorate a function with @task, and write its name without parentheses"
            )
        vertices.append(item)
    return vertices


def _link(upstream: Vertex, downstream: Vertex) -> None:
    down, up = upstream._downstream, downstream._upstream
    is_new = downstream not in down
    if type(down) is type(up) is tuple and len(down) < MANY > len(up) and not (upstream._ghosts or downstream._ghosts):
        if is_new:  # what nearly every edge is
            upstream._downstream, downstream._upstream = (*down, downstream), (*up, upstream)
    else:
        if is_new:
            upstream._downstream = joined(upstream, down, downstream, discovery.same)
        if upstream not in up:
            downstream._upstream = joined(downstream, up, upstream, discovery.same)
    discovery.wired(upstream, downstream, is_new)
