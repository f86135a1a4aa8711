"""Class `RunRecorder`: the record of one run in a store, and the caches of its tasks.

A result is serialized in the thread that passes it to the run, and committed before the node ends, so before any node
that depends on it starts.
"""

from __future__ import annotations

import os
from functools import cache

from flowkit_core._text import did_you_mean, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import report, warn
from flowkit_core.errors import MissingDistributionError
from flowkit_core.failures import add_note, describe_error
from flowkit_core.graphs.parameters import KEY

from .call import Outcome
from .states import STATES, SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node
    from flowkit_core.persistence import Cache, RecordedTask, Refresh, Resume, RunJournal, StateErrors, Store


_MEMORY_CACHE_LIMIT = 1 << 28  # bytes; the results that were used least recently are removed first


class RunRecorder:
    """The record of one run, and the caches of its tasks.

    Args:
        graph: the graph to run.
        state: the argument of ``run()``: a store, the path of one, or None.
        run_id: id of a new run.
        params: values for open parameters.
        resume: whether to resume the last run of the pipeline with the same parameters.
        resume_max_age: seconds after which the recorded result of a task that reads the clock is out of date, or None.
        refresh: tasks whose cached results are not used.
        state_errors: ``"raise"``, or ``"warn"`` to continue the run if it cannot be recorded.

    Raises:
        ValueError: an option has an invalid value.
        TypeError: ``state`` is neither a path nor a store, or ``refresh`` has no names.
        MissingDistributionError: ``state`` is a path, and flowkit-state is not installed.
        Exception: an error of the store: the file cannot be used, or the run cannot be resumed.

    Attributes:
        run_id: id of the run; of the earlier run, if that is resumed.
        done: index -> task that ended before the run was resumed.
        outdated: index of a task that runs again -> why its recorded result is out of date.
        sources: index -> source of a result that was not computed in this run: ``"cache"`` or ``"resume"``.
    """

    def __init__(
        self,
        graph: Graph,
        state: Any,
        *,
        run_id: str,
        params: Mapping[str, Any],
        resume: Resume,
        resume_max_age: float | None,
        refresh: Refresh,
        state_errors: StateErrors,
    ) -> None:
        check_options(state, resume, state_errors)
        self._graph = graph
        self._refresh = _refreshed_nodes(graph, refresh)
        self._warn = state_errors == "warn"
        self._warned_of_notes = False
        self._broken = False  # whether the store has failed and is not used any more
        self._tokens: dict[int, Any] = {}
        self._why: dict[int, str] = {}
        self._caches: dict[int, Cache] = {}
        self._journal: RunJournal | None = None
        self.run_id = run_id
        self.done: Mapping[int, RecordedTask] = {}
        self.outdated: Mapping[int, str] = {}
        self.sources: dict[int, str] = {}
        store, owned = open_store(state)
        self._owned = store if owned else None
        try:
            self._set_caches(store)
            if store is not None:
                self._open(store, params, resume, resume_max_age)
        except BaseException:
            if self._owned is not None:
                self._owned.close()
            raise

    def _set_caches(self, store: Store | None) -> None:
        for node in self._graph.cached:
            own: Any = node.task.cache
            if own is not True:
                self._caches[node.index] = own if store is None else store.cache(own)
            elif (shared := store.cache() if store is not None else _memory_cache()) is not None:
                self._caches[node.index] = shared

    def _open(self, store: Store, params: Mapping[str, Any], resume: Resume, max_age: float | None) -> None:
        nodes = self._graph.nodes
        tasks, upstream = [node.task for node in nodes], [node.upstream for node in nodes]
        self._journal = store.open_run(self.run_id, self._graph.name, tasks, upstream, params, resume, max_age)
        self.run_id = self._journal.run_id
        self.done = self._journal.done
        self.outdated = self._journal.outdated
        self._why.update({index: f"ran again: {why}" for index, why in self.outdated.items()})
        self.sources = dict.fromkeys(self.done, "resume")

    @property
    def records(self) -> bool:
        """Whether the run is recorded."""
        return self._journal is not None and not self._broken

    def lookup(self, node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Outcome | None:
        """Return the cached result of a call as an outcome; None if the function is to be called."""
        cache = self._caches.get(node.index)
        if cache is None:
            self._why[node.index] = "no cache: flowkit-state is not installed"
            return None
        found = cache.find(
            node.task.func, args, kwargs, name=node.name, ignore=(KEY,), refresh=node.index in self._refresh
        )
        self._why[node.index] = f"reused: {found.why}" if found.known else found.why
        if found.known:
            self.sources[node.index] = "cache"
            return Outcome(SUCCEEDED, value=found.value)
        if found.token is not None:
            self._tokens[node.index] = found.token
        return None

    def prepare(self, node: Node, value: Any) -> Any:
        """Store a result in the cache of its task, and return its stored form for :meth:`record`."""
        token = self._tokens.pop(node.index, None)
        if token is not None:
            self._caches[node.index].keep(token, value)
        return self._journal.prepare(node.index, value) if self._journal is not None and not self._broken else None

    def record(
        self,
        node: Node,
        state: int,
        stored: Any = None,
        *,
        attempts: int = 0,
        seconds: float = 0.0,
        reason: str = "",
        error: BaseException | None = None,
    ) -> None:
        """Commit the final state of a node."""
        if self._journal is not None and not self._broken:
            self._journal.record(
                node.index,
                STATES[state],
                stored,
                attempts=attempts,
                seconds=seconds,
                reason=reason,
                error=error,
                source=self.sources.get(node.index, "run"),
                why=self._why.get(node.index, ""),
            )

    def notes(self, index: int, element: int | None) -> Mapping[str, Any]:
        """Return the recorded notes of a task."""
        read = getattr(self._journal, "notes", None)
        return read(index, element) if read is not None else {}

    def remember(self, index: int, element: int | None, key: str, value: Any) -> None:
        """Commit a note of a task, if the journal keeps notes.

        Raises:
            Exception: the note cannot be stored.
        """
        write: Any = getattr(self._journal, "remember", None) if not self._broken else None
        if write is not None:
            write(index, element, key, value)
        elif self._journal is not None and not self._warned_of_notes:
            self._warned_of_notes = True
            report(
                f"the notes of {self._graph.name!r} are kept for this run only, and not for the one that resumes it: "
                f"its record keeps no notes"
            )

    def tolerates(self, node: Node, error: Exception) -> bool:
        """Handle an error of the store; return whether the run continues."""
        note = f"task {node.name!r} of {self._graph.name!r} could not be recorded"
        if not self._warn:
            add_note(error, f"flowkit: {note}, so the run was stopped; error.flowkit_results has the results")
            return False
        broken = isinstance(error, OSError)
        rest = ", and no other task of this run will be" if broken else ""
        if not self._broken:
            self._broken = broken
            report(f"{note}{rest}: {describe_error(error)}")
        return True

    def close(self, status: str, rest: Iterable[tuple[int, int, str]], error: BaseException | None) -> None:
        """Commit the end of the run, and close the store if it was opened here."""
        journal, self._journal = self._journal, None
        store, self._owned = self._owned, None
        try:
            if journal is not None:
                journal.close(status, [(index, STATES[state], reason) for index, state, reason in rest], error)
        except Exception as trouble:
            if not self._warn:
                raise
            if not self._broken:
                report(f"the end of {self._graph.name!r} could not be recorded: {describe_error(trouble)}")
        finally:
            if store is not None:
                store.close()


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
    if state_errors not in ("raise", "warn"):
        raise ValueError(f"run(state_errors=...) is {short_repr(state_errors)}, but must be 'raise' or 'warn'")


def _refreshed_nodes(graph: Graph, refresh: Refresh) -> set[int]:
    if not isinstance(refresh, (bool, str, set, frozenset, list, tuple, dict)):
        raise TypeError(
            f"run(refresh=...) is {short_repr(refresh)}, but must be True, False, or a set of names of tasks"
        )
    if isinstance(refresh, bool):
        return {node.index for node in graph.cached} if refresh else set()
    names = [refresh] if isinstance(refresh, str) else list(refresh)
    cached = {node.name: node.index for node in graph.cached}
    for name in names:
        if name not in graph.names:
            guess = did_you_mean(str(name), graph.names)
            raise ValueError(f"run(refresh=...) names {short_repr(name)}, but {graph.name!r} has no such task{guess}")
        if name not in cached:
            raise ValueError(f"run(refresh=...) names {name!r}, which is not cached and runs in any case")
    return {cached[name] for name in names}
