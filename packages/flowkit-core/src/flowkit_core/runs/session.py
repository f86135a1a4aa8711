"""Class `Session`: drives one run on one or several lanes; protocol `Lane`: the part of one executor in one run.

Every ready node goes to the lane of its executor. A lane makes the call and passes the outcome to the run; the nodes
that this makes ready stay in the lane or go to others. The run is over when every node has its final state, or when it
was cancelled. The session stops all lanes at once when the run starts to stop, and closes them in the end.
"""

from __future__ import annotations

from _thread import allocate_lock
from contextvars import copy_context
from functools import partial
from time import monotonic

from flowkit_core._typing import TYPE_CHECKING, Protocol
from flowkit_core.context import variable
from flowkit_core.errors import ExecutorError
from flowkit_core.events import RunStopping
from flowkit_core.failures import add_note, describe_error

from .call import Outcome, Retry
from .states import Phase
from .time_limit import JOIN_TIMEOUT, STOP_GRACE
from .timers import Timers
from .wake_up import WakeUp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from threading import Thread

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node

    from .call import Call
    from .run import Run


class Clock(Protocol):
    """The time of a session, and an event that its thread waits for: a `WakeUp`, or the clock of a simulation."""

    def now(self) -> float:
        """Return the current time in seconds."""

    def wait(self, timeout: float | None = None) -> None:
        """Wait until :meth:`set` is called, ``timeout`` seconds at most. It may return early."""

    def set(self) -> None:
        """End the wait, or the next one."""


class Lane(Protocol):
    """The part of one executor in one run: it makes the calls of the nodes that it is given.

    A lane decides nothing: :class:`Session` passes it ready nodes, and it passes outcomes back. :meth:`put`,
    :meth:`wake` and :meth:`stop` return at once, and may be called from any thread.

    A lane that makes handles may have a method ``prefetch(handles)``, which gets the values of several of its handles
    at once: ``fetch()`` of each is called soon after it, and raises the exception if a value is lost.

    Attributes:
        name: name of the executor.
        has_loop: whether the lane has a loop, :meth:`work`, that needs a thread until the run is over. One lane of a
            run gets the thread that called ``run()``, the others get threads of their own.
        needs_calling_thread: whether that must be the thread that called ``run()``.
        may_fork: whether the lane may fork this process; such lanes are opened first, before threads start.
        makes_handles: whether its calls may return handles; see `Handle`.
        fate_of_unfinished: what happens to calls that :meth:`close` does not wait for: ``"abandoned"``, ``"ended"``, or
            ``"cancelled"`` for coroutines.

    A lane may also have an attribute ``window``: the maximum number of elements of one mapped task that it is given at
    once, an int of at least 1; 256 if it has none. With an attribute ``block_window``, an int of at least 1, it gets
    blocks of several short elements, up to this number at once; see `runs.mapping.element`. An attribute
    ``block_seconds`` is the number of seconds of calls that a block is made for: large if a call costs much.
    """

    name: str
    has_loop: bool
    needs_calling_thread: bool
    may_fork: bool
    makes_handles: bool
    fate_of_unfinished: str

    def open(self, session: Session) -> None:
        """Prepare for the run; nodes may arrive from now on.

        Raises:
            ExecutorError: the lane cannot start.
        """

    def put(self, nodes: Sequence[Node]) -> None:
        """Take nodes that are ready."""

    def work(self) -> None:
        """Run nodes in the calling thread until ``session.is_over``. Called once, if ``has_loop``."""

    def wake(self) -> None:
        """Make the loop of this lane check whether the run is over or stopping."""

    def stop(self, *, end_calls: bool) -> None:
        """Stop early, after a failure, a timeout of the run or a cancelled ``arun()``: start only clean-up tasks.

        Calls that have started go on, and the lane names them with :meth:`Session.report_running`.

        Args:
            end_calls: False lets running calls end; True, when the grace of the run is over, ends them as well, as far
                as that is possible.
        """

    def close(self) -> Sequence[Node]:
        """Release everything that the run needed, and return the nodes whose calls are still running."""


