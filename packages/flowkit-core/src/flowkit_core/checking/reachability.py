"""Tasks that can never run, whatever their upstreams do.

A task counts as one that may run if some combination of final states of its upstreams lets it run; each upstream that
may run may succeed, fail or be skipped. So no task is reported that might run.
"""

from __future__ import annotations

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.runs.arguments import all_skipped
from flowkit_core.runs.states import FAILED, FAILURE_TRIGGERS, SKIPPED, SUCCEEDED, UPSTREAM_FAILED
from flowkit_core.runs.triggers import outcome_of_trigger

from .problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node


def reachability_problems(graph: Graph) -> Iterator[Problem]:
    """Yield a problem for each task that can never run.

    If the graph has a cycle, the edges that close it are taken as if their upstream may run.
    """
    count = len(graph)
    at_best = [SUCCEEDED] * count  # for each node the state in which most tasks downstream of it run
    at_worst = [FAILED] * count  # the state in which the tasks run that handle failures
    for node in graph:
        reason = _reason(node, graph.names, at_best, at_worst) or _contradiction(node, graph)
        if not reason:
            continue
        may_fail = any(at_worst[index] != SKIPPED for index in node.upstream)
        at_best[node.index] = SKIPPED
        at_worst[node.index] = UPSTREAM_FAILED if may_fail else SKIPPED
        yield Problem("trigger", node.name, f"task {node.name!r} can never run: {reason}", node.task.location)


def _reason(node: Node, names: Sequence[str], at_best: Sequence[int], at_worst: Sequence[int]) -> str:
    """Return why a node runs in no state of its upstreams, and the way out; empty if it may run."""
    task = node.task
    if task.trigger in FAILURE_TRIGGERS:
        if outcome_of_trigger(node, at_worst, names, None) is None:
            return ""
        if not node.upstream:
            return (
                f"trigger={task.trigger!r} requires that an upstream fails, and it has no upstream: wire it to the "
                f"tasks whose failure it is for, or leave the trigger out"
            )
        idle = ", ".join(repr(names[index]) for index in node.upstream if at_worst[index] == SKIPPED)
        return f"trigger={task.trigger!r} requires that upstreams fail, and {idle} can never run: change that first"
    outcome = outcome_of_trigger(node, at_best, names, None)
    if outcome is not None:
        idle = ", ".join(repr(names[index]) for index in node.upstream if at_best[index] == SKIPPED)
        return (
            f"trigger={task.trigger!r} requires upstreams that succeed, and {idle} can never run: change that first, "
            f"or use another trigger"
        )
    for parameter, source in node.named_sources().items():
        if at_best[source] == SKIPPED and parameter not in node.parameters.defaults:
            return (
                f"its parameter {parameter!r} has no default, and its upstream {names[source]!r} can never run: change "
                f"that first, or give the parameter a default"
            )
    if task.trigger == "none_failed" and not node.named_sources() and all_skipped(node, at_best):
        idle = ", ".join(repr(names[index]) for index in node.upstream if index not in node.waits)
        return f"it is skipped if all its upstreams are, and {idle} can never run: change that first"
    return ""


def _contradiction(node: Node, graph: Graph) -> str:
    """Return why a node that requires the result of a task for failures cannot run; empty if it may run."""
    if node.task.trigger not in _NO_FAILURE:
        return ""
    required = {
        source: f"its parameter {parameter!r} has no default"
        for parameter, source in node.named_sources().items()
        if parameter not in node.parameters.defaults
    }
    if node.task.trigger == "all_success":
        required |= {index: "trigger='all_success'" for index in node.upstream if index not in node.waits}
    for index, cause in required.items():
        handler = graph.nodes[index]
        if handler.task.trigger in FAILURE_TRIGGERS and handler.upstream and _runs_only_without(node, handler, graph):
            failing = ", ".join(repr(graph.names[each]) for each in handler.upstream)
            name = escape_control_chars(node.name)
            return (
                f"it requires the result of {handler.name!r} ({cause}), which runs only after a failure of {failing}, "
                f"and after such a failure {name!r} does not run: give it a default or another trigger, such as "
                f"trigger='all_done'"
            )
    return ""


def _runs_only_without(node: Node, handler: Node, graph: Graph) -> bool:
    """Return whether a node runs only if no upstream of a task for failures fails."""
    wanted, seen, left = set(handler.upstream), set(node.upstream), [*node.upstream]
    while left and wanted:
        index = left.pop()
        wanted.discard(index)
        if graph.nodes[index].task.trigger in _NO_FAILURE:
            new = [each for each in graph.nodes[index].upstream if each not in seen]
            seen.update(new)
            left += new
    return not wanted


_NO_FAILURE = ("none_failed", "all_success")  # triggers with which a task does not run after a failure upstream
