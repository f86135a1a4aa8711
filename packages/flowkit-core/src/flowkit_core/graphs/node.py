"""Class `Node`: one task of a graph."""

from __future__ import annotations

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_core._typing import Any

    from .binding import Binding
    from .node_map import NodeMap
    from .parameters import Parameters


class Node:
    """One task of a graph, with its edges and the sources of its arguments.

    The nodes of a graph are shared by all its runs, and do not change once the graph is built. The subclass `Element`
    is a job of one run.

    Attributes:
        index: position in topological order, from 0; index of this node in the lists of a run.
        task: the task.
        name: its name.
        func: the task's function.
        parameters: what the function takes.
        upstream: indices of the nodes that this node waits for, in order of declaration.
        waits: the part of ``upstream`` that this node only waits for (order-only edges), without taking the results.
        downstream: the nodes that wait for this node.
        entry: for a node of a pipeline that is used as a task: what decides whether that pipeline may run; else None.
        arg_sources: indices of the nodes whose values are the positional arguments, if there are no other arguments;
            else None.
        gather: returns the values of two or more sources from the list of values, as a tuple; None for fewer sources.
        binding: the complete binding, if ``arg_sources`` is not enough; else None.
        none_checked: parameters that an upstream fills by order and that have a default other than None: the run warns
            if the result is None.
        mapped: which inputs are mapped; None for a task that is called once.
        feeds: indices of the mapped nodes that this node feeds: the elements of its result are their inputs.
        is_simple: whether the fast path applies: not mapped, no mapped downstream, no condition, no trigger that lets
            the node run without the result of an upstream, no hook for success, no cache, no timeout, no pool, no
            check of arguments, and fewer than ``WIDE`` downstreams.

    Examples:
        >>> from flowkit_core import DAG, Task
        >>> extract, load = Task(list, name="extract"), Task(len, name="load")
        >>> _ = extract >> load
        >>> node = DAG("etl", tasks=[load]).graph()["extract"]
        >>> node.index, node.task, node.upstream, node.downstream
        (0, <Task extract>, (), (<Node 1 load>,))
    """

    __slots__ = (
        "arg_sources",
        "binding",
        "downstream",
        "entry",
        "feeds",
        "func",
        "gather",
        "index",
        "is_simple",
        "mapped",
        "name",
        "none_checked",
        "parameters",
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
    entry: Entry | None
    arg_sources: tuple[int, ...] | None
    gather: Callable[[list[Any]], tuple[Any, ...]] | None
    binding: Binding | None
    none_checked: tuple[str, ...]
    mapped: NodeMap | None
    feeds: tuple[int, ...]
    is_simple: bool

    element: int | None = None
    """Number of the element, for a job that is one element of a mapped node; see `runs.mapping`."""

    def named_sources(self) -> dict[str, int]:
        """Return the parameters that upstreams fill, without ``*args`` and ``**kwargs``: name -> index of the node."""
        if self.binding is not None:
            return self.binding.named
        return dict(zip(self.parameters.positional, self.arg_sources or (), strict=False))

    def __repr__(self) -> str:
        return f"<Node {self.index} {escape_control_chars(self.name)}>"


class Entry:
    """What decides whether the nodes of a pipeline that is used as a task may run; see inlining.py.

    Attributes:
        name: name of the pipeline task.
        node: its parameters and upstreams, which is not a node of the graph.
        gate: index of the node that evaluates its condition; None without one.
        outer: the entry of the pipeline task that contains it; None if there is none.
    """

    __slots__ = ("gate", "name", "node", "outer")

    def __init__(self, name: str, node: Node, gate: int | None, outer: Entry | None) -> None:
        self.name = name
        self.node = node
        self.gate = gate
        self.outer = outer

    def names(self) -> list[str]:
        """Return the names of this pipeline task and of those that contain it, the outermost first."""
        return [*(self.outer.names() if self.outer is not None else ()), self.name]
