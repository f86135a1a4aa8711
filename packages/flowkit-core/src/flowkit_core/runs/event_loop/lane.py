"""Class `LoopLane`: the async tasks of one run, as tasks of an event loop.

Two threads take part. The thread of the loop starts calls and, while the run is on its fast path, passes their results
on. Everything that may take long or block is done in `LoopLane.work`, in another thread: conditions, caches, the record
of the run, observers, retries and timeouts.
"""

from __future__ import annotations

from _thread import get_ident
from asyncio import CancelledError
from collections import deque
from contextlib import suppress
from os import getpid
from time import monotonic, perf_counter

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import variable
from flowkit_core.coroutines import CoroutineType
from flowkit_core.errors import ExecutorError
from flowkit_core.runs.call import Outcome, Retry
from flowkit_core.runs.limits.ranked_queue import RankedQueue
from flowkit_core.runs.states import CANCELLED, FAILED
from flowkit_core.runs.time_limit import CANCEL_GRACE
from flowkit_core.runs.timers import Deadlines, Timers
from flowkit_core.runs.wake_up import WakeUp

from .shared_loop import acquire_loop, release_loop
from .watchdog import INTERVAL, Watchdog

if TYPE_CHECKING:
    from asyncio import Task as LoopTask
    from collections.abc import Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.call import Call
    from flowkit_core.runs.session import Session

    from .shared_loop import LoopThread

BATCH = 100
"""Maximum number of calls that are started before the loop runs them: many live objects slow down Python's memory."""
WINDOW = 10_000
"""Maximum number of elements of one mapped task that are called at a time, if there is no ``max_async``."""
NAME = "async"
"""Name of this lane, in logs and messages."""


class Attempt:
    """One call in the event loop.

    Attributes:
        call: the call.
        task: the task of the event loop; None before it starts.
        reason: why the attempt is to be cancelled; empty if it is not.
    """

    __slots__ = ("call", "reason", "task")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.task: LoopTask[None] | None = None
        self.reason = ""


