"""Class `RunPlan`: which tasks a run would call, take over from the record, or reuse from a cache, and why."""

from __future__ import annotations

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import FlowkitError
from flowkit_core.graphs.parameters import KEY
from flowkit_core.runs.arguments import call_arguments
from flowkit_core.runs.call import Outcome
from flowkit_core.runs.recording.options import caches_of, open_store, refreshed_nodes, without_missing_values
from flowkit_core.runs.run_state import RunState
from flowkit_core.runs.states import PENDING, SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node
    from flowkit_core.persistence import Cache, Refresh, Store

_LATER = "its inputs are not known before the run"


class RunPlan:
    """What a run with ``resume=True`` would do: what ``pipeline.plan()`` returns.

    Attributes:
        pipeline: name of the pipeline.
        run_id: id of the recorded run that would continue; None if a new run would start.
        runs: names of the tasks that would be called, or whose condition or cache decides that during the run.
        resumed: names of the tasks whose recorded result would be taken over.
        cached: names of the tasks whose cached result would be reused.
        why: name of each task -> the reason.
    """

    def __init__(self, pipeline: str, run_id: str | None, actions: Mapping[str, str], why: Mapping[str, str]) -> None:
        self.pipeline = pipeline
        self.run_id = run_id
        self.runs, self.resumed, self.cached = (
            tuple([name for name, action in actions.items() if action == wanted])
            for wanted in ("run", "take over", "reuse")
        )
        self.why = dict(why)
        self._actions = dict(actions)

    def __str__(self) -> str:
        title = f"continues run {self.run_id}" if self.run_id is not None else "starts a new run"
        width = max((len(name) for name in self._actions), default=0)
        lines = [f"{self.pipeline!r} {title}:"]
        for name, action in self._actions.items():
            label, why = escape_control_chars(name), escape_control_chars(self.why[name])
            lines.append(f"  {action:<9}  {label:<{width}}  {why}")
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__


def plan_run(
    graph: Graph, state: Any, params: Mapping[str, Any], resume_max_age: float | None, refresh: Refresh
) -> RunPlan:
    """Return what a run of a graph would do. Calls no task and no condition, and records nothing."""
    refreshed = refreshed_nodes(graph, refresh)
    store, owned = open_store(state)
    try:
        return _plan(graph, store, params, resume_max_age, refreshed)
    finally:
        if owned and store is not None:
            store.close()


def _plan(
    graph: Graph, store: Store | None, params: Mapping[str, Any], resume_max_age: float | None, refreshed: set[int]
) -> RunPlan:
    nodes = graph.nodes
    run_id, states = None, RunState(graph)
    reasons: Mapping[int, str] = {}
    if store is not None:
        if not hasattr(store, "plan_run"):
            raise FlowkitError(f"plan() needs a StateManager, and {type(store).__name__} has no method plan_run()")
        found = store.plan_run(
            graph.name, graph.planned_tasks(), [node.upstream for node in nodes], params, resume_max_age
        )
        done, missing = without_missing_values(graph, found.done)
        run_id, reasons = found.run_id, {**missing, **found.reasons}
        states.take_over(graph, done)
    caches, actions, why = caches_of(graph, store), {}, {}
    for node in nodes:
        if states.codes[node.index] != PENDING:
            actions[node.name] = "take over"
            why[node.name] = "it succeeded" if states.codes[node.index] == SUCCEEDED else "it was skipped"
            continue
        actions[node.name] = "run"
        changed = [graph.names[index] for index in node.upstream if actions[graph.names[index]] == "run"]
        default = f"it depends on {', '.join(map(repr, changed[:3]))}" if changed else "there is no recorded result"
        why[node.name] = reasons.get(node.index, default)
        cache = caches.get(node.index)
        if cache is not None and node.mapped is not None:
            why[node.name] += "; elements with a cached result are not called"
        elif cache is not None:
            known, value, reason = _look_up(node, cache, states, params, refresh=node.index in refreshed)
            why[node.name] = reason
            if known:
                actions[node.name] = "reuse"
                states.values[node.index], states.codes[node.index] = value, SUCCEEDED
    return RunPlan(graph.name, run_id, actions, why)


def _look_up(
    node: Node, cache: Cache, states: RunState, params: Mapping[str, Any], *, refresh: bool
) -> tuple[bool, Any, str]:
    """Return whether the result of a task is cached, the result, and why."""
    if node.task.when is not None:
        return False, None, "its condition decides during the run"
    if any(states.codes[index] == PENDING for index in node.upstream):
        return False, None, _LATER
    bound = call_arguments(node, states, params, "")
    if isinstance(bound, Outcome):
        return False, None, bound.reason
    args, kwargs, _ = bound
    found = cache.find(node.task.func, args, kwargs, name=node.name, ignore=(KEY,), refresh=refresh)
    return found.known, found.value, found.why
