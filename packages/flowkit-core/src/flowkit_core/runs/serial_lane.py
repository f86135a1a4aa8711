"""Class `SerialLane`: one thread as a lane, the calling thread unless the run has a timeout."""

from __future__ import annotations

from collections import deque
from time import perf_counter

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.graphs.node import Node

from .call import Outcome, Retry
from .states import CANCELLED
from .timers import Timers
from .wake_up import WakeUp
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowkit_core.runs.limits.ranked_queue import RankedQueue

    from .session import Session


class SerialLane:
    """Runs nodes in one thread, one after the other, in the order in which they become ready."""

    has_loop = needs_calling_thread = True
    may_fork = makes_handles = False
    name, fate_of_unfinished = "serial", "abandoned"
    window = 1

    def __init__(self) -> None:
        self._wake_up: WakeUp | None = None  # None until the lane has to wait
        self._worker: Worker | None = None  # None before and after the run

    def open(self, session: Session) -> None:
        """Prepare for the run."""
        self._session = session
        self._timers = Timers()
        self._ready: deque[Node] | RankedQueue = deque(session.first_nodes(self))
        if session.run.is_ranked:
            from flowkit_core.runs.limits.ranked_queue import RankedQueue

            self._ready = RankedQueue(self._ready, session.run.graph)

    def put(self, nodes: Sequence[Node]) -> None:
        """Take nodes that are ready."""
        self._ready.extend(nodes)
        self.wake()

    def work(self) -> None:
        """Run nodes in the calling thread until the run is over."""
        session, ready, run, timers = self._session, self._ready, self._session.run, self._timers
        put = ready.append if session.has_one_lane else session.router(self, ready.append)
        worker = self._worker = Worker(run, session.context)
        while True:
            rest = worker.run_fast_path(ready.popleft, put, perf_counter)
            step = worker.run_node(rest) if isinstance(rest, Node) else rest
            if isinstance(step, Retry):
                timers.add(step)
            elif step:
                for node in step:
                    put(node)
            if self._worker is not worker:  # its call was abandoned, and has ended now
                self.wake()
                return
            if timers:
                ready.extend(timers.due(run))
            if ready:
                continue
            if (session.has_one_lane and not timers) or session.is_over:
                return
            if self._wake_up is None:  # look at everything once more: nothing was noted before
                self._wake_up = WakeUp()
            else:
                self._wake_up.wait(timers.wait())

    def wake(self) -> None:
        """Make the loop check whether the run is over."""
        if self._wake_up is not None:
            self._wake_up.set()

    def stop(self, *, end_calls: bool) -> None:
        """Let the call that runs now go on, or abandon it; end nodes that wait for a retry.

        A call in the thread that called ``run()`` cannot be abandoned.
        """
        node = None if self._worker is None else self._worker.node
        if not end_calls:
            self._session.report_running(self, () if node is None else (node,))
        elif node is not None and self._session.caller_only_waits:
            self._abandon(node)
        self.wake()

    def close(self) -> Sequence[Node]:
        """Return the node whose call outlives `work`, if there is one."""
        node, self._worker = None if self._worker is None else self._worker.node, None
        return () if node is None else (node,)

    def _abandon(self, node: Node) -> None:
        """Give up the call that runs now, and run other nodes in another thread."""
        run = self._session.run
        attempt = run.current_attempt(node)
        if run.is_current(node, attempt) and not run.may_start(node):
            self._worker = None
            reason = f"it was abandoned, because {run.stop_cause}"
            outcome = Outcome(CANCELLED, reason, started=True, goes_on=True)
            self._session.end(node, outcome, attempt=attempt)
            self._session.work_in_thread(self)
