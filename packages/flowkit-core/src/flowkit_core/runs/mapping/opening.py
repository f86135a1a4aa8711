"""Opening a region: reads the inputs of a mapped node, and finds the chain of nodes that its elements pass through."""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.coroutines import CO_GENERATOR
from flowkit_core.events import ElementStarted, ElementSucceeded
from flowkit_core.runs.arguments import Given, collect
from flowkit_core.runs.call import Call, Outcome
from flowkit_core.runs.handle import fetched, is_handle
from flowkit_core.runs.run_state import ABSENT
from flowkit_core.runs.states import CANCELLED, FAILED, PENDING, SKIPPED, STATES, SUCCEEDED, UPSTREAM_FAILED

from .inputs import LazyInput, PartialColumn, check_lengths, elements_of, is_lazy
from .region import Region
from .region_input import RegionInput
from .stage import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.run import Run


def open_region(run: Run, node: Node, given: Given) -> Region | Outcome:
    """Return the region of a mapped node, given its arguments; or how it ends, if there is nothing to map over."""
    sources: dict[str | int, int] = {}
    columns = _columns(run, node, given, sources)
    if not columns:
        return _nothing_to_map(run, node)
    values = list(columns.values())
    sized = {_shown(name): value for name, value in columns.items() if hasattr(type(value), "__len__")}
    names = {_shown(name): run.graph.names[sources[name]] for name in columns if name in sources}
    check_lengths(node.name, sized, names)
    size = len(values[0]) if len(sized) == len(columns) else None
    lazy = None if size is not None else _lazy_input(run, node, columns, sources, names)
    stages = [Stage(node, given, list(columns), size or 0)]
    while (following := _following(run, stages[-1].node, size or 0)) is not None:
        stages.append(following)
    region = Region(stages, RegionInput(stages, values, size, lazy), size)
    region.is_smooth = _is_smooth(run, region, values)
    return region


def _nothing_to_map(run: Run, node: Node) -> Outcome:
    """Return how a node ends none of whose mapped inputs has a result: like them."""
    codes = run.state.codes
    sources = [] if node.mapped is None or node.binding is None else node.mapped.sources(node.binding)
    for state, ended in ((UPSTREAM_FAILED, (FAILED, UPSTREAM_FAILED)), (CANCELLED, (CANCELLED,))):
        for source in sources:
            if codes[source] in ended:
                name, text = escape_control_chars(run.graph.names[source]), STATES[codes[source]].replace("_", " ")
                return Outcome(state, f'it has nothing to map over: upstream "{name}" ended as {text}')
    return Outcome(SKIPPED, "everything that it is mapped over was skipped")


def _lazy_input(
    run: Run, node: Node, columns: dict[str | int, Any], sources: dict[str | int, int], names: dict[str, str]
) -> LazyInput:
    """Return the mapped inputs of a node, one of which is lazy; remove iterators from the results of the run."""
    lazy_sources = {}
    for name, value in columns.items():
        if hasattr(type(value), "__len__") or name not in sources:
            continue
        index = sources[name]
        lazy_sources[_shown(name)] = run.graph.nodes[index]
        found = run.state.values[index]
        if is_handle(found) or hasattr(type(found), "__next__"):
            run.state.consumed[index] = node.name
            run.mapping.iterators.begin(run.graph.nodes[index])
            run.state.values[index] = ABSENT
    return LazyInput(node.name, {_shown(name): value for name, value in columns.items()}, lazy_sources, names)


def _shown(column: str | int) -> str:
    """Return a mapped parameter, or a position in ``*args``, as messages show it."""
    return f"*args[{column}]" if isinstance(column, int) else column


def _columns(run: Run, node: Node, given: Given, sources: dict[str | int, int]) -> dict[str | int, Any]:
    """Remove the mapped values from the arguments of a node; return them by parameter, or position in ``*args``.

    The index of the node whose result is mapped is added to ``sources``, by parameter or position.
    """
    mapped, binding, parameters = node.mapped, node.binding, node.parameters
    if mapped is None or binding is None:
        return {}
    columns: dict[str | int, Any] = {}
    sources |= {name: binding.named[name] for name in mapped.parameters if name in binding.named}
    sources |= {name: source for name, source in binding.named_rest.items() if name in mapped.named_rest}
    for name in mapped.parameters:
        if name in given.named:
            value = given.named.pop(name)
        elif name not in binding.named and name in parameters.defaults:
            value = parameters.defaults[name]
        else:
            continue  # its source was skipped, and it takes its default
        columns[name] = _elements(run, node, name, binding.named.get(name), value)
    rest = [source for source in binding.rest if run.state.codes[source] == SUCCEEDED]
    for place, source in enumerate(rest):
        if source in mapped.rest:
            columns[place] = _elements(run, node, _shown(place), source, given.rest[place])
            sources[place] = source
            given.rest[place] = None
    for name, source in binding.named_rest.items():
        if name in mapped.named_rest and name in given.extra:
            columns[name] = _elements(run, node, name, source, given.extra.pop(name))
    _fetch(run, node, given)
    return columns


