"""Options of tasks that do nothing."""

from __future__ import annotations

from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import MissingDistributionError
from flowkit_core.retry import text_of_idle_options

from .problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowkit_core.graphs.graph import Graph


def option_problems(graph: Graph) -> Iterator[Problem]:
    """Yield a problem for each option that does nothing in this pipeline."""
    missing = _missing_cache(graph)
    for node in graph:
        task = node.task
        if not task._has_options:
            continue
        if task._idle_options:
            yield Problem("option", node.name, text_of_idle_options(node.name, task._idle_options), task.location)
        elif task.on_retry is not None and not task.retries:
            message = f"task {node.name!r}: on_retry does nothing without retries: add retries=..., or leave it out"
            yield Problem("option", node.name, message, task.location)
        elif task.retries and not task.retry.can_cover:
            message = (
                f"task {node.name!r}: retries={task.retries} does nothing, because retry_on="
                f"{short_repr(task.retry_on)} names no exception that is retried: name subclasses of Exception"
            )
            yield Problem("option", node.name, message, task.location)
        if task._generator_warning:
            yield Problem("option", node.name, task._generator_warning, task.location)
        if task.trigger in ("all_success", "one_success") and not node.upstream:
            message = (
                f"task {node.name!r}: trigger={task.trigger!r} does nothing, because it has no upstream: leave it out"
            )
            yield Problem("option", node.name, message, task.location)
        if task.cache is True and missing is not None:
            message = f"task {node.name!r}: cache=True does nothing: {missing}"
            yield Problem("option", node.name, message, task.location)


def _missing_cache(graph: Graph) -> MissingDistributionError | None:
    """Return the error of a cache without flowkit-state; None if it is installed, or no task needs it."""
    if not any(node.task.cache is True for node in graph.cached):
        return None
    from flowkit_core.runs.recording.options import state_manager

    try:
        state_manager("@task(cache=True)")
    except MissingDistributionError as error:
        return error
    return None
