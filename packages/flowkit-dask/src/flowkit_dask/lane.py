"""Class `DaskLane`: the calls of one run that a Dask cluster makes.

Ready nodes are sent to the scheduler in batches, and with them the nodes downstream that need no decision, before their
upstreams have ended. Workers report the start and the end of each call: see `Reporter`. Results stay on the cluster.
"""

from __future__ import annotations

import pickle
from collections import deque
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker

from flowkit_core import ExecutorError, Outcome, Retry, SerializationError, TaskTimeoutError
from flowkit_core.runs.call import Call, fetch_and_release
from flowkit_core.runs.exception_transport import unpack_error
from flowkit_core.runs.handle import is_handle
from flowkit_core.runs.limits.ranked_queue import RankedQueue
from flowkit_core.runs.mapping.element import Block, Element
from flowkit_core.runs.states import CANCELLED, FAILED, SKIPPED, SUCCEEDED, Phase
from flowkit_core.runs.timers import Timers
from flowkit_core.runs.wake_up import WakeUp

from . import reporter
from .blocks import BLOCK_SECONDS, unpacked
from .calls import NoResult
from .connection import CHECK_INTERVAL, Connection
from .deaths import Deaths
from .errors import CallFailedError, WorkerMismatchError, summary
from .event_hub import hub_of
from .handle import DaskHandle
from .submissions import MAX_BATCH, Submissions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributed import Client

    from flowkit_core import Node
    from flowkit_core.runs.call import Condition
    from flowkit_core.runs.session import Session

    from .event_hub import Place, Report
    from .reporter import Record
    from .submissions import Submission

MAX_SUBMITTED = 20_000
"""Number of calls that have not ended, above which none are made ahead."""
MIN_WINDOW = 256
"""Number of elements of a mapped task that are on their way at least; more in a cluster with many threads."""
MIN_BLOCK_WINDOW = 8
"""The same of blocks, also in a small cluster, because workers may join later."""
STOP_TIMEOUT = 2.0
"""Seconds that workers have to report which calls are running when the run stops."""


