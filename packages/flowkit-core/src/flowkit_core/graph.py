"""Who needs whom: the immutable graph that every builder makes and every run starts from."""

from __future__ import annotations

import gc
import sys
from collections.abc import Coroutine
from operator import itemgetter

from ._typing import TYPE_CHECKING
from .binding import Parameters, bind_by_position, check_condition, check_open, is_coroutine_inside
from .discovery import settle
from .errors import DAGCycleError, DuplicateTaskError, plain
from .failure import report
from .links import lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ._typing import Any
    from .binding import Binding
    from .task import Task

    AnyTask = Task[..., Any]
    Bind = Callable[[AnyTask, Parameters, Mapping[str, int]], Binding]


SMALL = 1000
WIDE = 250
"""From how many downstreams on, handing them out takes so long that it must not count as time of the next task."""


class Node:
    """One task in its place in a graph. Immutable, and shared by all runs of the graph.

    Attributes:
        index: position in topological order; the place of this node in the lists of a run.
        task: the task.
        name: its name.
        func: what is called: the task's function, or for an ``async def`` a function that awaits it.
        parameters: what the function takes.
        upstream: indices of the nodes it waits for, in order of declaration.
        downstream: the nodes that wait for it.
        sources: indices of the nodes whose values are its positional arguments, where that says it all; else None.
        pick: takes the values of two or more sources out of a run's list, as a tuple; None for fewer.
        binding: the whole of the binding, where ``sources`` does not say it all; else None.
        plain: whether, as long as all goes well, it is only called with its sources: no condition, no rare trigger,
            no cache, and not too many downstreams.
    """

    __slots__ = (
        "binding",
        "downstream",
        "func",
        "index",
        "name",
        "parameters",
        "pick",
        "plain",
        "sources",
        "task",
        "upstream",
    )

    def __init__(self, index: int, task: AnyTask, parameters: Parameters, upstream: tuple[int, ...]) -> None:
        self.index = index
        self.task = task
        self.name = task.name
        self.func: Callable[..., Any] = task.func
        self.parameters = parameters
        self.upstream = upstream
        self.downstream: tuple[Node, ...] = ()
        self.sources: tuple[int, ...] | None = None
        self.pick: Callable[[list[Any]], tuple[Any, ...]] | None = None
        self.binding: Binding | None = None
        self.plain = False

    def __repr__(self) -> str:
        return f"<Node {self.index} {plain(self.name)}>"


