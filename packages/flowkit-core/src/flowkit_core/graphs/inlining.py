"""Inlining: tasks of pipelines that are used as tasks (``pipeline.as_task()``) become tasks of the graph around them.

A *pipeline task* ``clean`` has no node. Each task of its pipeline has one, with the name ``clean.extract``, and
``clean`` is an alias of the node whose result is the output. An `Entry` decides, by the rules of any task, whether the
nodes of the pipeline may run: its upstreams are those of the pipeline task, and its parameters are those that are open
inside. It is not a node of the graph: it is never ready, and has no state.
"""

from __future__ import annotations

from _thread import get_ident

from flowkit_core._text import listed, similar_or_all
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import DAGCycleError, DuplicateTaskError, WiringError

from .binding import Binding
from .node import Entry, Node
from .node_map import MapRequest
from .parameters import KEY, Parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from flowkit_core._typing import Any, Protocol

    Bind = Callable[[str, Parameters, Mapping[str, int], Sequence[str]], Binding]

    class InlinedGraph(Protocol):
        """What inlining reads and sets of a `Graph`, which imports this module."""

        name: str
        names: tuple[str, ...]
        nodes: tuple[Node, ...]
        aliases: Mapping[str, int]
        groups: Mapping[str, Sequence[int]]
        inlined: Sequence[tuple[Any, Any]]

        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[Node]: ...
        def __getitem__(self, name: str) -> Node: ...

    class PipelineTask(Protocol):
        """What inlining needs of a pipeline task."""

        name: str
        _pipeline: Any

        _output: str | None

        def _new_gate(self) -> Any:
            """Return a task that succeeds if the condition is true; None without a condition."""


OUTPUT_ONLY_TRIGGERS = ("one_success", "all_failed")
"""Triggers of tasks for which a pipeline task counts as its output alone: further upstreams would change their
meaning."""

_building: dict[int, list[Any]] = {}
"""Thread -> the pipelines whose graphs it is building for pipeline tasks, the innermost last."""


def graph_of(task: PipelineTask) -> InlinedGraph:
    """Return the current graph of the pipeline of a pipeline task.

    Raises:
        DAGCycleError: the pipeline contains itself.
    """
    thread, pipeline = get_ident(), task._pipeline
    stack = _building.setdefault(thread, [])
    if any(pipeline is each for each in stack):
        names = [each.name for each in (*stack[stack.index(pipeline) :], pipeline)]
        raise DAGCycleError(names)
    stack.append(pipeline)
    try:
        found: InlinedGraph = pipeline.graph()
    finally:
        stack.pop()
        if not stack:
            del _building[thread]
    return found


class _Part:
    """The pipeline of one pipeline task, and the positions of its nodes among all tasks."""

    def __init__(self, task: PipelineTask, start: int) -> None:
        self.task = task
        self.graph = graph = graph_of(task)
        self.parameters = open_parameters_of(graph)
        self.gate = task._new_gate()
        self.start = start + (self.gate is not None)
        output = output_of(graph, task._output)
        self.output = self.start + output
        self.ends = [self.start + node.index for node in graph if not node.downstream and node.index != output]
        self.binding = Binding({})
        self.upstream: list[int] = []  # of the entry: positions of the tasks whose results it takes
        self.waits: list[int] = []

    def shift(self, indices: Iterable[int]) -> list[int]:
        """Return the positions of nodes of the pipeline."""
        return [self.start + index for index in indices]


