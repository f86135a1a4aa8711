"""Class `RankedQueue`: ready nodes in order of their rank, for runs with priorities or pools."""

from __future__ import annotations

from _thread import allocate_lock
from heapq import heappop, heappush
from itertools import count

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node


def rank_of(graph: Graph, node: Node) -> tuple[int, ...]:
    """Return the place of a node in the order in which ready nodes start, smallest first.

    First come the nodes with the highest priority, then those with the longest path to an end, then those that need a
    pool, then the first in topological order. Elements of a chain of mapped nodes have the place of its first node, in
    the order of their numbers, so that one element goes through the chain before the next.
    """
    first: Any = node if node.element is None else node.region.stages[0].node  # type: ignore[attr-defined]
    element = -1 if node.element is None else node.element
    height = graph.heights()[first.index]
    return -node.task.priority, -height, first.task.pool is None, first.index, element, node.index


class RankedQueue:
    """A queue of ready nodes, in order of their rank, that several threads may use.

    It has the methods of a deque that lanes use, and those of the queue of worker threads.

    Args:
        nodes: the first nodes.
        graph: the graph that all nodes belong to.
    """

    def __init__(self, nodes: Iterable[Node], graph: Graph) -> None:
        self._graph = graph
        self._heap: list[tuple[tuple[int, ...], int, Node]] = []
        self._number = count()  # a mapped node may be in the queue several times
        self._lock = allocate_lock()
        self.extend(nodes)

    def __len__(self) -> int:
        return len(self._heap)

    def __repr__(self) -> str:
        return f"<RankedQueue of {len(self)}>"

    def append(self, node: Node) -> None:
        """Add a node."""
        entry = rank_of(self._graph, node), next(self._number), node
        with self._lock:
            heappush(self._heap, entry)

    def extend(self, nodes: Iterable[Node]) -> None:
        """Add several nodes."""
        for node in nodes:
            self.append(node)

    def popleft(self) -> Node:
        """Remove and return the first node.

        Raises:
            IndexError: there is none.
        """
        with self._lock:
            return heappop(self._heap)[2]

    put = append
    take = popleft

    def peek(self) -> Node | None:
        """Return the first node, without removing it; None if there is none."""
        with self._lock:
            return self._heap[0][2] if self._heap else None

    def order_by_height(self) -> None:
        """Do nothing: the nodes are in order."""
