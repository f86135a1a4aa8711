"""Class `Schedule`: which nodes of one run are ready, wait for a retry, or were sent to a worker ahead of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowkit_core import Retry
from flowkit_core.runs.limits.ranked_queue import RankedQueue
from flowkit_core.runs.timers import Deadlines, Timers
from flowkit_exec.ready_queue import ReadyQueue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flowkit_core import Node
    from flowkit_core.runs.session import Lane, Session

    from .workers.handle import WorkerHandle


class Schedule:
    """The nodes of one run that have not ended.

    A chain of tasks is sent to one worker as a whole, so that the worker need not wait for this process between two of
    them. The calls after the first are *sent ahead*: their nodes are not ready yet.

    Invariant: the index of a node is in ``sent_ahead`` exactly while one worker holds a call of it and the upstream of
    the node has not ended. When the upstream ends, the node becomes ready and is not queued, because the worker has the
    call; if the upstream has failed, the worker returns the call, and the node is queued then. When the worker returns
    or loses the call before the upstream ends, the index is removed, so that the node is queued when it becomes ready.

    Args:
        session: the session of the run.
        lane: the lane that runs them.

    Attributes:
        ready: the ready nodes that no worker holds.
        timers: the nodes that wait for a retry.
        deadlines: the running calls with a timeout, by worker and ticket.
        sent_ahead: indices of the nodes that were sent ahead.
        foreign: indices of the nodes that other lanes run.
    """

    def __init__(self, session: Session, lane: Lane) -> None:
        self._session = session
        self._run = run = session.run
        queue_type = RankedQueue if run.is_ranked else ReadyQueue
        self.ready: RankedQueue | ReadyQueue = queue_type(session.first_nodes(lane), run.graph)
        self.timers = Timers()
        self.deadlines = Deadlines(lambda key: key[0].held.get(key[1]) is not None)
        self.sent_ahead: set[int] = set()
        own = range(0) if session.has_one_lane else [node.index for node in session.nodes(lane)]
        self.foreign = frozenset() if session.has_one_lane else frozenset(range(len(run.graph.nodes))).difference(own)

    def next_needs_pool(self) -> bool:
        """Return whether the next ready node needs a pool: it is sent to an idle worker, which starts it at once."""
        node = self.ready.peek() if self._run.limits is not None else None
        return node is not None and node.task.pool is not None

    def finish(self, node: Node, outcome: Any, seconds: float = 0.0, attempt: int | None = None) -> None:
        """Pass the outcome of an attempt to the run, and queue the nodes that are ready after it."""
        self.proceed(self._run.finish(node, outcome, seconds, attempt))

    def proceed(self, step: Sequence[Node] | Retry) -> None:
        """Queue the nodes that are ready after the end of an attempt; or wait for its retry."""
        if isinstance(step, Retry):
            self.timers.add(step)
        else:
            self.put(step)

    def put(self, nodes: Iterable[Node]) -> None:
        """Queue nodes that have become ready, except those that a worker holds already or that other lanes run."""
        for node in nodes:
            if node.index in self.sent_ahead:
                self.sent_ahead.discard(node.index)
            elif node.index in self.foreign:
                self._session.put((node,))
            else:
                self.ready.put(node)

    def put_back(self, node: Node, attempt: int) -> None:
        """Queue a node whose call a worker has returned without starting it, unless the attempt was given up."""
        if node.index in self.sent_ahead:
            self.sent_ahead.discard(node.index)  # it is queued when it becomes ready
        elif self._run.is_current(node, attempt):
            self.ready.put(node)

    def withdraw(self, worker: WorkerHandle) -> None:
        """Take back the calls that a worker has not started."""
        for ticket in worker.channel.withdraw_tickets():
            node, attempt = worker.held.pop(ticket, None), worker.attempts.pop(ticket, 1)
            if node is not None:
                self.put_back(node, attempt)

    def discard_chain(self, worker: WorkerHandle, node: Node) -> None:
        """Discard the outcomes of the calls that a worker was sent ahead and makes with the result of a node."""
        chain = set()
        after = node
        while len(after.downstream) == 1 and (after := after.downstream[0]).index in self.sent_ahead:
            self.sent_ahead.discard(after.index)
            chain.add(after.index)
        for ticket, other in worker.held.items():
            if other is not None and other.index in chain:
                worker.held[ticket] = None
                worker.has_discarded_calls = True

    def has_surplus(self, worker: WorkerHandle) -> bool:
        """Return whether a worker holds a ready node besides the one that it executes."""
        count = 0
        for node in worker.held.values():
            count += node is not None and node.index not in self.sent_ahead
            if count == 2:
                return True
        return False

    def ready_nodes_of(self, worker: WorkerHandle) -> list[tuple[Node, int]]:
        """Return the nodes that a worker holds and that were not sent ahead, with the numbers of their attempts."""
        return [
            (node, worker.attempts.get(ticket, 1))
            for ticket, node in worker.held.items()
            if node is not None and node.index not in self.sent_ahead
        ]

    def forget(self, worker: WorkerHandle) -> None:
        """Remove the calls that an ended worker held, so that their deadlines are over, too."""
        self.sent_ahead.difference_update(node.index for node in worker.held.values() if node is not None)
        worker.held.clear()
        worker.attempts.clear()
