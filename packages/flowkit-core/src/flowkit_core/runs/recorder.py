"""What makes a run durable: the protocols of a store of runs and of a cache, and the book that one run keeps in them.

The core knows no file and no format. ``run(state=...)`` takes anything that satisfies :class:`Store`; a path is
resolved by ``flowkit-state`` where that is installed. What recording *means* is decided by :class:`~flowkit_core.Run`,
so it means the same with every executor: the value is put into its stored form in the thread that brings it, and is
committed before the node counts as ended, so before anything that depends on it is handed out.
"""

from __future__ import annotations

import os
from functools import cache

from flowkit_core._text import did_you_mean, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import report
from flowkit_core.errors import MissingDistributionError
from flowkit_core.failures import add_note, describe_error
from flowkit_core.pipelines.parameters import KEY

from .call import Outcome
from .states import STATES, SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.pipelines.graph import Graph
    from flowkit_core.pipelines.node import Node

    from .persistence import Cache, RecordedTask, Refresh, Resume, RunJournal, StateErrors, Store


class RunRecorder:
    """What one run has to do with stores: its record, and the caches of its tasks.

    Args:
        graph: what is run.
        state: where it is recorded, as it was given to ``run()``: a store, the path of one, or None.
        run_id: a text that no other run has.
        params: values for open parameters.
        resume: whether to go on with the last run of the pipeline.
        refresh: whose cached results are to be computed anew.
        state_errors: ``"raise"``, or ``"warn"`` to go on without a record of what cannot be recorded.

    Raises:
        ValueError: an option cannot be meant.
        TypeError: ``state`` is neither a path nor a store, or ``refresh`` no names.
        MissingDistributionError: ``state`` is a path, and flowkit-state is not installed.
        Exception: whatever the store raises, when the file cannot be used, or the run cannot be resumed.

    Attributes:
        run_id: which run this is, after all.
        done: what was recorded before, by position.
        sources: where results came from that were not made in this run, by position: ``"cache"`` or ``"resume"``.
    """

    def __init__(
        self,
        graph: Graph,
        state: Any,
        *,
        run_id: str,
        params: Mapping[str, Any],
        resume: Resume,
        refresh: Refresh,
        state_errors: StateErrors,
    ) -> None:
        check_options(state, resume, state_errors)
        self._graph = graph
        self._refresh = _refreshed(graph, refresh)
        self._warn = state_errors == "warn"
        self._broken = False  # whether the store has failed, and is not asked any more
        self._tokens: dict[int, Any] = {}
        self._why: dict[int, str] = {}
        self._caches: dict[int, Cache] = {}
        self._journal: RunJournal | None = None
        self.run_id = run_id
        self.done: Mapping[int, RecordedTask] = {}
        self.sources: dict[int, str] = {}
        store, owned = open_store(state)
        self._owned = store if owned else None
        try:
            self._find_caches(store)
            if store is not None:
                self._open(store, params, resume)
        except BaseException:
            if self._owned is not None:
                self._owned.close()
            raise

    def _find_caches(self, store: Store | None) -> None:
        for node in self._graph.cached:
            own: Any = node.task.cache
            if own is not True:
                self._caches[node.index] = own if store is None else store.cache(own)
            elif (shared := store.cache() if store is not None else _memory()) is not None:
                self._caches[node.index] = shared

    def _open(self, store: Store, params: Mapping[str, Any], resume: Resume) -> None:
        nodes = self._graph.nodes
        tasks, upstream = [node.task for node in nodes], [node.upstream for node in nodes]
        self._journal = store.open_run(self.run_id, self._graph.name, tasks, upstream, params, resume)
        self.run_id = self._journal.run_id
        self.done = self._journal.done
        self.sources = dict.fromkeys(self.done, "resume")

    @property
    def records(self) -> bool:
        """Whether the run is recorded."""
        return self._journal is not None and not self._broken

    def lookup(self, node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Outcome | None:
        """Return the cached result of a call as an ending; None if it is to be made."""
        cache = self._caches.get(node.index)
        if cache is None:
            self._why[node.index] = "results are kept by flowkit-state, which is not installed"
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
        """Keep a result in the cache that wants it, and return its stored form for :meth:`record`."""
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
        """Commit how a node ended."""
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

    def tolerates(self, node: Node, error: Exception) -> bool:
        """Take note that a node could not be recorded; say whether the run is to go on all the same."""
        note = f"the end of task {node.name!r} in {self._graph.name!r} could not be recorded"
        if not self._warn:
            add_note(error, f"flowkit: {note}, so the run was stopped; error.flowkit_results has what was computed")
            return False
        lost = isinstance(error, OSError)
        more = "; nothing more of this run will be" if lost else ""
        if not self._broken:
            self._broken = lost
            report(f"{note}{more}: {describe_error(error)}")
        return True

    def close(self, status: str, rest: Iterable[tuple[int, int, str]], error: BaseException | None) -> None:
        """Commit how the run ended, and let go of it."""
        journal, self._journal = self._journal, None
        store, self._owned = self._owned, None
        try:
            if journal is not None:
                journal.close(status, [(place, STATES[state], reason) for place, state, reason in rest], error)
        except Exception as trouble:
            if not self._warn:
                raise
            if not self._broken:
                report(f"how {self._graph.name!r} ended could not be recorded: {describe_error(trouble)}")
        finally:
            if store is not None:
                store.close()


def open_store(state: Any) -> tuple[Store | None, bool]:
    """Return the store that a user means, and whether it was opened here and is the caller's to close.

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
    """Return ``flowkit_state.StateManager``, without which ``wanted`` cannot be had.

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
    found: Callable[..., Any] = module.StateManager
    return found


@cache
def _memory() -> Cache | None:
    """Return the cache in the memory of this process, for runs without a state; None without flowkit-state."""
    try:
        found: Cache = state_manager("@task(cache=True)")().cache()
    except MissingDistributionError:
        return None
    return found


def check_options(state: Any, resume: Any, state_errors: Any) -> None:
    """Check what does not depend on the graph.

    Raises:
        ValueError: an option has a value that cannot be meant, or ``resume`` has nothing to resume from.
    """
    if type(resume) is not bool and resume != "force":
        raise ValueError(f"run(resume=...) is {short_repr(resume)}, but must be True, False or 'force'")
    if resume and state is None:
        raise ValueError(
            f"run(resume={resume!r}) has nothing to resume from: say where runs are recorded, with run(state=...)"
        )
    if state_errors not in ("raise", "warn"):
        raise ValueError(f"run(state_errors=...) is {short_repr(state_errors)}, but must be 'raise' or 'warn'")


def _refreshed(graph: Graph, refresh: Refresh) -> set[int]:
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
            raise ValueError(f"run(refresh=...) names {name!r}, which is not cached: it is computed in any case")
    return {cached[name] for name in names}
