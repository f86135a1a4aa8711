"""Class `Graph`: the immutable, checked tasks of a pipeline in topological order, shared by all runs."""

from __future__ import annotations

from itertools import compress, repeat
from operator import attrgetter, is_not, itemgetter, lt, not_
from types import FunctionType

from flowkit_core._text import counted, escape_control_chars
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import raise_or_collect, warn
from flowkit_core.coroutines import CO_COROUTINE, CO_GENERATOR, code_flags
from flowkit_core.errors import DAGCycleError, DuplicateTaskError

from . import advice
from .binding import bind_for_dag, check_condition, may_be_missing, misspelt_parameter
from .gc_disabled import GCDisabled
from .node import Node
from .parameters import Parameters, wrapped_callables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from flowkit_core._typing import Any, Protocol

    from .binding import Binding
    from .node_map import MapRequest

    class AnyTask(Protocol):
        """What a graph needs of every task; of a task with options, it reads these as well."""

        _has_options: bool
        _pipeline: Any

        @property
        def name(self) -> str:
            """Name of the task."""

        @property
        def func(self) -> Callable[..., Any]:
            """Function of the task."""

        @property
        def location(self) -> str:
            """Where the task was created, as ``file:line``."""

    Bind = Callable[[str, Parameters, Mapping[str, int], Sequence[str]], Binding]


WIDE = 250
"""Nodes with this many downstreams or more are not simple: releasing them would count as time of the next task."""
_EMPTY: tuple[Any, ...] = ()
_NOTHING: dict[str, Any] = {}
_OF_SOME_UPSTREAMS = ("one_success", "one_failed", "all_failed")
"""Triggers of tasks that run although other upstreams did not succeed, or have not ended."""
_by_name, _by_func, _by_options = attrgetter("name"), attrgetter("func"), attrgetter("_has_options")
_by_index, _by_pipeline = attrgetter("index"), attrgetter("_pipeline")


