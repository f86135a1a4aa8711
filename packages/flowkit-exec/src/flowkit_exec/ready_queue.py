"""Class `ReadyQueue`: ready nodes, first in, first out; in order of their critical path once tasks take long."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from threading import Lock

from flowkit_core._atomic import GIL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from flowkit_core import Graph, Node


class ReadyQueue:
    """A queue of ready nodes that several threads may use.

    The queue begins as first in, first out: for tasks that take microseconds, any other order costs more than it gains.
    After :meth:`order_by_height`, it returns the node with the longest chain of tasks behind it (its height), among
    equals the first in topological order.

    Args:
        nodes: the first nodes; they are sorted by height.
        graph: the graph that all nodes belong to.

    Attributes:
        take: removes and returns the next node; raises :class:`IndexError` if there is none.
        put: adds a node.
        extend: adds several nodes.
    """

    def __init__(self, nodes: Iterable[Node], graph: Graph) -> None:
        self._nodes = graph.nodes
        self._is_flat = len(graph.first) == len(graph.nodes)  # no edges: all heights are equal
        first = list(nodes)
        if len(first) > 1 and not self._is_flat:
            heights = graph.heights()
            first.sort(key=lambda node: -heights[node.index])
        self._fifo = deque(first)
        self._heap: list[int] = []
        self._graph = graph
        self._order: _HeightOrder | None = None
        self.take: Callable[[], Node] = self._fifo.popleft
        self.put: Callable[[Node], None] = self._fifo.append
        self.extend: Callable[[Iterable[Node]], None] = self._fifo.extend

    def __len__(self) -> int:
        return len(self._fifo) + len(self._heap)

    def __repr__(self) -> str:
        return f"<ReadyQueue of {len(self)}, {'FIFO' if self._order is None else 'by height'}>"

    def order_by_height(self) -> None:
        """Order the nodes by height from now on. A thread may continue to use the ``put`` that it has read before."""
        if not self._is_flat:
            order = self._order
            if order is None:
                order = self._order = _HeightOrder(self._nodes, self._graph.heights(), self._fifo, self._heap)
            self.take, self.put, self.extend = order.take, order.put, order.extend

    def peek(self) -> Node | None:
        """Return a node that is returned soon, without removing it; None if there is none."""
        try:
            return self._fifo[0] if self._fifo else self._nodes[self._heap[0] % len(self._nodes)]
        except IndexError:
            return None


class _HeightOrder:
    """The operations of the ready queue once it orders nodes by height.

    They are not methods of `ReadyQueue`, because it stores them as attributes, which would be a reference cycle.

    Args:
        nodes: all nodes of the graph.
        heights: height of each node.
        fifo: nodes that were added before, or by a thread that still uses the old ``put``.
        heap: one number for each other node, which encodes height and index; a tuple would cost twice as much.
    """

    def __init__(self, nodes: Sequence[Node], heights: Sequence[int], fifo: deque[Node], heap: list[int]) -> None:
        self._nodes = nodes
        self._heights = heights
        self._fifo = fifo
        self._heap = heap
        self._elements: dict[int, deque[Node]] = {}  # index of a mapped node -> elements of it in the heap
        lock = Lock()  # comparing numbers runs no Python code, so under the GIL heappush and heappop are atomic
        self._push: Callable[[list[int], int], object] = heappush if GIL else _with_lock(heappush, lock)
        self._pop: Callable[[list[int]], int] = heappop if GIL else _with_lock(heappop, lock)

    def put(self, node: Node) -> None:
        """Add a node."""
        index = node.index
        if node.element is not None:
            self._elements.setdefault(index, deque()).append(node)
        self._push(self._heap, index - self._heights[index] * len(self._nodes))

    def extend(self, nodes: Iterable[Node]) -> None:
        """Add several nodes."""
        for node in nodes:
            self.put(node)

    def take(self) -> Node:
        """Remove and return the highest node."""
        fifo = self._fifo
        while fifo:
            try:
                self.put(fifo.popleft())
            except IndexError:  # another thread has taken it
                break
        node = self._nodes[self._pop(self._heap) % len(self._nodes)]
        if node.mapped is not None and (elements := self._elements.get(node.index)):
            return elements.popleft()
        return node


def _with_lock(operation: Callable[..., Any], lock: AbstractContextManager[Any]) -> Callable[..., Any]:
    """Return an operation that is atomic without the GIL."""

    def locked(*args: Any) -> Any:
        with lock:
            return operation(*args)

    return locked
