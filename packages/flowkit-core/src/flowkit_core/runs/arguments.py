"""The arguments of one call: results of upstreams, parameters of the run, and defaults."""

from __future__ import annotations

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import safe_warn
from flowkit_core.context import idempotency_key
from flowkit_core.graphs.binding import bind_condition
from flowkit_core.graphs.parameters import KEY, Parameters
from flowkit_core.retry import warn_of_iterator

from .call import Condition, Outcome
from .states import CANCELLED, SKIPPED, STATES, SUCCEEDED, UPSTREAM_FAILED
from .triggers import outcome_of_trigger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Entry, Node

    from .run_state import RunState


def simple_arguments(node: Node, values: list[Any]) -> tuple[Any, ...]:
    """Return the arguments of a simple node: the results of its sources, by position."""
    if node.gather is not None:
        return node.gather(values)
    return (values[node.arg_sources[0]],) if node.arg_sources else ()


def call_arguments(
    node: Node, state: RunState, params: Mapping[str, Any], run_id: str
) -> Outcome | tuple[Sequence[Any], dict[str, Any], Condition | None]:
    """Return positional arguments, keyword arguments and the bound condition of a node.

    Args:
        node: the node.
        state: the state of the run.
        params: the argument ``params`` of ``run()``.
        run_id: id of the run, for the idempotency key.

    Returns:
        The arguments; or how the node ends without being called, if a result that it requires is missing.
    """
    given = collect(node, state, params, run_id)
    if isinstance(given, Outcome):
        return given
    parameters = node.parameters
    args, kwargs = assemble(parameters, given.named, given.rest)
    kwargs |= given.extra
    for name in node.none_checked:
        if name in given.named and given.named[name] is None:
            _warn_of_none(node, name, state.names)
    task = node.task
    if task.retry.retries and not task._warned_of_iterator and warn_of_iterator(task.name, (*args, *kwargs.values())):
        task._warned_of_iterator = True
    when = task.when
    if when is None:
        return args, kwargs, None
    extra = given.extra
    known = {name: given.named.get(name, parameters.defaults.get(name)) for name in parameters.names} | extra
    when_args, when_kwargs = bind_condition(Parameters(when), known, [*parameters.names, *extra], given.rest)
    condition = Condition(when, when_args, when_kwargs)
    return ((), {}, condition) if task._is_gate else (args, kwargs, condition)


class Given:
    """The values for the parameters of a node.

    Attributes:
        named: parameter -> value.
        rest: the values for ``*args``.
        extra: key -> value, for ``**kwargs``.
    """

    __slots__ = ("extra", "named", "rest")

    def __init__(self, named: dict[str, Any], rest: list[Any], extra: dict[str, Any]) -> None:
        self.named = named
        self.rest = rest
        self.extra = extra


def collect(
    node: Node, state: RunState, params: Mapping[str, Any], run_id: str, *, pending: int | None = None
) -> Given | Outcome:
    """Return the values for the parameters of a node; or how it ends if a result that it requires is missing.

    Args:
        node: the node.
        state: the state of the run.
        params: the argument ``params`` of ``run()``.
        run_id: id of the run, for the idempotency key.
        pending: index of an upstream whose elements the node takes one by one, which are given later.
    """
    values, codes, parameters, binding = state.values, state.codes, node.parameters, node.binding
    if binding is None:
        sources = node.arg_sources or ()
        count = len(parameters.positional)
        named: Iterable[tuple[str, int]] = zip(parameters.positional, sources, strict=False)
        rest: Sequence[int] = sources[count:]
        named_rest: Mapping[str, int] = {}
        takes_results = bool(sources) and count > 0
    else:
        named, rest, named_rest = binding.named.items(), binding.rest, binding.named_rest
        takes_results = bool(binding.named)
    given: dict[str, Any] = {}
    for name, source in named:
        if codes[source] == SUCCEEDED:
            given[name] = values[source]
        elif source != pending and name not in parameters.defaults:
            return _missing_result(name, state.names[source], codes[source])
    if not takes_results and node.task.trigger == "none_failed" and all_skipped(node, codes):
        return Outcome(SKIPPED, "everything upstream was skipped")
    if binding is not None and params:
        from flowkit_core.graphs.open_parameters import params_of

        own = params_of(node, params)
        given |= {name: own[name] for name in binding.open if name in own}
    if parameters.keyed and binding is not None and KEY in binding.open and KEY not in given:
        given[KEY] = idempotency_key(run_id, node.name)
    others = [
        None if source == pending else values[source]
        for source in rest
        if codes[source] == SUCCEEDED or source == pending
    ]
    extra = {name: values[source] for name, source in named_rest.items() if codes[source] == SUCCEEDED}
    return Given(given, others, extra)