class Graph:
    """The tasks of a pipeline in topological order, with parameters bound to results. Immutable; may run many times.

    Args:
        name: name of the pipeline.
        tasks: the tasks, in order of declaration.
        upstream: for each task the positions of the tasks that it takes results from, in order of declaration.
        bind: function that binds results to parameters; by default the rule of a DAG.
        waits: position of a task -> positions of the tasks that it only waits for (order-only edges).
        mapped: position of a task -> which of its inputs are mapped.
        known: returns names of tasks that exist outside the pipeline, for error messages.

    Raises:
        DAGCycleError: there is a dependency cycle.
        DuplicateTaskError: two tasks have the same name.
        BindingError: a parameter has no source, or a result has no parameter.

    Attributes:
        name: name of the pipeline.
        aliases: name of a pipeline task -> index of the node whose result is its output.
        groups: name of a pipeline task -> indices of its nodes.
        inlined: the pipeline tasks, and the graphs of their pipelines.
        nodes: the nodes in topological order; ties in order of declaration.
        names: their names.
        cached: the nodes whose tasks have a cache.
        coroutines: the nodes whose functions are coroutine functions.
        early: index -> node that may become ready before all of its upstreams have ended.
        hooked: the nodes whose tasks have hooks.
        has_priorities: whether a task has a priority.
        mapped: the nodes that are mapped.
        placed: the nodes whose tasks name an executor.
        pooled: the nodes whose tasks name pools.
        first: the nodes without upstreams.
        linear: whether the graph is a chain, so that at most one node is ready at a time.
        countdowns: for each node a range of length ``max(0, number of upstreams - 1)``, consumed as upstreams end.

    Examples:
        >>> from flowkit_core import DAG, Task
        >>> extract, load = Task(list, name="extract"), Task(len, name="load")
        >>> _ = extract >> load
        >>> graph = DAG("etl", tasks=[load]).graph()
        >>> graph, graph.names, len(graph)
        (<Graph etl: 2 tasks, 1 edge>, ('extract', 'load'), 2)
        >>> graph["load"].upstream
        (0,)
    """

    __slots__ = (
        "_binds_for_dag",
        "_heights",
        "_known",
        "_open",
        "aliases",
        "cached",
        "coroutines",
        "countdowns",
        "early",
        "first",
        "groups",
        "has_priorities",
        "hooked",
        "inlined",
        "linear",
        "mapped",
        "name",
        "names",
        "nodes",
        "placed",
        "pooled",
    )

    def __init__(
        self,
        name: str,
        tasks: Sequence[AnyTask],
        upstream: Sequence[Sequence[int]],
        bind: Bind = bind_for_dag,
        *,
        waits: Mapping[int, Sequence[int]] | None = None,
        mapped: Mapping[int, MapRequest] | None = None,
        known: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self.name = name
        self.cached: list[Node] = []
        self.coroutines: list[Node] = []
        self.placed: list[Node] = []
        self.pooled: list[Node] = []
        self.has_priorities = False
        self.early: dict[int, Node] = {}
        self.hooked: list[Node] = []
        self.mapped: list[Node] = []
        self._open: list[Node] = []
        self._heights: list[int] | None = None
        self._known = known
        self._binds_for_dag = bind is bind_for_dag
        self.aliases: Mapping[str, int] = _NOTHING
        self.groups: Mapping[str, Sequence[int]] = _NOTHING
        self.inlined: Sequence[tuple[Any, Graph]] = ()
        with GCDisabled():
            if not any(map(is_not, map(_by_pipeline, tasks), repeat(None))):
                self._make(tasks, upstream, bind, waits or {}, {}, mapped or {})
                return
            from .inlining import Inlined

            found = Inlined(name, tasks, upstream, bind, waits or {}, mapped or {})
            self._make(found.tasks, found.upstream, found.bind, found.waits, found.parameters, found.mapped)
            found.apply(self)

    def _make(
        self,
        tasks: Sequence[AnyTask],
        data: Sequence[Sequence[int]],
        bind: Bind,
        waits: Mapping[int, Sequence[int]],
        known: dict[int, Parameters],
        mapped: Mapping[int, MapRequest],
    ) -> None:
        names = list(map(_by_name, tasks))
        if len(set(names)) < len(names):
            _check_duplicates(self.name, tasks)
        upstream: list[tuple[int, ...]] = list(map(tuple, data))
        for place, only in waits.items():
            upstream[place] += tuple(only)
        if not _is_topological(upstream):
            tasks, upstream, waits, mapped = _in_topological_order(tasks, upstream, waits, mapped)
            names = list(map(_by_name, tasks))
        self.names = tuple(names)
        self.nodes = nodes = tuple([Node() for _ in tasks])
        has_generators = is_async = False
        special: list[Node] = []  # nodes that need a full binding or a check of options
        for_dag = bind is bind_for_dag
        func: Any = None
        downstream: list[list[Node]] = [[] for _ in nodes]
        functions = map(_by_func, tasks)
        for index, (node, task, name, function, ups) in enumerate(zip(nodes, tasks, names, functions, upstream)):
            if function is not func:
                func = function
                found = known.get(id(func))
                parameters = known[id(func)] = Parameters(func) if found is None else found
                takes, rest = len(parameters.positional), parameters.rest
                is_simple = for_dag and parameters.simple and (not takes or not rest)
                is_simple = is_simple and not parameters.copies_context
                takes_none, takes_one = is_simple and not takes, is_simple and takes == 1
                flags = code_flags(func)
                has_generators |= bool(flags & CO_GENERATOR) and type(func) is FunctionType
                is_async = bool(flags & CO_COROUTINE)
            node.index = index
            node.task = task
            node.name = name
            node.func = func
            node.parameters = parameters
            node.upstream = ups
            node.downstream = node.waits = node.none_checked = node.feeds = _EMPTY
            node.gather = node.binding = node.entry = node.mapped = None
            node.is_simple = True
            for other in ups:
                downstream[other].append(node)
            if is_async:
                self.coroutines.append(node)
            if takes_none:
                node.arg_sources = ups if rest else _EMPTY
                if rest and len(ups) > 1:
                    node.gather = itemgetter(*ups)
            elif takes_one and len(ups) == 1:
                node.arg_sources = ups
                if parameters.positional[0] != names[ups[0]]:
                    special.append(node)
            else:
                node.arg_sources = None
                special.append(node)
        if with_options := list(compress(nodes, map(_by_options, tasks))):
            special = sorted({*special, *with_options}, key=_by_index)
        for index, only in waits.items():
            nodes[index].waits = tuple(only)
            special.append(nodes[index])
        self._connect(list(map(len, upstream)), downstream)
        if mapped:
            special += [nodes[index] for index in mapped]
        for node in dict.fromkeys(special):
            self._bind(node, bind, mapped)
        if checked := [node for node in special if node.none_checked]:
            self._check_ignored_defaults(checked)
        for node in nodes if has_generators else ():
            if _is_generator(node.func):
                self._check_shared_generator(node)

    def _connect(self, counts: list[int], downstream: list[list[Node]]) -> None:
        """Set the downstreams of each node, ``first``, ``linear`` and ``countdowns``."""
        nodes = self.nodes
        linear = True
        for node, after in zip(nodes, downstream):
            if after:
                if len(after) == 1:
                    node.downstream = (after[0],)
                else:
                    node.downstream = tuple(after)
                    linear = False
                    if len(after) >= WIDE:
                        node.is_simple = False
        self.first = tuple(compress(nodes, map(not_, counts)))
        self.linear = linear and len(self.first) <= 1
        ranges = {count: range(max(0, count - 1)) for count in set(counts)}  # one range for each distinct count
        self.countdowns = tuple(map(ranges.__getitem__, counts))

    def _bind(self, node: Node, bind: Bind, mapped: Mapping[int, MapRequest]) -> None:
        """Bind the arguments of a node that are not bound yet, and check its options."""
        if node.index in mapped:
            self._bind_map(node, bind, mapped[node.index])
        elif node.arg_sources is None or node.waits:
            self._bind_in_full(node, bind)
        elif node.arg_sources:
            parameter = node.parameters.positional[:1]
            if parameter and parameter[0] != self.names[node.arg_sources[0]]:
                self._check_none(node, ((parameter[0], node.arg_sources[0]),))
        is_simple = node.arg_sources is not None and node.is_simple and not node.none_checked
        is_simple = is_simple and node.mapped is None
        if node.task._has_options:
            is_simple = self._check_options(node) and is_simple
        node.is_simple = is_simple and not node.parameters.copies_context
        node.gather = (
            itemgetter(*node.arg_sources) if is_simple and node.arg_sources and len(node.arg_sources) > 1 else None
        )

    def _bind_map(self, node: Node, bind: Bind, request: MapRequest) -> None:
        """Bind the arguments of a mapped node, and mark the nodes whose results are mapped."""
        from .node_map import bind_map

        self._bind_in_full(node, bind, keep=True)
        node.is_simple = False
        if node.binding is None:
            return  # two upstreams of one name, which was reported
        node.mapped = bind_map(node.name, node.parameters, node.binding, request)
        node.none_checked = tuple([name for name in node.none_checked if name not in node.mapped.parameters])
        self.mapped.append(node)
        self.linear = False
        for index in node.mapped.sources(node.binding):
            source = self.nodes[index]
            source.feeds = (*source.feeds, node.index)
            source.is_simple = False

    def _bind_in_full(self, node: Node, bind: Bind, *, keep: bool = False) -> None:
        """Bind the arguments of a node; ``keep`` keeps the binding, whether positions are enough or not."""
        names, parameters = self.names, node.parameters
        data = [index for index in node.upstream if index not in node.waits] if node.waits else node.upstream
        sources = {names[index]: index for index in data}
        if len(sources) < len(data):
            return  # two upstreams of one name, which was reported
        binding = bind(node.name, parameters, sources, names)
        node.arg_sources = binding.in_order(parameters)
        if node.arg_sources == node.upstream:
            node.arg_sources = node.upstream  # share one tuple
        if parameters.keyed:
            node.arg_sources = None
        if node.arg_sources is None or binding.open or node.waits or keep:
            node.binding = binding
        if binding.open:
            self._open.append(node)
        if binding.by_order:
            self._check_none(node, [(name, binding.named[name]) for name in binding.by_order])
            if len(data) > 1:
                self._check_names(node, binding, data)

    def _check_names(self, node: Node, binding: Binding, data: Sequence[int]) -> None:
        """Warn of a parameter that is filled by order and misspells the name of another upstream."""
        found = misspelt_parameter(binding, data, self.names)
        if found is not None:
            parameter, given, meant = found
            warn(advice.on_misspelt_parameter(node.name, parameter, given, meant), "binding", node.name)

    def _check_ignored_defaults(self, nodes: Sequence[Node]) -> None:
        """Warn of parameters that are filled by order and ignore their defaults."""
        from .ignored_defaults import ignored_defaults

        for node, parameter in ignored_defaults(nodes):
            given = self.names[node.named_sources()[parameter]]
            warn(advice.on_ignored_default(node.name, parameter, given), "binding", node.name)

    def _check_shared_generator(self, node: Node) -> None:
        """Warn of a generator that several tasks take: the first to iterate it leaves nothing for the others."""
        takers = [
            after.name
            for after in node.downstream
            if node.index not in after.waits and (after.parameters.positional or after.parameters.rest)
        ]
        if len(takers) > 1 and not node.feeds:  # else the run makes a list of it
            warn(advice.on_shared_generator(node.name, takers), "binding", node.name)

    def _check_none(self, node: Node, by_order: Sequence[tuple[str, int]]) -> None:
        """Warn of, or mark for the run, parameters that are filled by order and may get a result None."""
        defaults = node.parameters.defaults
        for parameter, index in by_order:
            if _is_annotated_none(self.nodes[index].func):
                warn(advice.on_annotated_none(node.name, parameter, self.names[index]), "binding", node.name)
            elif defaults and defaults.get(parameter) is not None:
                node.none_checked = (*node.none_checked, parameter)

    def _check_options(self, node: Node) -> bool:
        """Check the options of a task against its place in the graph; return whether the node can still be simple."""
        task, is_simple = node.task, True
        if task.when is not None:
            data = [self.names[index] for index in node.upstream if index not in node.waits]
            check_condition(node.name, task.when, node.parameters, data, [self.names[index] for index in node.waits])
            is_simple = False
        if task.trigger in _OF_SOME_UPSTREAMS:
            is_simple = False
            self._check_trigger(node)
        elif task.trigger == "all_done":
            self._check_needed_results(node)
        if task.timeout is not None:
            is_simple = False
        if task.has_hooks:
            self.hooked.append(node)
            is_simple = is_simple and task.on_success is None
        if task.cache is not None:
            is_simple = False
            self.cached.append(node)
        if task.executor is not None:
            self.placed.append(node)
        if task.pool is not None:
            is_simple = False
            self.pooled.append(node)
        if task.priority:
            self.has_priorities = True
        if task.retry.retries and node.arg_sources:
            is_simple = False  # the run checks its arguments for iterators
        return is_simple

    def _check_needed_results(self, node: Node) -> None:
        """Warn of a clean-up task that does not run unless all its upstreams have succeeded."""
        needed = {source: name for name, source in node.named_sources().items() if name not in node.parameters.defaults}
        if node.upstream and needed.keys() >= set(node.upstream):
            source = node.upstream[0]
            warn(advice.on_needed_results(node.name, needed[source], self.names[source]), "option", node.name)

    def _check_trigger(self, node: Node) -> None:
        """Check the parameters of a node that runs without the results of all upstreams."""
        trigger = node.task.trigger
        if len(node.upstream) > 1 and trigger != "all_failed":
            self.early[node.index] = node
        elif trigger == "one_success":
            return  # its only upstream has succeeded
        for parameter, source in node.named_sources().items():
            if parameter not in node.parameters.defaults:
                raise_or_collect(may_be_missing(node.name, trigger, parameter, self.names[source]))

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
        edges = sum(len(node.upstream) for node in self.nodes)
        return f"<Graph {escape_control_chars(self.name)}: {counted(len(self), 'task')}, {counted(edges, 'edge')}>"

    @property
    def is_current(self) -> bool:
        """Whether the pipelines of its pipeline tasks have not changed since this graph was built."""
        if not self.inlined:
            return True
        from .inlining import graph_of

        return all(graph_of(task) is graph for task, graph in self.inlined)

    def ancestors(self, node: Node) -> set[int]:
        """Return the indices of all direct and indirect upstreams of a node, a set of int."""
        seen: set[int] = set()
        stack = list(node.upstream)
        while stack:
            index = stack.pop()
            if index not in seen:
                seen.add(index)
                stack += self.nodes[index].upstream
        return seen

    def heights(self) -> list[int]:
        """Return, for each node, the number of tasks on the longest path from it to an end, itself included, 1 or more.

        Parallel executors use it to start the critical path first.
        """
        if self._heights is None:
            heights = [1] * len(self.nodes)
            for height, node in zip(reversed(heights), reversed(self.nodes)):  # reads heights set by nodes before
                for index in node.upstream:
                    if heights[index] <= height:
                        heights[index] = height + 1
            self._heights = heights
        return self._heights

    def simple_nodes_take(self, params: Mapping[str, Any]) -> bool:
        """Return whether ``params`` replaces a default of a simple node, whose call is made without looking at them."""
        from .open_parameters import params_of

        simple = [(node, node.binding.open) for node in self._open if node.is_simple and node.binding is not None]
        return any(not params_of(node, params).keys().isdisjoint(open_names) for node, open_names in simple)

    def planned_tasks(self) -> list[Any]:
        """Return the tasks of the nodes as the record of a run compares them: mapping counts as part of the trigger."""
        from .node_map import planned_task

        return [node.task if node.mapped is None else planned_task(node.task, node.mapped) for node in self.nodes]

    def check_params(self, params: Mapping[str, Any] | None) -> None:
        """Check that ``params`` fills every open parameter without a default, and has no other names.

        Args:
            params: parameter name, or ``"task.parameter"`` -> value; None means no values.

        Raises:
            BindingError: it is not a mapping of names, a parameter without a default is not filled, or no task has
                an open parameter of a name.
        """
        if params is not None or self._open:
            from .open_parameters import check_open

            given = {} if params is None else params
            known: Callable[[], Sequence[str]] = self._known if self._known is not None else tuple
            check_open(self.nodes, self.names, self._open, given, self._remedy, self._filled_remedy, known)

    def _filled_remedy(self, task: str, _parameter: str, upstream: str) -> str:
        """Return the fix for a name in ``params`` that an upstream fills, for a DAG or for a Flow."""
        return advice.for_filled_parameter(task, upstream, for_dag=self._binds_for_dag)

    def _remedy(self, node: Node, parameter: str, exists: bool) -> str:
        """Return the fix for a parameter that nothing fills, for a DAG or for a Flow.

        Args:
            node: the node.
            parameter: the parameter.
            exists: whether a task of that name exists which is not directly upstream.
        """
        if not self._binds_for_dag:
            return advice.for_open_parameter_of_flow(parameter, exists=exists)
        waits = [self.names[index] for index in node.waits]
        ancestors = [self.names[index] for index in self.ancestors(node)]
        return advice.for_open_parameter_of_dag(self.name, node, parameter, waits, ancestors, exists=exists)


def _is_annotated_none(func: Any) -> bool:
    """Return whether a function, or that of a partial or of a class's ``__call__``, is annotated to return None."""
    inner = next((layer for layer in wrapped_callables(func) if type(layer) is FunctionType), None)
    try:
        found: Any = inner.__annotations__.get("return", "") if inner is not None else ""
    except Exception:  # annotations that cannot be evaluated
        return False
    return found is None or found is type(None) or (type(found) is str and found.strip("'\"") == "None")


def _is_generator(func: Any) -> bool:
    return type(func) is FunctionType and bool(func.__code__.co_flags & CO_GENERATOR)


def _check_duplicates(pipeline: str, tasks: Sequence[AnyTask]) -> None:
    seen: dict[str, AnyTask] = {}
    for task in tasks:
        other = seen.setdefault(task.name, task)
        if other is not task:
            raise_or_collect(DuplicateTaskError(task.name, (other.location, task.location), pipeline), task=task.name)


def _is_topological(upstream: Sequence[Sequence[int]]) -> bool:
    """Return whether tasks are already in the topological order that `_topological` returns.

    That order starts with the tasks without upstreams; the others follow, sorted by the position of their last
    upstream.
    """
    last = [sources[0] if len(sources) == 1 else max(sources) if sources else -1 for sources in upstream]
    return all(map(lt, last, range(len(last)))) and last == sorted(last)


def _in_topological_order(
    tasks: Sequence[AnyTask],
    upstream: Sequence[Sequence[int]],
    waits: Mapping[int, Sequence[int]],
    mapped: Mapping[int, MapRequest],
) -> tuple[list[AnyTask], list[tuple[int, ...]], Mapping[int, Sequence[int]], Mapping[int, MapRequest]]:
    """Return the arguments in topological order, with the positions changed accordingly."""
    order = _topological(tasks, upstream)
    position = [0] * len(order)
    for index, place in enumerate(order):
        position[place] = index
    return (
        [tasks[place] for place in order],
        [tuple([position[other] for other in upstream[place]]) for place in order],
        {position[place]: [position[other] for other in only] for place, only in waits.items()},
        {position[place]: request.moved(position) for place, request in mapped.items()},
    )


def _topological(tasks: Sequence[AnyTask], upstream: Sequence[Sequence[int]]) -> list[int]:
    """Return the positions of tasks in topological order, ties in order of declaration.

    Raises:
        DAGCycleError: there is a cycle. If errors are collected, one edge of each cycle is ignored.
    """
    waiting = list(map(len, upstream))
    downstream: list[list[int]] = [[] for _ in waiting]
    for place, sources in enumerate(upstream):
        for source in sources:
            downstream[source].append(place)
    order = [place for place, count in enumerate(waiting) if not count]
    for place in order:  # grows while it is read
        for other in downstream[place]:
            waiting[other] -= 1
            if not waiting[other]:
                order.append(other)
    if len(order) < len(waiting):
        cycle = _cycle(waiting, upstream)
        raise_or_collect(DAGCycleError([tasks[place].name for place in cycle]), task=tasks[cycle[0]].name)
        broken = list(map(tuple, upstream))
        broken[cycle[0]] = tuple([source for source in broken[cycle[0]] if source != cycle[-2]])
        return _topological(tasks, broken)
    return order


def _cycle(waiting: Sequence[int], upstream: Sequence[Sequence[int]]) -> list[int]:
    """Return one cycle among tasks with unmet upstreams, along the edges; the first task is repeated at the end."""
    place = next(place for place, count in enumerate(waiting) if count)
    path: dict[int, None] = {}
    while place not in path:
        path[place] = None
        place = next(source for source in upstream[place] if waiting[source])
    members = list(path)
    members = members[members.index(place) :][::-1]
    first = members.index(min(members))
    members = members[first:] + members[:first]
    return [*members, members[0]]
