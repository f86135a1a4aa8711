"""Storage of edges: lists that are kept with the tasks of a scope, and call edges that belong to a call."""

from __future__ import annotations

from _thread import RLock
from itertools import count

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flowkit_core._typing import Any

    Views = tuple[Any, Any] | None

_EMPTY: dict[Any, list[Any]] = {}
_extending = RLock()  # reentrant: a call that ends while an index is extended may extend another one
serials = count()
"""Increasing serial numbers of tasks and call edges."""


class Index:
    """Incremental index of a flat list of edges, by the task at one end.

    Attributes:
        table: task -> the tasks at the other ends of its edges, or the positions of the edges in the list.
        size: number of list items that are indexed; set last, because other threads read it without the lock.
    """

    __slots__ = ("size", "table")

    def __init__(self) -> None:
        self.table: dict[Any, list[Any]] = {}
        self.size = 0

    def extend(self, edges: list[Any], key: int, value: int | None) -> None:
        """Index the edges that were appended since the last call.

        Args:
            edges: flat list: upstream, downstream, upstream, downstream and so on.
            key: which end is the key: 0 for upstream, 1 for downstream.
            value: which end is the value; None for the position of the downstream in the list.
        """
        with _extending:
            while (start := self.size) < (end := len(edges)):
                new: dict[Any, list[Any]] = {}
                values = range(start + 1, end, 2) if value is None else edges[start + value : end : 2]
                for task, other in zip(edges[start + key : end : 2], values):
                    if task in new:
                        new[task].append(other)
                    else:
                        new[task] = [other]
                if self.size != start:
                    continue  # a call ended meanwhile in this thread and extended the index
                if start:
                    for task, others in new.items():
                        self.table.setdefault(task, []).extend(others)
                else:
                    self.table = new
                self.size = end


class Edges:
    """Edges in order of declaration, and indexes of them by task.

    Attributes:
        data: data edges as one flat list: upstream, downstream, upstream, downstream and so on. A list of pairs would
            cost the garbage collector one object for each edge.
        order: order-only edges, in the same form.
        views: the edges among them that were declared with views of tasks: upstream, downstream, whether it is
            order-only, and the views or None; see wiring.py.
    """

    __slots__ = ("_generation", "_indexes", "data", "order", "views")

    def __init__(self) -> None:
        self.data: list[Any] = []
        self.order: list[Any] = []
        self.views: list[tuple[Any, Any, bool, Any, Any]] = []
        self._generation = 0
        self._indexes: dict[str, Index] = {}

    def upstream(self) -> dict[Any, list[Any]]:
        """Return task -> upstreams by data edges; an edge that is declared twice appears twice."""
        return self._index("upstream", self.data, 1, 0)

    def places(self) -> dict[Any, list[int]]:
        """Return task -> positions in ``data`` of the edges to it, in the order of :meth:`upstream`."""
        return self._index("places", self.data, 1, None)

    def downstream(self) -> dict[Any, list[Any]]:
        """Return task -> downstreams by data edges; an edge that is declared twice appears twice."""
        return self._index("downstream", self.data, 0, 1)

    def waits(self) -> dict[Any, list[Any]]:
        """Return task -> upstreams by order-only edges."""
        return self._index("waits", self.order, 1, 0)

    def waited_for(self) -> dict[Any, list[Any]]:
        """Return task -> downstreams by order-only edges."""
        return self._index("waited for", self.order, 0, 1)

    def _index(self, name: str, edges: list[Any], key: int, value: int | None) -> dict[Any, list[Any]]:
        if not edges:
            return _EMPTY
        index = self._indexes.get(name)
        if index is None:
            index = self._indexes.setdefault(name, Index())
        if index.size < len(edges):
            index.extend(edges, key, value)
        return index.table

    def drop_replaced(self, new: Any) -> None:
        """Remove the edges of replaced tasks, given the task that replaces them; see `note_dropped`."""
        for edges, order_only in ((self.data, False), (self.order, True)):
            if dropped := [pair for pair in pairs(edges) if pair[0]._replaced or pair[1]._replaced]:
                views = {tuple(each[:3]): each[3:] for each in self.views}
                note_dropped([CallEdge(*pair, order_only, views.get((*pair, order_only))) for pair in dropped], new)
                kept = [pair for pair in pairs(edges) if not (pair[0]._replaced or pair[1]._replaced)]
                edges[:] = [task for pair in kept for task in pair]
                self.views = [each for each in self.views if not (each[0]._replaced or each[1]._replaced)]
                self._generation += 1
                self._indexes.clear()

    def stamp(self) -> tuple[int, int, int]:
        """Return a value that changes whenever the edges change."""
        return self._generation, len(self.data), len(self.order)


