"""The nodes in hand, the longest road first."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from threading import Lock

from flowkit_core._atomic import GIL

TYPE_CHECKING = False  # what type checkers take for true; importing typing for it would cost 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from flowkit_core import Graph, Node


class Ranked:
    """A queue of ready nodes, safe to use from several threads.

    It begins as a plain deque, first come first served, because as long as tasks are over in microseconds no order of
    theirs is worth a microsecond. From :meth:`strict` on it hands out the node with the most tasks still to follow it,
    among equals the first in topological order.

    Args:
        nodes: the first nodes; they are put in order.
        graph: the graph that all nodes are of.

    Attributes:
        take: removes and returns the next node; raises :class:`IndexError` when there is none.
        put: adds a node.
        extend: adds several.
    """

    def __init__(self, nodes: Iterable[Node], graph: Graph) -> None:
        self._nodes = graph.nodes
        self._even = len(graph.first) == len(graph.nodes)  # nothing follows anything: one order is as good as another
        first = list(nodes)
        if len(first) > 1 and not self._even:
            heights = graph.heights()
            first.sort(key=lambda node: -heights[node.index])
        self._line = deque(first)
        self._heap: list[int] = []
        self._graph = graph
        self._order: _Order | None = None  # made when it is needed
        self.take: Callable[[], Node] = self._line.popleft
        self.put: Callable[[Node], None] = self._line.append
        self.extend: Callable[[Iterable[Node]], None] = self._line.extend

    def __len__(self) -> int:
        return len(self._line) + len(self._heap)

    def strict(self) -> None:
        """Keep to the order of height from now on. Who still has the old ``put`` may go on using it."""
        if not self._even:
            order = self._order
            if order is None:
                order = self._order = _Order(self._nodes, self._graph.heights(), self._line, self._heap)
            self.take, self.put, self.extend = order.take, order.put, order.extend

    def head(self) -> Node | None:
        """Return a node that is next in line, without removing it; None when there is none."""
        try:
            return self._line[0] if self._line else self._nodes[self._heap[0] % len(self._nodes)]
        except IndexError:
            return None


class _Order:
    """The operations of the ready queue once it orders nodes by height.

    They are not methods of `Ranked`, because it stores them as attributes, which would be a reference cycle.

    Args:
        nodes: all nodes of the graph.
        heights: how many tasks follow each.
        line: nodes that were added before ordering began.
        heap: one number for each other node, which encodes height and index; a pair would cost twice as much.
    """

    def __init__(self, nodes: Sequence[Node], heights: Sequence[int], line: deque[Node], heap: list[int]) -> None:
        self._nodes = nodes
        self._heights = heights
        self._line = line
        self._heap = heap
        lock = Lock()  # numbers are compared, so under the GIL heappush and heappop are atomic
        self._push: Callable[[list[int], int], object] = heappush if GIL else _guarded(heappush, lock)
        self._pop: Callable[[list[int]], int] = heappop if GIL else _guarded(heappop, lock)

    def put(self, node: Node) -> None:
        """Add a node."""
        index = node.index
        self._push(self._heap, index - self._heights[index] * len(self._nodes))

    def extend(self, nodes: Iterable[Node]) -> None:
        """Add several nodes."""
        for node in nodes:
            self.put(node)

    def take(self) -> Node:
        """Remove and return the node with the longest path to an end."""
        line = self._line
        while line:
            try:
                self.put(line.popleft())
            except IndexError:  # another thread was quicker
                break
        return self._nodes[self._pop(self._heap) % len(self._nodes)]


def _guarded(operation: Callable[..., Any], lock: AbstractContextManager[Any]) -> Callable[..., Any]:
    """Return an operation that waits for a lock: for a Python where a call into C is not atomic."""

    def guarded(*args: Any) -> Any:
        with lock:
            return operation(*args)

    return guarded
