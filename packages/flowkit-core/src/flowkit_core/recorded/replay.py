"""Function `replay`: calls one task of a recorded run again, with its recorded inputs."""

from __future__ import annotations

from flowkit_core._text import did_you_mean, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import TaskContext
from flowkit_core.coroutines import CoroutineType
from flowkit_core.runs.arguments import call_arguments
from flowkit_core.runs.call import Outcome
from flowkit_core.runs.facts import Facts
from flowkit_core.runs.run_state import RunState
from flowkit_core.runs.states import SKIPPED, STATES, SUCCEEDED

if TYPE_CHECKING:
    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph


def replay(graph: Graph, record: Any, task: str) -> Any:
    """Call a task in this thread, with its recorded inputs, and return what it returns.

    Args:
        graph: the graph of the pipeline.
        record: the record of the run, a ``flowkit_state.RunRecord``.
        task: name of the task.

    Raises:
        ValueError: there is no such task, or an input was not recorded.
        Exception: whatever the task raises.
    """
    if task not in graph.names:
        guess = did_you_mean(str(task), graph.names)
        raise ValueError(f"replay() names {short_repr(task)}, but {graph.name!r} has no such task{guess}")
    node = graph[task]
    if node.mapped is not None:
        raise ValueError(
            f"task {task!r} is mapped, so it was called once for each element, and replay() calls tasks once: "
            f"call it with the element in question, {task}(...)"
        )
    state = RunState(graph)
    for index in node.upstream:
        name = graph.names[index]
        source = record.tasks.get(name)
        outcome = "not part of it" if source is None else source.state.replace("_", " ")
        if source is not None and source.state == STATES[SUCCEEDED]:
            state.values[index], state.codes[index] = source.result(), SUCCEEDED
        elif source is not None and source.state == STATES[SKIPPED]:
            state.codes[index] = SKIPPED
        elif index not in node.waits:
            raise ValueError(
                f"task {task!r} cannot be called again with the inputs of run {record.run_id}: "
                f"{name!r} has no recorded result, because it is {outcome}"
            )
    bound = call_arguments(node, state, record.params, record.run_id)
    if isinstance(bound, Outcome):
        raise ValueError(f"task {task!r} was not called in run {record.run_id}: {bound.reason}")  # noqa: TRY004
    args, kwargs, _ = bound
    lost = [value for value in (*args, *kwargs.values()) if type(value).__name__ == "UnrecordedValue"]
    if lost:
        raise ValueError(f"task {task!r} cannot be called again: it takes {lost[0]!r}")
    context = TaskContext(Facts(record.run_id, graph.name, record.params, None), node.index, node.name)
    value = context.run(node.func, *args, **kwargs)
    if type(value) is not CoroutineType:
        return value
    from flowkit_core.runs.event_loop.shared_loop import run_in_loop

    return context.run(run_in_loop, value)
