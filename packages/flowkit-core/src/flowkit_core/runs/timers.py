"""Classes `Timers`, nodes that wait for a retry, and `Deadlines`, running calls with a timeout."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node

    from .call import Retry
    from .run import Run

_LONGEST_WAIT = 3600.0  # some waits of the operating system have a maximum
_order = count()  # of entries that are due at the same time


class Timers(list["tuple[float, int, Node]"]):
    """Nodes that wait for a retry: a heap, ordered by the time at which they are due.

    Attributes:
        clock: returns the current time in seconds.

    Examples:
        >>> Timers().wait() is None
        True
    """

    clock: Callable[[], float] = staticmethod(monotonic)

    def add(self, retry: Retry) -> None:
        """Add the node of a retry, due after its delay."""
        heappush(self, (self.clock() + retry.delay, next(_order), retry.node))

    def wait(self) -> float | None:
        """Return the seconds until the first node is due, 0 or more and at most an hour; None if there are none."""
        return min(max(0.0, self[0][0] - self.clock()), _LONGEST_WAIT) if self else None

    def due(self, run: Run) -> list[Node]:
        """Remove and return the nodes that are due, and those that may not start because the run is stopping."""
        now = self.clock()
        nodes = []
        if run.stopping and (stopped := [entry for entry in self if not run.may_start(entry[2])]):
            nodes = [entry[2] for entry in stopped]
            self[:] = [entry for entry in self if run.may_start(entry[2])]
            heapify(self)
        while self and self[0][0] <= now:
            nodes.append(heappop(self)[2])
        return nodes


class Deadlines:
    """Running calls with a timeout, ordered by when it is over. Calls that have ended are removed from time to time.

    Args:
        is_running: returns whether a call, given by the key that was added, is still running.
        clock: returns the current time in seconds.

    Examples:
        >>> deadlines = Deadlines(is_running=lambda key: True, clock=lambda: 10.0)
        >>> deadlines.add("call 1", 2.5)
        >>> deadlines.wait(), deadlines.expired()
        (2.5, [])
    """

    def __init__(self, is_running: Callable[[Any], bool], clock: Callable[[], float] = monotonic) -> None:
        self._is_running = is_running
        self._clock = clock
        self._heap: list[tuple[float, int, Any]] = []
        self._most = 64  # number of entries at which those of calls that have ended are removed

    def add(self, key: Any, seconds: float) -> None:
        """Add a call that starts now, and may take ``seconds`` seconds."""
        heappush(self._heap, (self._clock() + seconds, next(_order), key))
        if len(self._heap) > self._most:
            self._heap = [entry for entry in self._heap if self._is_running(entry[2])]
            heapify(self._heap)
            self._most = max(64, 2 * len(self._heap))

    def clear(self) -> None:
        """Drop all calls."""
        self._heap.clear()

    def wait(self) -> float | None:
        """Return the seconds until the first timeout is over; None if no call with a timeout is running."""
        while self._heap and not self._is_running(self._heap[0][2]):
            heappop(self._heap)
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None

    def expired(self) -> list[Any]:
        """Remove the calls whose timeout is over; return the keys of those that are running."""
        keys = []
        while self._heap and self._heap[0][0] <= self._clock():
            key = heappop(self._heap)[2]
            if self._is_running(key):
                keys.append(key)
        return keys
