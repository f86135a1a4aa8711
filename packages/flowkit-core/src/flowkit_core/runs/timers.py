"""Class `Timers`: nodes that wait for their next attempt."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_core.pipelines.node import Node

    from .call import Retry
    from .run import Run


class Timers:
    """Nodes that wait for a time to come: retries.

    Examples:
        >>> timers = Timers(clock=lambda: 10.0)
        >>> timers.wait()
        0.0
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Node]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, later: Retry) -> None:
        """Wait for a node's delay."""
        heappush(self._heap, (self._clock() + later.delay, next(self._order), later.node))

    def wait(self) -> float:
        """Return the seconds until the first node is due, an hour at most; 0 if one is, or none waits."""
        return min(max(0.0, self._heap[0][0] - self._clock()), 3600.0) if self._heap else 0.0

    def due(self, run: Run) -> list[Node]:
        """Take out the nodes whose time has come, and those that the run would not let start any more anyway."""
        now = self._clock()
        nodes = []
        if run.stopping and (idle := [entry for entry in self._heap if not run.may_start(entry[2])]):
            nodes = [entry[2] for entry in idle]
            self._heap = [entry for entry in self._heap if run.may_start(entry[2])]
            heapify(self._heap)
        while self._heap and self._heap[0][0] <= now:
            nodes.append(heappop(self._heap)[2])
        return nodes
