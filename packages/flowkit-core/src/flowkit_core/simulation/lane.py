"""Class `SimulatedLane`: workers that make calls in virtual time, with injected faults."""

from __future__ import annotations

from asyncio import get_running_loop, sleep
from functools import partial
from itertools import count

from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import variable
from flowkit_core.coroutines import CoroutineType, awaited
from flowkit_core.errors import ExecutorError, WorkerDiedError
from flowkit_core.runs.call import Outcome, Ref
from flowkit_core.runs.states import CANCELLED, FAILED
from flowkit_core.runs.time_limit import CANCEL_GRACE, JOIN_TIMEOUT, TimeLimit

from .faults import Crash, Fail, Interrupt, Lose, SimulatedError, Slow, Timeout
from .handles import SimulatedHandle, value_of
from .history import key_of, task_of

if TYPE_CHECKING:
    from asyncio import Task as LoopTask
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from contextvars import Context

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.call import Call
    from flowkit_core.runs.session import Session

    from .clock import Action, VirtualClock
    from .faults import FaultPlan
    from .history import History
    from .virtual_loop import VirtualLoop

DEFAULT_DURATION = (0.0, 1.0)
ASYNC = "async"
"""Name of the executor of async tasks that name none: an event loop."""


class Durations:
    """How long attempts take.

    Args:
        given: the option ``durations``: a number, a range ``(low, high)``, a function of task and attempt that returns
            one of them, or a mapping of tasks to them.
        random: returns numbers in [0, 1).

    Raises:
        TypeError: it is something else.
        ValueError: a number is negative, or a range is empty.
    """

    def __init__(self, given: Any, random: Callable[[], float]) -> None:
        self._given = given
        self._random = random
        if not callable(given):
            for each in given.values() if hasattr(given, "keys") else [given]:
                _checked_range(each)

    def of(self, task: str, attempt: int) -> float:
        """Return the duration of an attempt in seconds."""
        given = self._given
        if callable(given):
            given = given(task, attempt)
        elif hasattr(given, "keys"):
            given = given.get(task, DEFAULT_DURATION)
        low, high = _checked_range(given)
        return low + self._random() * (high - low)


def _checked_range(given: Any) -> tuple[float, float]:
    pair = given if isinstance(given, tuple) else (given, given)
    if len(pair) != 2 or not all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in pair):
        raise TypeError(
            f"a duration is {short_repr(given)}, but must be a number of seconds, or a range of them, (low, high)"
        )
    if not 0 <= pair[0] <= pair[1] < float("inf"):
        raise ValueError(f"a duration is {given!r}, but must be 0 or more, and a range must not be empty")
    return pair


class Simulator:
    """What the lanes of one simulated run share.

    Args:
        clock: the virtual clock.
        loop: the event loop of coroutines, in the time of the clock.
        random: returns numbers in [0, 1).
        history: gets the records.
        plan: the faults.
        durations: how long attempts take.

    Attributes:
        interrupt: the injected KeyboardInterrupt; None until then.
        lost: names of the executors that were lost.
        handles: the results that stayed on executors.
        close_at: when lanes stop waiting for running calls of a cancelled run; None until the first is closed.
    """

    def __init__(
        self,
        clock: VirtualClock,
        loop: VirtualLoop,
        random: Callable[[], float],
        history: History,
        plan: FaultPlan,
        durations: Durations,
    ) -> None:
        self.clock = clock
        self.loop = loop
        self.random = random
        self.history = history
        self.plan = plan
        self.durations = durations
        self.interrupt: KeyboardInterrupt | None = None
        self.lost: list[str] = []
        self.handles: list[SimulatedHandle] = []
        self.close_at: float | None = None

    def schedule_faults(self, session: Session, lanes: Mapping[str, SimulatedLane]) -> None:
        """Schedule the faults of the whole run."""
        for fault in self.plan.timed:
            if isinstance(fault, Lose):
                self.clock.schedule(fault.at, partial(self._lose, session, lanes[fault.executor], fault))
            elif isinstance(fault, Interrupt):
                self.clock.schedule(fault.at, partial(self._interrupt, session, fault))

    def _lose(self, session: Session, lane: SimulatedLane, fault: Lose) -> None:
        if session.is_over:
            return
        self.plan.injected.append(fault)
        self.lost.append(lane.name)
        self.history.add("executor_lost", detail=lane.name)
        lane.lose()
        session.fail(lane.name, ExecutorError(f"executor {lane.name!r} was lost: this is a simulated fault"))

    def _interrupt(self, session: Session, fault: Interrupt) -> None:
        if session.is_over:
            return
        self.plan.injected.append(fault)
        self.history.add("interrupted")
        self.interrupt = KeyboardInterrupt()
        raise self.interrupt


