"""One execution of a graph, as a state machine without threads, clock, files or sleep.

An executor asks which nodes may start (`Run.start`), what to call for each (`Run.call`), carries the call to where it
runs, and tells how it ended (`Run.finish`), which answers with the nodes that became ready. Everything that a run
*means* — conditions, skips, triggers, retries, failure policy — is decided here, once, for every executor.

A node's life: its upstreams end one by one; with the last of them it is ready; ``call`` judges it, and it either runs
or ends at once (skipped, upstream-failed, cancelled); ``finish`` makes its state final and counts down its
downstreams. So every node passes through ``call`` and ``finish`` exactly once per attempt, also after a failure.

While nothing was skipped, failed or cancelled and nobody listens, the run is *smooth*, and a plain node needs no
judging: that is the common path, and it is kept to a few operations that are atomic under the GIL. Everything else
takes the lock.
"""

from __future__ import annotations

from _thread import RLock
from itertools import repeat

from flowkit_core._atomic import countdowns
from flowkit_core._text import counted, escape_control_chars, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.events import TaskFailed, TaskNotRun, TaskRetrying, TaskReused, TaskStarted, TaskSucceeded
from flowkit_core.failures import Failure, add_note, all_of, clear_frames, described, first_of, report, strip_traceback
from flowkit_core.pipelines.binding import bind_condition
from flowkit_core.pipelines.open_parameters import params_of
from flowkit_core.pipelines.parameters import KEY, Parameters

from .call import Call, Outcome, Retry
from .run_state import ABSENT, RunState
from .states import BAD, CANCELLED, CLEAN_UP, FAILED, PENDING, SKIPPED, STATES, SUCCEEDED, UPSTREAM_FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.events import Event, Observer
    from flowkit_core.pipelines.graph import Graph
    from flowkit_core.pipelines.node import Node

    from .recorder import RunRecorder

NOTHING: tuple[Node, ...] = ()


