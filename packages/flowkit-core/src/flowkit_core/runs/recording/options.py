"""The options of ``run()`` that concern its record and its caches, and the store that they name."""

from __future__ import annotations

import os
from functools import cache

from flowkit_core._checks import checked_names
from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import warn
from flowkit_core.errors import MissingDistributionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.persistence import Cache, RecordedTask, Refresh, Store

_MEMORY_CACHE_LIMIT = 1 << 28  # bytes; the results that were used least recently are removed first


def without_missing_values(
    graph: Graph, done: Mapping[int, RecordedTask]
) -> tuple[Mapping[int, RecordedTask], dict[int, str]]:
    """Return the recorded tasks that do not run again, and why others do: a result is needed and was not recorded."""
    if all(getattr(task, "has_value", True) for task in done.values()):
        return done, {}
    kept, missing = dict(done), {}
    for node in reversed(graph.nodes):
        if getattr(kept.get(node.index), "has_value", True):
            continue
        is_needed = any(each.index not in kept and node.index not in each.waits for each in node.downstream)
        if is_needed or (node.mapped is not None and node.task.record):
            del kept[node.index]
            why = "and is needed" if is_needed else "because elements of it failed or were skipped"
            missing[node.index] = f"its result was not recorded, {why}"
    return kept, missing


def open_store(state: Any) -> tuple[Store | None, bool]:
    """Return the store of an argument ``state``, and whether it was opened here, so that the caller has to close it.

    Raises:
        MissingDistributionError: it is a path, and flowkit-state is not installed.
        TypeError: it is neither a path nor a store.
    """
    if state is None:
        return None, False
    if isinstance(state, (str, os.PathLike)):
        store: Store = state_manager("run(state=<a path>)")(state)
        return store, True
    if callable(getattr(state, "open_run", None)) and not isinstance(state, type):
        return state, False
    raise TypeError(f"state is {short_repr(state)}, but must be a path such as 'runs.db', a StateManager, or None")


def missing_folder(state: Any) -> str | None:
    """Return the folder of the path of a store, if it does not exist; else None."""
    if not isinstance(state, (str, os.PathLike)):
        return None
    folder: str = os.path.dirname(os.path.abspath(os.fspath(state)))
    return None if os.path.isdir(folder) else folder


def warn_of_new_folder(state: Any, folder: str) -> None:
    """Warn that a run cannot continue one, because the folder of its record was created for it."""
    warn(
        f"run(resume=...) starts a new run, because the folder {folder!r} of state={os.fspath(state)!r} did not exist; "
        f"it was created"
    )


def state_manager(wanted: str) -> Callable[..., Any]:
    """Return the class ``flowkit_state.StateManager``.

    Args:
        wanted: the feature that requires it, for the error message.

    Raises:
        MissingDistributionError: flowkit-state is not installed.
    """
    from importlib import import_module

    try:
        module: Any = import_module("flowkit_state")
    except ModuleNotFoundError as error:
        if error.name != "flowkit_state":
            raise
        raise MissingDistributionError(wanted, "flowkit-state") from None
    manager: Callable[..., Any] = module.StateManager
    return manager


@cache
def _memory_cache() -> Cache | None:
    """Return the cache in memory for runs without ``state``; None if flowkit-state is not installed."""
    try:
        shared: Cache = state_manager("@task(cache=True)")(max_bytes=_MEMORY_CACHE_LIMIT).cache()
    except MissingDistributionError as error:
        warn(f"results of @task(cache=True) are not reused: {error}")
        return None
    return shared


def caches_of(graph: Graph, store: Store | None) -> dict[int, Cache]:
    """Return the cache of each cached node, by index."""
    caches: dict[int, Cache] = {}
    for node in graph.cached:
        own: Any = node.task.cache
        if own is not True:
            caches[node.index] = own if store is None else store.cache(own)
        elif (shared := store.cache() if store is not None else _memory_cache()) is not None:
            caches[node.index] = shared
    return caches


def check_options(state: Any, resume: Any, state_errors: Any) -> None:
    """Check the options that do not depend on the graph.

    Raises:
        ValueError: an option has an invalid value, or ``resume`` is used without ``state``.
    """
    if type(resume) is not bool and resume not in ("strict", "force"):
        raise ValueError(f"run(resume=...) is {short_repr(resume)}, but must be True, False, 'strict' or 'force'")
    if resume and state is None:
        raise ValueError(
            f"run(resume={resume!r}) requires a record of earlier runs: write run(state='runs.db', resume={resume!r})"
        )
    if state_errors not in (None, "raise", "warn"):
        raise ValueError(f"run(state_errors=...) is {short_repr(state_errors)}, but must be 'raise', 'warn' or None")


def refreshed_nodes(graph: Graph, refresh: Refresh) -> set[int]:
    """Return the indices of the cached nodes that an option ``refresh`` names."""
    if isinstance(refresh, bool):
        return {node.index for node in graph.cached} if refresh else set()
    names = checked_names("run(refresh=...)", refresh, (*graph.names, *graph.groups), repr(graph.name), "True, False, ")
    cached = {node.name: node.index for node in graph.cached}
    refreshed: set[int] = set()
    for name in names:
        if name in graph.groups:
            refreshed.update(index for index in graph.groups[name] if graph.names[index] in cached)
            continue
        if name not in cached:
            raise ValueError(f"run(refresh=...) names {name!r}, which is not cached and always runs")
        refreshed.add(cached[name])
    return refreshed
