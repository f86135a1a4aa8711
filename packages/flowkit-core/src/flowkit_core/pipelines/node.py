"""Node: one task in its place in a graph."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_core._typing import Any

    from .binding import Binding
    from .parameters import Parameters


class Node:
    """One task in its place in a graph. Immutable once the graph is built, and shared by all runs of the graph.

    Attributes:
        index: position in topological order; the place of this node in the lists of a run.
        task: the task.
        name: its name.
        func: the task's function.
        parameters: what the function takes.
        upstream: indices of the nodes it waits for, in order of declaration.
        waits: those of them whose results it does not take: it only runs after them.
        downstream: the nodes that wait for it.
        sources: indices of the nodes whose values are its positional arguments, where that says it all; else None.
        pick: takes the values of two or more sources out of a run's list, as a tuple; None for fewer.
        binding: the whole of the binding, where ``sources`` does not say it all; else None.
        none_checked: parameters that an upstream fills by order and whose default is not None: a result None is likely
            to be a mistake, of which the run warns.
        plain: whether, as long as all goes well, it is only called with its sources: no condition, no rare trigger,
            no cache, no check of its arguments, and not too many downstreams.
    """

    __slots__ = (
        "binding",
        "downstream",
        "func",
        "index",
        "name",
        "none_checked",
        "parameters",
        "pick",
        "plain",
        "sources",
        "task",
        "upstream",
        "waits",
    )

    index: int
    task: Any
    name: str
    func: Callable[..., Any]
    parameters: Parameters
    upstream: tuple[int, ...]
    waits: tuple[int, ...]
    downstream: tuple[Node, ...]
    sources: tuple[int, ...] | None
    pick: Callable[[list[Any]], tuple[Any, ...]] | None
    binding: Binding | None
    none_checked: tuple[str, ...]
    plain: bool

    def __repr__(self) -> str:
        return f"<Node {self.index} {plain(self.name)}>"