class Inlined:
    """The tasks of a pipeline, with those of its pipeline tasks in their places: arguments for a `Graph`.

    Args:
        pipeline: name of the pipeline.
        tasks: its tasks, in order of declaration; at least one of them is a pipeline task.
        upstream: for each task the positions of the tasks that it takes results from.
        bind: the rule that binds results to the parameters of these tasks; other pipelines keep their rules.
        waits: position of a task -> positions of the tasks that it only waits for.
        mapped: position of a task -> which of its inputs are mapped.

    Raises:
        DAGCycleError: a pipeline contains itself.
        DuplicateTaskError: two tasks have the same name.
        BindingError: a parameter has no source, or a result has no parameter.
        Exception: the graph of one of the pipelines cannot be built.

    Attributes:
        tasks, upstream, waits, mapped: the same for all tasks.
        parameters: id of a function -> its parameters, for functions whose signature does not show them.
    """

    def __init__(
        self,
        pipeline: str,
        tasks: Sequence[Any],
        upstream: Sequence[Sequence[int]],
        bind: Bind,
        waits: Mapping[int, Sequence[int]],
        mapped: Mapping[int, MapRequest],
    ) -> None:
        self.tasks: list[Any] = []
        self.upstream: list[list[int]] = []
        self.waits: dict[int, list[int]] = {}
        self.mapped: dict[int, MapRequest] = {}
        self.parameters: dict[int, Parameters] = {}
        self._bindings: list[Binding] = []
        self._parts: dict[int, _Part] = {}  # by position among `tasks` of the pipeline
        self._places: list[int] = []  # position of a task of the pipeline -> position of the task with its result
        self._found_order: tuple[dict[str, int], list[int]] | None = None
        _check_names(pipeline, tasks)
        for number, task in enumerate(tasks):
            if task._pipeline is None:
                self._places.append(len(self.tasks))
                self._add(task)
                continue
            part = self._parts[number] = _Part(task, len(self.tasks))
            if part.gate is not None:
                self._add(part.gate)
            for node in part.graph:
                self._add(_renamed(node.task, f"{task.name}.{node.name}"))
            self._places.append(part.output)
        names = [task.name for task in tasks]
        for number, task in enumerate(tasks):
            found = self._parts.get(number)
            data, only = self._upstream_of(upstream[number], waits.get(number, ()), task.trigger)
            parameters = Parameters(task.func) if found is None else found.parameters
            local = bind(task.name, parameters, {names[index]: index for index in upstream[number]}, names)
            binding = _renumbered(local, self._places)
            if found is None:
                self._set(self._places[number], binding, data, only)
                if number in mapped:
                    self.mapped[self._places[number]] = mapped[number].moved(self._places)
            else:
                self._connect(found, binding, data, only)

    def _add(self, task: Any) -> None:
        self.tasks.append(task)
        self.upstream.append([])
        self._bindings.append(Binding({}))

    def _set(self, place: int, binding: Binding, data: Iterable[int], waits: Iterable[int]) -> None:
        self._bindings[place] = binding
        self.upstream[place] = taken = list(dict.fromkeys(data))
        only = [each for each in dict.fromkeys(waits) if each not in taken]
        if only:
            self.waits[place] = only

    def _upstream_of(self, data: Iterable[int], waits: Iterable[int], trigger: str) -> tuple[list[int], list[int]]:
        """Return the positions of the tasks that a task takes results from, and of those that it only waits for.

        A task that takes the output of a pipeline also waits for the other ends of it.
        """
        places = [self._places[index] for index in data]
        only = [self._places[index] for index in waits]
        if trigger not in OUTPUT_ONLY_TRIGGERS:
            for index in (*data, *waits):
                part = self._parts.get(index)
                only += () if part is None else part.ends
        return places, only

    def _connect(self, part: _Part, outer: Binding, data: list[int], waits: list[int]) -> None:
        """Wire the nodes of a part, and give their open parameters the results that the pipeline task takes."""
        part.binding, part.upstream, part.waits = outer, data, waits
        first_waits = [*data, *waits]
        if part.gate is not None:
            gate = part.start - 1
            self._set(gate, outer, data, waits)
            self.parameters[id(part.gate.func)] = part.parameters
            first_waits = [gate]
        for node in part.graph:
            self.parameters[id(node.func)] = node.parameters
            inner = _renumbered(_binding_of(node), range(part.start, part.start + len(part.graph)))
            taken = {name: outer.named[name] for name in inner.open if name in outer.named}
            inner.named |= taken
            inner.open = tuple([name for name in inner.open if name not in taken])
            inner.by_order = ()  # checked when the graph of the pipeline was built
            own = part.shift(index for index in node.upstream if index not in node.waits)
            only = part.shift(node.waits)
            self._set(part.start + node.index, inner, [*own, *taken.values()], only if own or only else first_waits)
            if node.mapped is not None:
                sources = part.shift(node.mapped.sources(_binding_of(node)))
                request = MapRequest(node.mapped.parameters, sources, node.mapped.options)
                self.mapped[part.start + node.index] = request

    # ---- the finished graph ----------------------------------------------------------------------------------------

    def bind(self, name: str, _parameters: Parameters, _sources: Mapping[str, int], names: Sequence[str]) -> Binding:
        """Return the binding of a node of the graph; ``names`` are the names of its nodes, in topological order."""
        place_of, index_of = self._order(names)
        return _renumbered(self._bindings[place_of[name]], index_of)

    def _order(self, names: Sequence[str]) -> tuple[dict[str, int], list[int]]:
        """Return the positions of tasks by name, and the indices of their nodes by position."""
        if self._found_order is None:
            index = {name: index for index, name in enumerate(names)}
            place_of = {task.name: place for place, task in enumerate(self.tasks)}
            self._found_order = place_of, [index[task.name] for task in self.tasks]
        return self._found_order

    def apply(self, graph: InlinedGraph) -> None:
        """Set the attributes of the finished graph that describe pipeline tasks: aliases, groups, entries, checks."""
        _, index_of = self._order(graph.names)
        aliases: dict[str, int] = {}
        groups: dict[str, list[int]] = {}
        for part in self._parts.values():
            name, inner = part.task.name, part.graph
            aliases[name] = index_of[part.output]
            first = part.start - (part.gate is not None)
            groups[name] = index_of[first : part.start + len(inner)]
            within = index_of[part.start : part.start + len(inner)]
            aliases |= {f"{name}.{each}": within[index] for each, index in inner.aliases.items()}
            groups |= {f"{name}.{each}": [within[index] for index in found] for each, found in inner.groups.items()}
            entry = self._entry(part, index_of)
            if entry.gate is not None:
                graph.nodes[entry.gate].entry = Entry(name, entry.node, None, None)
            entries: dict[Entry | None, Entry] = {None: entry}
            for node in inner:
                copy = graph.nodes[within[node.index]]
                copy.entry = _renumbered_entry(node.entry, name, within, entries)
                if node.none_checked:
                    copy.none_checked, copy.is_simple, copy.gather = node.none_checked, False, None
        graph.aliases, graph.groups = aliases, groups
        graph.inlined = tuple([(part.task, part.graph) for part in self._parts.values()])

    def _entry(self, part: _Part, index_of: Sequence[int]) -> Entry:
        waits = [index_of[place] for place in part.waits]
        upstream = [*[index_of[place] for place in part.upstream], *waits]
        gate = None if part.gate is None else index_of[part.start - 1]
        node = _entry_node(part.task.name, part.task, part.parameters, upstream, waits, part.binding, index_of)
        return Entry(part.task.name, node, gate, None)


