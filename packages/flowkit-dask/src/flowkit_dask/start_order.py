"""Class `StartOrder`: the order in which a cluster starts the calls of one run, and their sending in that order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask import annotate
from dask._expr import LLGExpr
from distributed.spans import SpanMetadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import Client, Future

    from flowkit_core import Node
    from flowkit_core.graphs.graph import Graph

    Key = tuple[str, int]

FIFO_TIMEOUT = "365 days"
"""Time in which the places of all calls are compared. After that, Dask starts those first that it got first."""
ELEMENTS = 1 << 32
"""A number larger than the number of calls for the elements of a mapped task."""


class StartOrder:
    """The places of the calls of one run: if several can start, the cluster starts that with the smallest place.

    Tasks with the longest path to an end start first, in the order of the graph. But those downstream of a task that
    has ended start before tasks without upstreams, so that few results are in the memory of the cluster at once.

    Args:
        graph: the graph of the run.
    """

    def __init__(self, graph: Graph) -> None:
        self._places = _places(graph)

    def place(self, node: Node) -> float:
        """Return the place of a call.

        Elements have the place of the first node of their chain, in the order of their numbers, and an element goes
        through the chain before the next one.
        """
        if node.element is None:
            return self._places[node.index]
        element: Any = node
        stages = element.region.stages
        number: int = element.element * len(stages) + stages.index(element.stage)
        first: int = stages[0].node.index
        return self._places[first] + number / ELEMENTS


def _places(graph: Graph) -> list[int]:
    """Return the place of each node."""
    heights = graph.heights()
    left = [len(node.upstream) for node in graph.nodes]  # upstreams without a place
    places = [0] * len(left)
    stack = sorted([index for index, count in enumerate(left) if not count], key=lambda n: (heights[n], -n))
    for place in range(len(left)):
        index = stack.pop()
        places[index] = place
        free: list[int] = []
        for after in graph.nodes[index].downstream:
            left[after.index] -= 1
            if not left[after.index]:
                free.append(after.index)
        if len(free) > 1:
            free.sort(key=lambda n: (heights[n], -n))
        stack += free
    return places


def send_graph(
    client: Client,
    graph: Mapping[Key, Any],
    places: Mapping[Key, float],
    priorities: Mapping[Key, int],
    annotations: Mapping[str, Any],
) -> Mapping[Key, Future[Any]]:
    """Send tasks of Dask to the scheduler, and return their futures.

    ``Client.get()`` does the same, but has the scheduler choose the order.

    Args:
        client: the client.
        graph: the tasks.
        places: their places.
        priorities: their priorities, which Dask compares first, also with those of other clients.
        annotations: from ``dask.annotate()``.
    """
    with annotate(**annotations):
        futures: Mapping[Key, Future[Any]] = client._graph_to_futures(
            LLGExpr(graph),
            list(graph),
            SpanMetadata(collections=[{"type": "low-level-graph"}]),
            internal_priority=dict(places),
            user_priority=dict(priorities).__getitem__ if any(priorities.values()) else 0,
            fifo_timeout=FIFO_TIMEOUT,
        )
    return futures
