"""The nodes in hand, the longest road first."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flowkit_core import Node


class Ranked:
    """A queue of ready nodes that hands out the one with the most tasks still to follow it, among equals the oldest.

    Where nodes become ready in falling order of height this is a plain deque; a node that is higher than the last in
    line goes to a heap beside it. Safe to use from several threads.

    Args:
        nodes: the first nodes.
        graded: whether first come is first served anyway, as :meth:`Graph.rank` says; then it costs next to nothing.
    """

    def __init__(self, nodes: Iterable[Node], *, graded: bool = False) -> None:
        self._line = deque(sorted(nodes, key=lambda node: -node.height))
        self._jumpers: list[tuple[int, int, Node]] = []
        self._lock = Lock()
        self.take: Callable[[], Node] = self._line.popleft if graded else self._take
        self.put: Callable[[Node], None] = self._line.append if graded else self._put

    def __len__(self) -> int:
        return len(self._line) + len(self._jumpers)

    def _put(self, node: Node) -> None:
        """Add a node."""
        try:
            jumps = node.height > self._line[-1].height
        except IndexError:
            jumps = False
        if jumps:
            with self._lock:
                heappush(self._jumpers, (-node.height, node.index, node))
        else:
            self._line.append(node)

    def _take(self) -> Node:
        """Remove and return the highest node.

        Raises:
            IndexError: there is none.
        """
        if self._jumpers:
            with self._lock:
                if self._jumpers and (not self._line or -self._jumpers[0][0] > self._line[0].height):
                    return heappop(self._jumpers)[2]
        return self._line.popleft()

    def head(self) -> Node | None:
        """Return the node that was longest in line, without removing it; None when there is none."""
        try:
            return self._line[0]
        except IndexError:
            return self._jumpers[0][2] if self._jumpers else None