def _entry_node(
    name: str,
    task: Any,
    parameters: Parameters,
    upstream: Iterable[int],
    waits: Iterable[int],
    binding: Binding,
    index_of: Sequence[int],
) -> Node:
    """Return the node of an entry; `binding` has positions, and the other numbers are indices."""
    node = Node()
    node.index, node.name, node.task, node.parameters = -1, name, task, parameters
    node.entry = node.mapped = None
    node.upstream, node.waits, node.binding = tuple(upstream), tuple(waits), _renumbered(binding, index_of)
    return node


def _renumbered_entry(
    entry: Entry | None, prefix: str, indices: Sequence[int], known: dict[Entry | None, Entry]
) -> Entry:
    """Return an entry of the graph of a pipeline as one of the graph around it.

    Args:
        entry: the entry; None for nodes that are in no pipeline task of the inner graph.
        prefix: name of the pipeline task.
        indices: index in the inner graph -> index in the outer graph.
        known: the entries that were renumbered before; of None, the entry of the pipeline task.
    """
    if entry is not None and entry not in known:
        old, name = entry.node, f"{prefix}.{entry.name}"
        upstream, waits = ([indices[index] for index in each] for each in (old.upstream, old.waits))
        node = _entry_node(name, old.task, old.parameters, upstream, waits, _binding_of(old), indices)
        gate = None if entry.gate is None else indices[entry.gate]
        known[entry] = Entry(name, node, gate, _renumbered_entry(entry.outer, prefix, indices, known))
    return known[entry]


