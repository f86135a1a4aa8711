"""Class `OutcomeRules`: the phases of a run, and what outcomes do: final states, retries, stops, record and events."""

from __future__ import annotations

from _thread import RLock

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import RunTimeoutError, Skip
from flowkit_core.events import TaskFailed, TaskNotRun, TaskRetrying, TaskReused, TaskSucceeded
from flowkit_core.failures import describe_error, returned_skip, strip_traceback

from .call import Outcome, Retry, fetch_and_release
from .event_emitter import EventEmitter
from .handle import is_handle
from .run_report import RunReport
from .run_state import ABSENT, RunState
from .states import CANCELLED, CLEANUP_TRIGGERS, FAILED, PENDING, SKIPPED, STATES, SUCCEEDED, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.events import Observer
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node
    from flowkit_core.retry import RetryPolicy

    from .event_loop.caller import AsyncCaller
    from .mapping.interface import RunMapping
    from .recording.recorder import RunRecorder

_NO_NODES: tuple[Node, ...] = ()


class OutcomeRules:
    """Base class of `Run`, which describes the arguments and attributes."""

    stop_reason = ""
    exiting = has_handles = False
    mapping: RunMapping  # only if the graph has mapped nodes
    on_stop: Callable[[], None] | None = None
    fast_path = _unchecked = False
    timeout: float | None
    caller: AsyncCaller | None
    _stop_is_new = False  # whether `on_stop` is to be called
    _report: RunReport | None = None  # None until the first failure, timeout or interrupt
    fetches_at_once = False  # whether handles are fetched when they arrive

    def __init__(
        self,
        graph: Graph,
        fail_fast: bool,
        observers: Iterable[Observer],
        run_id: str,
        random: Callable[[], float] | None,
        recorder: RunRecorder | None,
    ) -> None:
        self.graph = graph
        self.state = RunState(graph)
        self.fail_fast = fail_fast
        self.run_id = run_id
        self.phase = Phase.RUNNING
        self._lock = RLock()
        self.events = EventEmitter(observers, run_id, graph.name, self._lock)
        self._random = random
        self._recorder = recorder
        self.early_stop: BaseException | None = None
        self.record_error: Exception | None = None

    @property
    def report(self) -> RunReport:
        """Facts for the error message; created when the first is noted."""
        with self._lock:
            if self._report is None:
                self._report = RunReport(self.graph, self.state)
            return self._report

    # ---- phases ----------------------------------------------------------------------------------------------------

    def may_start(self, node: Node) -> bool:
        """Return whether the phase of the run lets a node start: while it is stopping, only clean-up tasks may."""
        if self.phase == Phase.RUNNING:
            return True
        return self.phase == Phase.STOPPING and node.task.trigger in CLEANUP_TRIGGERS

    def is_current(self, node: Node, attempt: int) -> bool:
        """Return whether an attempt is the last one of its node, and has not ended."""
        index, state = node.index, self.state
        if node.element is not None:
            return self.mapping.is_current(node, attempt)
        return state.codes[index] == PENDING and attempt == state.attempt_of.get(index, 1)

    @property
    def cancelled(self) -> bool:
        """Whether no nodes start any more at all."""
        return self.phase >= Phase.CANCELLED

    def cancel(self, reason: str) -> None:
        """Start no more nodes, clean-up tasks included; pending nodes end as cancelled when they are passed in."""
        with self._lock:
            if self.phase < Phase.CANCELLED:
                self._enter_phase(Phase.CANCELLED, reason)

    def time_out(self) -> None:
        """Stop like after a failure, because the run has taken longer than its timeout."""
        self.stop_early(RunTimeoutError(self.graph.name, self.timeout or 0.0))

    def stop_early(self, reason: BaseException) -> None:
        """Stop like after a failure, for a reason that is not a failure of a task, unless the run is stopping already.

        Args:
            reason: the exception that the run raises.
        """
        with self._lock:
            if self.phase == Phase.RUNNING:
                self.early_stop = reason
                self.report.note_stop()
                self._enter_phase(Phase.STOPPING, str(reason))
        self._notify_stop()

    @property
    def stop_error(self) -> BaseException | None:
        """Why the run was stopped, if not by a failure: it could not be recorded, took too long, or was cancelled."""
        return self.record_error or self.early_stop

    @property
    def stop_cause(self) -> str:
        """Why the run was stopped, for the reasons of tasks that were running."""
        if self.early_stop is not None:
            return str(self.early_stop)
        return "the run could not be recorded" if self.record_error is not None else "another task failed"

    @property
    def stopping(self) -> bool:
        """Whether no nodes start any more except clean-up tasks."""
        return self.phase >= Phase.STOPPING

    def _enter_phase(self, phase: int, reason: str) -> None:
        self._stop_is_new |= self.phase == Phase.RUNNING and phase == Phase.STOPPING
        self.phase = phase
        self.stop_reason = reason
        self.leave_fast_path()

    def _notify_stop(self) -> None:
        """Call `on_stop` after the failure that stopped the run, and the first SystemExit; without its lock."""
        is_new = False
        if self._stop_is_new:
            with self._lock:
                is_new, self._stop_is_new = self._stop_is_new, False
        if is_new and self.on_stop is not None:
            self.on_stop()
        if is_new and self.graph.mapped:
            self.mapping.pullers.stop()

    def leave_fast_path(self) -> None:
        """Pass every outcome through :meth:`finish` from now on."""
        self.fast_path = self._unchecked = False

    # ---- outcomes --------------------------------------------------------------------------------------------------

    def outcome_of(self, result: Any) -> Outcome | None:
        """Return how a call has ended; None if it returned. A coroutine that the caller has cancelled is cancelled."""
        if type(result) is not Outcome:
            return None
        if self.caller is not None and self.caller.cancellations and result.state == FAILED and not result.goes_on:
            from asyncio import CancelledError

            if isinstance(result.error, CancelledError):
                self.stop_early(CancelledError("arun() was cancelled"))
                return Outcome(CANCELLED, "it was cancelled, because arun() was cancelled", started=True)
        return result.or_skip()

    def _finalize(self, node: Node, result: Any, seconds: float, attempt: int | None) -> Retry | Sequence[Node] | None:
        """Set the final state of a node; or return a retry, or no nodes for the result of an attempt given up."""
        if self.fetches_at_once and is_handle(result):
            result = fetch_and_release(result)
        outcome = self.outcome_of(result)
        if outcome is None and issubclass(type(result), Skip):
            outcome = Outcome(FAILED, error=returned_skip(node.name, result))
        succeeded = outcome is None or outcome.state == SUCCEEDED
        value = result if outcome is None else outcome.value
        # without the lock: serializing a large value takes long
        stored = self._stored_form(node, value) if succeeded and self._recorder is not None else ABSENT
        with self._lock:
            is_given_up = attempt is not None and not self.is_current(node, attempt)
            if (is_given_up or self.phase == Phase.ABANDONED) and is_handle(value):
                value.release()
            if self.phase == Phase.ABANDONED:
                return None
            if is_given_up:
                return _NO_NODES
            if self.state.codes[node.index] != PENDING:
                raise RuntimeError(f"{node!r} was finished before: it is {STATES[self.state.codes[node.index]]}")
            if outcome is None or succeeded:
                self._succeed(node, value, stored, seconds, reused=outcome is not None)
                return None
            self.leave_fast_path()
            if outcome.state == FAILED:
                return self._fail_attempt(node, outcome, seconds)
            if not (self.fails_waiting_retry(outcome) and self._fail_waiting_retry(node)):
                self._end_without_result(node, outcome)
            return None

    def _succeed(self, node: Node, value: Any, stored: Any, seconds: float, *, reused: bool) -> None:
        state, index = self.state, node.index
        state.retry_of.pop(index, None)
        state.values[index] = value
        state.seconds[index] = seconds
        state.codes[index] = SUCCEEDED
        is_delayed = bool(node.feeds) and not reused and self.mapping.iterators.delays_end(node, value)
        if stored is not ABSENT and not (is_delayed and hasattr(type(value), "__next__")):
            self._record(node, None if reused else seconds, stored)
        if reused:
            if self.events.wants(TaskReused):
                self.events.emit(TaskReused, task=node.name, source="cache")
        elif not is_delayed:
            self.emit_success(node)

    def emit_success(self, node: Node) -> None:
        """Emit that a node has succeeded."""
        if not self.events.wants(TaskSucceeded):
            return
        attempt, seconds = self.state.attempt_of.get(node.index, 1), self.state.seconds[node.index]
        elements = self._element_counts(node)
        self.events.emit(TaskSucceeded, task=node.name, attempt=attempt, duration=seconds, elements=elements)

    def _end_without_result(self, node: Node, outcome: Outcome) -> None:
        """End a node as skipped, upstream-failed or cancelled."""
        self.state.codes[node.index] = outcome.state
        self.report.interrupted += outcome.started
        if outcome.state == SKIPPED:
            self.state.retry_of.pop(node.index, None)
            self.state.reason_of[node.index] = outcome.reason
        self._record(node)
        self._set_reason(node, outcome.reason, started=outcome.started)

    def _set_reason(self, node: Node, reason: str, *, started: bool) -> None:
        """Set the reason why a node did not run, including the error of its last attempt, and emit the event."""
        reason = reason_with_error(reason, self.state.retry_of.pop(node.index, None))
        self.state.reason_of[node.index] = reason
        if self.events.wants(TaskNotRun):
            state = STATES[self.state.codes[node.index]]
            self.events.emit(TaskNotRun, task=node.name, state=state, reason=reason, started=started)

    def _fail_attempt(self, node: Node, outcome: Outcome, seconds: float) -> Retry | None:
        """Schedule a retry, or end the node as failed."""
        attempt = self.state.attempt_of.get(node.index, 1)
        error, delay = self.error_and_delay(node, outcome, attempt)
        if delay is not None:
            self.state.seconds[node.index] = seconds
            return self._schedule_retry(node, attempt, error, delay)
        self._fail(node, error, attempt, seconds)
        return None

    def error_and_delay(self, node: Node, outcome: Outcome, attempt: int) -> tuple[BaseException, float | None]:
        """Return the exception of a failed attempt, and the seconds until its retry; None if there is none."""
        error = outcome.error if outcome.error is not None else RuntimeError("the executor passed no exception")
        strip_traceback(error)
        policy: RetryPolicy = node.task.retry
        may_retry = outcome.retryable and self.may_start(node)
        return error, policy.pause(error, attempt, node.name, self._random) if may_retry else None

    def _schedule_retry(self, node: Node, attempt: int, error: BaseException, delay: float) -> Retry:
        self.state.attempt_of[node.index] = attempt + 1
        self.state.retry_of[node.index] = error
        self._record(node, self.state.seconds[node.index], None, error, delay)
        if self.events.wants(TaskRetrying):
            facts = {"attempt": attempt, "max_attempts": max_attempts(node), "duration": self.state.seconds[node.index]}
            self.events.emit(TaskRetrying, task=node.name, delay=delay, error=error, **facts)
        return Retry(node, delay)

    def fails_waiting_retry(self, outcome: Outcome) -> bool:
        """Return whether a node, or an element, that ends like this has failed if it was waiting for a retry."""
        return outcome.state == CANCELLED and not outcome.started and not self.cancelled

    def _fail_waiting_retry(self, node: Node) -> bool:
        """End a node as failed that waits for a retry when the run stops; return whether it did wait."""
        error = self.state.retry_of.get(node.index)
        if error is None:
            return False
        self.state.attempt_of[node.index] -= 1
        self.report.dropped_retries += 1
        self._fail(node, error, self.state.attempt_of[node.index], self.state.seconds[node.index])
        return True

    def _fail(self, node: Node, error: BaseException, attempt: int, seconds: float) -> None:
        """End a node as failed, and stop the run if this failure stops it."""
        state, index = self.state, node.index
        state.retry_of.pop(index, None)
        state.seconds[index] = seconds
        state.error_of[index] = error
        if self.report.at_stop is None:
            self.report.note_stop()
        state.codes[index] = FAILED
        self._record(node, seconds, None, error)
        if self.events.wants(TaskFailed):
            elements = self._element_counts(node)
            facts = {"attempt": attempt, "duration": seconds, "error": error, "elements": elements}
            self.events.emit(TaskFailed, task=node.name, **facts)
        self._stop_after(error)

    def _stop_after(self, error: BaseException) -> None:
        """Stop the run after a failure, if this failure stops it."""
        if issubclass(type(error), KeyboardInterrupt):  # isinstance() would read __class__, which may be overridden
            self.cancel("the run was interrupted")
        elif self.fail_fast or not isinstance(error, Exception):
            if not isinstance(error, Exception) and not self.exiting:
                self.exiting = self._stop_is_new = True  # running tasks get a grace period from now on
            if self.phase == Phase.RUNNING:
                self._enter_phase(Phase.STOPPING, "another task failed before it could start")

    def _element_counts(self, node: Node) -> dict[str, int] | None:
        """Return the number of elements of a mapped node in each state; None for other nodes."""
        stage = self.state.stages.get(node.index) if node.mapped is not None else None
        return None if stage is None else stage.counts()

    # ---- the record ------------------------------------------------------------------------------------------------

    def stores_result(self, node: Node) -> bool:
        """Return whether the result of a call of a node is recorded, or stored in a cache."""
        return self._recorder is not None and self._recorder.stores(node)

    def _stored_form(self, node: Node, value: Any) -> Any:
        """Return the stored form of a result; the exception if it has none, or ABSENT after an error of the store."""
        stage = self.state.stages.get(node.index) if node.mapped is not None else None
        if stage is not None and stage.record is not None:
            return None  # the list is made of the recorded elements
        if stage is not None and (stage.error_of or (node.feeds and stage.is_partial)):
            return None  # failed elements are called again on resume; the next mapped task needs the numbers of all
        if node.feeds and hasattr(type(value), "__next__"):
            return None  # it is pulled by the elements of a mapped node, and was not made a list
        try:
            if self.has_handles and is_handle(value):
                if not self.stores_result(node):
                    return None
                value = value.fetch()
            return self._recorder.prepare(node, value) if self._recorder is not None else ABSENT
        except Exception as error:
            with self._lock:
                self._on_record_error(node, error)
            return ABSENT if isinstance(error, OSError) else error

    def _record(self, node: Node, seconds: float | None = None, stored: Any = None, *failure: Any) -> None:
        """Record how a node, or an attempt at it, has ended: see `RunRecorder.record`."""
        if self._recorder is not None and self._recorder.record(node, self.state, seconds, stored, *failure):
            self._commit()

    def commit(self) -> None:
        """Commit what is recorded, before a call that depends on it or a wait; without the lock of the run."""
        self._commit()
        self._notify_stop()

    def _commit(self) -> None:
        """Commit what is recorded. If that fails, the results are kept in this process."""
        with self._lock:
            for node, error in self._recorder.flush() if self._recorder is not None else ():
                self._on_record_error(node, error)

    def _on_record_error(self, node: Node, error: Exception) -> None:
        """Stop the run, unless ``state_errors="warn"``."""
        self.state.unrecorded_of.setdefault(node.index, error)
        if self.record_error is None and self._recorder is not None and not self._recorder.tolerates(node, error):
            self.record_error = error
            if self.phase <= Phase.STOPPING:
                self._enter_phase(Phase.STOPPING, "the run could not be recorded")


def reason_with_error(reason: str, error: BaseException | None) -> str:
    """Return why a node, or an element, did not run again, with the exception of its last attempt."""
    if error is None:
        return reason
    return f"{reason}; its last attempt had raised {escape_control_chars(describe_error(error))}"


def max_attempts(node: Node) -> int:
    """Return the maximum number of attempts at a node."""
    retries: int = node.task.retry.retries
    return 1 + retries
