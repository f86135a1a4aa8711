"""The edges that apply to one pipeline, the tasks that they reach, and which inputs are mapped."""

from __future__ import annotations

from operator import attrgetter, gt, lt

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import WiringError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node_map import MapOptions, MapRequest

    from .edges import CallEdge, Edges, Origin
    from .scopes import Scope

_NONE: list[Any] = []
_by_serial = attrgetter("_serial")
_by_origin = attrgetter("_origin")
_is_copy = attrgetter("_is_copy")


class EdgeView:
    """The edges that apply to one pipeline."""

    def __init__(self, call_edges: Sequence[CallEdge]) -> None:
        self._call_edges = sorted(call_edges, key=attrgetter("serial"))
        self._up: dict[Any, list[CallEdge]] = {}
        self._down: dict[Any, list[Any]] = {}
        self._waits: dict[Any, list[Any]] = {}
        for edge in self._call_edges:
            if edge.order_only:
                self._waits.setdefault(edge.downstream, []).append(edge.upstream)
            else:
                self._up.setdefault(edge.downstream, []).append(edge)
            self._down.setdefault(edge.upstream, []).append(edge.downstream)
        self._edges: dict[Origin, list[Edges]] = {}  # origin of a task -> where its edges are
        self._tables: dict[Origin, list[dict[Any, list[Any]]]] = {}
        self.has_waits = bool(self._waits)

    def look_at(self, origin: Origin) -> list[Edges]:
        """Return the edge lists that are stored with the tasks of an origin."""
        found = self._edges.get(origin)
        if found is None:
            found = self._edges[origin] = [each.edges for each in origin.chain()]
            self.has_waits |= any(edges.order for edges in found)
        return found

    def upstream(self, task: Any) -> list[Any]:
        """Return the tasks whose results a task takes, in order of declaration."""
        tables = self._tables.get(task._origin)
        if tables is None:
            tables = [edges.upstream() for edges in self.look_at(task._origin) if edges.data]
            self._tables[task._origin] = tables
        if task in self._up:
            return self._merged(task, self._up[task])
        found = _NONE
        for table in tables:
            near = table.get(task)
            if near is not None:
                found = found + near if found else near
        return list(dict.fromkeys(found)) if len(found) > 1 else found

    def _merged(self, task: Any, call_edges: Sequence[CallEdge]) -> list[Any]:
        """Return the upstreams of a task, by stored and by call edges, in order of declaration.

        Stored edges have no serial number. So each call edge has in ``after`` how many items the lists of stored
        edges had when it was declared. For ``a >> d``, ``x >> d`` (a call edge) and ``b >> d``, the list of the origin
        is ``[a, d, b, d]``, the positions of ``d`` in it are 1 and 3, and ``after`` of the call edge is 2: it follows
        the edge at 1 and precedes the edge at 3, so the result is ``[a, x, b]``.
        """
        found: list[Any] = []
        later = list(call_edges)
        for origin in task._origin.chain():
            edges = origin.edges
            for place, upstream in zip(edges.places().get(task, ()), edges.upstream().get(task, ())):
                while later and later[0].after.get(origin, 0) <= place:
                    found.append(later.pop(0).upstream)
                found.append(upstream)
        return list(dict.fromkeys([*found, *(edge.upstream for edge in later)]))

    def waits(self, task: Any) -> list[Any]:
        """Return the upstreams of a task by order-only edges."""
        found = [other for edges in self.look_at(task._origin) for other in edges.waits().get(task, _NONE)]
        return list(dict.fromkeys(found + self._waits.get(task, _NONE)))

    def downstream(self, task: Any) -> list[Any]:
        """Return the tasks that wait for a task, by data edges and by order-only edges."""
        found = list(self._down.get(task, _NONE))
        for edges in self.look_at(task._origin):
            found += edges.downstream().get(task, _NONE)
            if edges.order:
                found += edges.waited_for().get(task, _NONE)
        return list(dict.fromkeys(found)) if len(found) > 1 else found

    def closure(self, roots: Iterable[Any], *, downstream: bool) -> dict[Any, list[Any]]:
        """Return the roots and everything upstream (optionally downstream) of them: task -> direct upstreams."""
        queue = list(dict.fromkeys(roots))
        upstream: dict[Any, Any] = dict.fromkeys(queue)
        tables = self._tables
        for task in queue:  # grows while it is read
            known = tables.get(task._origin, _NONE)
            if len(known) == 1 and not self._call_edges and not self.has_waits:
                near = known[0].get(task, _NONE)
                if len(near) > 1 and len(set(near)) < len(near):
                    near = list(dict.fromkeys(near))
            else:
                near = self.upstream(task)
            upstream[task] = near
            if downstream:
                near = near + self.downstream(task) if near else self.downstream(task)
            if self.has_waits:
                near = near + self.waits(task)
            for other in near:
                if other not in upstream:
                    upstream[other] = None
                    queue.append(other)
        return upstream

    def with_views(self) -> list[tuple[Any, Any, bool, Any, Any]]:
        """Return the edges that were declared with views of tasks, in the form of ``Edges.views``."""
        found = [each for edges_of in self._edges.values() for edges in edges_of for each in edges.views]
        for edge in self._call_edges:
            found += () if edge.views is None else ((edge.upstream, edge.downstream, edge.order_only, *edge.views),)
        return found

    def mark_used(self, tasks: Iterable[Any]) -> None:
        """Mark the tasks of a pipeline and the edges between them as used, so that returning calls keep them."""
        for task in tasks:
            task._used = True
        if self._call_edges:
            known = set(tasks)
            for edge in self._call_edges:
                if edge.downstream in known and edge.upstream in known:
                    edge.used = True

    @property
    def origins(self) -> Iterable[Origin]:
        """The origins of the tasks that were looked at."""
        return self._edges

    def stamp(self) -> list[Any]:
        """Return a value that changes whenever the stored edges of the visited tasks change."""
        return [
            (edges.stamp(), origin if origin.caller is None else origin.current())
            for origin, found in self._edges.items()
            for edges in found
        ]