class LoopLane:
    """Runs nodes in an event loop: that of the process, or that of the caller of ``arun()``.

    Args:
        max_async: maximum number of calls at a time; None means no limit.

    Attributes:
        window: maximum number of elements of one mapped task that it is given at once.
    """

    has_loop = True
    needs_calling_thread = may_fork = makes_handles = False
    name, fate_of_unfinished = NAME, "cancelled"

    def __init__(self, max_async: int | None = None) -> None:
        self.window = max_async or WINDOW
        self._slots: deque[None] | None = None if max_async is None else deque([None] * max_async)
        self._ready: deque[Node] | RankedQueue = deque()  # both threads take nodes
        self._slow: deque[Node] | RankedQueue = deque()  # nodes that `work` always prepares
        self._prepared: deque[Attempt] = deque()  # to be started in the loop
        self._running: dict[Attempt, bool] = {}  # also those that are prepared; to remove one is to decide how it ends
        self._ended: deque[tuple[Node, Any, float, int | None]] = deque()  # to be passed on by `work`
        self._timers = Timers()
        self._deadlines = Deadlines(self._running.__contains__)
        self._wake_up = WakeUp()
        self._is_scheduled = False  # whether the loop will call `_start_ready`
        self._must_cancel = self._is_open = False
        self._process = getpid()
        self._watch_at = 0.0  # when the watchdog checks the loop
        self._acquired: LoopThread | None = None

    # ---- the lane --------------------------------------------------------------------------------------------------

    def open(self, session: Session) -> None:
        """Prepare for the run."""
        run = session.run
        loop = run.loop
        if loop is None:
            self._acquired = acquire_loop()
            loop = self._acquired.loop
        self._session, self._run, self._context, self._loop = session, run, session.context, loop
        self._watchdog = Watchdog(loop)
        if run.is_ranked:
            self._ready, self._slow = RankedQueue((), run.graph), RankedQueue((), run.graph)
        self._route = session.router(self, self._ready.append)
        self._ready.extend(session.first_nodes(self))
        self._is_open = True

    def put(self, nodes: Sequence[Node]) -> None:
        """Take nodes that are ready."""
        self._ready.extend(nodes)
        self._schedule()

    def wake(self) -> None:
        """Make `work` check whether the run is over."""
        self._wake_up.set()

    def stop(self, *, end_calls: bool) -> None:
        """Name the running calls; or make `work` cancel them."""
        if end_calls:
            self._must_cancel = True
        else:
            self._session.report_running(self, [each.call.node for each in list(self._running)])
        self._wake_up.set()

    def work(self) -> None:
        """Do what the event loop must not wait for, until the run is over."""
        session, timers = self._session, self._timers
        self._schedule()
        while True:
            while self._ended:
                self._pass_on(*self._ended.popleft())
            if self._must_cancel:
                self._must_cancel = False
                self._cancel_calls(f"it was cancelled, because {self._run.stop_cause}")
            self._expire()
            if timers:
                self._ready.extend(timers.due(self._run))
            self._prepare_ready()
            if self._ended or self._must_cancel:
                continue
            if session.is_over:
                return
            waits = [timers.wait(), self._deadlines.wait(), self._watch()]
            waits.append(self._run.commit_if_due())
            self._wake_up.wait(min(seconds for seconds in waits if seconds is not None))

    def close(self) -> Sequence[Node]:
        """Cancel the calls of a run that was cancelled; return the nodes of those that do not end."""
        if not self._is_open:
            return ()
        self._is_open = False
        try:
            if self._run.cancelled and self._running:
                self._cancel_calls("it was running when the run ended, and was cancelled", also_cleanup=True)
                until = monotonic() + CANCEL_GRACE
                while self._running and (left := until - monotonic()) > 0:
                    self._wake_up.wait(left)
            while self._ended:
                self._pass_on(*self._ended.popleft())
        finally:
            self._route = self._ready.append  # the other one refers to the session
            self._deadlines.clear()
            self._watchdog.close()
            if self._acquired is not None:
                release_loop(self._acquired)
        return [each.call.node for each in list(self._running)]

    # ---- in the thread of the loop ---------------------------------------------------------------------------------

    def _start_ready(self) -> None:
        try:
            self._start_all()
        except BaseException as error:
            self._session.fail(self.name, error)

    def _start_all(self) -> None:
        """Start the calls that are prepared, and on the fast path, those of ready nodes that need no preparation."""
        run, ready, slots = self._run, self._ready, self._slots
        self._is_scheduled = False
        self._watchdog.thread = get_ident()
        while self._prepared:
            self._start(self._prepared.popleft())
        needs_worker = False
        left = BATCH
        while run.fast_path and ready:
            left -= 1
            if left < 0:
                self._is_scheduled = True
                self._loop.call_soon(self._start_ready)
                break
            if slots is not None and not self._take_slot():
                break
            try:
                node = ready.popleft()
            except IndexError:
                self._free_slot()
                break
            if not node.is_simple and _needs_preparation(node):
                self._free_slot()
                self._slow.append(node)
                needs_worker = True
                continue
            call: Any = run.call(node)
            outcome = call if type(call) is Outcome else run.mark_started(node)
            if outcome is not None:
                self._free_slot()
                self._end_later(node, outcome, 0.0, None)
                continue
            attempt = Attempt(call)
            self._running[attempt] = True
            self._start(attempt)
        if needs_worker or (ready and not run.fast_path):
            self._wake_up.set()

    def _start(self, attempt: Attempt) -> None:
        if attempt.reason:
            self._end(attempt, Outcome(CANCELLED, attempt.reason), 0.0)
            return
        attempt.task = self._loop.create_task(self._make_call(attempt), context=self._context.copy())

    async def _make_call(self, attempt: Attempt) -> None:
        """Body of a task of the loop: `Call.invoke_async`, without a coroutine of its own where there is no timeout."""
        call = attempt.call
        result: Any = None
        began = perf_counter()
        try:
            if call.timeout is None:
                variable.set(call.context())
                result = call.func(*call.args, **call.kwargs)
                while type(result) is CoroutineType:
                    result = await result  # type: ignore[func-returns-value]
            else:
                result = await call.invoke_async()
        except BaseException as error:
            result = Outcome(FAILED, error=error)
        seconds = perf_counter() - began
        try:
            if attempt.reason and type(result) is Outcome and isinstance(result.error, CancelledError):
                result = Outcome(CANCELLED, attempt.reason, started=True)
            self._end(attempt, result, seconds)
        except BaseException as error:
            self._session.fail(self.name, error)
        finally:
            del result, attempt, call  # an error refers to this frame by its traceback, and an element to its error

    def _end(self, attempt: Attempt, result: Any, seconds: float) -> None:
        """Pass the result of a call on: here on the fast path, else in `work`."""
        attempt.task = None  # a reference cycle
        run, call = self._run, attempt.call
        if not self._running.pop(attempt, False):  # it was given up
            run.end_abandoned(call.node, call.attempt)
            return
        self._free_slot()
        node = call.node
        if not run.ends_on_fast_path(node, result):
            self._end_later(node, result, seconds, call.attempt)
            return
        step: Any = run.finish(node, result, seconds, call.attempt)
        for after in step:
            self._route(after)
        if self._ready:
            if not self._is_scheduled:
                self._start_ready()
        elif not self._running and self._session.is_over:
            self._session.wake_all()

    def _end_later(self, node: Node, result: Any, seconds: float, attempt: int | None) -> None:
        self._ended.append((node, result, seconds, attempt))
        self._wake_up.set()

    def _cancel(self, attempt: Attempt) -> None:
        if attempt.task is not None:
            self._loop.call_soon(attempt.task.cancel)  # after its first step: without that, `_make_call` never runs

    # ---- in the thread of `work` -----------------------------------------------------------------------------------

    def _prepare_ready(self) -> None:
        """Prepare the calls of those ready nodes that the loop does not start by itself."""
        run = self._run
        for queue in (self._slow, self._ready):
            while queue and (queue is self._slow or not run.fast_path):
                has_slot = self._take_slot()
                try:
                    node = queue.popleft()
                except IndexError:
                    self._give_back(has_slot)
                    break
                if not has_slot and run.may_start(node):
                    getattr(queue, "appendleft", queue.append)(node)
                    if self._slots:  # freed while the node was in no queue, so without a wake-up
                        continue
                    break
                run.note_worker(node, NAME, self._process)
                call = self._session.prepare(node)
                if isinstance(call, Outcome):
                    self._give_back(has_slot)
                    self._pass_on(node, call, 0.0, None)
                    continue
                attempt = Attempt(call)
                self._running[attempt] = True
                if call.timeout is not None:
                    self._deadlines.add(attempt, call.timeout + CANCEL_GRACE)
                self._prepared.append(attempt)
        if self._prepared or (self._ready and run.fast_path):
            self._schedule()

    def _pass_on(self, node: Node, result: Any, seconds: float, attempt: int | None) -> None:
        self._take(self._run.finish(node, result, seconds, attempt))

    def _take(self, step: Sequence[Node] | Retry) -> None:
        if isinstance(step, Retry):
            self._timers.add(step)
            return
        for node in step:
            self._route(node)

    def _cancel_calls(self, reason: str, *, also_cleanup: bool = False) -> None:
        """Cancel running calls, except those of clean-up tasks, which get `CANCEL_GRACE` seconds to end."""
        for attempt in list(self._running):
            if attempt.reason or (self._run.may_start(attempt.call.node) and not also_cleanup):
                continue
            attempt.reason = reason
            self._deadlines.add(attempt, CANCEL_GRACE)
            self._call_in_loop(self._cancel, attempt)

    def _expire(self) -> None:
        """Give up the attempts that have not ended `CANCEL_GRACE` seconds after they were cancelled."""
        for attempt in self._deadlines.expired():
            call = attempt.call
            if attempt.task is None and not attempt.reason:  # the loop has not started it yet
                self._deadlines.add(attempt, (call.timeout or 0.0) + CANCEL_GRACE)
                continue
            if not self._running.pop(attempt, False):
                continue  # it has ended meanwhile
            self._free_slot()
            if attempt.reason:
                reason = f"{attempt.reason}; it did not end within {CANCEL_GRACE:g} s and was abandoned"
                outcome = Outcome(CANCELLED, reason, started=True, goes_on=True)
                self._pass_on(call.node, outcome, 0.0, call.attempt)
            else:
                self._take(self._run.expire(call.node, call.attempt, call.timeout or 0.0))

    def _watch(self) -> float:
        """Have the watchdog check the loop, if it is time for that; return the seconds until the next time."""
        now = monotonic()
        if now >= self._watch_at:
            if self._watch_at and self._running:
                with suppress(RuntimeError):  # the loop is closed
                    self._watchdog.check(now, self._name_of)
            self._watch_at = now + INTERVAL
        return self._watch_at - now

    def _name_of(self, task: LoopTask[Any]) -> str | None:
        """Return the name of the node whose call is a task of the loop."""
        return next((each.call.node.name for each in list(self._running) if each.task is task), None)

    # ---- in any thread ---------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Have ready nodes started: by the loop on the fast path, else by `work`."""
        if self._run.fast_path or self._prepared:
            if not self._is_scheduled:
                self._is_scheduled = True
                self._call_in_loop(self._start_ready)
        else:
            self._wake_up.set()

    def _call_in_loop(self, function: Any, *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # it is closed
            error = ExecutorError("the event loop was closed while async tasks of the run were to run in it")
            self._session.fail(self.name, error)

    def _take_slot(self) -> bool:
        """Take one of the slots of `max_async`; return whether one was free."""
        if self._slots is None:
            return True
        try:
            self._slots.pop()
        except IndexError:
            return False
        return True

    def _free_slot(self) -> None:
        """Give a slot back, and have waiting nodes started."""
        if self._slots is not None:
            self._slots.append(None)
            if self._slow or (self._ready and not self._run.fast_path):
                self._wake_up.set()

    def _give_back(self, has_slot: bool) -> None:
        if has_slot:
            self._free_slot()


def _needs_preparation(node: Node) -> bool:
    """Return whether a call has a condition, a cache, a timeout or a pool, or takes part in mapping."""
    task = node.task
    if node.mapped is not None or node.feeds:
        return True
    return task.when is not None or task.cache is not None or task.timeout is not None or task.pool is not None
