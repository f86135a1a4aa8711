"""Class `SubmittingLane`: base class of lanes that submit calls to a pool or a cluster, which makes them elsewhere."""

from __future__ import annotations

from collections import deque

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.runs.call import Retry
from flowkit_core.runs.limits.ranked_queue import RankedQueue
from flowkit_core.runs.timers import Timers
from flowkit_core.runs.wake_up import WakeUp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.session import Session


class SubmittingLane:
    """Base class of lanes that submit calls to a pool or a cluster, which makes them elsewhere.

    The lane is a loop in one thread, in which all methods of a subclass are called. Threads of the pool may have its
    locks, and must not wait: they only use :meth:`call_in_loop`. In each turn, the loop calls what these threads ask
    for, then :meth:`submit_ready`. It waits while there is nothing to do, and ends when the run is over.

    A subclass defines :meth:`submit_ready`, :meth:`stop_calls`, :attr:`has_calls` and :meth:`close`, and passes
    outcomes to :meth:`finish`. See :class:`~flowkit_core.runs.session.Lane` for the other attributes.

    Attributes:
        session: the session of the run, from :meth:`open` on.
        ready: the nodes to submit, in order: a deque, or a queue with ``popleft()``.
        timers: the nodes that wait for a retry.

    Examples:
        >>> from functools import partial
        >>> from multiprocessing.pool import ThreadPool
        >>> from flowkit_core import DAG, task
        >>> from flowkit_core.runs.session import Session
        >>> class PoolLane(SubmittingLane):
        ...     name = "pool"
        ...     def __init__(self, pool):
        ...         super().__init__()
        ...         self.pool, self.running = pool, {}
        ...     @property
        ...     def has_calls(self):
        ...         return bool(self.running)
        ...     def submit_ready(self):
        ...         while self.ready:
        ...             call = self.session.begin(self.ready.popleft())
        ...             if call is not None:
        ...                 self.running[call] = call.node
        ...                 self.pool.apply_async(call.invoke, callback=partial(self.call_in_loop, self.end, call))
        ...     def end(self, call, result):
        ...         self.finish(self.running.pop(call), result, attempt=call.attempt)
        ...     def stop_calls(self, *, end_calls):
        ...         self.session.report_running(self, list(self.running.values()))
        ...     def close(self):
        ...         return list(self.running.values())
        >>> class PoolExecutor:
        ...     name = "pool"
        ...     def execute(self, run):
        ...         with ThreadPool(2) as pool:
        ...             Session(run, [PoolLane(pool)]).drive()
        ...     def close(self):
        ...         pass
        >>> @task
        ... def one(): return 1
        >>> DAG("numbers", tasks=[one]).run(PoolExecutor())
        {'one': 1}
    """

    name = ""
    has_loop = True
    needs_calling_thread = may_fork = makes_handles = False
    fate_of_unfinished = "abandoned"

    session: Session

    def __init__(self) -> None:
        self.ready: deque[Node] | RankedQueue = deque()
        self.timers = Timers()
        self._to_call: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._wake_up = WakeUp()

    # ---- what a subclass defines -----------------------------------------------------------------------------------

    def submit_ready(self) -> None:
        """Submit nodes of :attr:`ready`, as many as are wanted now. Called in each turn of the loop."""
        raise NotImplementedError

    def stop_calls(self, *, end_calls: bool) -> None:
        """Take back calls that have not started, or end those that run: see :meth:`Lane.stop`."""
        raise NotImplementedError

    @property
    def has_calls(self) -> bool:
        """Whether calls are submitted that have not ended."""
        raise NotImplementedError

    def close(self) -> Sequence[Node]:
        """Release everything that the run needed, and return the nodes whose calls are still running."""
        raise NotImplementedError

    def seconds_to_turn(self) -> float | None:
        """Return the maximum number of seconds before the next turn of the loop; None if there is none."""
        return None

    # ---- what a subclass uses --------------------------------------------------------------------------------------

    def call_in_loop(self, function: Callable[..., object], *args: Any) -> None:
        """Have the loop call a function. It returns at once, and may be called from any thread."""
        self._to_call.append((function, args))
        self._wake_up.set()

    def finish(self, node: Node, result: Any, seconds: float = 0.0, attempt: int | None = None) -> None:
        """Pass an outcome to the run, and queue the nodes that are ready now; see :meth:`Run.finish`."""
        step = self.session.run.finish(node, result, seconds, attempt)
        if isinstance(step, Retry):
            self.timers.add(step)
        elif self.session.has_one_lane:
            self.ready.extend(step)
        else:
            self.session.put(step)

    # ---- the lane --------------------------------------------------------------------------------------------------

    def open(self, session: Session) -> None:
        """Prepare for the run."""
        self.session = session
        if session.run.is_ranked:
            self.ready = RankedQueue((), session.run.graph)
        self.ready.extend(session.first_nodes(self))

    def put(self, nodes: Sequence[Node]) -> None:
        """Queue nodes whose calls are to be submitted."""
        self.ready.extend(nodes)
        self._wake_up.set()

    def wake(self) -> None:
        """Make the loop check whether the run is over."""
        self._wake_up.set()

    def stop(self, *, end_calls: bool) -> None:
        """Have the loop call :meth:`stop_calls`."""
        self.call_in_loop(self._stop_calls, end_calls)

    def _stop_calls(self, end_calls: bool) -> None:
        self.stop_calls(end_calls=end_calls)

    def work(self) -> None:
        """Submit calls until the run is over."""
        try:
            self._loop()
        finally:
            self._to_call = deque(maxlen=0)  # calls may outlive the run

    def _loop(self) -> None:
        session, timers, to_call = self.session, self.timers, self._to_call
        while True:
            while to_call:
                function, args = to_call.popleft()
                function(*args)
            if timers:
                self.ready.extend(timers.due(session.run))
            self.submit_ready()
            if to_call:
                continue
            if session.is_over or (session.has_one_lane and not (self.ready or timers or self.has_calls)):
                return
            waits = [self.seconds_to_turn(), timers.wait(), session.run.commit_if_due()]
            self._wake_up.wait(min((seconds for seconds in waits if seconds is not None), default=None))
