"""Class `VirtualTimeExecutor`: runs tasks in the calling thread, and waits in virtual time."""

from __future__ import annotations

from collections import deque

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import ExecutorError
from flowkit_core.executors.executor import SerialExecutor, check_open
from flowkit_core.runs.call import Retry
from flowkit_core.runs.limits.ranked_queue import RankedQueue
from flowkit_core.runs.session import Session
from flowkit_core.runs.worker import Worker

from .clock import StuckError, VirtualClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.run import Run
    from flowkit_core.runs.session import Lane


class VirtualTimeExecutor(SerialExecutor):
    """Runs every task in the calling thread, and takes no time for waits: an executor for tests.

    Delays of retries, rates of pools and the timeout of the run are in virtual time. It passes only while no task can
    run: the clock jumps to the end of the next wait. Tasks run as with the executor ``"serial"``, and take no virtual
    time; what they do themselves, such as ``time.sleep()``, and their own timeouts take real time. Conditions, caches,
    records, hooks and logs are as in any run.

    Tasks that are ``async def`` functions run at the same time in an event loop in virtual time: ``asyncio.sleep()``,
    ``asyncio.timeout()`` and the timeouts of these tasks take no real time. There is no input and output in this loop:
    use stand-ins for clients. ``asyncio.to_thread()`` calls its function at once.

    Attributes:
        seconds: virtual duration of the last run, in seconds.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> from flowkit_core.testing import VirtualTimeExecutor
        >>> answers = iter([503, 503, 200])
        >>> @task(retries=2, delay=60, jitter=0)
        ... def fetch():
        ...     if (status := next(answers)) != 200:
        ...         raise ConnectionError(status)
        ...     return status
        >>> executor = VirtualTimeExecutor()
        >>> DAG("pages", tasks=[fetch]).run(executor)
        {'fetch': 200}
        >>> executor.seconds
        180.0
    """

    name = "virtual"

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def execute(self, run: Run) -> None:
        """Run all nodes."""
        check_open(self, is_closed=self._closed)
        clock = VirtualClock(lambda: 0.0)
        coroutines = [node.index for node in run.graph.nodes if node.task.is_async]
        if not coroutines:
            self._drive(Session(run, [_VirtualLane(clock)], clock=clock), clock)
            return
        from .async_lane import VirtualAsyncLane
        from .virtual_loop import virtual_loop

        with virtual_loop(clock) as loop:
            lane = VirtualAsyncLane(clock, loop)
            lanes: list[Lane] = [_VirtualLane(clock), lane]
            try:
                self._drive(Session(run, lanes, dict.fromkeys(coroutines, lane), clock), clock)
            except StuckError:
                raise _stuck_error(lane.unfinished) from None

    def _drive(self, session: Session, clock: VirtualClock) -> None:
        try:
            session.drive()
        finally:
            self.seconds = clock.now()

    def lane(self) -> NoReturn:
        """Raise an error, because other executors of a run would be in real time.

        Raises:
            ExecutorError: always.
        """
        raise ExecutorError(
            "a VirtualTimeExecutor cannot share a run with other executors, which are in real time: give it alone, "
            "run(VirtualTimeExecutor()); it then runs every task"
        )

    def __repr__(self) -> str:
        return "VirtualTimeExecutor()"


def _stuck_error(names: Sequence[str]) -> ExecutorError:
    listed = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return ExecutorError(
        f"nothing in virtual time ends what {listed} awaits: only waits for time, and for other coroutines, end there; "
        f"replace what waits for a thread, or for input and output, by a stand-in, or use another executor"
    )


class _VirtualLane:
    """Runs nodes in the thread of the session, one after the other, as actions of its clock."""

    has_loop = needs_calling_thread = may_fork = makes_handles = False
    name, fate_of_unfinished = "virtual", "abandoned"
    window = 1

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._ready: deque[Node] | RankedQueue = deque()

    def open(self, session: Session) -> None:
        """Prepare for the run."""
        self._session = session
        self._worker = Worker(session.run, session.context)
        if session.run.is_ranked:
            self._ready = RankedQueue((), session.run.graph)

    def put(self, nodes: Sequence[Node]) -> None:
        """Take nodes that are ready."""
        for node in nodes:
            self._ready.append(node)
            self._clock.schedule(0.0, self._run_next)

    def work(self) -> None:
        """Do nothing: the session waits, and its clock runs the nodes."""

    def wake(self) -> None:
        """Do nothing: no call runs while the session waits."""

    def stop(self, *, end_calls: bool) -> None:
        """Say which call goes on; it cannot be ended, because it is in the calling thread."""
        if not end_calls:
            node = self._worker.node
            self._session.report_running(self, () if node is None else (node,))

    def close(self) -> Sequence[Node]:
        """Return no nodes: no call goes on."""
        return ()

    def _run_next(self) -> None:
        session = self._session
        step = self._worker.run_node(self._ready.popleft())
        if isinstance(step, Retry):
            session.delay(step)
        else:
            session.put(step)