class DaskLane:
    """The calls of one run that a Dask cluster makes.

    Args:
        client: the client.
    """

    name = "dask"
    has_loop = makes_handles = True
    needs_calling_thread = may_fork = False
    fate_of_unfinished = "abandoned"
    block_seconds = BLOCK_SECONDS

    def __init__(self, client: Client) -> None:
        self._client = client
        self._connection = Connection(client)
        self._was_heard = False  # whether workers have reported anything since the last check
        self._hub = hub_of(client)
        self._ready: deque[Node] | RankedQueue = deque()
        self._reports: deque[Report] = deque()
        self._errors: deque[Submission] = deque()  # whose futures have an exception
        self._timers = Timers()
        self._wake_up = WakeUp()
        self._must_stop = self._must_end = False
        self._is_stopping = self._is_stopped = False  # whether workers are asked, and whether they have answered
        self._stop_until = 0.0
        self._asked: set[str] | None = None  # workers that were asked to stop the run; None until it is known
        self._answered: set[str] = set()  # those that have named the calls that are still running
        self._running: set[int] = set()  # tickets of these calls
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
        self._session = session
        self._connection.check()
        self._submissions = Submissions(self, self._client, self._hub.topic, session.nodes(self))
        self._deaths = Deaths(self._client, self._submissions)
        self._hub.add(self._client, self._submissions.run, self._receive)
        if session.run.is_ranked:
            self._ready = RankedQueue((), session.run.graph)
        self._ready.extend(session.first_nodes(self))

    def put(self, nodes: Sequence[Node]) -> None:
        """Queue nodes whose calls are to be submitted."""
        self._ready.extend(nodes)
        self._wake_up.set()

    def wake(self) -> None:
        """Make the loop check whether the run is over."""
        self._wake_up.set()

    def stop(self, *, end_calls: bool) -> None:
        """Make the loop withdraw calls that have not started, and give running calls up if asked."""
        self._must_stop = True
        self._must_end |= end_calls
        self._wake_up.set()

    def close(self) -> Sequence[Node]:
        """Have the cluster forget all calls; return the nodes whose calls are running."""
        if not hasattr(self, "_submissions"):
            return ()
        run, submissions = self._session.run, self._submissions
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
        return self._connection.gather(futures, self._is_ending)

    def _is_ending(self) -> bool:
        return self._session.is_over or self._session.run.phase >= Phase.STOPPING

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Submit calls and pass on their outcomes until the run is over."""
        session, ready, timers = self._session, self._ready, self._timers
        route = session.router(self, self._put_here)
        by_ticket = self._submissions.by_ticket
        while True:
            while self._reports:
                self._take_report(*self._reports.popleft(), route)
            if self._unfetched:
                self._fetch_ended(route)
            while self._errors:
                self._take_error(self._errors.popleft(), route)
            if self._must_stop:
                self._begin_to_stop()
            if self._is_stopping and self._may_withdraw():
                self._withdraw(route)
            if timers:
                ready.extend(timers.due(session.run))
            if ready:
                self._submit(route)
            self._submissions.send()
            if self._reports or self._errors:
                continue
            if session.is_over or (session.has_one_lane and not (ready or by_ticket or timers)):
                return
            if monotonic() >= self._check_at:
                self._check(route)
            left = self._check_at - monotonic()
            if self._is_stopping:
                left = min(left, self._stop_until - monotonic())
            if (seconds := session.run.commit_if_due()) is not None:
                left = min(left, seconds)
            if not (ready or self._reports or self._errors):
                self._wake_up.wait(max(0.0, min(left, timers.wait()) if timers else left))

    def _receive(self, record: Record, place: Place) -> None:
        """Queue a report; called in the thread of the event loop of the client."""
        self._reports.append((record, place))
        self._was_heard = True
        self._connection.note_workers()
        self._wake_up.set()

    def _check(self, route: Callable[[Node], object]) -> None:
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
                self._expire(submission, route)
                continue
            future = submission.future
            if future is None or not (submission.is_ready or self._has_lost_reports):
                continue
            status = future.status
            if status in ("error", "cancelled") and submission.is_ready:
                self._errors.append(submission)
            elif status == "finished":
                if submission.ticket in seen and not submission.held:
                    self._has_lost_reports = True  # those of calls downstream may be lost, too
                    kind = reporter.RETURNED if future.type is NoResult else reporter.SUCCEEDED
                    record = (self._submissions.run, submission.ticket, kind, 0.0, None)
                    self._reports.append((record, ("", "", 0, "")))
                self._seen_finished.add(submission.ticket)
        self._check_at = monotonic() + CHECK_INTERVAL

    # ---- submitting --------------------------------------------------------------------------------------------------

    def _submit(self, route: Callable[[Node], object]) -> None:
        """Send ready nodes to the scheduler, and what can be sent ahead with them."""
        for _ in range(min(len(self._ready), MAX_BATCH)):  # reports must not wait for all ready nodes
            node = self._ready.popleft()
            if not self._confirm(node):
                self._submit_node(node, route)

    def _put_here(self, node: Node) -> None:
        """Queue a node that an outcome has made ready."""
        if not self._confirm(node):
            self._ready.append(node)

    def _confirm(self, node: Node) -> bool:
        """Return whether the call of a ready node was made ahead; what was reported of it is handled from now on."""
        submission = self._submissions.by_node.get(node.index)  # that of an element has another key
        if submission is None:
            return False
        submission.is_ready = True
        self._reports.extendleft(reversed(submission.held))
        submission.held.clear()
        return True

    def _submit_node(self, node: Node, route: Callable[[Node], object]) -> None:
        session = self._session
        call: Call | Outcome
        if isinstance(node, Block):
            call = session.run.mapping.check_block(node) or Call(node, (), {}, None, 1, None, session.run)
        else:
            call = session.run.call(node)
        if isinstance(call, Outcome):
            self._finish(node, call, 0.0, None, route)
        elif (call.lookup is not None or node.task.pool is not None) and _is_elsewhere(call.when):
            self._add(self._submissions.add_condition, call, route)
        else:
            self._submit_call(call, route)

    def _submit_call(self, call: Call, route: Callable[[Node], object]) -> None:
        """Look the result of a call up in a cache, take its slots of pools, and prepare it to be sent."""
        session, node = self._session, call.node
        is_pooled, outcome = node.task.pool is not None, None
        if call.lookup is not None or (is_pooled and call.when is not None):  # before slots are taken
            outcome = session.precheck(call)
            call.when = None  # it was true
        if is_pooled and outcome is None:
            outcome = session.run.admit(node)
        if outcome is not None:
            self._finish(node, outcome, 0.0, None, route)
        elif self._add(self._submissions.add, call, route) and node.element is None:
            self._submit_ahead(node)

    def _add(self, add: Callable[[Call], object], call: Call, route: Callable[[Node], object]) -> bool:
        """Prepare a call to be sent; return False if it cannot be pickled: then its node has failed."""
        try:
            add(call)
        except Exception as error:
            retryable = not isinstance(error, SerializationError)
            self._finish(call.node, Outcome(FAILED, error=error, retryable=retryable), 0.0, call.attempt, route)
            return False
        return True

    def _submit_ahead(self, node: Node) -> None:
        """Prepare the calls of nodes downstream whose upstreams were all submitted, as far as they need no decision."""
        submitted, submissions, run = [node], self._submissions, self._session.run
        for each in submitted:  # it grows
            for after in each.downstream:
                index = after.index
                left = self._open_upstreams.get(index, len(after.upstream)) - 1
                self._open_upstreams[index] = left
                if left or len(submissions.by_ticket) >= MAX_SUBMITTED or index in submissions.by_node:
                    continue
                if self._session.lane_of(after) is not self or not self._has_all_upstreams(after):
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
        sources, by_node, codes = set(node.arg_sources or ()), self._submissions.by_node, self._session.run.state.codes
        for index in node.upstream:
            submission = by_node.get(index)
            is_submitted = submission is not None and submission.call.lookup is None and not submission.is_condition
            if index not in sources or not (is_submitted or codes[index] == SUCCEEDED):
                return False
        return True

    # ---- outcomes ----------------------------------------------------------------------------------------------------

    def _take_report(self, record: Record, place: Place, route: Callable[[Node], object]) -> None:
        """Handle a report of a worker."""
        _, ticket, kind, seconds, extra = record
        if kind == reporter.STOPPED:
            self._running.update(extra)
            self._answered.add(place[0])
            return
        submission = self._submissions.by_ticket.get(ticket)
        if submission is None:
            if kind != reporter.STARTED and (given_up := self._abandoned.pop(ticket, None)) is not None:
                self._session.run.end_abandoned(given_up.node, given_up.attempt)
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
        call, run = submission.call, self._session.run
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
                self._end(submission, Outcome(FAILED, error=error), seconds, route)
                return
        if kind == reporter.SUCCEEDED and submission.is_condition:
            self._submissions.drop(submission)
            call.when = None  # it was true
            if run.may_start(call.node):
                self._submit_call(call, route)
            else:
                self._ready.append(call.node)
        elif kind == reporter.SUCCEEDED:
            future, submission.future = submission.future, None
            self._take_result(submission, DaskHandle(self, call.node.name, future), answer, seconds, route)
        elif kind == reporter.FAILED:
            self._await_error(submission, seconds)
        elif kind == reporter.RETURNED:
            self._withdraw_call(submission)
        elif kind in (reporter.SKIPPED, reporter.SKIPPED_IN_CALL):
            self._end(submission, Outcome(SKIPPED, extra), seconds, route)

    def _take_result(
        self, submission: Submission, handle: DaskHandle, answer: Any, seconds: float, route: Callable[[Node], object]
    ) -> None:
        """End a call, unless its result is needed here: then it is fetched before, together with others."""
        node, run = submission.call.node, self._session.run
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
            self._end(submission, handle, seconds, route)

    def _fetch_ended(self, route: Callable[[Node], object]) -> None:
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
                    result = unpacked(self._session.run, node, handle)
                except Exception as error:
                    result = Outcome(FAILED, error=error)
            elif node.element is not None:
                result = fetch_and_release(handle)
            self._end(submission, result, seconds, route)

    @staticmethod
    def _remember(call: Call, notes: dict[str, Any]) -> None:
        context = call.context()
        for key, note in notes.items() if context is not None else ():
            context.remember(key, note)  # type: ignore[union-attr]

    def _await_error(self, submission: Submission, seconds: float) -> None:
        """Wait for the exception of a call that has failed, which comes after the report."""
        submission.is_reported = True
        self._seconds_of[submission.ticket] = seconds

        def on_done(_: Any) -> None:
            self._errors.append(submission)
            self._wake_up.set()

        if submission.future is not None:
            submission.future.add_done_callback(on_done)

    def _take_error(self, submission: Submission, route: Callable[[Node], object]) -> None:
        """Handle the exception of a future."""
        future = submission.future
        if future is None or submission.ticket not in self._submissions.by_ticket:
            return
        node = submission.call.node
        seconds = self._seconds_of.pop(submission.ticket, 0.0)
        if future.status == "cancelled":
            self._connection.check()
            self._end_or_send_again(submission, self._deaths.error_of_cancelled(submission), route)
            return
        found = future.exception()
        if isinstance(found, CallFailedError):
            task_error = unpack_error(found.packed, node.name)
            goes_on = isinstance(task_error, TaskTimeoutError) and task_error.fate == "abandoned"
            goes_on = goes_on and submission.call.timeout is not None and not submission.has_ended
            if goes_on:
                self._abandoned[submission.ticket] = submission.call
            outcome = Outcome(FAILED, error=task_error, retryable=found.retryable, goes_on=goes_on)
            self._end(submission, outcome, seconds, route)
        elif isinstance(found, WorkerMismatchError):
            raise ExecutorError(f"task {node.name!r} cannot run: {found}; install the same versions") from found
        elif isinstance(found, ModuleNotFoundError) and (found.name or "").startswith("flowkit"):
            raise ExecutorError(
                f"task {node.name!r} cannot run, because a worker of the Dask cluster cannot import {found.name!r}: "
                f"install flowkit-dask on all workers (the scheduler does not need it)"
            ) from found
        elif isinstance(found, KilledWorker):
            self._end_or_send_again(submission, self._deaths.error_of(submission, found), route)
        else:
            reason = f"could not be passed to the call on the cluster ({summary(found)})"
            error = SerializationError(node.name, "argument", reason, "pass plain data between tasks")
            error.__cause__ = found
            self._end(submission, Outcome(FAILED, error=error), seconds, route)

    def _expire(self, submission: Submission, route: Callable[[Node], object]) -> None:
        """Fail the attempt of a call that has taken longer than its timeout, and whose worker does not say so."""
        call = submission.call
        self._abandoned[submission.ticket] = call
        error = TaskTimeoutError(call.node.name, call.timeout or 0.0, "abandoned")
        self._end(submission, Outcome(FAILED, error=error, goes_on=True), call.timeout or 0.0, route)

    def _end_or_send_again(
        self, submission: Submission, error: Exception | None, route: Callable[[Node], object]
    ) -> None:
        """Fail the task of a call that was lost with its workers; send it again if there is no error."""
        if error is None:
            self._withdraw_call(submission)
        else:
            outcome = Outcome(FAILED, error=error, retryable=not submission.is_condition)
            self._end(submission, outcome, 0.0, route)

    def _end(self, submission: Submission, result: Any, seconds: float, route: Callable[[Node], object]) -> None:
        """Pass the outcome of a call to the run."""
        call = submission.call
        node = call.node
        if isinstance(result, Outcome):
            self._void_downstream(node)
            self._submissions.drop(submission)
        else:
            self._submissions.remove(submission)
        self._finish(node, result, seconds, call.attempt, route)

    def _void_downstream(self, node: Node) -> None:
        """Give up the calls made ahead that need the result of a node which has none."""
        ended = [node]
        for each in ended:  # it grows
            for after in each.downstream:
                submission = self._submissions.by_node.get(after.index)
                if submission is not None and not submission.is_ready:
                    self._submissions.drop(submission)
                    ended.append(after)

    def _finish(
        self, node: Node, result: Any, seconds: float, attempt: int | None, route: Callable[[Node], object]
    ) -> None:
        step = self._session.run.finish(node, result, seconds, attempt)
        if isinstance(step, Retry):
            self._timers.add(step)
        else:
            for after in step:
                route(after)

    # ---- stopping ----------------------------------------------------------------------------------------------------

    def _begin_to_stop(self) -> None:
        """Have workers start no more calls, and name those that are running; after that, `_withdraw` is called."""
        self._must_stop = False
        if self._session.run.phase >= Phase.CANCELLED or self._is_stopping:
            return
        self._is_stopping = True
        self._stop_until = monotonic()
        if not self._is_stopped and self._submissions.by_ticket:
            self._stop_until += STOP_TIMEOUT
            Thread(target=self._stop_workers, name="flowkit-dask-stop", daemon=True).start()

    def _stop_workers(self) -> None:
        """Body of a thread: ask all workers to stop the run."""
        try:
            run, topic = self._submissions.run, self._hub.topic
            self._asked = set(self._client.run(reporter.stop_run, run, topic, on_error="ignore"))
        except Exception:  # the connection is lost, which the loop finds
            self._asked = set()
        self._wake_up.set()

    def _may_withdraw(self) -> bool:
        return (self._asked is not None and self._asked <= self._answered) or monotonic() >= self._stop_until

    def _withdraw(self, route: Callable[[Node], object]) -> None:
        """Withdraw the calls that have not started, and name the others; abandon these if asked."""
        self._is_stopping, self._is_stopped = False, True
        run = self._session.run
        going_on: list[Node] = []
        for submission in list(self._submissions.by_ticket.values()):
            node = submission.call.node
            if submission.ticket not in self._submissions.by_ticket or run.may_start(node):
                continue
            if not self._may_be_running(submission) or (self._must_end and not submission.is_ready):
                self._withdraw_call(submission)
            elif self._must_end:
                self._abandoned[submission.ticket] = submission.call
                reason = f"it was abandoned, because {run.stop_cause}"
                outcome = Outcome(CANCELLED, reason, started=True, goes_on=True)
                self._end(submission, outcome, 0.0, route)
            else:
                going_on.append(node)
        if not self._must_end:
            self._session.report_running(self, going_on)

    def _may_be_running(self, submission: Submission) -> bool:
        """Return whether a call is running, or has started on a worker that has not answered."""
        if submission.ticket in self._running or submission.is_reported:
            return True
        worker, asked = submission.worker, self._asked
        return bool(worker) and worker not in self._answered and (asked is None or worker in asked)

    def _withdraw_call(self, submission: Submission) -> None:
        """Withdraw a call that has not started, and queue its node again if it is ready."""
        node = submission.call.node
        self._void_downstream(node)
        self._submissions.drop(submission)
        if submission.is_ready:
            self._ready.append(node)


def _is_elsewhere(condition: Condition | None) -> bool:
    """Return whether a condition takes values that are elsewhere."""
    return condition is not None and any(map(is_handle, (*condition.args, *condition.kwargs.values())))
