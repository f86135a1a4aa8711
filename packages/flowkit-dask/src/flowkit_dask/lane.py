"""Class `DaskLane`: the calls of one run that a Dask cluster makes.

Ready nodes are sent to the scheduler in batches, and with them the nodes downstream that need no decision, before their
upstreams have ended. Workers report the start and the end of each call: see `Reporter`. Results stay on the cluster.
"""

from __future__ import annotations

import pickle
from time import monotonic
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker, rejoin

from flowkit_core import ExecutorError, Outcome, SerializationError, TaskTimeoutError
from flowkit_core.executors.log_transport import handle_record
from flowkit_core.executors.submitting_lane import SubmittingLane
from flowkit_core.runs.call import Call, fetch_and_release
from flowkit_core.runs.exception_transport import unpack_error
from flowkit_core.runs.handle import is_handle
from flowkit_core.runs.mapping.element import Block, Element
from flowkit_core.runs.states import CANCELLED, FAILED, SKIPPED, SUCCEEDED, Phase

from . import reporter
from .blocks import BLOCK_SECONDS, unpacked
from .calls import NoResult
from .connection import CHECK_INTERVAL, Connection, leave_pool
from .deaths import Deaths
from .errors import CallFailedError, WorkerMismatchError, summary
from .event_hub import hub_of
from .handle import DaskHandle
from .start_order import StartOrder
from .submissions import MAX_BATCH, Submissions
from .worker_logs import logging_of_client
from .worker_stop import WorkerStop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributed import Client

    from flowkit_core import Node
    from flowkit_core.runs.call import Condition
    from flowkit_core.runs.session import Session

    from .event_hub import Place
    from .reporter import Record
    from .submissions import Submission

MAX_SUBMITTED = 20_000
"""Number of calls that have not ended, above which none are made ahead."""
MIN_WINDOW = 256
"""Number of elements of a mapped task that are on their way at least; more in a cluster with many threads."""
MIN_BLOCK_WINDOW = 8
"""The same of blocks, also in a small cluster, because workers may join later."""


