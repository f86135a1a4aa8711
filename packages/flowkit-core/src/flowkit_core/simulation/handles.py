"""Class `SimulatedHandle`: a result that stays on a simulated executor."""

from __future__ import annotations

import operator

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.runs.handle import ListHandle

if TYPE_CHECKING:
    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node


class SimulatedHandle:
    """A result that stays on a simulated executor.

    Args:
        lane: the lane that made it.
        node: the node whose result it is.
        value: the result.
        digest: its digest, for caches.

    Attributes:
        lane, node, value, digest: see above.
        releases: how many times it was released.
    """

    __flowkit_handle__ = True
    __slots__ = ("digest", "lane", "node", "releases", "value")
    nbytes = None

    def __init__(self, lane: Any, node: Node, value: Any, digest: Any = None) -> None:
        self.digest = digest
        self.lane = lane
        self.node = node
        self.value = value
        self.releases = 0

    def fetch(self) -> Any:
        """Return the value.

        Raises:
            RuntimeError: it was released.
        """
        if self.releases:
            raise RuntimeError(f"the result of {self.node.name!r} is fetched after it was released")
        return self.value

    def release(self) -> None:
        """Note that the value is not needed any more."""
        self.releases += 1


def value_of(result: Any) -> Any:
    """Return the value of a simulated handle, or of a list with such, without fetching it; anything else as it is."""
    if type(result) is ListHandle:
        return [*map(value_of, result.items)]
    return result.value if type(result) is SimulatedHandle else result


def is_result(found: Any, node: Node, value: Any) -> bool:
    """Return whether an object is the result of a node. The list of a mapped node may be another one of its items."""
    if found is value or node.mapped is None:
        return found is value
    return type(found) is type(value) is list and len(found) == len(value) and all(map(operator.is_, found, value))
