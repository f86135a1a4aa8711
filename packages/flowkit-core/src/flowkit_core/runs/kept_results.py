"""Class `KeptResults`: the results that a run returns, and when it drops the others."""

from __future__ import annotations

from flowkit_core._atomic import countdowns
from flowkit_core._typing import TYPE_CHECKING

from .handle import is_handle
from .run_state import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node

    from .run_state import RunState


class KeptResults:
    """Drops each result that the run does not return as soon as the last task that takes it has ended.

    Args:
        graph: the graph of the run.
        keep: names of the tasks whose results are returned.
        state: the state of the run.

    Attributes:
        on_drop: functions that are called with each value that is dropped, in any thread; a lane that holds values of
            arguments adds one when it is opened.
    """

    def __init__(self, graph: Graph, keep: Iterable[str], state: RunState) -> None:
        self.on_drop: list[Callable[[Any], object]] = []
        self._state = state
        names = state.kept = frozenset(keep)
        kept = {index for index, name in enumerate(graph.names) if name in names}
        self._kept = kept.union(index for name, index in graph.aliases.items() if name in names)
        self._sources = [_sources(node) for node in graph.nodes]
        uses = [0] * len(graph.nodes)  # besides the end of the task itself
        for sources in self._sources:
            for index in sources:
                uses[index] += 1
        self._uses = countdowns(map(range, uses))

    def keeps(self, node: Node) -> bool:
        """Return whether the run returns the result of a node."""
        return node.index in self._kept

    def node_ended(self, node: Node) -> None:
        """Count the end of a node, with any outcome, as the end of a use of its own result and of its sources."""
        for index in (node.index, *self._sources[node.index]):
            if next(self._uses[index], None) is None and index not in self._kept:
                value, self._state.values[index] = self._state.values[index], ABSENT
                if is_handle(value):
                    value.release()
                else:
                    for drop in self.on_drop:
                        drop(value)
                if (stage := self._state.stages.get(index)) is not None:
                    stage.drop()


def _sources(node: Node) -> tuple[int, ...]:
    """Return the indices of the nodes whose results a node takes, each once."""
    if node.binding is None:
        return tuple(dict.fromkeys(node.arg_sources or ()))
    binding = node.binding
    return tuple(dict.fromkeys((*binding.named.values(), *binding.rest, *binding.named_rest.values())))
