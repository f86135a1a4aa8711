"""The nodes in hand, the longest road first."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from threading import Lock

from flowkit_core._gil import GIL

TYPE_CHECKING = False  # what type checkers take for true; importing typing for it would cost 5 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from flowkit_core import Node


class Ranked:
    """A queue of ready nodes, safe to use from several threads.

    It begins as a plain deque, first come first served, because as long as tasks are over in microseconds no order of
    theirs is worth a microsecond. From :meth:`strict` on it hands out the node with the most tasks still to follow it,
    among equals the first in topological order.

    Args:
        nodes: the first nodes; they are put in order.
        heights: how many tasks follow one another from each node on, by its index.

    Attributes:
        take: removes and returns the next node; raises :class:`IndexError` when there is none.
        put: adds a node.
        extend: adds several.
    """

    def __init__(self, nodes: Iterable[Node], heights: Sequence[int]) -> None:
        self._heights = heights
        self._line = deque(sorted(nodes, key=lambda node: -heights[node.index]))
        self._heap: list[tuple[int, int, Node]] = []
        lock = Lock()  # what is compared are numbers, so that under the GIL no thread can come between
        self._push: Callable[..., Any] = heappush if GIL else _guarded(heappush, lock)
        self._pop: Callable[..., Any] = heappop if GIL else _guarded(heappop, lock)
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
        self._push(self._heap, (-self._heights[node.index], node.index, node))

    def _extend(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self._put(node)

    def _take(self) -> Node:
        line = self._line
        while line:
            try:
                self._put(line.popleft())
            except IndexError:  # another thread was quicker
                break
        node: Node = self._pop(self._heap)[2]
        return node


def _guarded(operation: Callable[..., Any], lock: AbstractContextManager[Any]) -> Callable[..., Any]:
    """Return an operation that waits for a lock: for a Python where a call into C is not atomic."""

    def guarded(*args: Any) -> Any:
        with lock:
            return operation(*args)

    return guarded