def all_skipped(node: Node, codes: Sequence[int]) -> bool:
    """Return whether the node has data edges and all its upstreams on them were skipped."""
    upstream = [index for index in node.upstream if index not in node.waits] if node.waits else node.upstream
    return bool(upstream) and all(codes[index] == SKIPPED for index in upstream)


def outcome_of_entry(entry: Entry, codes: Sequence[int], names: Sequence[str]) -> Outcome | None:
    """Return how the nodes of a pipeline that is used as a task end without being called; None if they may run.

    Args:
        entry: the entry of the pipeline.
        codes: states by node index.
        names: names of the tasks by node index.
    """
    if entry.outer is not None and (outcome := outcome_of_entry(entry.outer, codes, names)) is not None:
        return outcome
    if entry.gate is not None:  # it has the upstreams of the entry, and so has followed the rules below
        code, name = codes[entry.gate], escape_control_chars(names[entry.gate])
        ended = STATES[code].replace("_", " ")
        if code == SUCCEEDED:
            return None
        return Outcome(code if code in (SKIPPED, CANCELLED) else UPSTREAM_FAILED, f'upstream "{name}" ended as {ended}')
    node = entry.node
    if (outcome := outcome_of_trigger(node, codes, names, None)) is not None:
        return outcome
    sources = node.named_sources()
    for parameter, source in sources.items():
        if codes[source] != SUCCEEDED and parameter not in node.parameters.defaults:
            return _missing_result(parameter, names[source], codes[source])
    return Outcome(SKIPPED, "everything upstream was skipped") if not sources and all_skipped(node, codes) else None


def _missing_result(parameter: str, upstream: str, code: int) -> Outcome:
    """Return how a node ends whose required parameter has no result."""
    ended = STATES[code].replace("_", " ")
    name = escape_control_chars(upstream)
    return Outcome(
        code if code in (SKIPPED, CANCELLED) else UPSTREAM_FAILED,
        f'its parameter {parameter!r} has no default, and upstream "{name}" ended as {ended}',
    )


def assemble(parameters: Parameters, given: Mapping[str, Any], rest: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return positional and keyword arguments.

    An omitted positional parameter takes its default here if a later one is given, and is left out otherwise.
    """
    positional = parameters.positional
    if rest:
        last = len(positional)
    else:
        last = max((number for number, name in enumerate(positional, 1) if name in given), default=0)
    args = [given[name] if name in given else parameters.defaults[name] for name in positional[:last]]
    args += rest
    return args, {name: given[name] for name in parameters.keyword_only if name in given}


def _warn_of_none(node: Node, parameter: str, names: Sequence[str]) -> None:
    """Warn, once per task, that a result None replaces the default of a parameter that is filled by order."""
    if node.task._warned_of_none:
        return
    node.task._warned_of_none = True
    binding = node.binding
    upstream = names[binding.named[parameter] if binding is not None else (node.arg_sources or ())[0]]
    safe_warn(
        f"task {node.name!r} gets None, which {upstream!r} returned, as {parameter!r}, by order, in place of its "
        f"default: to wait for {upstream!r} without taking its result, write {node.name}.after({upstream}); if None"
        f" is meant, name the parameter {upstream!r}"
    )