class _Attempt:
    """An attempt that a worker makes.

    Attributes:
        call: the call.
        worker: name of the worker.
        began: when it started.
        end: the action that ends it.
        task: the task of the event loop, for a coroutine.
        given_up: whether its result will be ignored.
        next: the call that the worker makes next, if this one succeeds; made ahead with `Run.ahead`.
    """

    __slots__ = ("began", "call", "end", "given_up", "next", "task", "worker")

    def __init__(self, call: Call, worker: str, began: float) -> None:
        self.call = call
        self.worker = worker
        self.began = began
        self.end: Action | None = None
        self.task: LoopTask[Any] | None = None
        self.given_up = False
        self.next: Call | None = None

    def cancel(self) -> None:
        """Have the attempt end without passing an outcome."""
        if self.end is not None:
            self.end.cancel()
        if self.task is not None:  # after its first step: without that, its coroutine would never start
            self.task.get_loop().call_soon(self.task.cancel)


class SimulatedLane:
    """An executor in virtual time: it starts ready nodes in random order, and passes their outcomes after a while.

    Functions are called when their attempt starts. Coroutines run in an event loop in virtual time. Some workers get
    the call that follows in a chain together with the call before, as worker processes do.

    Args:
        name: name of the executor.
        workers: maximum number of attempts at a time; None means no limit, and coroutines that do not end in time are
            cancelled, as in the event loop of async tasks.
        simulator: what the lanes share.
        makes_handles: whether results stay on this executor, and the run gets handles.
        window: maximum number of elements of one mapped task that it is given at once.
    """

    has_loop = needs_calling_thread = may_fork = False

    def __init__(
        self,
        name: str,
        workers: int | None,
        simulator: Simulator,
        *,
        makes_handles: bool = False,
        window: int = 256,
    ) -> None:
        self.name = name
        self.makes_handles = makes_handles
        self.window = window
        self.fate_of_unfinished = "ended" if simulator.random() < 0.5 else "abandoned"
        if name == ASYNC:
            self.fate_of_unfinished = "cancelled"
        self._simulator = simulator
        self._ready: list[Node] = []
        self._running: list[_Attempt] = []
        self._ahead: set[Node] = set()  # nodes whose calls were made ahead
        self._ahead_ready: set[Node] = set()  # those of them that have become ready
        self._numbers = count(1 if workers is None else workers + 1)
        self._has_limit = workers is not None
        self._idle = [f"{name}-{number}" for number in range(1, (workers or 0) + 1)]
        self._is_lost = False

    def open(self, session: Session) -> None:
        """Prepare for the run."""
        self._session = session

    def put(self, nodes: Sequence[Node]) -> None:
        """Take nodes that are ready."""
        simulator = self._simulator
        for node in nodes:
            simulator.history.add("ready", node, simulator.history.attempts.get(key_of(node), 0) + 1, self.name)
            self._session.run.note_ready(node)  # type: ignore[attr-defined]
            if node in self._ahead:
                self._ahead_ready.add(node)
            else:
                self._queue(node)

    def work(self) -> None:
        """Do nothing: the session waits, and the clock runs the actions of all lanes."""

    def wake(self) -> None:
        """Do nothing: the session waits."""

    def stop(self, *, end_calls: bool) -> None:
        """If ``end_calls``, end running calls except those of clean-up tasks, or give them up."""
        if not end_calls:
            self._session.report_running(self, [each.call.node for each in self._running if not each.given_up])
            return
        for attempt in [each for each in self._running if not each.given_up]:
            node = attempt.call.node
            if self._session.run.may_start(node):
                continue
            fate = self.fate_of_unfinished
            self._give_up(attempt, goes_on=fate == "abandoned")
            reason = f"it was {fate}, because the grace period is over"
            outcome = Outcome(CANCELLED, reason, started=True, goes_on=fate == "abandoned")
            self._session.end(node, outcome, self._simulator.clock.now() - attempt.began, attempt.call.attempt)

    def lose(self) -> None:
        """End all workers at once; nothing arrives from them any more."""
        self._is_lost = True
        for attempt in self._running:
            attempt.cancel()

    def close(self) -> Sequence[Node]:
        """Return the nodes whose calls are still running, after a grace period if the run was cancelled."""
        simulator = self._simulator
        if self._session.run.cancelled and self._running and not self._is_lost:
            if simulator.close_at is None:
                simulator.close_at = simulator.clock.now() + JOIN_TIMEOUT
            simulator.clock.run_until(simulator.close_at)
        return [attempt.call.node for attempt in self._running if not attempt.given_up]

    # ---- attempts ------------------------------------------------------------------------------------------------

    def _start_next(self) -> None:
        """Start one of the ready nodes, chosen at random, if a worker is idle."""
        ready, random = self._ready, self._simulator.random
        if not (self._idle or self._has_limit):
            self._idle.append(self._new_worker())
        if self._is_lost or not ready or not self._idle:
            return
        node = self._take()
        call = self._session.begin(node, takes_handles=self.makes_handles)
        if call is None:
            self._start_soon()
            return
        if self.makes_handles:
            call.args = [self._argument(value) for value in call.args]
            call.kwargs = {name: self._argument(value) for name, value in call.kwargs.items()}
        self._start(call, self._idle.pop(int(random() * len(self._idle))))

    def _take(self) -> Node:
        """Remove and return one of the ready nodes with the highest priority, chosen at random."""
        ready = self._ready
        if self._session.run.graph.has_priorities:
            highest = max(node.task.priority for node in ready)
            places = [place for place, node in enumerate(ready) if node.task.priority == highest]
            return ready.pop(places[int(self._simulator.random() * len(places))])
        return ready.pop(int(self._simulator.random() * len(ready)))

    def _argument(self, value: Any) -> Any:
        """Return the value of a handle: of this lane without fetching it."""
        if type(value) is SimulatedHandle and value.lane is not self:
            return value.fetch()
        return value_of(value)

    def _start(self, call: Call, worker: str) -> None:
        """Start an attempt."""
        self._simulator.history.start(call.node, call.attempt, worker, (call.args, call.kwargs))
        attempt = _Attempt(call, worker, self._simulator.clock.now())
        self._running.append(attempt)
        self._make_next_call_ahead(attempt)
        self._invoke(attempt)

    def _invoke(self, attempt: _Attempt) -> None:
        """Make the call, and schedule its end."""
        call, simulator, fate = attempt.call, self._simulator, self.fate_of_unfinished
        name = task_of(call.node)
        seconds = simulator.durations.of(name, call.attempt)
        failure: Fail | None = None
        end: Callable[[_Attempt, Any, float], None] = self._end
        for fault in simulator.plan.of_attempt(name, call.attempt, call.node.element):
            if isinstance(fault, Slow):
                seconds = seconds * fault.factor + fault.seconds
            elif isinstance(fault, Fail):
                failure = fault
            elif isinstance(fault, Crash):
                end = self._crash
            elif isinstance(fault, Timeout):
                timeout = seconds * simulator.random()
                simulator.clock.schedule(timeout, partial(self._expire, attempt, timeout, fate))
        if failure is not None:
            error = failure.error
            if error is None:
                error = SimulatedError(f"simulated failure of attempt {call.attempt} of task {call.node.name!r}")
            result: Any = Outcome(FAILED, error=error)
        else:
            context = self._session.context.copy()
            result = context.run(_call, call)
            if type(result) is CoroutineType:
                self._run_coroutine(attempt, result, seconds, end, context)
                return
        if call.timeout is not None and seconds > call.timeout:
            simulator.clock.schedule(call.timeout, partial(self._expire, attempt, call.timeout, fate))
        attempt.end = simulator.clock.schedule(seconds, partial(end, attempt, result, seconds))

    def _run_coroutine(
        self,
        attempt: _Attempt,
        coroutine: Coroutine[Any, Any, Any],
        seconds: float,
        end: Callable[[_Attempt, Any, float], None],
        context: Context,
    ) -> None:
        """Run a coroutine in the event loop; it takes ``seconds`` longer than its own waits."""
        clock, call = self._simulator.clock, attempt.call
        body = _result_of(coroutine, seconds, call)
        task = attempt.task = self._simulator.loop.create_task(body, context=context)

        def pass_on() -> None:
            if attempt in self._running and not task.cancelled():
                end(attempt, task.result(), clock.now() - attempt.began)

        def schedule_end(_: Any) -> None:  # not in the loop: what the end of an attempt leads to may use others
            attempt.end = clock.schedule(0.0, pass_on)

        task.add_done_callback(schedule_end)
        if call.timeout is not None:
            until = call.timeout + CANCEL_GRACE
            clock.schedule(until, partial(self._expire, attempt, call.timeout, "abandoned"))

    def _end(self, attempt: _Attempt, result: Any, seconds: float) -> None:
        """Pass an outcome to the session."""
        self._release(attempt)
        if self.makes_handles and not isinstance(result, Outcome):
            digest = self._session.run.argument_digest(attempt.call.node)
            result = SimulatedHandle(self, attempt.call.node, result, None if digest is None else digest(result))
            self._simulator.handles.append(result)
        self._session.end(attempt.call.node, result, seconds, attempt.call.attempt)
        self._start_next_call(attempt, result)

    def _make_next_call_ahead(self, attempt: _Attempt) -> None:
        """Make the call of the only downstream of a node ahead, at random, if that needs only this node."""
        downstream, session = attempt.call.node.downstream, self._session
        if len(downstream) != 1 or len(downstream[0].upstream) != 1 or self._simulator.random() < 0.5:
            return
        if attempt.call.node.element is not None:  # its result is one of several
            return
        if session.run.graph.has_priorities:  # the checker expects that what is ready starts in order
            return
        if session.lane_of(downstream[0]) is self:
            attempt.next = session.run.ahead(downstream[0])
            if attempt.next is not None:
                self._ahead.add(downstream[0])

    def _start_next_call(self, attempt: _Attempt, result: Any) -> None:
        """Start the call that was made ahead, if its upstream has succeeded; else treat its node like any other."""
        call = attempt.next
        if call is None:
            return
        node, run = call.node, self._session.run
        self._ahead.discard(node)
        if node not in self._ahead_ready:
            return
        self._ahead_ready.remove(node)
        if isinstance(result, Outcome) or not run.may_start(node):
            self._queue(node)
            return
        self._idle.remove(attempt.worker)
        run.mark_started(node, already=True)
        call.args = tuple([result if isinstance(value, Ref) else value for value in call.args])
        self._start(call, attempt.worker)

    def _crash(self, attempt: _Attempt, _result: Any, seconds: float) -> None:
        """Replace the worker of an attempt, and pass its death to the session."""
        call, simulator = attempt.call, self._simulator
        if not attempt.given_up:
            simulator.history.add("worker_died", call.node, call.attempt)
            attempt.worker = self._new_worker()
        error = WorkerDiedError(call.node.name, call.node.index, -9, "SIGKILL")
        self._end(attempt, Outcome(FAILED, error=error), seconds)

    def _expire(self, attempt: _Attempt, timeout: float, fate: str) -> None:
        """Give an attempt up, because it takes too long."""
        if attempt.given_up or attempt not in self._running:
            return
        call = attempt.call
        goes_on = fate == "abandoned"
        self._simulator.history.add("timed_out", call.node, call.attempt, f"after {timeout:.3f} s", goes_on)
        self._give_up(attempt, goes_on=goes_on)
        self._session.expire(call.node, call.attempt, timeout, fate)

    def _give_up(self, attempt: _Attempt, *, goes_on: bool) -> None:
        """Replace the worker of an attempt whose result will be ignored, if it goes on."""
        attempt.given_up = True
        if attempt.next is not None:
            self._ahead.discard(attempt.next.node)
            attempt.next = None
        self._idle.append(self._new_worker())
        self._start_soon()
        if not goes_on:
            self._running.remove(attempt)
            attempt.cancel()

    def _release(self, attempt: _Attempt) -> None:
        self._running.remove(attempt)
        if not attempt.given_up:
            self._idle.append(attempt.worker)
            self._start_soon()

    def _new_worker(self) -> str:
        return f"{self.name}-{next(self._numbers)}"

    def _queue(self, node: Node) -> None:
        self._ready.append(node)
        self._start_soon()

    def _start_soon(self) -> None:
        if self._ready:
            self._simulator.clock.schedule(0.0, self._start_next)


def _call(call: Call) -> Any:
    """Call a function in its context; return its value, which may be a coroutine, or an Outcome if it raises."""
    variable.set(call.context())
    try:
        return call.func(*call.args, **call.kwargs)
    except BaseException as error:
        return Outcome(FAILED, error=error)


async def _result_of(coroutine: Coroutine[Any, Any, Any], seconds: float, call: Call) -> Any:
    """Return the result of a coroutine some seconds after it has ended; an Outcome if it raises or takes too long."""

    async def result() -> Any:
        value = await awaited(coroutine)
        await sleep(seconds)
        return value

    try:
        if call.timeout is None:
            return await result()
        return await TimeLimit(call.node.name, call.timeout, get_running_loop().time).wait_for(result())
    except BaseException as error:
        return Outcome(FAILED, error=error)