def _binding_of(node: Node) -> Binding:
    """Return the complete binding of a node."""
    if node.binding is not None:
        return node.binding
    sources = node.arg_sources or ()
    return Binding(node.named_sources(), sources[len(node.parameters.positional) :])


def _renumbered(binding: Binding, index_of: Sequence[int]) -> Binding:
    """Return a binding with other numbers of the sources."""
    return Binding(
        {name: index_of[source] for name, source in binding.named.items()},
        [index_of[source] for source in binding.rest],
        {name: index_of[source] for name, source in binding.named_rest.items()},
        binding.open,
        binding.by_order,
    )


def open_parameters_of(graph: InlinedGraph) -> Parameters:
    """Return the open parameters of a graph; one has a default if it has one in every task that takes it."""
    defaults: dict[str, Any] = {}
    required: set[str] = set()
    names: dict[str, None] = {}
    for node in graph:
        for name in node.binding.open if node.binding is not None else ():
            if name == KEY:
                continue
            names.setdefault(name)
            if name in node.parameters.defaults:
                defaults.setdefault(name, node.parameters.defaults[name])
            else:
                required.add(name)
    return Parameters.of(tuple(names), {name: default for name, default in defaults.items() if name not in required})


def _renamed(task: Any, name: str) -> Any:
    """Return a copy of a task with another name, which discovery never finds."""
    copy = object.__new__(type(task))
    copy.__dict__.update(task.__dict__)
    copy.name = name
    return copy


def _check_names(pipeline: str, tasks: Sequence[Any]) -> None:
    seen: dict[str, Any] = {}
    for task in tasks:
        other = seen.setdefault(task.name, task)
        if other is not task:
            raise DuplicateTaskError(task.name, (other.location, task.location), pipeline)


def _ends(graph: InlinedGraph) -> list[str]:
    """Return the names of the tasks without downstreams; that of a pipeline task for the tasks inside of it."""
    outermost: dict[int, str] = {}
    for name, indices in sorted(graph.groups.items(), key=lambda item: -len(item[1])):
        for index in indices:
            outermost.setdefault(index, name)
    return list(dict.fromkeys(outermost.get(node.index, node.name) for node in graph if not node.downstream))


def output_of(graph: InlinedGraph, output: str | None) -> int:
    """Return the index of the node whose result is the output of a pipeline.

    Args:
        graph: the graph of the pipeline.
        output: name of a task, or of a pipeline task; None for the only end.

    Raises:
        WiringError: there is no such task; or no name is given, and there is not exactly one end.
    """
    if output is not None:
        if output in graph.aliases:
            return graph.aliases[output]
        if output in graph.names:
            return graph[output].index
        guess = similar_or_all(output, [*graph.names, *graph.aliases])
        naming = f"; to name the pipeline task, write as_task(name={output!r})"
        raise WiringError(f"as_task(output={output!r}): {graph.name!r} has no such task{guess}{naming}", graph.name, ())
    names = _ends(graph)
    if not names:
        raise WiringError(f"as_task(): {graph.name!r} has no tasks, so it has no output", graph.name, ())
    if len(names) == 1:
        return output_of(graph, names[0])
    raise WiringError(
        f"as_task() of {graph.name!r} needs the name of the task whose result is the output, because it has several "
        f"ends: {listed(names)}; write as_task(output={names[-1]!r})",
        graph.name,
        names,
    )