class Graph:
    """Tasks and their order, checked and bound, ready to run any number of times.

    Args:
        name: name of the pipeline.
        tasks: the tasks, in order of declaration.
        upstream: for each of them the positions of those it waits for, in order of declaration.
        bind: the rule that decides which result becomes which parameter.

    Raises:
        DAGCycleError: the tasks wait for each other in a circle.
        DuplicateTaskError: two tasks have one name.
        BindingError: results and parameters do not fit.

    Attributes:
        name: name of the pipeline.
        nodes: the nodes in topological order; among equals, in order of declaration.
        names: their names.
        cached: the nodes whose tasks have a cache.
        first: the nodes that wait for nothing.
        linear: whether it is one row, so that there is never more than one node to run.
        countdowns: for each node a range that is as long as the number of its upstreams but the last to end.
    """

    __slots__ = (
        "_by_position",
        "_heights",
        "_open",
        "cached",
        "countdowns",
        "first",
        "linear",
        "name",
        "names",
        "nodes",
    )

    def __init__(
        self, name: str, tasks: Sequence[AnyTask], upstream: Sequence[Sequence[int]], bind: Bind = bind_by_position
    ) -> None:
        self.name = name
        self.cached: list[Node] = []
        self._open: list[Node] = []
        self._heights: list[int] | None = None
        self._by_position = bind is bind_by_position
        settle()
        # nothing that is made here can be garbage before it is finished, but looking for it costs half of the time
        suspended = len(tasks) > SMALL and gc.isenabled()
        if suspended:
            gc.disable()
        try:
            self._make(tasks, upstream, bind)
        finally:
            if suspended:
                gc.enable()

    def _make(self, tasks: Sequence[AnyTask], upstream: Sequence[Sequence[int]], bind: Bind) -> None:
        _check_names(self.name, tasks)
        order, position = _topological(tasks, upstream)
        known: dict[int, Parameters] = {}
        nodes: list[Node] = []
        for index, place in enumerate(order):
            task = tasks[place]
            func = task.func
            if task._ghosts:
                _warn_of_ghosts(task)
            parameters = known.get(id(func))
            if parameters is None:
                parameters = known[id(func)] = Parameters(func)
            sources = upstream[place]
            nodes.append(
                Node(index, task, parameters, tuple([position[other] for other in sources]) if sources else ())
            )
        self.nodes = tuple(nodes)
        self.names: tuple[str, ...] = tuple([node.name for node in nodes])
        self._connect()
        self._bind(bind)

    def _connect(self) -> None:
        downstream: list[list[Node] | None] = [None] * len(self.nodes)
        for node in self.nodes:
            for index in node.upstream:
                after = downstream[index]
                if after is None:
                    downstream[index] = [node]
                else:
                    after.append(node)
        for node, after in zip(self.nodes, downstream, strict=True):
            if after is not None:
                node.downstream = tuple(after)
        self.first = tuple([node for node in self.nodes if not node.upstream])
        self.linear = len(self.first) <= 1 and all(after is None or len(after) == 1 for after in downstream)
        counts = [len(node.upstream) for node in self.nodes]
        ranges = {count: range(max(0, count - 1)) for count in set(counts)}  # few, for many nodes
        self.countdowns = tuple([ranges[count] for count in counts])

    def _bind(self, bind: Bind) -> None:
        names = self.names
        simple = self._by_position
        for node in self.nodes:
            task, parameters, upstream = node.task, node.parameters, node.upstream
            count = len(parameters.positional)
            if (
                simple
                and not parameters.keyword_only
                and not parameters.named_rest
                and not parameters.keyed
                and ((count == 0 or (count == 1 == len(upstream))) and (not parameters.rest or count == 0))
            ):
                # what nearly every task is: nothing, one for one, or everything in order
                node.sources = upstream if count or parameters.rest else ()
            else:
                binding = bind(task, parameters, {names[index]: index for index in upstream})
                node.sources = binding.in_order(parameters)
                if node.sources == upstream:
                    node.sources = upstream  # one tuple does for both
                if parameters.keyed:
                    node.sources = None
                if node.sources is None or binding.open:
                    node.binding = binding
                if binding.open:
                    self._open.append(node)
            node.plain = node.sources is not None and len(node.downstream) < WIDE
            if task.when is not None:
                check_condition(task, parameters, len(upstream))
            if task.when is not None or task.trigger == "one_failed":
                node.plain = False
            if task.cache is not None:
                node.plain = False
                self.cached.append(node)
            if node.plain and node.sources and len(node.sources) > 1:
                node.pick = itemgetter(*node.sources)
            if parameters.is_async:
                node.func = awaited(task.func)

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def __repr__(self) -> str:
        return f"<Graph {plain(self.name)}: {len(self.nodes)} tasks>"

    def ancestors(self, node: Node) -> set[int]:
        """Return the indices of everything upstream of a node, near and far."""
        seen: set[int] = set()
        stack = list(node.upstream)
        while stack:
            index = stack.pop()
            if index not in seen:
                seen.add(index)
                stack += self.nodes[index].upstream
        return seen

    def heights(self) -> list[int]:
        """Return, for each node, how many tasks follow one another on the longest road from it to an end, itself too.

        So parallel executors can start the longest road first.
        """
        if self._heights is None:
            heights = [1] * len(self.nodes)
            for node in reversed(self.nodes):
                if node.downstream:
                    heights[node.index] = 1 + max([heights[after.index] for after in node.downstream])
            self._heights = heights
        return self._heights

    def check_params(self, params: Mapping[str, Any]) -> None:
        """Check that ``run(params=...)`` gives every parameter that has no other source, and no more.

        Raises:
            BindingError: if something is missing or left over.
        """
        if params or self._open:
            rows = [(node, [self.names[index] for index in node.upstream]) for node in self._open]
            check_open(rows, params, self.names, self._remedy)

    def _remedy(self, node: Node, parameter: str) -> str:
        """Return what to do about a parameter that nothing fills, in the terms of the builder."""
        if not self._by_position:
            return "name the parameter after an earlier task of the flow, add() such a task before it"
        if any(self.names[index] == parameter for index in self.ancestors(node)):
            return (
                f"{parameter!r} comes before it only by way of others, and a DAG passes results of direct upstreams: "
                f"add '{parameter} >> {node.name}'"
            )
        if ghosts := lost(node.task):
            again = ", ".join(repr(ghost.name) for ghost in ghosts)
            return f"{again} was defined again after it had been wired to it: wire it again with '>>'"
        wire = "wire a task to it with '>>'"
        if node.upstream or node.downstream:
            return wire
        return f"if it is no part of the pipeline, name the tasks that are with DAG(tasks=[...]); or {wire}"