def map_requests(
    pipeline: str,
    position: Mapping[Any, int],
    edges: Iterable[tuple[Any, Any, bool, Any, Any]],
    given: Iterable[Any] = (),
) -> dict[int, MapRequest]:
    """Return which inputs of the tasks of a pipeline are mapped: position of a task -> request.

    Args:
        pipeline: name of the pipeline.
        position: task -> position.
        edges: the edges that were declared with views: upstream, downstream, whether it is order-only, and the view of
            either, or None.
        given: the views that the pipeline was given itself.

    Raises:
        WiringError: two views of one task have different options.
    """
    from flowkit_core.graphs.node_map import MapRequest

    views: dict[Any, list[Any]] = {}
    sources: dict[Any, set[int]] = {}
    for view in given:
        views.setdefault(view.task, []).append(view)
    for upstream, downstream, order_only, before, after in edges:
        if upstream not in position or downstream not in position:
            continue
        if before is not None:
            views.setdefault(upstream, []).append(before)
        if after is not None:
            views.setdefault(downstream, []).append(after)
            if not order_only and not after.parameters:
                sources.setdefault(downstream, set()).add(position[upstream])
    requests = {}
    for task, found in views.items():
        first = found[0]
        for view in found:
            if view._options != first._options:
                raise WiringError(
                    f"{pipeline!r} has task {task.name!r} mapped with different options ({_shown(first._options)} and "
                    f"{_shown(view._options)}), but the options of map() belong to the task: make one view, "
                    f"{task.name}_each = {task.name}.map(...), and wire that",
                    pipeline,
                    (task.name,),
                )
        names = [name for view in found for name in view.parameters]
        requests[position[task]] = MapRequest(names, sources.get(task, ()), first._options)
    return requests


def _shown(options: MapOptions) -> str:
    return f"map({options!r})"


class Found:
    """The tasks of a pipeline and their upstreams.

    Attributes:
        tasks: the tasks, in order of declaration.
        upstream: for each task the positions of the tasks that it takes results from.
        waits: position of a task -> positions of the tasks that it only waits for (order-only edges).
        mapped: position of a task -> which of its inputs are mapped; set by `DAG`.
        with_views: the edges that were declared with views of tasks; see ``Edges.views``.
    """

    __slots__ = ("mapped", "tasks", "upstream", "waits", "with_views")

    def __init__(
        self,
        tasks: Sequence[Any],
        upstream: Sequence[Sequence[int]],
        waits: dict[int, tuple[int, ...]],
        with_views: Sequence[tuple[Any, Any, bool, Any, Any]] = (),
    ) -> None:
        self.tasks = tasks
        self.upstream = upstream
        self.waits = waits
        self.with_views = with_views
        self.mapped: dict[int, MapRequest] = {}

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Found)
            and self.tasks == other.tasks
            and self.upstream == other.upstream
            and self.waits == other.waits
            and self.mapped == other.mapped
        )

    __hash__ = None  # type: ignore[assignment]


def found_in_one_pass(scope: Scope, roots: Sequence[Any] | None) -> Found | None:
    """Fast path: return all tasks of a call in one pass, if they are exactly the tasks of the pipeline.

    It applies to most pipelines and is three times as fast as `EdgeView.closure`. Conditions: the call has no copies
    and no order-only edges, no other edges apply, and every task is upstream of the roots or is one.

    Args:
        scope: the scope of the call, which has no call edges.
        roots: the tasks given by ``tasks=``; None for discovery.

    Returns:
        None if the conditions do not hold.
    """
    tasks, origin = scope.tasks, scope.origin
    edges = origin.edges
    if edges.order or origin.caller is not None or not tasks:
        return None
    if roots is None and any(map(_is_copy, tasks)):
        return None
    if origin.is_mixed:
        numbers = list(map(_by_serial, tasks))
        if numbers != sorted(numbers) or set(map(_by_origin, tasks)) != {origin}:
            return None
    place = dict(zip(tasks, range(len(tasks))))
    try:
        ends = tuple(map(place.__getitem__, edges.data))
        queue = [place[task] for task in roots or ()]
    except KeyError:  # a task of another call
        return None
    sources, targets = ends[::2], ends[1::2]
    if roots is not None and (len({*sources, *queue}) < len(tasks) or not all(map(lt, sources, targets))):
        return None  # a task without downstreams is not a root, or there may be a cycle above no root
    return Found(list(tasks), _grouped(sources, targets, len(tasks)), {}, edges.views)


def _grouped(sources: tuple[int, ...], targets: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """Return the distinct sources of each target from 0 to ``count - 1``, in order, given the ends of the edges."""
    upstream: list[tuple[int, ...]] = [()] * count
    if any(map(gt, targets, targets[1:])):
        order = sorted(range(len(targets)), key=targets.__getitem__)
        sources, targets = tuple([sources[place] for place in order]), tuple([targets[place] for place in order])
    if not targets:
        return upstream
    begin, last = 0, targets[0]
    for end, target in enumerate((*targets, count)):
        if target != last:
            ups = sources[begin:end]
            if end - begin > 1 and len(set(ups)) < end - begin:
                ups = tuple(dict.fromkeys(ups))
            upstream[last] = ups
            begin, last = end, target
    return upstream
