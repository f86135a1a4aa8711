"""Class `Run`: one execution of a graph, as a state machine that starts no threads and reads no clock."""

from __future__ import annotations

from flowkit_core._text import counts_text, escape_control_chars
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import TaskContext
from flowkit_core.coroutines import special_types
from flowkit_core.errors import TaskTimeoutError
from flowkit_core.events import TaskReused, TaskStarted, TaskSucceeded
from flowkit_core.failures import add_note, clear_frames, describe_error

from .arguments import call_arguments, outcome_of_entry, simple_arguments
from .call import Call, Outcome, Ref, Retry
from .facts import Facts
from .outcomes import OutcomeRules, max_attempts
from .states import CANCELLED, FAILED, FAILURE_TRIGGERS, PENDING, SKIPPED, SUCCEEDED, Phase
from .triggers import outcome_of_trigger

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.events import Observer
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node
    from flowkit_core.persistence import Store
    from flowkit_core.runs.limits.admission import Admission

    from .event_loop.caller import AsyncCaller
    from .kept_results import KeptResults
    from .mapping.elements import Elements
    from .recording.recorder import RunRecorder

_NO_NODES: tuple[Node, ...] = ()


class Run(OutcomeRules):
    """One execution of a graph. It decides which nodes run, when they are ready and how they end, for every executor.

    Of several ready nodes, the ready queue of a lane decides which one starts first. An executor calls these methods:

    * :meth:`start` returns the nodes that are ready first.
    * :meth:`call` returns the call of a ready node, or an :class:`Outcome` if the node ends without being called.
    * :meth:`mark_started` records that the call starts.
    * :meth:`finish` takes the result of a call, or an :class:`Outcome`, and returns the nodes that are ready now, or a
      :class:`Retry`.

    ::

        ready ── call ─┬─→ Call ─── mark_started ─── it is made ──┬─→ finish ─┬─→ final state ─→ other nodes are ready
          ↑            └─→ Outcome: the node ends without a call ─┘           │
          └────────────────── after its delay ───────────────────── Retry ←───┘

    Each node passes through ``call`` and ``finish`` once per attempt, whatever its state in the end. :meth:`cancel` and
    :meth:`abandon` end a run early. All methods may be called from any thread.

    While every node has succeeded, and nothing must be recorded or reported per task, the run is on the *fast path*:
    simple nodes need no check, no lock and no event, and a :class:`Worker` runs them in one loop.

    Args:
        graph: the graph to run.
        params: values for parameters that no upstream fills.
        fail_fast: whether the first failure stops all new starts except those of clean-up tasks.
        grace: seconds that running calls have to end after a failure has stopped the run; None means no limit.
        timeout: seconds that the run may take; None means no limit.
        observers: callables that get events.
        run_id: unique id of the run.
        random: returns numbers in [0, 1), for the jitter of retries; None means no jitter.
        recorder: the record of the run and the caches of its tasks; None if there are none.
        keep: names of the tasks whose results are returned; each other result is dropped after its last use. None means
            all.
        hooks: the `Hooks` of the pipeline and its tasks; None if there are none.
        caller: the coroutine that waits for the run in ``arun()``; None if there is none.

    Attributes:
        graph: the graph.
        state: states and results by node index.
        params, fail_fast, run_id: see above.
        grace, timeout, caller: see above; the session applies them.
        loop: the event loop of async tasks; None means that of the process.
        early_stop: the exception of a run that was stopped by its timeout, or by its caller; None otherwise.
        phase: how far the run has been stopped, a constant of :class:`Phase`.
        stop_reason: why the run left the phase RUNNING, for tasks that do not start; empty in that phase.
        events: passes events to the observers.
        report: facts for the error message.
        facts: the facts about the run that the contexts of its tasks keep.
        fast_path: whether simple nodes may run without :meth:`call` and :meth:`finish`: no parameter of a simple node
            is given, results are neither recorded nor dropped, no observer receives starts or successes, there are no
            handles, the run is not stopping, and no task was skipped or has failed.
        has_task_observers: whether an observer receives starts or successes of tasks.
        on_stop: called when a failure stops the run, and at the first SystemExit, without the lock of the run; None for
            nothing.
        on_ready: called with nodes that have waited for a pool and may start, where :meth:`finish` cannot return them.
        limits: the pools of the run; None if no task names a pool.
        kept: which results the run returns, and drops the others; None if it returns all.
        has_handles: whether results may be handles, which lanes replace by their values with ``Call.local``.
        exiting: whether a task raised an exception that ends the program, such as SystemExit: running tasks get a grace
            period, also without ``grace``.
        record_error: why the run could not be recorded and was stopped; None otherwise.

    Examples:
        >>> from flowkit_core import DAG, Run, task
        >>> @task
        ... def one(): return 1
        >>> @task
        ... def two(one): return one + 1
        >>> _ = one >> two
        >>> run = Run(DAG("by hand", tasks=[two]).graph())
        >>> ready = list(run.start())
        >>> while ready:
        ...     node = ready.pop()
        ...     ready += run.finish(node, run.call(node).invoke())
        >>> run, run.state.succeeded()
        (<Run by hand: 2 succeeded>, {'one': 1, 'two': 2})
    """

    loop: AbstractEventLoop | None = None
    limits: Admission | None = None
    on_ready: Callable[[Sequence[Node]], None] | None = None
    kept: KeptResults | None = None
    _admitted: Container[Any] = ()
    """Nodes and elements that have waited for a pool: their conditions were evaluated, their caches looked at."""

    def __init__(
        self,
        graph: Graph,
        params: Mapping[str, Any] | None = None,
        fail_fast: bool = True,
        grace: float | None = None,
        timeout: float | None = None,
        observers: Iterable[Observer] = (),
        run_id: str = "",
        random: Callable[[], float] | None = None,
        recorder: RunRecorder | None = None,
        keep: Iterable[str] | None = None,
        hooks: Any = None,
        caller: AsyncCaller | None = None,
    ) -> None:
        super().__init__(graph, fail_fast, observers, run_id, random, recorder)
        self.params = dict(params) if params else {}
        self.grace = grace
        self.timeout = timeout
        self.caller = caller
        if caller is not None:
            self.loop = caller.loop
        self.facts = Facts(run_id, graph.name, self.params, recorder)
        self.has_task_observers = self.events.wants(TaskStarted) or self.events.wants(TaskSucceeded)
        self._worker_of: dict[int, str] = {}  # of calls in other processes
        self._hooks = hooks
        if hooks is not None:  # not a task observer: nodes with a hook for success are not simple
            self.events.add(hooks)
        # whether `call` needs no check for simple nodes
        self._unchecked = not (self.params and graph.simple_nodes_take(self.params))
        if graph.mapped:
            from .mapping.mapped_run import MappedNodes

            self.mapping = MappedNodes(self)
        if keep is not None:
            from .kept_results import KeptResults

            self.kept = KeptResults(graph, keep, self.state)
        is_recorded = recorder is not None and recorder.records
        self.fast_path = self._unchecked and not (self.has_task_observers or is_recorded or keep is not None)
        if recorder is not None:
            recorder.commit = self._commit
            self.state.source_of, self.state.outdated_of = recorder.sources, recorder.outdated
            if recorder.done:
                self.state.take_over(graph, recorder.done)
                for index, done in recorder.done.items():
                    if graph.mapped and (elements := getattr(done, "elements", None)) is not None:
                        self.mapping.take_over(graph.nodes[index], elements)
                self._unchecked = self._unchecked and SKIPPED not in self.state.codes
                if self.kept is not None:
                    for index in recorder.done:
                        self.kept.node_ended(graph.nodes[index])

    def __repr__(self) -> str:
        return f"<Run {escape_control_chars(self.graph.name)}: {counts_text(self.state.counts())}>"

    # ---- the protocol of executors ---------------------------------------------------------------------------------

    def start(self) -> Sequence[Node]:
        """Return the nodes that are ready at the start, in topological order."""
        if self._recorder is None:
            return self.graph.first
        for index in self._recorder.done if self.events.wants(TaskReused) else ():
            self.events.emit(TaskReused, task=self.graph.names[index], source="resume")
        ready = self.state.ready_now(self.graph) if self._recorder.done else self.graph.first
        self._recorder.expect(ready)
        return ready

    def call(self, node: Node) -> Call | Outcome:
        """Return the call of a ready node; or its outcome, to be passed to :meth:`finish`, if it is not called."""
        if node.element is not None:
            return self.mapping.call(node)
        if self._recorder is not None and self._recorder.is_due_before(node):
            self.commit()
        if self._unchecked and node.is_simple:
            return Call(node, simple_arguments(node, self.state.values), {}, None, 1, None, self)
        if node.mapped is not None:
            return self.mapping.open(node)
        with self._lock:
            attempt = self.state.attempt_of.get(node.index, 1)
            outcome = self._check(node, attempt)
            if outcome is not None:
                return outcome
            bound = call_arguments(node, self.state, self.params, self.run_id)
            if isinstance(bound, Outcome):
                return bound
            if self.phase != Phase.RUNNING:
                self.report.cleanup_started.add(node.index)
        args, kwargs, when = bound
        if attempt > 1 or node.index in self._admitted:
            call = Call(node, args, kwargs, None, attempt, None, self)
        else:
            lookup = self._recorder.lookup if self._recorder is not None and node.task.cache is not None else None
            call = Call(node, args, kwargs, when, attempt, lookup, self)
        return call if not node.feeds else self.mapping.local_generator(call)

    def context_of(self, node: Node, attempt: int | None = None) -> TaskContext:
        """Return what ``current()`` returns in a call of a node; without a number, in its current attempt."""
        if node.element is not None:
            return self.mapping.context_of(node, attempt)
        number = self.state.attempt_of.get(node.index, 1) if attempt is None else attempt
        return TaskContext(self.facts, node.index, node.name, number)

    def current_attempt(self, node: Node) -> int:
        """Return the number of the current or last attempt at a node."""
        attempts = self.state.attempt_of if node.element is None else self.mapping.attempts_of(node)
        return int(attempts.get(node.index if node.element is None else node.element, 1))

    def local_call(self, node: Node) -> Call | Outcome:
        """Return what :meth:`call` returns, with handles among the arguments replaced by their values."""
        call = self.call(node)
        return call.local() if self.has_handles and isinstance(call, Call) else call

    def _check(self, node: Node, attempt: int) -> Outcome | None:
        """Return how a ready node ends without being called; None if it may run."""
        if self.phase >= Phase.CANCELLED:
            return Outcome(CANCELLED, self.stop_reason)
        if self._unchecked and node.task.trigger not in FAILURE_TRIGGERS:
            return None  # every upstream has succeeded
        if attempt > 1:
            return None if self.may_start(node) else Outcome(CANCELLED, self.stop_reason)
        if node.entry is not None:
            outcome = outcome_of_entry(node.entry, self.state.codes, self.graph.names)
            if outcome is not None:
                return outcome
        stop_reason = self.stop_reason if self.phase == Phase.STOPPING else None
        return outcome_of_trigger(node, self.state.codes, self.graph.names, stop_reason)

    def admit(self, node: Node) -> Outcome | None:
        """Return how a node ends instead of being called now: as ``PARKED`` if it must wait for a pool.

        :meth:`mark_started` does this, too; executors that call it only when a worker has started the call do it before
        they send the call. See `LimitedRun`.
        """
        return None

    def end_abandoned(self, node: Node, attempt: int) -> None:
        """Note that an abandoned attempt has ended; see `LimitedRun`."""

    def mark_started(self, node: Node, *, already: bool = False, attempt: int | None = None) -> Outcome | None:
        """Note that a call starts; return how the node ends instead if the run has been stopped since :meth:`call`.

        Args:
            node: the node.
            already: whether the worker has started the call, so that it cannot be prevented.
            attempt: number of the attempt; nothing is noted for one that has been given up. None means the current one.
        """
        if node.element is not None:
            return self.mapping.mark_started(node, already=already, attempt=attempt)
        if not self.has_task_observers and self.phase == Phase.RUNNING and not self.state.retry_of:
            return None
        with self._lock:
            if attempt is not None and not self.is_current(node, attempt):
                return None
            if not already and not self.may_start(node):
                return Outcome(CANCELLED, self.stop_reason)
            self.state.retry_of.pop(node.index, None)
            if self.events.wants(TaskStarted):
                from threading import current_thread

                attempt = self.state.attempt_of.get(node.index, 1)
                worker = self._worker_of.get(node.index) or current_thread().name
                most = max_attempts(node)
                self.events.emit(TaskStarted, task=node.name, attempt=attempt, max_attempts=most, worker=worker)
        return None

    def note_worker(self, node: Node, worker: str, process: int | None = None, host: str | None = None) -> None:
        """Note which worker of another process or machine gets a call, for observers and the record of the run."""
        if self.has_task_observers:
            self._worker_of[node.index] = worker
        if self._recorder is not None:
            self._recorder.workers[node.index] = worker, process, host

    def returns_result(self, node: Node) -> bool:
        """Return whether the result of a node is among those that the run returns."""
        return self.kept is None or self.kept.keeps(node)

    def argument_digest(self, node: Node) -> Callable[[Any], Any] | None:
        """Return a function of a module that returns the digest of a result for caches; None if no cache needs it.

        A lane whose result stays elsewhere calls it there, and passes what it returns on as ``digest`` of the handle.
        """
        return self._recorder.argument_digest(node) if self._recorder is not None else None

    def expect_handles(self) -> None:
        """Prepare for results that are handles: every call goes through :meth:`call`."""
        self.has_handles = True
        self.fast_path = False

    def fetch_handles(self) -> None:
        """Replace the handles among the results by their values, also those of calls that end later.

        A task whose value is lost has failed.
        """
        if self.has_handles:
            self.fetches_at_once = True
            self.state.fetch_handles()

    def ahead(self, node: Node, *, takes_handles: bool = False) -> Call | None:
        """Return the call of a node whose upstreams have not ended, to be made where their results will be.

        The arguments that are not known yet are `Ref` objects. If an upstream does not succeed, the call must not be
        made; the node also becomes ready when its upstreams end, and is then ended with :meth:`finish`.

        Args:
            node: the node.
            takes_handles: whether the lane takes handles as arguments. Such a lane may make calls ahead also if starts
                and successes are reported, or results dropped; not if they are recorded.

        Returns:
            The call; None if a decision must come first, such as a condition.
        """
        may_be_ahead = self.fast_path or (takes_handles and self._unchecked and not self.recorded)
        if not (may_be_ahead and node.is_simple):
            return None
        values, codes = self.state.values, self.state.codes
        sources = node.arg_sources or ()
        args = tuple([values[source] if codes[source] == SUCCEEDED else Ref(source) for source in sources])
        return Call(node, args, {}, None, 1, None, self)

    def expire(self, node: Node, attempt: int, timeout: float, fate: str = "abandoned") -> Sequence[Node] | Retry:
        """End an attempt that takes longer than its timeout; its own result is ignored if it comes later.

        Args:
            node: the node.
            attempt: number of the attempt, ``call.attempt``.
            timeout: seconds that it may take.
            fate: what happens to it, see :class:`TaskTimeoutError`.

        Returns:
            What :meth:`finish` returns; no nodes if the attempt has ended meanwhile.
        """
        error = TaskTimeoutError(node.name, timeout, fate)
        return self.finish(node, Outcome(FAILED, error=error, goes_on=fate == "abandoned"), timeout, attempt)

    def finish(
        self, node: Node, result: Any, seconds: float = 0.0, attempt: int | None = None
    ) -> Sequence[Node] | Retry:
        """Take the result of a call, and return the nodes that became ready.

        Off the fast path, the final state is set and recorded under the lock; then lanes are stopped, if the run
        stops, hooks are called, results that nothing needs any more are dropped, and outcomes are committed.

        Args:
            node: the node.
            result: what the function returned, or an :class:`Outcome`.
            seconds: duration of the call.
            attempt: number of the attempt, ``call.attempt``; the result of an attempt that has been given up, by
                :meth:`expire` for example, is ignored. None means the current attempt.

        Returns:
            The nodes that are ready now; or a :class:`Retry` if the attempt failed and the node runs again.
        """
        if not node.is_simple and self.graph.mapped:
            if node.element is not None:
                return self.mapping.finish(node, result, seconds, attempt)
            if node.mapped is not None:
                if self.mapping.is_opened(result):
                    return self.mapping.expand(node)
                self.mapping.iterators.end(node)
            if node.feeds and self.is_current(node, self.current_attempt(node) if attempt is None else attempt):
                result = self.mapping.result_for_takers(node, result)
        if self.fast_path and type(result) not in special_types and (node.is_simple or self._ends_quietly(node)):
            state, index = self.state, node.index
            state.values[index] = result
            state.seconds[index] = seconds
            state.codes[index] = SUCCEEDED
            if not node.downstream:
                return _NO_NODES
        else:
            step = self._finalize(node, result, seconds, attempt)
            self._notify_stop()
            if self._hooks is not None:
                self._hooks.call()
            if step is not None:
                return step
            if self.phase == Phase.ABANDONED:
                return _NO_NODES
            if self.kept is not None:
                self.kept.node_ended(node)
        ready, recorder = self.state.ready_after(node), self._recorder
        if recorder is not None:
            recorder.expect(ready)
            if recorder.is_due(ready):
                self.commit()
        return ready

    def commit_if_due(self) -> float | None:
        """Commit outcomes that have waited for others long enough; for threads that wait until calls end.

        Returns:
            The seconds after which this is to be called again; None if nothing is left to commit.
        """
        seconds = None if self._recorder is None else self._recorder.seconds_to_commit
        if seconds != 0.0:
            return seconds
        self.commit()
        return None

    def ends_on_fast_path(self, node: Node, result: Any) -> bool:
        """Return whether :meth:`finish` neither blocks nor calls functions of the user for a result."""
        if not self.fast_path or type(result) in special_types:
            return False
        return node.is_simple or (not self.graph.mapped and self.limits is None and self._ends_quietly(node))

    def call_last_hooks(self) -> None:
        """Call the hooks that are left at the end of the run."""
        if self._hooks is not None:
            self._hooks.call_last()

    def _ends_quietly(self, node: Node) -> bool:
        """Return whether the success of a node is neither stored in a cache nor passed to a hook."""
        return (self._recorder is None or node.task.cache is None) and node.task.on_success is None

    def rank(self, node: Node) -> int:
        """Return the number of tasks on the longest path from a node to an end, itself included."""
        return self.graph.heights()[node.index]

    @property
    def is_ranked(self) -> bool:
        """Whether ready nodes start in order of their rank, see `RankedQueue`: tasks have priorities or pools."""
        return self.limits is not None or self.graph.has_priorities

    # ---- progress and end ------------------------------------------------------------------------------------------

    def progress(self) -> dict[str, tuple[int, int | None]]:
        """Return how far each mapped task is that is running. It may be called from any thread, at any time.

        Returns:
            Name of the task -> how many of its elements have ended, and their number; None if that is not known yet.
        """
        return self.mapping.progress() if self.graph.mapped else {}

    def elements(self, task: str) -> Elements | None:
        """Return the elements of a mapped task that is running or has ended; None for others. See `progress`.

        Args:
            task: name of the task.
        """
        stage = self.state.stages.get(self.graph[task].index)
        return None if stage is None else stage.elements()

    def abandon(self, running: Mapping[Node, str] | None = None) -> None:
        """End every pending node as cancelled, and ignore outcomes that arrive later.

        Args:
            running: the nodes whose calls are still running, and what happens to each: ``"abandoned"`` or ``"ended"``.
        """
        with self._lock:
            self.cancel("the run was abandoned")
            self.phase = Phase.ABANDONED
            if self.graph.mapped:
                self.mapping.iterators.end(None)
            if self.has_handles:
                self.state.drop_handles()
            fate_of = {node.index: fate for node, fate in (running or {}).items()}
            for node in self.graph.nodes:
                if self.state.codes[node.index] != PENDING:
                    continue
                self.state.codes[node.index] = CANCELLED
                reason, fate = self.stop_reason, fate_of.get(node.index)
                if fate is not None:
                    reason = f"it was running when the run ended, and was {fate}"
                    self.report.unfinished.setdefault(fate, []).append(node.name)
                    self.report.interrupted += 1
                self._set_reason(node, reason, started=fate is not None)
            for stage in self.state.stages.values():  # a copy: late results have no effect
                stage.codes = bytearray(stage.codes.replace(bytes([PENDING]), bytes([CANCELLED])))
            self.state.detach()

    @property
    def done(self) -> bool:
        """Whether every node has its final state."""
        return PENDING not in self.state.codes

    @property
    def recorded(self) -> bool:
        """Whether the outcomes of nodes are committed to a store; when, is said at `RunRecorder`."""
        return self._recorder is not None and self._recorder.records

    @property
    def record_place(self) -> Store | str | None:
        """The store of the record, or the absolute path of its file; None if the run is not recorded."""
        return self._recorder.place if self._recorder is not None else None

    @property
    def done_before(self) -> int:
        """Number of tasks that ended before the run was resumed."""
        return len(self._recorder.done) if self._recorder is not None else 0

    # ---- after the last node ---------------------------------------------------------------------------------------

    def error(self) -> BaseException | None:
        """Return the exception that the run raises, with notes; None if it raises none."""
        stop_error = self.stop_error
        if stop_error is None and not self.state.error_of:
            return None
        return self.report.error(fail_fast=self.fail_fast, stop_error=stop_error)

    def close(self, error: BaseException | None) -> BaseException | None:
        """Commit the end of the run.

        Args:
            error: the exception that the run raises.

        Returns:
            That exception, or the one that kept the end of the run from being recorded.
        """
        if self._recorder is None:
            return error
        try:
            is_interrupted = self.cancelled or (self.caller is not None and self.caller.cancellations > 0)
            self._recorder.close_run(self.state, error, cancelled=is_interrupted)
        except Exception as trouble:
            if error is not None:
                add_note(error, f"flowkit: how the run ended could not be recorded: {describe_error(trouble)}")
                return error
            self.record_error = trouble
            return trouble
        return error

    def release(self) -> None:
        """Drop the references to parameters, values, errors, observers and the store.

        Tracebacks and abandoned threads may still refer to the run.
        """
        state = self.state
        if state.error_of or state.unrecorded_of or state.stages or self.record_error is not None:
            errors: list[BaseException] = [*state.error_of.values(), *state.unrecorded_of.values()]
            if self.record_error is not None:
                errors.append(self.record_error)
            errors += [error for stage in state.stages.values() for error in stage.error_of.values()]
            clear_frames(errors)
        if self.graph.mapped:
            self.mapping.close()
        state.release()
        self.events.close()
        self.facts.close()
        self._hooks = self._recorder = None
        self.params = {}
        self.record_error = self.early_stop = None
