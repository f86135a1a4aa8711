"""Class `VirtualAsyncLane`: runs async tasks in an event loop in virtual time."""

from __future__ import annotations

from asyncio import CancelledError
from collections import deque
from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.runs.call import Outcome
from flowkit_core.runs.limits.ranked_queue import RankedQueue
from flowkit_core.runs.states import CANCELLED
from flowkit_core.runs.time_limit import CANCEL_GRACE

if TYPE_CHECKING:
    from asyncio import Task as LoopTask
    from collections.abc import Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.call import Call
    from flowkit_core.runs.session import Session

    from .clock import VirtualClock
    from .virtual_loop import VirtualLoop


class _Attempt:
    """An attempt in the loop.

    Attributes:
        call: the call.
        began: when it started.
        task: the task of the loop.
        reason: why it is to be cancelled; empty if it is not.
        is_given_up: whether its result is ignored.
    """

    __slots__ = ("began", "call", "is_given_up", "reason", "task")

    def __init__(self, call: Call, began: float, task: LoopTask[Any]) -> None:
        self.call = call
        self.began = began
        self.task = task
        self.reason = ""
        self.is_given_up = False


class VirtualAsyncLane:
    """Runs async tasks in an event loop in virtual time, as many at once as are ready.

    Attributes:
        unfinished: names of the tasks, or elements, that were running when the lane was closed.
    """

    has_loop = needs_calling_thread = may_fork = makes_handles = False
    name, fate_of_unfinished = "async", "cancelled"
    window = 10_000

    def __init__(self, clock: VirtualClock, loop: VirtualLoop) -> None:
        self._clock = clock
        self._loop = loop
        self._ready: deque[Node] | RankedQueue = deque()
        self._running: dict[_Attempt, None] = {}
        self.unfinished: list[str] = []

    def open(self, session: Session) -> None:
        """Prepare for the run."""
        self._session = session
        if session.run.is_ranked:
            self._ready = RankedQueue((), session.run.graph)

    def put(self, nodes: Sequence[Node]) -> None:
        """Take nodes that are ready."""
        for node in nodes:
            self._ready.append(node)
            self._clock.schedule(0.0, self._start_next)

    def work(self) -> None:
        """Do nothing: the session waits, and its clock runs the loop."""

    def wake(self) -> None:
        """Do nothing: no thread of this lane waits."""

    def stop(self, *, end_calls: bool) -> None:
        """Name the running calls; or cancel them, except those of clean-up tasks."""
        if not end_calls:
            self._session.report_running(self, [each.call.node for each in self._running])
            return
        run = self._session.run
        self._cancel([each for each in self._running if not run.may_start(each.call.node)], run.stop_cause)

    def close(self) -> Sequence[Node]:
        """Cancel the calls of a run that was cancelled; return the nodes of those that do not end."""
        self.unfinished = [each.call.node.name for each in self._running]
        if self._session.run.cancelled and self._running:
            self._cancel(list(self._running), "the run ended")
            self._clock.run_until(self._clock.now() + CANCEL_GRACE)
        return [each.call.node for each in self._running]

    def _start_next(self) -> None:
        session = self._session
        call = session.begin(self._ready.popleft())
        if call is None:
            return
        task = self._loop.create_task(call.invoke_async(), context=session.context.copy())
        attempt = _Attempt(call, self._clock.now(), task)
        self._running[attempt] = None
        # not in the loop: what the end of a task leads to may use event loops itself
        task.add_done_callback(lambda _: self._clock.schedule(0.0, partial(self._end, attempt)))
        if call.timeout is not None:
            self._clock.schedule(call.timeout + CANCEL_GRACE, partial(self._expire, attempt))

    def _end(self, attempt: _Attempt) -> None:
        """Pass the result of a call to the session."""
        call, task = attempt.call, attempt.task
        result: Any = Outcome(CANCELLED, attempt.reason) if task.cancelled() else task.result()
        if attempt.is_given_up:
            self._session.run.end_abandoned(call.node, call.attempt)
            return
        del self._running[attempt]
        if attempt.reason and type(result) is Outcome and isinstance(result.error, CancelledError):
            result = Outcome(CANCELLED, attempt.reason, started=True)
        self._session.end(call.node, result, self._clock.now() - attempt.began, call.attempt)

    def _cancel(self, attempts: Sequence[_Attempt], cause: str) -> None:
        for attempt in attempts:
            if not attempt.reason:
                attempt.reason = f"it was cancelled, because {cause}"
                self._loop.call_soon(attempt.task.cancel)  # after its first step: without that, its call never starts
                self._clock.schedule(CANCEL_GRACE, partial(self._expire, attempt))

    def _expire(self, attempt: _Attempt) -> None:
        """Give up an attempt that has not ended `CANCEL_GRACE` seconds after it was cancelled."""
        if attempt not in self._running:
            return
        del self._running[attempt]
        attempt.is_given_up = True
        call = attempt.call
        if attempt.reason:
            reason = f"{attempt.reason}; it did not end within {CANCEL_GRACE:g} s and was abandoned"
            outcome = Outcome(CANCELLED, reason, started=True, goes_on=True)
            self._session.end(call.node, outcome, self._clock.now() - attempt.began, call.attempt)
        else:
            self._session.expire(call.node, call.attempt, call.timeout or 0.0)