class DaskLane(SubmittingLane):
    """The calls of one run that a Dask cluster makes.

    Args:
        client: the client.
    """

    name = "dask"
    makes_handles = True
    block_seconds = BLOCK_SECONDS

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._connection = Connection(client)
        self._has_left_pool = False  # whether the run is inside a task of Dask, whose thread another task may take
        self._was_heard = False  # whether workers have reported anything since the last check
        self._hub = hub_of(client)
        self._must_withdraw = self._must_end = False  # calls that have not started, and those that are running
        self._unfetched: list[tuple[Submission, DaskHandle, float]] = []  # ended calls whose results are needed here
        self._abandoned: dict[int, Call] = {}  # ticket -> call that is still running, although its attempt has ended
        self._seconds_of: dict[int, float] = {}  # ticket -> duration of a call that has failed
        self._open_upstreams: dict[int, int] = {}  # index -> upstreams to submit before `_has_all_upstreams` is asked
        self._seen_finished: set[int] = set()  # tickets of calls whose end was not reported
        self._has_lost_reports = False
        self._check_at = 0.0

    @property
    def window(self) -> int:
        """Maximum number of elements of a mapped task that the lane is given at once."""
        return max(MIN_WINDOW, 8 * self._connection.thread_count())

    @property
    def block_window(self) -> int:
        """Maximum number of blocks of elements that the lane is given at once."""
        return max(MIN_BLOCK_WINDOW, 3 * self._connection.thread_count())

    def open(self, session: Session) -> None:
        """Prepare for the run.

        Raises:
            ExecutorError: the client is closed, or has lost the connection.
        """
        self._has_left_pool = leave_pool()
        self._connection.open(session.run)
        run = session.run
        order, logs = StartOrder(run.graph), logging_of_client(run.facts.run_id)
        nodes = session.nodes(self)
        self._submissions = Submissions(self, self._client, self._hub.topic, nodes, order, logs, run.kept)
        self._deaths = Deaths(self._client, self._submissions)
        self._worker_stop = WorkerStop(self._client, self._submissions.run, self._hub.topic, self.wake)
        self._hub.add(self._client, self._submissions.run, self._receive)
        super().open(session)

    def close(self) -> Sequence[Node]:
        """Have the cluster forget all calls; return the nodes whose calls are running."""
        if self._has_left_pool:
            rejoin()
        if not hasattr(self, "_submissions"):
            return ()
        run, submissions = self.session.run, self._submissions
        self._hub.remove(self._client, submissions.run)
        running = [each.call for each in submissions.by_ticket.values() if each.worker]
        submissions.close()
        return [call.node for call in running if run.is_current(call.node, call.attempt)]

    # ---- values on the cluster ---------------------------------------------------------------------------------------

    def prefetch(self, handles: Sequence[DaskHandle]) -> None:
        """Get the values of several handles at once; what fails is left to their ``fetch()``."""
        handles = [handle for handle in handles if not handle.is_here]
        try:
            values = self.gather([handle.future for handle in handles])
        except Exception:
            return
        for handle, value in zip(handles, values, strict=True):
            handle.keep(value)

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Return the values of futures: see `Connection.gather`."""
        return self._connection.gather(futures)

    # ---- the loop ----------------------------------------------------------------------------------------------------

    @property
    def has_calls(self) -> bool:
        """Whether calls are submitted that have not ended."""
        return bool(self._submissions.by_ticket)

    def submit_ready(self) -> None:
        """Send ready nodes to the scheduler, and what can be sent ahead with them."""
        if self._unfetched:
            self._fetch_ended()
        for _ in range(min(len(self.ready), MAX_BATCH)):  # reports must not wait for all ready nodes
            node = self.ready.popleft()
            if not self._confirm(node):
                self._submit_node(node)
        if self._must_withdraw and not self.ready and self._worker_stop.is_answered:
            self._withdraw()
        self._submissions.send()

    def seconds_to_turn(self) -> float:
        """Return the seconds until the next check; look at the connection and at calls if it is due."""
        if monotonic() >= self._check_at:
            self._check()
        if self.ready:
            return 0.0
        until = min(self._check_at, self._worker_stop.until) if self._must_withdraw else self._check_at
        return max(0.0, until - monotonic())

    def _receive(self, record: Record, place: Place) -> None:
        """Queue a report; called in the thread of the event loop of the client."""
        self._was_heard = True
        self._connection.note_workers()
        self.call_in_loop(self._take_report, record, place)

    def _check(self) -> None:
        """Look at the connection, and at calls whose end no worker has reported.

        Raises:
            ExecutorError: the connection is lost.
        """
        self._connection.check()
        by_ticket, now = self._submissions.by_ticket, monotonic()
        if by_ticket and not self._was_heard:
            self._connection.check_workers([each.call.node.name for each in by_ticket.values() if each.worker])
        self._was_heard = False
        seen, self._seen_finished = self._seen_finished, set()
        for submission in list(by_ticket.values()):
            if now >= submission.expires_at:
                self._expire(submission)
                continue
            future = submission.future
            if future is None or not (submission.is_ready or self._has_lost_reports):
                continue
            status = future.status
            if status in ("error", "cancelled") and submission.is_ready:
                self.call_in_loop(self._take_error, submission)
            elif status == "finished":
                if submission.ticket in seen and not submission.held:
                    self._has_lost_reports = True  # those of calls downstream may be lost, too
                    kind = reporter.RETURNED if future.type is NoResult else reporter.SUCCEEDED
                    record = (self._submissions.run, submission.ticket, kind, 0.0, None)
                    self.call_in_loop(self._take_report, record, ("", "", 0, ""))
                self._seen_finished.add(submission.ticket)
        self._check_at = monotonic() + CHECK_INTERVAL

    # ---- submitting --------------------------------------------------------------------------------------------------

    def _confirm(self, node: Node) -> bool:
        """Return whether the call of a ready node was made ahead; what was reported of it is handled from now on."""
        submission = self._submissions.by_node.get(node.index)  # that of an element has another key
        if submission is None:
            return False
        submission.is_ready = True
        for report in submission.held:
            self.call_in_loop(self._take_report, *report)
        submission.held.clear()
        return True

    def _submit_node(self, node: Node) -> None:
        session = self.session
        call: Call | Outcome
        if isinstance(node, Block):
            call = session.run.mapping.check_block(node) or Call(node, (), {}, None, 1, None, session.run)
        else:
            call = session.run.call(node)
        if isinstance(call, Outcome):
            self.finish(node, call)
        elif (call.lookup is not None or node.task.pool is not None) and _is_elsewhere(call.when):
            self._add(self._submissions.add_condition, call)
        else:
            self._submit_call(call)

    def _submit_call(self, call: Call) -> None:
        """Look the result of a call up in a cache, take its slots of pools, and prepare it to be sent."""
        session, node = self.session, call.node
        is_pooled, outcome = node.task.pool is not None, None
        if call.lookup is not None or (is_pooled and call.when is not None):  # before slots are taken
            outcome = session.precheck(call)
            call.when = None  # it was true
        if is_pooled and outcome is None:
            outcome = session.run.admit(node)
        if outcome is not None:
            self.finish(node, outcome)
        elif self._add(self._submissions.add, call) and node.element is None:
            self._submit_ahead(node)

    def _add(self, add: Callable[[Call], object], call: Call) -> bool:
        """Prepare a call to be sent; return False if it cannot be pickled: then its node has failed."""
        try:
            add(call)
        except Exception as error:
            retryable = not isinstance(error, SerializationError)
            self.finish(call.node, Outcome(FAILED, error=error, retryable=retryable), 0.0, call.attempt)
            return False
        return True

    def _submit_ahead(self, node: Node) -> None:
        """Prepare the calls of nodes downstream that need no decision, and whose upstreams were all submitted."""
        submitted, submissions, run = [node], self._submissions, self.session.run
        for each in submitted:  # it grows
            for after in each.downstream:
                index = after.index
                left = self._open_upstreams.get(index, len(after.upstream)) - 1
                self._open_upstreams[index] = left
                if left or len(submissions.by_ticket) >= MAX_SUBMITTED or index in submissions.by_node:
                    continue
                if self.session.lane_of(after) is not self or not self._has_all_upstreams(after):
                    continue
                call = run.ahead(after, takes_handles=True)
                if call is not None:
                    try:
                        submissions.add(call, is_ready=False)
                    except SerializationError:  # the node fails when it is ready
                        continue
                    submitted.append(after)

    def _has_all_upstreams(self, node: Node) -> bool:
        """Return whether each upstream passes its result to a node, and has succeeded or is submitted.

        A cached upstream must have succeeded: its result is brought here before it ends, and a task downstream of it
        that was sent ahead could end first.
        """
        sources, by_node, codes = set(node.arg_sources or ()), self._submissions.by_node, self.session.run.state.codes
        for index in node.upstream:
            submission = by_node.get(index)
            is_submitted = submission is not None and submission.call.lookup is None and not submission.is_condition
            if index not in sources or not (is_submitted or codes[index] == SUCCEEDED):
                return False
        return True

    # ---- outcomes ----------------------------------------------------------------------------------------------------

    def _take_report(self, record: Record, place: Place) -> None:
        """Handle a report of a worker."""
        _, ticket, kind, seconds, extra = record
        if kind == reporter.STOPPED:
            self._worker_stop.take_answer(place[0], extra)
            return
        if kind == reporter.LOGGED:
            handle_record(extra, {})
            return
        submission = self._submissions.by_ticket.get(ticket)
        if submission is None:
            if kind != reporter.STARTED and (given_up := self._abandoned.pop(ticket, None)) is not None:
                self.session.run.end_abandoned(given_up.node, given_up.attempt)
            return
        if kind == reporter.ENDED_LATE:  # it may come before the report of the failure
            submission.has_ended = True
            return
        if kind == reporter.ARRIVED:
            submission.arrived_at, submission.pid = place[0], place[2]
            return
        if not submission.is_ready:  # the report of an upstream comes later
            submission.held.append((record, place))
            return
        if submission.is_reported:
            return
        call, run = submission.call, self.session.run
        is_call = kind not in (reporter.SKIPPED, reporter.RETURNED) and not submission.is_condition
        if is_call and not submission.worker:
            run.mark_started(call.node, already=True, attempt=call.attempt)
        if place[0] and kind != reporter.RETURNED:
            submission.worker, submission.pid = place[0], place[2]
            run.note_worker(call.node, place[1], place[2], place[3])
        if kind == reporter.STARTED:
            submission.note_start()
            return
        answer: Any = None
        if kind in (reporter.SUCCEEDED, reporter.FAILED) and extra is not None:
            try:
                notes, answer = pickle.loads(extra)
                self._remember(call, notes)
            except Exception as error:  # of the store
                self._end(submission, Outcome(FAILED, error=error), seconds)
                return
        if kind == reporter.SUCCEEDED and submission.is_condition:
            self._submissions.drop(submission)
            call.when = None  # it was true
            if run.may_start(call.node):
                self._submit_call(call)
            else:
                self.ready.append(call.node)
        elif kind == reporter.SUCCEEDED:
            future, submission.future = submission.future, None
            self._take_result(submission, DaskHandle(self, call.node.name, future), answer, seconds)
        elif kind == reporter.FAILED:
            self._await_error(submission, seconds)
        elif kind == reporter.RETURNED:
            self._withdraw_call(submission)
        elif kind in (reporter.SKIPPED, reporter.SKIPPED_IN_CALL):
            self._end(submission, Outcome(SKIPPED, extra), seconds)

    def _take_result(self, submission: Submission, handle: DaskHandle, answer: Any, seconds: float) -> None:
        """End a call, unless its result is needed here: then it is fetched before, together with others."""
        node, run = submission.call.node, self.session.run
        is_fetched = run.stores_result(node)
        handle.is_returned = run.returns_result(node)
        if node.element is None:
            handle.digest = answer
        elif not is_fetched and isinstance(node, Element) and not isinstance(node, Block) and answer:
            node.region.max_block = 1  # the results of a block are fetched
        else:
            is_fetched = True
        if is_fetched:
            submission.is_reported = True
            self._unfetched.append((submission, handle, seconds))
        else:
            self._end(submission, handle, seconds)

    def _fetch_ended(self) -> None:
        """Fetch the results of ended calls that are needed here, by the record for example, and end these calls."""
        fetched, self._unfetched = self._unfetched, []
        self.prefetch([handle for _, handle, _ in fetched])
        for submission, handle, seconds in fetched:
            if submission.ticket not in self._submissions.by_ticket:
                continue
            node: Node = submission.call.node
            result: Any = handle
            if isinstance(node, Block):
                try:
                    result = unpacked(self.session.run, node, handle)
                except Exception as error:
                    result = Outcome(FAILED, error=error)
            elif node.element is not None:
                result = fetch_and_release(handle)
            self._end(submission, result, seconds)

    @staticmethod
    def _remember(call: Call, notes: dict[str, Any]) -> None:
        context = call.context()
        for key, note in notes.items() if context is not None else ():
            context.remember(key, note)  # type: ignore[union-attr]

    def _await_error(self, submission: Submission, seconds: float) -> None:
        """Wait for the exception of a call that has failed, which comes after the report."""
        submission.is_reported = True
        self._seconds_of[submission.ticket] = seconds
        if submission.future is not None:
            submission.future.add_done_callback(lambda _: self.call_in_loop(self._take_error, submission))

    def _take_error(self, submission: Submission) -> None:
        """Handle the exception of a future."""
        future = submission.future
        if future is None or submission.ticket not in self._submissions.by_ticket:
            return
        node = submission.call.node
        seconds = self._seconds_of.pop(submission.ticket, 0.0)
        if future.status == "cancelled":
            self._connection.check()
            self._end_or_send_again(submission, self._deaths.error_of_cancelled(submission))
            return
        found = future.exception()
        if isinstance(found, CallFailedError):
            task_error = unpack_error(found.packed, node.name)
            goes_on = isinstance(task_error, TaskTimeoutError) and task_error.fate == "abandoned"
            goes_on = goes_on and submission.call.timeout is not None and not submission.has_ended
            if goes_on:
                self._abandoned[submission.ticket] = submission.call
            outcome = Outcome(FAILED, error=task_error, retryable=found.retryable, goes_on=goes_on)
            self._end(submission, outcome, seconds)
        elif isinstance(found, WorkerMismatchError):
            raise ExecutorError(f"task {node.name!r} cannot run: {found}; install the same versions") from found
        elif isinstance(found, ModuleNotFoundError) and (found.name or "").startswith("flowkit"):
            raise ExecutorError(
                f"task {node.name!r} cannot run, because a worker of the Dask cluster cannot import {found.name!r}: "
                f"install flowkit-dask on all workers (the scheduler does not need it)"
            ) from found
        elif isinstance(found, KilledWorker):
            self._end_or_send_again(submission, self._deaths.error_of(submission, found))
        else:
            reason = f"could not be passed to the call on the cluster ({summary(found)})"
            error = SerializationError(node.name, "argument", reason, "pass plain data between tasks")
            error.__cause__ = found
            self._end(submission, Outcome(FAILED, error=error), seconds)

    def _expire(self, submission: Submission) -> None:
        """Fail the attempt of a call that has taken longer than its timeout, and whose worker does not say so."""
        call = submission.call
        self._abandoned[submission.ticket] = call
        error = TaskTimeoutError(call.node.name, call.timeout or 0.0, "abandoned")
        self._end(submission, Outcome(FAILED, error=error, goes_on=True), call.timeout or 0.0)

    def _end_or_send_again(self, submission: Submission, error: Exception | None) -> None:
        """Fail the task of a call that was lost with its workers; send it again if there is no error."""
        if error is None:
            self._withdraw_call(submission)
        else:
            outcome = Outcome(FAILED, error=error, retryable=not submission.is_condition)
            self._end(submission, outcome, 0.0)

    def _end(self, submission: Submission, result: Any, seconds: float) -> None:
        """Pass the outcome of a call to the run."""
        call = submission.call
        node = call.node
        if isinstance(result, Outcome):
            self._void_downstream(node)
            self._submissions.drop(submission)
        else:
            self._submissions.remove(submission)
        self.finish(node, result, seconds, call.attempt)

    def _void_downstream(self, node: Node) -> None:
        """Give up the calls made ahead that need the result of a node which has none."""
        ended = [node]
        for each in ended:  # it grows
            for after in each.downstream:
                submission = self._submissions.by_node.get(after.index)
                if submission is not None and not submission.is_ready:
                    self._submissions.drop(submission)
                    ended.append(after)

    # ---- stopping ----------------------------------------------------------------------------------------------------

    def stop_calls(self, *, end_calls: bool) -> None:
        """Have workers start no more calls, and name those that are running; after that, `_withdraw` is called."""
        self._must_end |= end_calls
        if self.session.run.phase < Phase.CANCELLED:
            self._must_withdraw = True
            if self.has_calls:
                self._worker_stop.ask()

    def _withdraw(self) -> None:
        """Withdraw the calls that have not started, and name the others; abandon these if asked."""
        self._must_withdraw = False
        run = self.session.run
        going_on: list[Node] = []
        for submission in list(self._submissions.by_ticket.values()):
            node = submission.call.node
            if submission.ticket not in self._submissions.by_ticket or run.may_start(node):
                continue
            if not self._worker_stop.may_be_running(submission) or (self._must_end and not submission.is_ready):
                self._withdraw_call(submission)
            elif self._must_end:
                self._abandoned[submission.ticket] = submission.call
                reason = f"it was abandoned, because {run.stop_cause}"
                outcome = Outcome(CANCELLED, reason, started=True, goes_on=True)
                self._end(submission, outcome, 0.0)
            else:
                going_on.append(node)
        if not self._must_end:
            self.session.report_running(self, going_on)

    def _withdraw_call(self, submission: Submission) -> None:
        """Withdraw a call that has not started, and queue its node again if it is ready."""
        node = submission.call.node
        self._void_downstream(node)
        self._submissions.drop(submission)
        if submission.is_ready:
            self.ready.append(node)


def _is_elsewhere(condition: Condition | None) -> bool:
    """Return whether a condition takes values that are elsewhere."""
    return condition is not None and any(map(is_handle, (*condition.args, *condition.kwargs.values())))
