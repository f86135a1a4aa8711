"""Class `SerialLane`: the calling thread as a lane."""

from __future__ import annotations

from collections import deque
from time import perf_counter

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.graphs.node import Node

from .call import Retry
from .timers import Timers
from .wake_up import WakeUp
from .worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .session import Session


class SerialLane:
    """Runs nodes in the calling thread, one after the other, in the order in which they become ready."""

    has_loop = needs_calling_thread = True
    may_fork = makes_handles = False
    name, fate_of_unfinished = "serial", "abandoned"

    def __init__(self) -> None:
        self._ready: deque[Node] = deque()
        self._worker: Worker | None = None
        self._wake_up = WakeUp()

    def open(self, session: Session) -> None:
        """Prepare for the run."""
        self._session = session
        self._ready.extend(session.first_nodes(self))

    def put(self, nodes: Sequence[Node]) -> None:
        """Take nodes that are ready."""
        self._ready.extend(nodes)
        self._wake_up.set()

    def work(self) -> None:
        """Run nodes in the calling thread until the run is over."""
        session, ready, run = self._session, self._ready, self._session.run
        put = session.router(self, ready.append)
        worker = self._worker = Worker(run, session.context)
        timers = Timers()
        while True:
            rest = worker.run_fast_path(ready.popleft, put, perf_counter)
            step = worker.run_node(rest) if isinstance(rest, Node) else rest
            if isinstance(step, Retry):
                timers.add(step)
            elif step:
                for node in step:
                    put(node)
            if timers:
                ready.extend(timers.due(run))
            if ready:
                continue
            if (session.has_one_lane and not timers) or session.is_over:
                return
            self._wake_up.wait(timers.wait() if timers else None)

    def wake(self) -> None:
        """Make the loop check whether the run is over."""
        self._wake_up.set()

    def stop(self, *, end_calls: bool) -> None:
        """Let the call that runs now go on, and end nodes that wait for a retry."""
        if not end_calls:
            node = None if self._worker is None else self._worker.node
            self._session.report_running(self, () if node is None else (node,))
        self._wake_up.set()

    def close(self) -> Sequence[Node]:
        """Return no nodes: no call outlives `work`."""
        return ()