def awaited(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function as it is called in a run: with what is ``async`` in it awaited."""
    return Awaited(func) if is_coroutine_inside(func) else func


class Awaited:
    """A plain function around one that gives coroutines: runs each to its end in an event loop of its own."""

    __slots__ = ("func",)

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the coroutine to its end and return its result; a decorator may have done so already."""
        made = self.func(*args, **kwargs)
        if not isinstance(made, Coroutine):
            return made
        import asyncio

        if asyncio._get_running_loop() is not None:
            return self._aside(made)
        return asyncio.run(made)

    def _aside(self, made: Coroutine[Any, Any, Any]) -> Any:
        """Use another thread where this one already runs an event loop, which cannot be entered twice."""
        import asyncio
        from contextvars import copy_context
        from threading import Thread

        outcome: list[Any] = []

        def work() -> None:
            try:
                outcome.append(asyncio.run(made))
            except BaseException as error:
                outcome.extend((None, error))

        thread = Thread(target=copy_context().run, args=(work,), name="flowkit-async", daemon=True)
        thread.start()
        thread.join()
        if len(outcome) == 2:
            raise outcome[1]
        return outcome[0]


def _warn_of_ghosts(task: AnyTask) -> None:
    """Warn of wiring that was lost because a neighbor was defined once more in a file; in a session that is usual."""
    for ghost in lost(task):
        if not (ghost.place.startswith("<") or hasattr(sys, "ps1") or "IPython" in sys.modules):
            report(
                f"task {task.name!r} was wired to {ghost.name!r} of {ghost.place}, which was defined again since, and "
                f"has not been wired again: give one of the two another name"
            )


def _check_names(pipeline: str, tasks: Sequence[AnyTask]) -> None:
    if len({task.name for task in tasks}) == len(tasks):
        return
    seen: dict[str, AnyTask] = {}
    for task in tasks:
        other = seen.setdefault(task.name, task)
        if other is not task:
            raise DuplicateTaskError(task.name, (other.place, task.place), pipeline)


def _topological(tasks: Sequence[AnyTask], upstream: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Return the order of the tasks, as positions, and its inverse. Among tasks that are free, declaration decides."""
    waiting = [len(sources) for sources in upstream]
    downstream: list[list[int]] = [[] for _ in tasks]
    for place, sources in enumerate(upstream):
        for source in sources:
            downstream[source].append(place)
    order = [place for place, count in enumerate(waiting) if not count]
    for place in order:  # grows while it is read
        for after in downstream[place]:
            waiting[after] -= 1
            if not waiting[after]:
                order.append(after)
    if len(order) < len(waiting):
        raise DAGCycleError([tasks[place].name for place in _cycle(waiting, upstream)])
    position = [0] * len(order)
    for index, place in enumerate(order):
        position[place] = index
    return order, position


def _cycle(waiting: Sequence[int], upstream: Sequence[Sequence[int]]) -> list[int]:
    """Return one cycle among the tasks that still wait, in the direction of the edges, its first member repeated."""
    place = next(place for place, count in enumerate(waiting) if count)
    road: dict[int, None] = {}
    while place not in road:
        road[place] = None
        place = next(source for source in upstream[place] if waiting[source])
    members = list(road)
    members = members[members.index(place) :][::-1]
    first = members.index(min(members))
    members = members[first:] + members[:first]
    return [*members, members[0]]