class Run(RunState):
    """One execution of a graph.

    Args:
        graph: what to run.
        params: values for parameters that no upstream fills.
        fail_fast: whether the first failure stops all new starts but those of clean-up tasks.
        observers: who is told what happens.
        run_id: a text that no other run has.
        random: returns numbers in [0, 1) for the jitter of retries; None leaves the jitter out.
        recorder: where the run is recorded, and what was recorded before, if it is resumed; None for neither.

    Attributes:
        graph: what is run.
        smooth: whether nothing but success has happened so far, and nobody wants to hear of each task.
        unrecorded: what stopped the run because it could not be recorded; None as long as nothing has.
        leaving: whether a task raised what is meant to end the program, SystemExit for one: what runs elsewhere should
            be given a short time to end, and no more.

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
        >>> run.done, run.succeeded()
        (True, {'one': 1, 'two': 2})
    """

    def __init__(
        self,
        graph: Graph,
        *,
        params: Mapping[str, Any] | None = None,
        fail_fast: bool = True,
        observers: Iterable[Observer] = (),
        run_id: str = "",
        random: Callable[[], float] | None = None,
        recorder: RunRecorder | None = None,
    ) -> None:
        super().__init__(graph)
        self.params = dict(params or {})
        self.fail_fast = fail_fast
        self.run_id = run_id
        self._waiting = countdowns(graph.countdowns)
        self._random = random
        self._lock = RLock()
        self._observers = tuple((observer, getattr(observer, "events", None)) for observer in observers)
        self._halted = False
        self.exiting = False
        self._cancelled: str | None = None
        self._abandoned = False
        self._at_failure: tuple[int, int] | None = None
        self._begun_late: set[int] = set()
        self._last_errors: dict[int, BaseException] = {}  # what tasks that wait for a retry raised last
        self._given_up = 0  # tasks that waited for a retry when the run was stopped
        self._stopped = 0  # tasks that had begun, and did not come to an end
        self._unfinished: list[str] = []  # their names, as far as the end of the run was not waited for
        self._unfinished_fate = ""
        self._recorder = recorder
        if recorder is not None:
            self._sources = recorder.sources
        self.record_error: Exception | None = None
        self._obstacle = "another task failed before it could start"
        self.has_task_observers = self.wants(TaskStarted) or self.wants(TaskSucceeded)
        self._clean = not self.params  # nothing but success has happened so far: plain nodes need no judging
        self.fast_path = self._clean and not self.has_task_observers and recorder is None
        if recorder is not None and recorder.done:
            self._take_over(recorder)

    # ---- what a driver calls -------------------------------------------------------------------------------------

    def start(self) -> Sequence[Node]:
        """Return the nodes that are ready at once, in topological order."""
        nodes, states = self.graph.nodes, self._states
        if self._recorder is None or not self._recorder.done:
            return self.graph.first
        if self.wants(TaskReused):
            for index in self._recorder.done:
                self._tell_task(TaskReused, nodes[index], source="resume")
        return [
            node
            for node in nodes
            if states[node.index] == PENDING and all(states[index] != PENDING for index in node.upstream)
        ]

    def _take_over(self, recorder: RunRecorder) -> None:
        """Make what was done before a part of this run, before anything can go wrong with it."""
        nodes, states, waiting = self.graph.nodes, self._states, self._waiting
        for index, done in recorder.done.items():
            states[index] = STATES.index(done.state)
            self.seconds[index], self._attempts[index] = done.seconds, done.attempts
            if states[index] == SUCCEEDED:
                self.values[index] = done.value
            else:
                self._reasons[index] = done.reason
                self._clean = False
            waiting[index] = repeat(0)  # whatever its upstreams do, it is not handed out again
        for index in recorder.done:
            for after in nodes[index].downstream:
                next(waiting[after.index], None)

    def call(self, node: Node) -> Call | Outcome:
        """Return the call for a ready node; or how it ends without one, to be handed to :meth:`finish` as it is."""
        if self._clean and node.is_simple:
            values, pick, sources = self.values, node.gather, node.arg_sources
            args: Any = pick(values) if pick is not None else (values[sources[0]],) if sources else ()
            return Call(node, args, {}, None, 1)
        with self._lock:
            ending = self._judge(node)
            if ending is not None:
                return ending
            bound = self._arguments(node)
            if isinstance(bound, Outcome):
                return bound
            if self._halted:
                self._begun_late.add(node.index)
            attempt = self._attempts.get(node.index, 1)
        args, kwargs, when = bound
        if attempt > 1:
            return Call(node, args, kwargs, None, attempt)
        lookup = self._recorder.lookup if self._recorder is not None and node.task.cache is not None else None
        return Call(node, args, kwargs, when, attempt, lookup)

    def mark_started(self, node: Node, *, already: bool = False) -> Outcome | None:
        """Take note that a call begins to run; return how the node ends instead, if a failure has come between.

        Args:
            node: the node.
            already: whether it has begun in any case, somewhere else.
        """
        if not self.has_task_observers and not self._halted and not self._last_errors:
            return None
        with self._lock:
            if not already and not self.may_start(node):
                return Outcome(CANCELLED, self._obstacle)
            self._last_errors.pop(node.index, None)
            if self.wants(TaskStarted):
                attempt = self._attempts.get(node.index, 1)
                self._tell_task(TaskStarted, node, attempt=attempt, max_attempts=1 + node.task.retry.retries)
        return None

    def finish(self, node: Node, outcome: Any, seconds: float = 0.0) -> Sequence[Node] | Retry:
        """Take the outcome of a call, and return the nodes that became ready.

        May be called from any thread.

        Args:
            node: the node, as it was handed out.
            outcome: what the function returned, or an :class:`Outcome`.
            seconds: how long the call took.

        Returns:
            The nodes that are ready now; or a :class:`Retry` for an attempt that failed and is to be repeated.
        """
        if not self.fast_path or type(outcome) is Outcome:
            later = self._finalize(node, outcome, seconds)
            if later is not None:
                return later
            if self._abandoned:
                return NOTHING
        else:
            index = node.index
            self.values[index] = outcome
            self.seconds[index] = seconds
            self._states[index] = SUCCEEDED
        downstream = node.downstream
        if not downstream:
            return NOTHING
        waiting = self._waiting
        if len(downstream) == 1:
            return downstream if next(waiting[downstream[0].index], None) is None else NOTHING
        return [after for after in downstream if next(waiting[after.index], None) is None]

    def cancel(self, reason: str) -> None:
        """Start nothing more, not even clean-up tasks; what waits ends as cancelled when the driver hands it in."""
        with self._lock:
            self._halt()
            if self._cancelled is None:
                self._cancelled = reason

    def abandon(self, running: Iterable[Node] = (), fate: str = "left alone") -> None:
        """Give up: every node without a final state ends as cancelled, and outcomes that arrive later are ignored.

        Args:
            running: the nodes that are running.
            fate: what becomes of those, in words.
        """
        with self._lock:
            self.cancel("the run was abandoned")
            self._abandoned = True
            begun = {node.index for node in running}
            for node in self.graph.nodes:
                stopped = node.index in begun
                if self._states[node.index] == PENDING:
                    self._states[node.index] = CANCELLED
                    if stopped:
                        self._unfinished.append(node.name)
                        self._stopped += 1
                        self._unfinished_fate = fate
                    reason = f"it was running when the run ended, and was {fate}" if stopped else self._cancelled or ""
                    reason = self._reasons[node.index] = self._skip_reason(node, reason)
                    if self.wants(TaskNotRun):
                        self._tell_not_run(node, reason, started=stopped)
            # a sprint that is still under way in some thread writes into the old ones
            self._states, self.values, self.seconds = self._states[:], self.values[:], self.seconds[:]

    @property
    def cancelled(self) -> bool:
        """Whether nothing at all is started any more."""
        return self._cancelled is not None

    @property
    def done(self) -> bool:
        """Whether every node has its final state."""
        return PENDING not in self._states

    @property
    def stopping(self) -> bool:
        """Whether nothing but clean-up tasks is started any more."""
        return self._halted

    @property
    def cleanup_running(self) -> bool:
        """Whether a clean-up task runs that began after a failure."""
        with self._lock:
            return any(self._states[index] == PENDING for index in self._begun_late)

    def may_start(self, node: Node) -> bool:
        """Say whether a node may still start, as far as failures elsewhere go: after one, only clean-up tasks may."""
        return not self._halted or (self._cancelled is None and node.task.trigger in CLEAN_UP)

    # ---- judging -------------------------------------------------------------------------------------------------

    def _judge(self, node: Node) -> Outcome | None:
        """Return how a ready node ends without running, or None if it may run."""
        states, trigger = self._states, node.task.trigger
        if self._cancelled is not None:
            return Outcome(CANCELLED, self._cancelled)
        if self._clean and trigger != "one_failed":
            return None
        if (not node.upstream and trigger != "one_failed") or self._attempts.get(node.index, 1) > 1:
            return None if self.may_start(node) else Outcome(CANCELLED, self._obstacle)
        upstream = [states[index] for index in node.upstream]
        if node.waits:  # a skipped upstream of an order-only edge counts as succeeded
            upstream = [
                SUCCEEDED if state == SKIPPED and index in node.waits else state
                for index, state in zip(node.upstream, upstream)
            ]
        if trigger in ("none_failed", "all_success") or (self._halted and trigger not in CLEAN_UP):
            for wanted in (FAILED, UPSTREAM_FAILED, CANCELLED):
                if wanted in upstream:
                    name = self.graph.names[node.upstream[upstream.index(wanted)]]
                    state = CANCELLED if wanted == CANCELLED else UPSTREAM_FAILED
                    how = {FAILED: "failed", UPSTREAM_FAILED: "could not run", CANCELLED: "was cancelled"}[wanted]
                    return Outcome(state, f'upstream "{escape_control_chars(name)}" {how}')
        if not self.may_start(node):
            return Outcome(CANCELLED, self._obstacle)
        if trigger == "all_success" and SKIPPED in upstream:
            name = self.graph.names[node.upstream[upstream.index(SKIPPED)]]
            return Outcome(SKIPPED, f'upstream "{escape_control_chars(name)}" was skipped')
        if trigger == "one_success" and SUCCEEDED not in upstream:
            bad = any(state in BAD for state in upstream)
            return Outcome(UPSTREAM_FAILED if bad else SKIPPED, "no upstream succeeded")
        if trigger == "one_failed" and FAILED not in upstream and UPSTREAM_FAILED not in upstream:
            return Outcome(SKIPPED, "no upstream failed")
        return None

    def _arguments(self, node: Node) -> Outcome | tuple[Sequence[Any], dict[str, Any], Callable[[], object] | None]:
        """Return the arguments of a node and its bound condition; or an ending, if one that it needs is absent."""
        values, states, parameters, binding = self.values, self._states, node.parameters, node.binding
        if binding is None:
            sources = node.arg_sources or ()
            count = len(parameters.positional)
            fills: Iterable[tuple[str, int]] = zip(parameters.positional, sources, strict=False)
            rest: Sequence[int] = sources[count:]
            named_rest: Mapping[str, int] = {}
            fixed = bool(sources) and count > 0
        else:
            fills, rest, named_rest = binding.named.items(), binding.rest, binding.named_rest
            fixed = bool(binding.named)
        given: dict[str, Any] = {}
        for name, source in fills:
            if states[source] == SUCCEEDED:
                given[name] = values[source]
            elif name not in parameters.defaults:
                return self._without(node, name, source)
        upstream = [index for index in node.upstream if index not in node.waits] if node.waits else node.upstream
        if (
            not fixed
            and upstream
            and node.task.trigger == "none_failed"
            and all(states[index] == SKIPPED for index in upstream)
        ):
            return Outcome(SKIPPED, "everything upstream was skipped")
        if binding is not None and self.params:
            own = params_of(node.name, self.params)
            given |= {name: own[name] for name in binding.open if name in own}
        if parameters.keyed and binding is not None and KEY in binding.open and KEY not in given:
            from .persistence import idempotency_key

            given[KEY] = idempotency_key(self.run_id, node.name)
        others = [values[source] for source in rest if states[source] == SUCCEEDED]
        extra = {name: values[source] for name, source in named_rest.items() if states[source] == SUCCEEDED}
        args, kwargs = _assembled(parameters, given, others)
        kwargs |= extra
        for name in node.none_checked:
            if name in given and given[name] is None:
                self._warn_of_none(node, name)
        if node.task.retry.retries and not node.task._warned_of_iterator:
            node.task._check_iterators((*args, *kwargs.values()))
        when = node.task.when
        if when is None:
            return args, kwargs, None
        known = {name: given.get(name, parameters.defaults.get(name)) for name in parameters.names} | extra
        when_args, when_kwargs = bind_condition(Parameters(when), known, [*parameters.names, *extra], others)
        return args, kwargs, lambda: when(*when_args, **when_kwargs)

    def _warn_of_none(self, node: Node, parameter: str) -> None:
        """Warn, once for each task, that a result None replaces the default of a parameter that is filled by order."""
        if node.task._warned_of_none:
            return
        node.task._warned_of_none = True
        binding = node.binding
        source = binding.named[parameter] if binding is not None else (node.arg_sources or ())[0]
        upstream = self.graph.names[source]
        report(
            f"task {node.name!r} gets None, which {upstream!r} returned, as {parameter!r}, by order, in place of its "
            f"default: to wait for {upstream!r} without taking its result, write {node.name}.after({upstream}); if None"
            f" is meant, name the parameter {upstream!r}"
        )

    def _without(self, node: Node, name: str, source: int) -> Outcome:
        upstream = self.graph.names[source]
        state = self._states[source]
        how = STATES[state].replace("_", " ")
        end = SKIPPED if state == SKIPPED else CANCELLED if state == CANCELLED else UPSTREAM_FAILED
        return Outcome(
            end,
            f'its parameter {name!r} has no default, and upstream "{escape_control_chars(upstream)}" ended as {how}',
        )

    # ---- settling ------------------------------------------------------------------------------------------------

    def _finalize(self, node: Node, outcome: Any, seconds: float) -> Retry | None:
        """Make the state of a node final, with all that follows from it; or return when to try again."""
        index = node.index
        known = type(outcome) is Outcome and outcome.state == SUCCEEDED
        succeeded = known or type(outcome) is not Outcome
        value = outcome.value if known else outcome
        stored = self._prepared(self._recorder, node, value) if succeeded and self._recorder is not None else ABSENT
        with self._lock:
            if self._abandoned:
                return None
            if self._states[index] != PENDING:
                raise RuntimeError(f"{node!r} was finished before: it is {STATES[self._states[index]]}")
            attempt = self._attempts.get(index, 1)
            if succeeded:
                if attempt > 1:
                    self._last_errors.pop(index, None)
                self.values[index] = value
                self.seconds[index] = seconds
                self._states[index] = SUCCEEDED
                if stored is not ABSENT:
                    self._record(node, SUCCEEDED, stored, seconds=seconds)
                if known and self.wants(TaskReused):
                    self._tell_task(TaskReused, node, source="cache")
                elif not known and self.wants(TaskSucceeded):
                    self._tell_task(TaskSucceeded, node, attempt=attempt, duration=seconds)
                return None
            self.fast_path = self._clean = False
            if outcome.state == CANCELLED and not outcome.started and self._fail_waiting_retry(node):
                return None
            if outcome.state != FAILED:
                reason = self._reasons[index] = self._skip_reason(node, outcome.reason)
                self._states[index] = outcome.state
                self._stopped += outcome.started
                if outcome.state == SKIPPED:
                    self._record(node, SKIPPED)
                if self.wants(TaskNotRun):
                    stopped = outcome.started
                    self._tell_not_run(node, reason, started=stopped)
                return None
            error = outcome.error
            if error is None:
                error = RuntimeError("the executor did not say what was raised")
            strip_traceback(error)
            if outcome.retryable and self._retries(node, attempt, error):
                self.seconds[index] = seconds
                return self._schedule_retry(node, attempt, error)
            self._failed(node, error, attempt, seconds)
            return None

    def _retries(self, node: Node, attempt: int, error: BaseException) -> bool:
        if attempt > node.task.retry.retries or not self.may_start(node):
            return False
        try:
            return bool(node.task.retry.covers(error))
        except Exception as broken:
            add_note(error, f"flowkit: retry_on of task {node.name!r} itself raised {described(broken)}")
            return False

    def _schedule_retry(self, node: Node, attempt: int, error: BaseException) -> Retry:
        self._attempts[node.index] = attempt + 1
        self._last_errors[node.index] = error
        delay = node.task.retry.wait(attempt, self._random)
        if self.wants(TaskRetrying):
            most = 1 + node.task.retry.retries
            self._tell_task(TaskRetrying, node, attempt=attempt, max_attempts=most, delay=delay, error=error)
        return Retry(node, delay)

    def _fail_waiting_retry(self, node: Node) -> bool:
        """Let a task fail that waits for a retry, when a failure elsewhere has stopped the run; say whether it did."""
        error = self._last_errors.get(node.index)
        if error is None or self._cancelled is not None:
            return False
        self._attempts[node.index] -= 1
        self._given_up += 1
        self._failed(node, error, self._attempts[node.index], self.seconds[node.index])
        return True

    def _skip_reason(self, node: Node, reason: str) -> str:
        """Return why a node did not run, with what it had raised before, if it had: nobody else tells."""
        error = self._last_errors.pop(node.index, None)
        return (
            reason
            if error is None
            else f"{reason}; its last attempt had raised {escape_control_chars(described(error))}"
        )

    def _failed(self, node: Node, error: BaseException, attempt: int, seconds: float) -> None:
        self._last_errors.pop(node.index, None)
        self.seconds[node.index] = seconds
        self._errors[node.index] = error
        if self._at_failure is None:
            self._at_failure = (self._states.count(SUCCEEDED), self._states.count(FAILED))
        self._states[node.index] = FAILED
        self._record(node, FAILED, seconds=seconds, error=error)
        if self.wants(TaskFailed):
            self._tell_task(TaskFailed, node, attempt=attempt, duration=seconds, error=error)
        if issubclass(type(error), KeyboardInterrupt):  # isinstance() would ask the exception, which may answer oddly
            self.cancel("the run was interrupted")
        elif self.fail_fast or not isinstance(error, Exception):
            self.exiting |= not isinstance(error, Exception)
            self._halt()

    def _halt(self) -> None:
        self.fast_path = self._clean = False
        self._halted = True

    # ---- recording -----------------------------------------------------------------------------------------------

    def _prepared(self, recorder: RunRecorder, node: Node, value: Any) -> Any:
        """Return the stored form of a result; ABSENT where it has none."""
        try:
            return recorder.prepare(node, value)
        except Exception as error:
            with self._lock:
                self._on_record_error(node, error)
            return ABSENT

    def _record(
        self,
        node: Node,
        state: int,
        stored: Any = None,
        *,
        seconds: float = 0.0,
        error: BaseException | None = None,
    ) -> None:
        """Commit how a node ended; where that is impossible, what it returned is kept at least in this process."""
        if self._recorder is None:
            return
        attempts = (
            0 if state == SKIPPED or self._recorder.sources.get(node.index) else self._attempts.get(node.index, 1)
        )
        try:
            self._recorder.record(
                node,
                state,
                stored,
                attempts=attempts,
                seconds=seconds,
                reason=self._reasons.get(node.index, ""),
                error=error,
            )
        except Exception as trouble:
            self._on_record_error(node, trouble)

    def _on_record_error(self, node: Node, error: Exception) -> None:
        """Stop the run because it cannot be recorded, unless that is to be put up with."""
        if self.record_error is None and self._recorder is not None and not self._recorder.tolerates(node, error):
            self.record_error = error
            self._obstacle = "the run could not be recorded"
            self._halt()

    # ---- telling -------------------------------------------------------------------------------------------------

    def wants(self, kind: type[Event]) -> bool:
        """Say whether any observer wants events of this class."""
        return any(events is None or kind in events for _, events in self._observers)

    def tell(self, kind: type[Event], **facts: Any) -> None:
        """Make an event and hand it to the observers that want it, one thread at a time."""
        event = kind(self.run_id, self.graph.name, **facts)
        with self._lock:
            for observer, events in self._observers:
                if events is None or kind in events:
                    try:
                        observer(event)
                    except Exception as error:
                        report(f"observer {short_repr(observer)} failed on {kind.__name__}: {described(error)}")

    def _tell_not_run(self, node: Node, reason: str, *, started: bool) -> None:
        self._tell_task(TaskNotRun, node, state=STATES[self._states[node.index]], reason=reason, started=started)

    def _tell_task(self, kind: type[Event], node: Node, **facts: Any) -> None:
        self.tell(kind, task=node.name, **facts)

    # ---- afterwards ----------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Drop the references to parameters, values, errors, observers and the store.

        Tracebacks and abandoned threads may still refer to the run.
        """
        clear_frames(error for error in (*self._errors.values(), self.record_error) if error is not None)
        super().release()
        self._last_errors = {}
        self._waiting = []
        self._observers = ()
        self._recorder = None
        self.params = {}
        self.record_error = None

    def error(self) -> BaseException | None:
        """Return what the run should raise: the first failure, or a group of all, with notes; None if none."""
        if self.record_error is not None:
            for index, error in self._errors.items():
                add_note(self.record_error, f"flowkit: task {self.graph.names[index]!r} had failed: {described(error)}")
            return self.record_error
        if not self._errors:
            return None
        failures = [
            Failure(self.graph.names[index], error, self._attempts.get(index, 1), self.graph.nodes[index].task.retries)
            for index, error in self._errors.items()
        ]
        if self.fail_fast or not all(isinstance(failure.error, Exception) for failure in failures):
            return first_of(self.graph.name, failures, self._circumstances())
        return all_of(self.graph.name, failures)

    @property
    def recorded(self) -> bool:
        """Whether how each node ends is committed somewhere, one at a time."""
        return self._recorder is not None and self._recorder.records

    @property
    def done_before(self) -> int:
        """How many tasks were done before the run was resumed."""
        return len(self._recorder.done) if self._recorder is not None else 0

    def close(self, error: BaseException | None) -> BaseException | None:
        """Commit how the run ended, with the error that it is to raise; return that, or what kept it from recording."""
        if self._recorder is None:
            return error
        rest = [
            (index, state, self._reasons.get(index, ""))
            for index, state in enumerate(self._states)
            if state in (UPSTREAM_FAILED, CANCELLED)
        ]
        if self._cancelled is not None:
            status = "interrupted"
        else:
            status = "failed" if rest or self._errors or error is not None else "succeeded"
        try:
            self._recorder.close(status, rest, error)
        except Exception as trouble:
            if error is not None:
                add_note(error, f"flowkit: how the run ended could not be recorded: {described(trouble)}")
                return error
            self.record_error = trouble
            return trouble
        return error

    def _circumstances(self) -> str:
        """Return what had become of the other tasks when the first failed."""
        succeeded, failed = self._at_failure or (0, 0)
        late = sum(self._states[index] in (SUCCEEDED, FAILED) for index in self._begun_late)
        ended = self._states.count(SUCCEEDED) + self._states.count(FAILED)
        running = max(0, ended - late - succeeded - failed - 1 - self._given_up) + self._stopped
        idle = len(self._states) - ended - self._stopped
        were = "was" if running == 1 else "were"
        text = f"{counted(succeeded, 'task')} had succeeded, {running} {were} running, {idle} did not start"
        text += f"; {counted(self._given_up, 'task')} waited for a retry" if self._given_up else ""
        return text + (f"; {counted(late, 'clean-up task')} ran" if late else "") + self._left_over()

    def interruption(self) -> str:
        """Return, for a note, what had become of the tasks when the run was interrupted."""
        succeeded, running = self._states.count(SUCCEEDED), len(self._unfinished)
        idle = self._states.count(CANCELLED) - running
        were = "was" if running == 1 else "were"
        text = f"{counted(succeeded, 'task')} had succeeded, {running} {were} running, {idle} did not start"
        return f"flowkit: {self.graph.name!r} was interrupted; {text}{self._left_over()}"

    def _left_over(self) -> str:
        if not self._unfinished:
            return ""
        names = [repr(name) for name in self._unfinished]
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return f"; {listed} did not end in time, and {'was' if len(names) == 1 else 'were'} {self._unfinished_fate}"


def _assembled(
    parameters: Parameters, given: Mapping[str, Any], rest: Sequence[Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return positional and keyword arguments; one that is left out before one that is given takes its default here."""
    positional = parameters.positional
    last = (
        len(positional)
        if rest
        else max((place for place, name in enumerate(positional, 1) if name in given), default=0)
    )
    args = [given[name] if name in given else parameters.defaults[name] for name in positional[:last]]
    args += rest
    return args, {name: given[name] for name in parameters.keyword_only if name in given}
