"""All problems of a pipeline."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import Collected, Finding, raise_or_collect
from flowkit_core.errors import (
    DAGCycleError,
    DiscoveryError,
    DuplicateTaskError,
    ExecutorError,
    FlowkitError,
    SerializationError,
    UnknownExecutorError,
    WiringError,
)
from flowkit_core.executors.run_executors import RunExecutors
from flowkit_core.graphs.map_errors import mapping_error
from flowkit_core.graphs.open_parameters import check_params_type, params_of
from flowkit_core.runs.limits.definitions import pools_of_run

from .annotations import annotation_problems
from .options import option_problems
from .problem import Problem
from .reachability import reachability_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph

    from .problem import Kind

_KINDS: dict[type[FlowkitError], Kind] = {
    DiscoveryError: "discovery",
    WiringError: "wiring",
    DuplicateTaskError: "name",
    DAGCycleError: "cycle",
    UnknownExecutorError: "executor",
    ExecutorError: "executor",
}


def check_pipeline(
    new_graph: Callable[[], Graph],
    executor: Any,
    params: Mapping[str, Any] | None,
    defaults: Mapping[str, Any],
    pools: Any,
) -> list[Problem]:
    """Return all problems of a pipeline; see ``Pipeline.check``.

    Args:
        new_graph: builds the graph of the pipeline.
        executor: the argument of ``check()``.
        params: the argument of ``check()``.
        defaults: the pools of the pipeline.
        pools: the argument of ``check()``.

    Raises:
        UnknownExecutorError, TypeError, ValueError: an argument is wrong.
    """
    if params is not None:
        check_params_type(params)
    graph: Graph | None = None
    with Collected() as found:
        try:
            graph = new_graph()
        except FlowkitError as error:  # the tasks are not known
            raise_or_collect(error)
        if graph is not None and params is not None:
            graph.check_params(params)
            _check_mapped_params(graph, params)
        if graph is not None and (graph.pooled or pools is not None):
            pools_of_run(graph, defaults, pools)
        nodes = (graph.placed, graph.coroutines) if graph is not None else ()
        executors = RunExecutors(executor, None, *nodes)
        executors.check_lanes()
    try:
        refused = executors.check_nodes(graph) if graph is not None else []
    finally:
        executors.close()
    places: dict[str, list[str]] = {}
    for node in graph or ():
        places.setdefault(node.name, []).append(node.task.location)
    locations = {name: found[0] for name, found in places.items() if len(found) == 1}
    problems = [_problem(each, locations) for each in found]
    for reason in refused:
        kind = "transfer" if isinstance(reason, SerializationError) else "executor"
        problems.append(_problem(Finding(kind, None, str(reason), reason), locations))
    if graph is not None:
        problems += [*annotation_problems(graph), *option_problems(graph), *reachability_problems(graph)]
    return list(dict.fromkeys(problems))


def _check_mapped_params(graph: Graph, params: Mapping[str, Any]) -> None:
    """Check each value of ``params`` that a task is mapped over.

    Raises:
        MappingTypeError: a task cannot be mapped over its value.
    """
    for node in graph:
        if node.mapped is None or node.binding is None:
            continue
        given = params_of(node, params)
        for parameter in node.mapped.parameters:
            if parameter not in node.binding.named and parameter in given:
                error = mapping_error(node.name, parameter, given[parameter])
                if error is not None:
                    raise_or_collect(error, "parameter", node.name)


def _problem(finding: Finding, locations: Mapping[str, str]) -> Problem:
    """Return a finding as a problem.

    Args:
        finding: the finding.
        locations: name of a task -> where it was created.
    """
    error, task, kind = finding.error, finding.task, finding.kind
    if error is not None:
        error.__traceback__ = None  # it would keep the frames of this call
        kind = kind or next((kind for family, kind in _KINDS.items() if isinstance(error, family)), "binding")
    if task is None and isinstance(error, WiringError):
        task = error.tasks[-1] if error.tasks else None
    elif task is None:
        task = getattr(error, "task", None)
    location = error.locations[-1] if isinstance(error, DuplicateTaskError) else locations.get(task or "")
    return Problem(kind, task, finding.message, location, error)  # type: ignore[arg-type]
