"""Edges between tasks: how they are kept, and which of them go where their tasks go."""

from __future__ import annotations

from _thread import RLock
from itertools import count

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flowkit_core._typing import Any

_EMPTY: dict[Any, list[Any]] = {}
_extending = RLock()  # a call that ends while an index is extended may need another index
serials = count()
"""Numbers that grow from task to task, and from edge to edge."""


class Index:
    """The edges of a flat list by the task at one of their ends; it grows as the list does.

    Attributes:
        table: task -> what the edges have at their other ends, or where they stand in the list.
        size: how much of the list is in the table; set last, as other threads read it.
    """

    __slots__ = ("size", "table")

    def __init__(self) -> None:
        self.table: dict[Any, list[Any]] = {}
        self.size = 0

    def extend(self, edges: list[Any], key: int, value: int | None) -> None:
        """Add the edges that are new.

        Args:
            edges: upstream, downstream, upstream, downstream and so on.
            key: which end the table is by: 0 for upstream, 1 for downstream.
            value: which end is found; None for the place of the downstream in the list.
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
                    continue  # a call ended meanwhile, in this thread, and extended it
                if start:
                    for task, others in new.items():
                        self.table.setdefault(task, []).extend(others)
                else:
                    self.table = new
                self.size = end


class Edges:
    """Edges in order of declaration, and indexes of them by task.

    Attributes:
        data: upstream, downstream, upstream, downstream and so on, where each downstream takes the upstream's result:
            one flat list, because the garbage collector would look at each of many pairs.
        order: the same where the downstream only waits.
    """

    __slots__ = ("_generation", "_indexes", "data", "order")

    def __init__(self) -> None:
        self.data: list[Any] = []
        self.order: list[Any] = []
        self._generation = 0
        self._indexes: dict[str, Index] = {}

    def upstream(self) -> dict[Any, list[Any]]:
        """Return task -> the tasks whose results it takes; an edge that is declared twice is there twice."""
        return self._index("upstream", self.data, 1, 0)

    def places(self) -> dict[Any, list[int]]:
        """Return task -> where in ``data`` the edges to it stand, in the order of :meth:`upstream`."""
        return self._index("places", self.data, 1, None)

    def downstream(self) -> dict[Any, list[Any]]:
        """Return task -> the tasks that take its result; an edge that is declared twice is there twice."""
        return self._index("downstream", self.data, 0, 1)

    def waits(self) -> dict[Any, list[Any]]:
        """Return task -> the tasks for which it only waits."""
        return self._index("waits", self.order, 1, 0)

    def waited_for(self) -> dict[Any, list[Any]]:
        """Return task -> the tasks that only wait for it."""
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

    def drop_replaced(self) -> None:
        """Remove the edges of tasks that were replaced, and leave a note of them with their other ends."""
        for edges in (self.data, self.order):
            if lost := [pair for pair in pairs(edges) if pair[0]._replaced or pair[1]._replaced]:
                note_lost(lost)
                kept = [pair for pair in pairs(edges) if not (pair[0]._replaced or pair[1]._replaced)]
                edges[:] = [task for pair in kept for task in pair]
                self._generation += 1
                self._indexes.clear()

    @property
    def stamp(self) -> tuple[int, int, int]:
        """A value that is another one after every change."""
        return self._generation, len(self.data), len(self.order)


def pairs(edges: list[Any], start: int = 0) -> Iterator[tuple[Any, Any]]:
    """Return the pairs of a flat list of edges, from a place on."""
    tasks = iter(edges[start:] if start else edges)
    return zip(tasks, tasks)


def note_lost(edges: Iterable[tuple[Any, Any]], origin: Origin | None = None) -> None:
    """Leave a note with tasks that were wired to a replaced one: discovery checks that they were wired again.

    Args:
        edges: the edges that go with the replaced tasks.
        origin: the origin of the tasks that are concerned; None for all.
    """
    for upstream, downstream in edges:
        for replaced, other, note in (
            (upstream, downstream, "_lost_upstream"),
            (downstream, upstream, "_lost_downstream"),
        ):
            if replaced._replaced and not other._replaced and (origin is None or other._origin.current() is origin):
                setattr(other, note, replaced)


class Origin:
    """What a task knows of the scope that made it: the edges between the tasks of that scope, which go where they go.

    When a call returns, what it has made was made by its caller, too: its origin then leads to that of the caller.

    Attributes:
        edges: the edges that were declared while this was the origin of a call under way.
        package: top-level package of the code that made the task.
        caller: the origin of the call to which this one has returned; None as long as it has not.
        is_apart: whether its tasks are in no pipeline that names none: those of a ``with`` block, methods,
            and what ``clear_registry`` has made forgotten.
    """

    __slots__ = ("caller", "edges", "is_apart", "package")

    def __init__(self, package: str, is_apart: bool = False) -> None:
        self.is_apart = is_apart
        self.edges = Edges()
        self.package = package
        self.caller: Origin | None = None

    def current(self) -> Origin:
        """Return the origin of the outermost call that counts as the maker."""
        origin = self
        while origin.caller is not None:
            origin = origin.caller
        return origin

    def chain(self) -> Iterator[Origin]:
        """Yield this origin and those that it leads to."""
        origin: Origin | None = self
        while origin is not None:
            yield origin
            origin = origin.caller


METHODS = Origin("", is_apart=True)
"""The origin of tasks that are methods: they belong to no scope."""


class SharedEdge:
    """An edge that does not go with its tasks: it belongs to the call that declares it, or to a ``with`` block.

    That is an edge to a task that the call did not make, and each edge of a block.

    Attributes:
        upstream: the task that comes first.
        downstream: the task that waits for it.
        order_only: whether it takes no result.
        used: whether a pipeline has it.
        passed_on: whether it was declared by a call of another package that has returned.
        serial: a number that grows from edge to edge.
        after: how many of the edges that go with the downstream had been declared before, for each list of them.
    """

    __slots__ = ("after", "downstream", "order_only", "passed_on", "serial", "upstream", "used")

    def __init__(self, upstream: Any, downstream: Any, order_only: bool) -> None:
        self.upstream = upstream
        self.downstream = downstream
        self.order_only = order_only
        self.used = self.passed_on = False
        self.serial = next(serials)
        self.after = {origin: len(origin.edges.data) for origin in downstream._origin.chain()}

    @property
    def pair(self) -> tuple[Any, Any]:
        """The two tasks."""
        return self.upstream, self.downstream
