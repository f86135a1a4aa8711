"""The nodes in hand, the longest road first."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from threading import Lock

TYPE_CHECKING = False  # what type checkers take for true; importing typing for it would cost 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flowkit_core import Node


class Ranked:
    """A queue of ready nodes, safe to use from several threads.

    It begins as a plain deque, first come first served, because as long as tasks are over in microseconds no order of
    theirs is worth a microsecond. From :meth:`strict` on it hands out the node with the most tasks still to follow it,
    among equals the first in topological order.

    Args:
        nodes: the first nodes; they are put in order.

    Attributes:
        take: removes and returns the next node; raises :class:`IndexError` when there is none.
        put: adds a node.
        extend: adds several.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._line = deque(sorted(nodes, key=lambda node: -node.height))
        self._heap: list[tuple[int, int, Node]] = []
        self._lock = Lock()
        self.take: Callable[[], Node] = self._line.popleft
        self.put: Callable[[Node], None] = self._line.append
        self.extend: Callable[[Iterable[Node]], None] = self._line.extend

    def __len__(self) -> int:
        return len(self._line) + len(self._heap)

    def strict(self) -> None:
        """Keep to the order of height from now on. Who still has the old ``put`` may go on using it."""
        self.take, self.put, self.extend = self._take, self._put, self._extend

    def head(self) -> Node | None:
        """Return a node that is next in line, without removing it; None when there is none."""
        try:
            return self._line[0] if self._line else self._heap[0][2]
        except IndexError:
            return None

    def _put(self, node: Node) -> None:
        with self._lock:
            heappush(self._heap, (-node.height, node.index, node))

    def _extend(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self._put(node)

    def _take(self) -> Node:
        with self._lock:
            while self._line:
                node = self._line.popleft()
                heappush(self._heap, (-node.height, node.index, node))
            return heappop(self._heap)[2]
