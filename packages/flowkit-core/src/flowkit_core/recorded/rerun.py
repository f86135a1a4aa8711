"""Function `link_run`: how a run is started from a recorded one, with ``run(rerun=..., of=...)``."""

from __future__ import annotations

from flowkit_core._checks import checked_names
from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.graphs.open_parameters import owners
from flowkit_core.persistence import Link
from flowkit_core.runs.recording.options import open_store

if TYPE_CHECKING:
    from collections.abc import Collection

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node
    from flowkit_core.persistence import Rerun


def link_run(graph: Graph, state: Any, rerun: Rerun | None, of: str | None, params: Any, resume: Any) -> Link:
    """Check the options of a linked run, and look up the run that it is started from.

    Raises:
        ValueError: an option is missing, or has an invalid value.
        TypeError: ``rerun`` or ``params`` has a wrong type, or the store cannot link runs.
        Exception: an error of the store: there is no such run, or it is one of another pipeline.
    """
    if rerun is None:
        raise ValueError(
            f"run(of={short_repr(of)}) names a recorded run, but not the tasks to run again: "
            f"write run(rerun={{'name of a task'}}, of=...)"
        )
    if state is None:
        raise ValueError(
            f"run(rerun={short_repr(rerun)}) requires a record of earlier runs: "
            f"write run(state='runs.db', rerun={short_repr(rerun)})"
        )
    if resume:
        raise ValueError("run(rerun=...) starts a new run, so it excludes resume=...: leave out one of them")
    tasks = _names(graph, rerun)
    if params is not None and not hasattr(params, "keys"):
        raise TypeError(f"run(params=...) is {short_repr(params)}, but must map parameter names to values")
    store: Any
    store, owned = open_store(state)
    try:
        if not hasattr(store, "link_run"):
            raise TypeError(f"run(rerun=...) requires a StateManager, and {type(store).__name__} cannot link runs")
        of, merged, changed = store.link_run(graph.name, of, params or {})
    finally:
        if owned:
            store.close()
    takers = [node.name for node in graph.nodes if _takes(node, changed)]
    return Link(str(of), list(dict.fromkeys([*tasks, *takers])), merged)


def _names(graph: Graph, rerun: Any) -> list[str]:
    names = checked_names("run(rerun=...)", rerun, (*graph.names, *graph.groups), repr(graph.name))
    if not names:
        raise ValueError("run(rerun=...) is empty: name the tasks to run again, or use resume=True")
    return [task for name in names for task in tasks_of(graph, name)]


def tasks_of(graph: Graph, name: str) -> list[str]:
    """Return the names of the tasks that a name means: a task, or all tasks of a pipeline that is used as a task."""
    return [graph.names[index] for index in graph.groups[name]] if name in graph.groups else [name]


def _takes(node: Node, changed: Collection[str]) -> bool:
    """Return whether a task takes one of the parameters of the run that have changed."""
    names = () if node.binding is None else node.binding.open
    return any(name in changed or any(f"{owner}.{name}" in changed for owner in owners(node)) for name in names)