def _fetch(run: Run, node: Node, given: Given) -> None:
    """Replace handles among the arguments that all elements have in common, unless the lane takes handles."""
    if run.has_handles and not getattr(run.mapping.lanes.get(node.index), "makes_handles", False):
        given.named.update({name: fetched(value) for name, value in given.named.items()})
        given.rest[:] = map(fetched, given.rest)
        given.extra.update({name: fetched(value) for name, value in given.extra.items()})


def _elements(run: Run, node: Node, name: str, source: int | None, value: Any) -> Any:
    """Return the elements of a mapped value, by their numbers in the original input."""
    stage = run.state.stages.get(source) if source is not None else None
    if stage is not None and len(stage.values) == len(stage.codes):
        return stage.column()
    return elements_of(node.name, name, fetched(value), None if source is None else run.graph.names[source])


def _following(run: Run, node: Node, size: int) -> Stage | None:
    """Return the stage of the node that takes each element of a node next; None if there is none.

    Its only mapped input is the result of the node, and all its other upstreams have ended.
    """
    codes = run.state.codes
    for after in node.downstream:
        mapped, binding = after.mapped, after.binding
        if mapped is None or binding is None or mapped.sources(binding) != [node.index]:
            continue
        if any(name not in binding.named for name in mapped.parameters):
            continue
        if mapped.inputs != 1:
            continue
        task = after.task
        if task.trigger != "none_failed" or after.entry is not node.entry or codes[after.index] != PENDING:
            continue
        if any(codes[index] == PENDING for index in after.upstream if index != node.index):
            continue
        if any(codes[index] in (FAILED, UPSTREAM_FAILED, CANCELLED) for index in after.upstream):
            continue
        with run._lock:
            given = collect(after, run.state, run.params, run.run_id, pending=node.index)
        if isinstance(given, Outcome):
            continue
        _fetch(run, after, given)
        column: str | int
        if mapped.parameters:
            column = mapped.parameters[0]
        elif mapped.named_rest:
            column = next(iter(mapped.named_rest))
        else:
            column = [source for source in binding.rest if codes[source] in (SUCCEEDED, PENDING)].index(node.index)
        return Stage(after, given, [column], size)
    return None


def _is_smooth(run: Run, region: Region, columns: Sequence[Any]) -> bool:
    """Return whether a worker may call the functions of all stages in a loop."""
    if run.grace is not None or run.timeout is not None:
        return False  # the session may end single calls
    if any(map(run.events.wants, (ElementStarted, ElementSucceeded))):
        return False
    lists = [column for column in columns if isinstance(column, list)] if run.has_handles else ()
    if any(is_handle(value) for column in lists for value in column):
        return False
    lanes = run.mapping.lanes
    for stage in region.stages:
        node, task = stage.node, stage.node.task
        if lanes.get(node.index) is not lanes.get(region.stages[0].node.index):
            return False
        if task.when is not None or task.timeout is not None or task.cache is not None or task.pool is not None:
            return False
        if node.parameters.keyed or node.parameters.copies_context:
            return False
        if stage is not region.stages[0] and stage.limit is not None:
            return False
    return not any(isinstance(column, PartialColumn) for column in columns)


def local_generator(run: Run, call: Call) -> Call | Outcome:
    """Return the result of a generator function, whatever the executor: its generator runs in this process."""
    func: Any = call.func
    while type(func) in (partial, MethodType):
        func = func.func if type(func) is partial else func.__func__
    if type(func) is not FunctionType or not func.__code__.co_flags & CO_GENERATOR:
        return call
    local = call.local() if run.has_handles else call
    if isinstance(local, Outcome):
        return local
    outcome: Outcome | None = local.precheck() or run.mark_started(call.node)
    if outcome is not None:
        return outcome
    value = local.invoke()
    return value if type(value) is Outcome else Outcome(SUCCEEDED, value=value, started=True)


def result_for_takers(run: Run, node: Node, value: Any) -> Any:
    """Return the result of a node that others are mapped over; an iterator as a list, unless one taker pulls it."""
    if type(value) is Outcome and value.state == SUCCEEDED and value.started:
        value = value.value
    if is_handle(value) or not is_lazy(value) or not hasattr(type(value), "__next__"):
        return value
    takers = [after for after in node.downstream if node.index not in after.waits and _takes_results(after)]
    recorder = run._recorder
    is_stored = recorder is not None and (node.task.cache is not None or recorder.records != recorder.records_elements)
    is_kept = run.kept is not None and run.kept.keeps(node)
    if not (is_stored or is_kept) and len(takers) <= 1 and all(_pulls(after, node) for after in takers):
        return value
    try:
        return run.mapping.pullers.context_of(node).run(list, value)
    except BaseException as error:
        return Outcome(FAILED, error=error)


def _pulls(taker: Node, source: Node) -> bool:
    """Return whether a node is mapped over the result of another one."""
    return (
        taker.mapped is not None and taker.binding is not None and source.index in taker.mapped.sources(taker.binding)
    )


def _takes_results(node: Node) -> bool:
    return bool(node.parameters.names or node.parameters.rest or node.parameters.named_rest)