class Session:
    """Drives one run on one or several lanes.

    Args:
        run: the run.
        lanes: the lanes; the first runs every node that ``lane_by_index`` does not contain.
        lane_by_index: index of a node -> its lane.
        clock: the clock of retries and of the grace period; None means the time of the system.

    Attributes:
        run: the run.
        has_one_lane: whether there is one lane only, which then decides by itself when the run is over. It cannot if
            nodes may wait for a pool, outside of the lane.
        caller_only_waits: whether the thread that called ``run()`` makes no calls itself, so that it can end the run
            while a call blocks: the run has a timeout, or a coroutine that may be cancelled waits for it.
        starts_threads: whether other threads than those of the lanes take part from the beginning.
        context: the context variables of the thread that called ``run()``.
    """

    _waiting = False  # whether a thread is in _wait()
    _timers: Timers | None = None  # of retries, once there is one
    _must_check_caller = _is_stopped = False
    _timeout_at: float | None = None  # when the timeout of the run is over
    _grace_ends_at: float | None = None  # when the grace of the run ends
    _join_timeout: float | None = None  # seconds for the threads of lanes; None means no limit
    _reports: Sequence[Lane] = ()  # of lanes that are stopping, those that have not named their running calls
    _running: Sequence[Node] = ()  # those that the others have named

    def __init__(
        self,
        run: Run,
        lanes: Sequence[Lane],
        lane_by_index: dict[int, Lane] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.run = run
        self.caller_only_waits = run.timeout is not None or run.caller is not None
        self._lanes = lanes
        self._lane_by_index = lane_by_index or {}
        self._clock = clock  # None until a thread waits
        self._now = monotonic if clock is None else clock.now
        self._error: BaseException | None = None  # of a lane
        self._threads: Sequence[Thread] = ()
        self.context = copy_context()
        if variable.get() is not None:  # the run is inside a task: its own tasks have contexts of their own
            self.context.run(variable.set, None)
        limits = run.limits
        is_shared = len(lanes) > 1 or limits is not None
        if run.graph.mapped:
            is_pulled_here = self._is_pulled_here(clock)
            self._prepare_pulling(is_here=is_pulled_here)
            is_shared = is_shared or not is_pulled_here  # threads may pull lazy inputs
        self.has_one_lane = not is_shared
        self.starts_threads = is_shared or self.caller_only_waits
        self._first_nodes = run.start()
        self._lock = allocate_lock()
        run.on_stop = self._stop
        if limits is not None:
            limits.now, limits.on_alarm, run.on_ready = self._now, self._start_waiting, self.put
        for lane in lanes:
            if lane.makes_handles:
                run.expect_handles()

    # ---- what lanes call -------------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether no more nodes will be put into any lane."""
        return self.run.cancelled or self.run.done

    def lane_of(self, node: Node) -> Lane:
        """Return the lane of a node."""
        return self._lane_by_index.get(node.index, self._lanes[0])

    def _prepare_pulling(self, *, is_here: bool) -> None:
        """Prepare mapped nodes for lanes; ``is_here`` says whether the threads of lanes pull lazy inputs."""
        mapping = self.run.mapping
        if self._clock is not None:
            mapping.now = self._now  # of a simulation
        pullers = mapping.pullers
        pullers.context, pullers.pass_on, pullers.fail = self.context, self.proceed, self._fail_pulling
        pullers.is_here = is_here
        for node in self.run.graph.mapped:
            mapping.lanes[node.index] = self.lane_of(node)

    def _is_pulled_here(self, clock: Clock | None) -> bool:
        """Return whether the lazy inputs of mapped nodes are pulled by the thread that runs their elements.

        This is so in the time of a simulation, or if all elements must run in the thread that called ``run()``, unless
        that thread has to end the run while an iterator blocks.
        """
        if clock is not None:
            return True
        if self.caller_only_waits:
            return False
        lane = self.lane_of(self.run.graph.mapped[0])
        return lane.needs_calling_thread and all(self.lane_of(node) is lane for node in self.run.graph.mapped)

    def nodes(self, lane: Lane) -> Sequence[Node]:
        """Return all nodes of a lane, in topological order."""
        nodes = self.run.graph.nodes
        return nodes if self.has_one_lane else [node for node in nodes if self.lane_of(node) is lane]

    def first_nodes(self, lane: Lane) -> Sequence[Node]:
        """Return the nodes of a lane that are ready at the start, in topological order."""
        nodes = self._first_nodes
        return nodes if self.has_one_lane else [node for node in nodes if self.lane_of(node) is lane]

    def router(self, lane: Lane, put: Callable[[Node], object]) -> Callable[[Node], object]:
        """Return a function that takes a node which became ready in a lane.

        Args:
            lane: the lane.
            put: takes the nodes of this lane; the others go through :meth:`put`.
        """
        if len(self._lanes) == 1:
            return put
        lane_by_index, default = self._lane_by_index, self._lanes[0]

        def route(node: Node) -> None:
            if lane_by_index.get(node.index, default) is lane:
                put(node)
            else:
                self.put((node,))

        return route

    def put(self, nodes: Iterable[Node]) -> None:
        """Pass ready nodes to their lanes: the only way into another lane.

        Nothing happens once the lanes are closed: calls may outlive a cancelled run.
        """
        for node in nodes if self._lanes else ():
            self.lane_of(node).put((node,))

    def prepare(self, node: Node, *, takes_handles: bool = False) -> Call | Outcome:
        """Return the call to make for a ready node, which counts as started; or its outcome, if it is not called.

        The condition of the task is evaluated here, in the calling thread.

        Args:
            node: the node.
            takes_handles: whether the lane takes handles as arguments; else their values are fetched here.
        """
        call = self.run.call(node) if takes_handles else self.run.local_call(node)
        if isinstance(call, Outcome):
            return call
        outcome = self.precheck(call) if call.has_precheck else None
        return outcome or self.run.mark_started(node) or call

    def precheck(self, call: Call) -> Outcome | None:
        """Evaluate the condition of a call here, then look for a cached result; None if the function is to be called.

        Handles among the arguments of a condition are replaced by their values for that.
        """
        local = call.local() if call.when is not None else call
        return local if isinstance(local, Outcome) else self.context.copy().run(local.precheck)

    def begin(self, node: Node, *, takes_handles: bool = False) -> Call | None:
        """Return the call to make for a ready node; None if the node has ended without a call: see :meth:`prepare`."""
        call = self.prepare(node, takes_handles=takes_handles)
        if isinstance(call, Outcome):
            self.end(node, call)
            return None
        return call

    def end(self, node: Node, result: Any, seconds: float = 0.0, attempt: int | None = None) -> None:
        """Take the result of a call, and pass the nodes that are ready now to their lanes.

        Args:
            node: the node.
            result: what the function returned, or an :class:`Outcome`.
            seconds: duration of the call.
            attempt: ``call.attempt``; a result of an attempt that has been given up is ignored.
        """
        self.proceed(self.run.finish(node, result, seconds, attempt))

    def expire(self, node: Node, attempt: int, timeout: float, fate: str = "abandoned") -> None:
        """End an attempt that takes longer than its timeout; its own result is ignored if it comes later.

        Args:
            node: the node.
            attempt: number of the attempt, ``call.attempt``.
            timeout: seconds that it may take.
            fate: what happens to it, see :class:`TaskTimeoutError`.
        """
        self.proceed(self.run.expire(node, attempt, timeout, fate))

    def proceed(self, step: Sequence[Node] | Retry) -> None:
        """Take what `Run.finish` has returned: pass ready nodes to their lanes, or delay a retry."""
        if isinstance(step, Retry):
            self.delay(step)
        elif step:
            self.put(step)
        elif self.is_over:
            self.wake_all()

    def delay(self, retry: Retry) -> None:
        """Put the node of a retry into its lane after the delay, for lanes without timers of their own."""
        with self._lock:
            if self._timers is None:
                self._timers = Timers()
                self._timers.clock = self._now
            self._timers.add(retry)
        self._start_waiting()

    def check_caller(self) -> None:
        """Check how often the coroutine that waits for the run was cancelled. Returns at once."""
        self._must_check_caller = True
        self._start_waiting()

    def fail(self, name: str, error: BaseException) -> None:
        """End the run because a lane cannot go on.

        Args:
            name: name of its executor.
            error: the reason.
        """
        with self._lock:
            if self._error is None:
                self._error = error if isinstance(error, ExecutorError) else _lane_error(name, error)
        self.run.cancel(f"executor {name!r} failed")
        self.wake_all()

    def _fail_pulling(self, error: BaseException) -> None:
        self.fail(self._lanes[0].name if self._lanes else "", error)

    def report_running(self, lane: Lane, nodes: Iterable[Node]) -> None:
        """Name the nodes whose calls go on after :meth:`Lane.stop`. Once all lanes have done it, the run reports them.

        Args:
            lane: the lane.
            nodes: the nodes whose calls have started and may not have ended.
        """
        with self._lock:
            if lane not in self._reports:
                return
            self._reports = [other for other in self._reports if other is not lane]
            self._running = [*self._running, *nodes]
            if self._reports:
                return
            running, self._running = self._running, ()
        run = self.run
        if run.caller is not None and run.caller.cancellations:
            return  # the caller has cancelled it
        facts = run.report.running_after_stop(running, run.stop_error) if run.phase == Phase.STOPPING else None
        if facts is not None and run.events.wants(RunStopping):
            run.events.emit(RunStopping, **facts)

    def wake_all(self) -> None:
        """Wake every lane, so that it checks whether the run is over."""
        self._wake()
        for lane in self._lanes:
            lane.wake()

    # ---- the run ---------------------------------------------------------------------------------------------------

    def drive(self) -> None:
        """Drive the run to its end.

        Raises:
            ExecutorError: a lane cannot start, or cannot go on.
        """
        opened: list[Lane] = []
        try:
            for lane in self._lanes if self.has_one_lane else sorted(self._lanes, key=lambda lane: not lane.may_fork):
                opened.append(lane)
                try:
                    lane.open(self)
                except Exception as reason:
                    if not self.has_one_lane:
                        add_note(reason, f"flowkit: executor {lane.name!r} could not start")
                    raise
            self._work()
        except BaseException:  # Ctrl-C in this thread, outside of a task; or a lane cannot start
            self.run.cancel("the run was interrupted")
            self.wake_all()
            raise
        finally:
            self._close(opened)
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame

    def _work(self) -> None:
        if not self.starts_threads and self._lanes[0].has_loop:
            self._lanes[0].work()
            return
        loops = [lane for lane in self._lanes if lane.has_loop]
        loops.sort(key=lambda lane: not lane.needs_calling_thread)
        led: Lane | None = None
        if loops and not self.caller_only_waits:
            led = loops.pop(0)
        if self.run.timeout is not None:
            self._timeout_at = self._now() + self.run.timeout
        if led is None:  # before nodes are put: of two waiting threads, one would miss the end of the run
            self._waiting, self._clock = True, self._clock or WakeUp()
        if self.run.caller is not None:  # it may cancel the run from now on
            self.run.caller.attach(self)
        for lane in loops:
            self.work_in_thread(lane)
        self.put([node for node in self._first_nodes if not self.lane_of(node).has_loop])
        if led is not None:
            led.work()
            self.wake_all()
        else:
            self._wait()

    def work_in_thread(self, lane: Lane) -> None:
        """Run the loop of a lane in a thread of its own."""
        self._start_thread(partial(self._work_in_thread, lane), f"flowkit-{lane.name}")

    def _work_in_thread(self, lane: Lane) -> None:
        """Run the loop of a lane in a thread of its own."""
        try:
            lane.work()
        except BaseException as error:
            self.fail(lane.name, error)
        finally:
            self.wake_all()

    def _wait(self) -> None:
        """Wait until the run is over; meanwhile, put nodes that are due for a retry, and end the grace of the run."""
        while not self.is_over:
            if self._must_check_caller:
                self._must_check_caller = False
                self._stop_for_caller()
                continue
            with self._lock:
                due = self._timers.due(self.run) if self._timers else ()
                seconds = self._timers.wait() if self._timers else None
            self.put(due)
            if self.run.limits is not None:
                self.put(self.run.limits.due())
                left = self.run.limits.seconds_left()
                seconds = left if seconds is None or (left is not None and left < seconds) else seconds
            if self._timeout_at is not None:
                left = self._timeout_at - self._now()
                if left <= 0:
                    self._timeout_at = None
                    self._time_out()
                    continue
                seconds = left if seconds is None else min(left, seconds)
            if self._grace_ends_at is not None:
                left = self._grace_ends_at - self._now()
                if left <= 0:
                    self._grace_ends_at, self._join_timeout = None, 0.0
                    self._end_calls()
                    continue
                seconds = left if seconds is None else min(left, seconds)
            if not due and self._clock is not None:
                self._clock.wait(seconds)

    def _time_out(self) -> None:
        """Stop the run because of its timeout, and give running calls a grace period."""
        self.run.time_out()
        self._start_grace()

    def _stop_for_caller(self) -> None:
        """Stop the run because its caller was cancelled: coroutines are cancelled, other calls get a grace period.

        The second cancellation ends the run at once.
        """
        from asyncio import CancelledError

        caller = self.run.caller
        if caller is not None and caller.cancellations > 1:
            self.run.cancel("arun() was cancelled twice")
            self.wake_all()
            return
        self.run.stop_early(CancelledError("arun() was cancelled"))
        for lane in self._lanes:
            if lane.fate_of_unfinished == "cancelled":
                lane.stop(end_calls=True)
        self._start_grace()

    def _start_grace(self) -> None:
        if self._grace_ends_at is None:
            grace = self.run.grace
            self._grace_ends_at = self._now() + (STOP_GRACE if grace is None else grace)

    def _end_calls(self) -> None:
        """End running calls, because the grace of the run is over."""
        for lane in self._lanes:
            lane.stop(end_calls=True)

    def _start_waiting(self) -> None:
        with self._lock:
            start, self._waiting = not self._waiting, True
            if self._clock is None:
                self._clock = WakeUp()
        if start:
            try:
                self._start_thread(self._wait_in_thread, "flowkit-timers")
            except RuntimeError as error:  # the system cannot start more threads
                self.fail(self._lanes[0].name, error)
        self._wake()

    def _wake(self) -> None:
        """Wake the thread that waits, if there is one: one that waits later looks at everything first."""
        if self._clock is not None:
            self._clock.set()

    def _wait_in_thread(self) -> None:
        try:
            self._wait()
        except BaseException as error:
            self.fail(self._lanes[0].name, error)

    def _start_thread(self, target: Callable[[], None], name: str) -> None:
        from threading import Thread

        thread = Thread(target=target, name=name, daemon=True)
        thread.start()
        with self._lock:
            self._threads = (*self._threads, thread)

    def _stop(self) -> None:
        """Stop all lanes at once, and start the grace of the run: now, or when a task raises SystemExit later."""
        if not self._is_stopped:
            self._is_stopped = True
            self._reports = self._lanes
            for lane in self._lanes:
                lane.stop(end_calls=False)
            self._wake()  # nodes that wait for a retry end now
        if self.run.exiting or self.run.grace is not None:
            self._start_grace()
            self._start_waiting()

    def _close(self, opened: Sequence[Lane]) -> None:
        """Close the lanes, and end nodes whose calls go on as cancelled."""
        run = self.run
        run.on_stop = None
        if run.kept is not None:
            run.kept.on_drop.clear()
        if run.limits is not None:
            run.on_ready = run.limits.on_alarm = None
        if run.caller is not None:
            run.caller.attach(None)
        self._wake()
        try:
            if self._threads and self._join_timeout is None and run.cancelled:
                self._join_timeout = JOIN_TIMEOUT
            until = None if self._join_timeout is None else self._now() + self._join_timeout
            for thread in self._threads:
                thread.join(None if until is None else max(0.0, until - self._now()))
            if run.has_handles:
                run.fetch_handles()  # also of an interrupted run; a second Ctrl-C ends that
        finally:  # a second Ctrl-C must not keep lanes open
            running = self._close_lanes(opened)
        if run.graph.mapped:
            run.mapping.pullers.close()
        self._lanes = self._reports = ()  # the lanes refer to this object: a reference cycle
        self._lane_by_index = {}
        if run.cancelled:
            run.abandon(running)

    def _close_lanes(self, lanes: Sequence[Lane]) -> dict[Node, str]:
        """Close every lane, whatever one of them raises; return the nodes whose calls go on, and their fate."""
        if not lanes:
            return {}
        if len(lanes) == 1:
            running = lanes[0].close()
            return dict.fromkeys(running, lanes[0].fate_of_unfinished) if running else {}
        try:
            first = self._close_lanes(lanes[:1])
        finally:
            others = self._close_lanes(lanes[1:])
        return first | others


def _lane_error(name: str, error: BaseException) -> ExecutorError:
    failed = ExecutorError(f"executor {name!r} failed: {describe_error(error)}")
    failed.__cause__ = error
    return failed
