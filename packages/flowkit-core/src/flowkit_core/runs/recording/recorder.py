"""Class `RunRecorder`: the record of one run in a store, and the caches of its tasks.

A result is serialized in the thread that passes it to the run. When it is committed is said at `RunRecorder`.
"""

from __future__ import annotations

import os
from _thread import get_ident
from time import time

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import safe_warn
from flowkit_core.context import workers as worker_of_thread
from flowkit_core.failures import add_note, describe_error
from flowkit_core.graphs.parameters import KEY
from flowkit_core.log_records import sinks
from flowkit_core.persistence import TaskOutcome
from flowkit_core.runs.call import Outcome
from flowkit_core.runs.handle import fetched, is_handle, prefetch
from flowkit_core.runs.states import CANCELLED, SKIPPED, STATES, SUCCEEDED, UPSTREAM_FAILED

from .identity import code_of, has_digest
from .options import (
    caches_of,
    check_options,
    missing_folder,
    open_store,
    refreshed_nodes,
    warn_of_new_folder,
    without_missing_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node
    from flowkit_core.persistence import (
        Cache,
        Link,
        MapRecord,
        RecordedTask,
        Refresh,
        Resume,
        RunJournal,
        StateErrors,
        Store,
    )
    from flowkit_core.runs.run_state import RunState

MAX_GROUP = 0.005
"""Seconds of finished work that may be committed together, and after which it must be."""
SHORT_CALL = 0.001
"""Seconds below which a call is short, so that its outcome may be committed with others."""
_NOT_RUN = (UPSTREAM_FAILED, CANCELLED)


class RunRecorder:
    """The record of one run, and the caches of its tasks.

    The outcomes of short calls are committed in groups. An outcome is committed before another worker starts a node
    that depends on it, before a worker waits, and before a call that may take long.

    Args:
        graph: the graph to run.
        state: the argument of ``run()``: a store, the path of one, or None.
        run_id: id of a new run.
        params: values for open parameters.
        resume: whether to resume the last run of the pipeline with the same parameters.
        resume_max_age: seconds after which the recorded result of a task that reads the clock is out of date, or None.
        refresh: tasks whose cached results are not used.
        state_errors: ``"raise"`` stops the run if it cannot be recorded, ``"warn"`` continues it; None continues it if
            a result cannot be stored, and stops it after an error of the store.
        link: the recorded run that this one is started from, or None.

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
        workers: index -> worker, process and host of a call that is not made in this process.
        commit: commits what is recorded, under the lock of the run; None until there is a run.
        place: the store, or the absolute path of its file, for reports; None without one.
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
        link: Link | None = None,
    ) -> None:
        check_options(state, resume, state_errors)
        self._graph = graph
        self._refresh = refreshed_nodes(graph, refresh)
        self._errors = state_errors
        self._warned: set[int] = set()  # tasks whose annotation shows that their results cannot be stored
        self._warned_of_notes = False
        self._store_error: Exception | None = None  # the store has failed, and is not used any more
        self._tokens: dict[tuple[int, int | None], Any] = {}  # by node and element
        self._why: dict[int, str] = {}
        self._missed: dict[int, str] = {}  # of mapped nodes, the first element without a cached result, and why
        self._caches: dict[int, Cache] = {}
        self._journal: RunJournal | None = None
        self._lines: Any = None  # the `LogLines` of the run, if the journal keeps them
        self.run_id = run_id
        self.done: Mapping[int, RecordedTask] = {}
        self.outdated: Mapping[int, str] = {}
        self.sources: dict[int, str] = {}
        self.workers: dict[int, tuple[str, int | None, str | None]] = {}
        self.commit: Callable[[], object] | None = None
        self._threads: dict[int, str] = {}
        self._retries: dict[int, tuple[float, int]] = {}  # index -> when its retry is due, number of its last attempt
        self._pending: list[TaskOutcome] = []  # not committed yet
        self._makers: set[int | None] = set()  # ids of the threads that made the calls of these; None: made elsewhere
        self._elements: list[tuple[Node, Sequence[Any]]] = []  # prepared elements of mapped nodes, not committed yet
        self._element_makers: set[int | None] = set()  # those of the elements
        self._is_committing = False
        self._work = 0.0  # seconds of calls that are not committed yet
        self._group_began = 0.0  # when the first of them ended
        self._short: set[object] = set()  # functions whose last call was short
        self._waiting: list[Node] = []  # one item for each ready node that has not been called
        new_folder = missing_folder(state) if resume else None
        store, owned = open_store(state)
        self._owned = store if owned else None
        self.place: Store | str | None = os.path.abspath(os.fspath(state)) if owned else store
        try:
            if new_folder is not None:
                warn_of_new_folder(state, new_folder)
            self._caches = caches_of(graph, store)
            if store is not None:
                self._open(store, params, resume, resume_max_age, link)
        except BaseException:
            if self._owned is not None:
                self._owned.close()
            raise
        self._began = time()
        self._ended = [self._began] * len(graph.nodes)

    def _open(
        self, store: Any, params: Mapping[str, Any], resume: Resume, max_age: float | None, link: Link | None
    ) -> None:
        nodes = self._graph.nodes
        tasks, upstream = self._graph.planned_tasks(), [node.upstream for node in nodes]
        self._check_annotations(store)
        facts = self.run_id, self._graph.name, tasks, upstream, params
        if link is None:
            self._journal = journal = store.open_run(*facts, resume, max_age)
        else:
            self._journal = journal = store.open_linked_run(*facts, link.of, link.tasks, max_age)
        self.run_id, self.outdated = journal.run_id, journal.outdated
        self.done, missing = without_missing_values(self._graph, journal.done)
        self._why.update({index: f"ran again: {why}" for index, why in missing.items()})
        self._why.update({index: f"ran again: {why}" for index, why in self.outdated.items()})
        self.sources = dict.fromkeys(self.done, "resume")

    def keep_log_lines(self) -> None:
        """Keep the log lines of the run from now on, if the journal does. :meth:`close` ends that.

        It is not a part of ``__init__``: if that is interrupted, `sinks` must not keep a recorder that nothing closes.
        """
        journal: Any = self._journal
        if hasattr(journal, "log"):
            from flowkit_core.recorded.log_lines import LogLines

            self._lines = LogLines(journal, self._graph.name)
            sinks[self.run_id] = self._lines.add

    def describe(self, executor: str, pipeline: object, created_in: tuple[str, str]) -> None:
        """Commit how this execution of the run was started, if the journal keeps that.

        Args:
            executor: names of the executors.
            pipeline: the pipeline.
            created_in: module and qualified name of the code that created it.
        """
        write = getattr(self._journal, "describe", None)
        if write is not None:
            from flowkit_core.recorded.origin import origin_of

            write(executor, *origin_of(pipeline, *created_in))

    def _check_annotations(self, store: Store) -> None:
        """Warn of tasks whose annotation shows that their results cannot be stored; raise with ``"raise"``."""
        check = getattr(store, "check_results", None)
        recorded = [node for node in self._graph.nodes if node.task.record]
        problems: Mapping[int, Exception] = {} if check is None else check([node.task for node in recorded])
        for number, error in problems.items():
            if self._errors == "raise":
                raise error
            node = recorded[number]
            self._warned.add(node.index)
            safe_warn(
                f"the result of task {node.name!r} of {self._graph.name!r} cannot be recorded, so the task runs again "
                f"on resume: {describe_error(error)}; write @task(record=False) if that is intended"
            )

    @property
    def records(self) -> bool:
        """Whether the run is recorded."""
        return self._journal is not None and self._store_error is None

    @property
    def records_elements(self) -> bool:
        """Whether the elements of mapped nodes are recorded one by one."""
        return self.records and hasattr(self._journal, "open_map")

    def lookup(self, node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Outcome | None:
        """Return the cached result of a call as an outcome; None if the function is to be called."""
        cache = self._caches.get(node.index)
        if cache is None:
            self._why[node.index] = "no cache: flowkit-state is not installed"
            return None
        task = node.task
        needed = [value for value in (*args, *kwargs.values()) if is_handle(value) and not has_digest(cache, value)]
        if needed:
            prefetch(needed)
            args = [value if has_digest(cache, value) else fetched(value) for value in args]
            kwargs = {name: value if has_digest(cache, value) else fetched(value) for name, value in kwargs.items()}
        found = cache.find(task.func, args, kwargs, name=task.name, ignore=(KEY,), refresh=node.index in self._refresh)
        if node.element is None:
            self._why[node.index] = f"reused: {found.why}" if found.known else found.why
        elif not found.known:
            why = getattr(found, "why_element", found.why)
            self._missed.setdefault(node.index, f"element {node.element} was called: {why}")
            self._why.setdefault(node.index, self._missed[node.index])
        if found.known:
            if node.element is None:
                self.sources[node.index] = "cache"
            return Outcome(SUCCEEDED, value=found.value)
        if found.token is not None:
            self._tokens[node.index, node.element] = found.token
        return None

    def argument_digest(self, node: Node) -> Callable[[Any], Any] | None:
        """Return the function that makes the digest of a result for caches of the tasks that take it, or None."""
        for after in node.downstream if self._caches else ():
            function: Callable[[Any], Any] | None = getattr(self._caches.get(after.index), "argument_digest", None)
            if function is not None:
                return function
        return None

    def keep(self, node: Node, value: Any) -> None:
        """Store a result in the cache of its task, if :meth:`lookup` has not found one."""
        token = self._tokens.pop((node.index, node.element), None)
        if token is not None:
            self._caches[node.index].keep(token, value)

    def stores(self, node: Node) -> bool:
        """Return whether :meth:`prepare` stores a result, or returns its stored form."""
        is_recorded: bool = self.records and (node.task.record or node.element is not None)
        return is_recorded or (node.index, node.element) in self._tokens

    def prepare(self, node: Node, value: Any) -> Any:
        """Store a result in the cache of its task, and return its stored form for :meth:`record`."""
        if node.mapped is None and self._tokens:
            self.keep(node, value)
        if self._journal is None or self._store_error is not None or not node.task.record:
            return None
        return self._journal.prepare(node.index, value)

    def record(
        self,
        node: Node,
        state: RunState,
        seconds: float | None,
        stored: Any = None,
        error: BaseException | None = None,
        retry_in: float | None = None,
    ) -> bool:
        """Note how a node, or an attempt at it, has ended; return whether that is a failure, to be committed now.

        Args:
            node: the node.
            state: the state of the run.
            seconds: duration of the call; None if the function was not called.
            stored: stored form of its result; an exception if it cannot be stored.
            error: exception of the attempt.
            retry_in: seconds after which the node runs again.
        """
        if self._journal is None:
            return False
        if self._store_error is not None:
            if state.codes[node.index] not in _NOT_RUN:
                state.unrecorded_of.setdefault(node.index, self._store_error)
            return False
        index, ended, upstream, now = node.index, self._ended, node.upstream, time()
        if node.mapped is not None and index in state.stages:
            now = state.stages[index].ended_at or now  # the tasks of a chain end together, their last elements do not
        ready = ended[upstream[0]] if len(upstream) == 1 else max(map(ended.__getitem__, upstream), default=self._began)
        ended[index] = now
        code, attempt = state.codes[index], state.attempt_of.get(index, 1)
        if code in _NOT_RUN:
            return False  # `close_run` commits them
        outcome = TaskOutcome(index, attempt, STATES[code], now, seconds, stored)
        if isinstance(stored, Exception):
            outcome.stored, outcome.reason = None, f"its result could not be recorded: {describe_error(stored)}"
        outcome.ready, recorded = ready, 0
        if self._retries:
            outcome.ready, recorded = self._retries.pop(index, (ready, 0))
        if seconds is not None:  # the elements of a chain start before all elements of the task before have ended
            outcome.ready = min(outcome.ready or now, now - seconds)
        if retry_in is not None:
            outcome.number, outcome.state = attempt - 1, "retrying"
            self._retries[index] = now + retry_in, attempt - 1
        elif recorded == attempt:  # it waited for a retry that does not start
            outcome.number, outcome.seconds = attempt + 1, None
        if code == SKIPPED:
            outcome.reason = state.reason_of[index]
        if error is not None:
            outcome.error = error
        if self.sources and index in self.sources:
            outcome.source = self.sources[index]
        if self._why and index in self._why:
            outcome.why = self._why[index]
        self._makers.add(_maker(state))
        if seconds is not None:
            self._note_call(node, outcome, seconds)
        if not self._pending:
            self._group_began = time()
        self._pending.append(outcome)
        return error is not None

    def _note_call(self, node: Node, outcome: TaskOutcome, seconds: float) -> None:
        """Note which worker has made a call, and how long calls of the function take."""
        if node.index in self.workers:
            outcome.worker, outcome.process, outcome.host = self.workers.pop(node.index)
        else:
            thread = get_ident()
            outcome.worker = self._threads.get(thread) or self._thread_name(thread)
        self._work += seconds
        if seconds < SHORT_CALL:
            self._short.add(code_of(node))
        else:
            self._short.discard(code_of(node))

    def _thread_name(self, thread: int) -> str:
        from threading import current_thread

        name = self._threads[thread] = current_thread().name
        return name

    # ---- groups ----------------------------------------------------------------------------------------------------

    def expect(self, ready: Sequence[Node]) -> None:
        """Note which nodes have become ready."""
        self._waiting.extend(ready)

    def is_due(self, ready: Sequence[Node]) -> bool:
        """Return whether outcomes must be committed, when a node has ended and made others ready.

        They must if others are ready that the worker which made the call may not run, if nothing is ready to start, and
        after `MAX_GROUP` seconds.
        """
        if not self._pending:
            return False
        if (ready and None in self._makers) or not self._waiting or self._work >= MAX_GROUP:
            return True
        return not 0 <= time() - self._group_began < MAX_GROUP

    def is_due_before(self, node: Node) -> bool:
        """Return whether outcomes must be committed before a call of a node.

        They need not if such calls have been short, and this thread has made all calls that are not committed. Elements
        of a mapped node may be called by any worker.
        """
        if self._waiting:
            try:
                self._waiting.pop()  # whichever: only their number counts
            except IndexError:
                pass  # another thread has taken the last one
        if not self._pending:
            return self._is_committing  # in another thread, to be waited for
        if node.mapped is not None:
            return True
        return code_of(node) not in self._short or not self._makers <= {None, get_ident()}

    @property
    def seconds_to_commit(self) -> float | None:
        """Seconds after which the group must be committed by a thread that waits; None if it is empty."""
        if not (self._pending or self._elements):
            return None
        return max(0.0, min(MAX_GROUP, self._group_began + MAX_GROUP - time()))

    def open_map(
        self, node: Node, size: int | None, sources: Sequence[int], others: Sequence[int], common: Any
    ) -> MapRecord:
        """Begin to record the elements of a mapped node: see `ElementJournal.open_map`."""
        journal: Any = self._journal
        record: MapRecord = journal.open_map(node.index, size, sources, others, common, node.task.record)
        return record

    def add_elements(self, node: Node, rows: Sequence[Any], seconds: float = 0.0) -> None:
        """Note prepared elements of a mapped node, to be committed with the next outcomes.

        Args:
            node: the node.
            rows: what `MapRecord.prepare` has returned.
            seconds: duration of their calls.
        """
        if not self._pending and not self._elements:
            self._group_began = time()
        self._elements.append((node, rows))
        self._work += seconds

    def note_cached(self, node: Node, cached: int, size: int) -> None:
        """Note how many elements of a mapped node were not called, because their results were in a cache."""
        missed = f"; {self._missed[node.index]}" if node.index in self._missed else ""
        self._why[node.index] = f"reused: the results of {cached} of {size} elements{missed}"
        if cached == size:
            self.sources[node.index] = "cache"

    def note_element_maker(self, state: RunState) -> None:
        """Note that the calling thread has called an element; or another, if it is not a worker of this run."""
        self._element_makers.add(_maker(state))

    @property
    def is_due_before_element(self) -> bool:
        """Whether elements must be committed before the calling thread calls an element that depends on them.

        They need not if this thread has made all calls that are not committed.
        """
        if not self._elements:
            return self._is_committing  # in another thread, to be waited for
        return self._element_makers != {get_ident()}

    @property
    def is_due_after_element(self) -> bool:
        """Whether elements must be committed when one has ended: after `MAX_GROUP` seconds."""
        if not self._elements:
            return False
        return self._work >= MAX_GROUP or not 0 <= time() - self._group_began < MAX_GROUP

    def flush(self) -> Sequence[tuple[Node, Exception]]:
        """Commit the outcomes that are not committed yet; return those for which that failed, and why."""
        self._is_committing = True
        if self._lines is not None:
            self._lines.flush()
        failed: Sequence[tuple[Node, Exception]] = ()
        try:
            pending, self._pending, self._work = self._pending, [], 0.0
            self._element_makers = set()
            elements, self._elements = self._elements, []  # after `_pending`: with all elements of its mapped nodes
            self._makers = set()
            if self._journal is None or self._store_error is not None:
                return ()
            if elements:
                failed = self._flush_elements(self._journal, elements)
            if pending:
                self._journal.record(pending)
        except Exception as error:
            return [*failed, *self._flush_each(pending, error)]
        finally:
            self._is_committing = False
        return failed

    def _flush_elements(
        self, journal: Any, elements: Sequence[tuple[Node, Sequence[Any]]]
    ) -> Sequence[tuple[Node, Exception]]:
        try:
            journal.record_elements([row for _, rows in elements for row in rows])
        except Exception as error:
            return [(node, error) for node in {node.index: node for node, _ in elements}.values()]
        return ()

    def _flush_each(self, outcomes: Sequence[TaskOutcome], error: Exception) -> Sequence[tuple[Node, Exception]]:
        """Commit those that can be, after a group was rolled back because of an error."""
        nodes, journal = self._graph.nodes, self._journal
        if len(outcomes) == 1 or journal is None:
            return [(nodes[outcome.index], error) for outcome in outcomes]
        failed: list[tuple[Node, Exception]] = []
        for outcome in outcomes:
            try:
                journal.record([outcome])
            except Exception as reason:
                failed.append((nodes[outcome.index], reason))
        return failed

    def notes(self, index: int, element: int | None) -> Mapping[str, Any]:
        """Return the recorded notes of a task."""
        read = getattr(self._journal, "notes", None)
        return read(index, element) if read is not None else {}

    def remember(self, index: int, element: int | None, key: str, value: Any) -> None:
        """Commit a note of a task, if the journal keeps notes.

        Raises:
            Exception: the note cannot be stored.
        """
        if self.commit is not None and (self._pending or self._elements or self._is_committing):
            self.commit()  # the note depends on what the task takes
        write: Any = getattr(self._journal, "remember", None) if self._store_error is None else None
        if write is not None:
            write(index, element, key, value)
        elif self._journal is not None and not self._warned_of_notes:
            self._warned_of_notes = True
            safe_warn(
                f"the notes of {self._graph.name!r} are kept for this run only, and not for the one that resumes it: "
                f"its record keeps no notes"
            )

    def tolerates(self, node: Node, error: Exception) -> bool:
        """Handle an error of the store; return whether the run continues."""
        note = f"task {node.name!r} of {self._graph.name!r} could not be recorded"
        broken = isinstance(error, OSError)
        if self._errors == "raise" or (broken and self._errors is None):
            add_note(error, f"flowkit: {note}, so the run was stopped; error.flowkit_results has the results")
            return False
        rest = ", and no other task of this run will be" if broken else ", and runs again on resume"
        if self._store_error is None and node.index not in self._warned:
            self._warned.add(node.index)  # elements of a mapped task may fail one by one
            safe_warn(f"{note}{rest}: {describe_error(error)}")
        if broken:
            self._store_error = self._store_error or error
        return True

    def close_run(self, state: RunState, error: BaseException | None, *, cancelled: bool) -> None:
        """Commit the end of the run.

        Args:
            state: the state of the run.
            error: the exception that the run raises.
            cancelled: whether it was interrupted.
        """
        not_run = [index for index, code in enumerate(state.codes) if code in _NOT_RUN]
        rest = [
            (index, state.codes[index], state.reason_of.get(index, ""), state.attempt_of.get(index, 1))
            for index in not_run
        ]
        has_failed = rest or state.error_of or error is not None
        failed = self.flush()
        for node, reason in failed:
            state.unrecorded_of.setdefault(node.index, reason)
        self.close("interrupted" if cancelled else "failed" if has_failed else "succeeded", rest, error, failed)

    def close(
        self,
        status: str,
        rest: Iterable[tuple[int, int, str, int]],
        error: BaseException | None,
        failed: Sequence[tuple[Node, Exception]] = (),
    ) -> None:
        """Commit the end of the run, and close the store if it was opened here.

        Args:
            status: ``"succeeded"``, ``"failed"`` or ``"interrupted"``.
            rest: index, state, reason, and number of the next attempt of each task that did not run.
            error: the exception that the run raises.
            failed: the nodes whose outcomes could not be committed before, and why.
        """
        failed = failed or self.flush()
        journal, self._journal = self._journal, None
        store, self._owned = self._owned, None
        if self._lines is not None:
            sinks.pop(self.run_id, None)
            self._lines.flush(is_last=True)
        try:
            if journal is not None:
                now = time()
                not_run = []
                for index, state, reason, number in rest:
                    not_run.append(TaskOutcome(index, number, STATES[state], now))
                    not_run[-1].reason = reason
                journal.close(status, not_run, error)
            if failed:
                raise failed[0][1]
        except Exception as reason:
            if self._errors != "warn":
                raise
            if self._store_error is None:
                safe_warn(f"the end of {self._graph.name!r} could not be recorded: {describe_error(reason)}")
        finally:
            if store is not None:
                store.close()


def _maker(state: RunState) -> int | None:
    """Return the id of the calling thread if it is a worker of the run that has this state; else None."""
    thread = get_ident()
    worker = worker_of_thread.get(thread)
    return thread if worker is not None and worker.run.state is state else None