def pairs(edges: list[Any], start: int = 0) -> Iterator[tuple[Any, Any]]:
    """Return the pairs of a flat list of edges, from a position on."""
    tasks = iter(edges[start:] if start else edges)
    return zip(tasks, tasks)


def note_dropped(edges: Iterable[CallEdge], new: Any, origin: Origin | None = None) -> None:
    """Record removed edges at the tasks on their other ends, and edges of a replaced downstream at the new task.

    Args:
        edges: edges with one or two tasks that were replaced.
        new: the task that replaces it.
        origin: only tasks of this origin are marked; None for all.
    """
    for edge in edges:
        for replaced, other in ((edge.upstream, edge.downstream), (edge.downstream, edge.upstream)):
            if replaced._replaced and not other._replaced and (origin is None or other._origin.current() is origin):
                for task in (other, new) if replaced is edge.downstream else (other,):
                    task._dropped = (*[each for each in task._dropped if each.key != edge.key], edge)


class Origin:
    """The part of a scope that its tasks refer to: the edges between the tasks of the scope.

    When a call returns, its origin is linked to the origin of its caller, which then counts as the creator as well.

    Attributes:
        edges: the edges that were declared while the call was running.
        package: top-level package of the code that created the tasks.
        caller: the origin of the caller after the call has returned; None before.
        is_excluded: whether discovery excludes its tasks: tasks of a ``with`` block, methods, and tasks removed by
            ``clear_registry``.
        is_mixed: whether the scope may have tasks of other origins, or tasks that are not in order of declaration.
    """

    __slots__ = ("caller", "edges", "is_excluded", "is_mixed", "package")

    def __init__(self, package: str, is_excluded: bool = False) -> None:
        self.is_excluded = is_excluded
        self.is_mixed = False
        self.edges = Edges()
        self.package = package
        self.caller: Origin | None = None

    def current(self) -> Origin:
        """Return the origin of the outermost call that counts as the creator."""
        origin = self
        while origin.caller is not None:
            origin = origin.caller
        return origin

    def chain(self) -> Iterator[Origin]:
        """Yield this origin, and those of the callers that it is linked to."""
        origin: Origin | None = self
        while origin is not None:
            yield origin
            origin = origin.caller


METHODS = Origin("", is_excluded=True)
"""The origin of tasks that are methods: they belong to no scope."""


_NOTHING_STORED: Mapping[Origin, int] = {}


class CallEdge:
    """An edge that is not stored with its tasks, but belongs to the call that declares it, or to a ``with`` block.

    Call edges are edges to a task that the call did not create, and all edges of a block.

    Attributes:
        upstream: the upstream task.
        downstream: the downstream task.
        order_only: whether the downstream task does not take the result.
        used: whether the edge is part of a pipeline.
        passed_on: whether the edge was declared by a returned call of another package.
        serial: serial number, in order of declaration.
        after: origin -> number of items in its data edges when this edge was declared, 0 if it is missing.
        views: the views of the upstream and the downstream that it was declared with, or None for either; or None.
    """

    __slots__ = ("after", "downstream", "order_only", "passed_on", "serial", "upstream", "used", "views")

    def __init__(self, upstream: Any, downstream: Any, order_only: bool, views: Views = None) -> None:
        self.upstream = upstream
        self.downstream = downstream
        self.views = views
        self.order_only = order_only
        self.used = self.passed_on = False
        self.serial = next(serials)
        origin = downstream._origin
        self.after = _NOTHING_STORED
        if origin.caller is not None or origin.edges.data:
            self.after = {origin: len(origin.edges.data) for origin in origin.chain()}

    def replaces(self, other: CallEdge) -> bool:
        """Return whether this edge is another one, between redefined tasks of the same names."""
        return self.key == other.key and bool(other.upstream._replaced or other.downstream._replaced)

    @property
    def key(self) -> tuple[str, str, bool]:
        """The names of the two tasks, and whether the edge is order-only: equal after a redefinition."""
        return self.upstream.name, self.downstream.name, self.order_only

    def __str__(self) -> str:
        ends = zip((self.upstream, self.downstream), self.views or (None, None))
        before, after = [task.name if view is None else view.source_text for task, view in ends]
        return f"{after}.after({before})" if self.order_only else f"{before} >> {after}"
