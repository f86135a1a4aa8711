"""Class `MapModel`: the expected states and results of the elements of mapped tasks, given how others have ended.

The checker of histories compares them with those of a run. The model uses no code of `MappedNodes`.
"""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.graphs.map_errors import MapLengthError, MappingTypeError
from flowkit_core.graphs.open_parameters import params_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node

UNKNOWN: Any = object()
"""In place of an element of an iterator, which the checker does not consume."""
_NO_ORDER = (str, bytes, bytearray, memoryview, set, frozenset, dict)


class _Column:
    """One mapped input of a node.

    Attributes:
        parameter: the parameter, or the key of ``**kwargs``; None for an item of ``*args``.
        source: index of the node that fills it; None for an open parameter.
        is_mapped: whether the source is mapped itself: its elements are the items.
        value: the value that is mapped over, unless ``is_mapped``.
    """

    __slots__ = ("is_mapped", "parameter", "source", "value")

    def __init__(self, parameter: str | None, source: int | None, *, is_mapped: bool, value: Any = None) -> None:
        self.parameter = parameter
        self.source = source
        self.is_mapped = is_mapped
        self.value = value

    @property
    def is_lazy(self) -> bool:
        """Whether the items are not known: the value is an iterator."""
        return not self.is_mapped and is_iterator(self.value)


class MapModel:
    """The elements of mapped tasks: what each takes, when it may start, and how its task ends.

    Args:
        graph: the graph.
        params: the parameters of the run.
        ended: name of a task, or of an element -> its state; of those that have ended.
        values: name of a task, or of an element -> its result.

    Attributes:
        errors: name of an element -> its exception.
        sizes: name of a mapped task -> number of its elements that were passed to an executor, at least.
        heads: name of a mapped task -> the first node of its chain, whose elements it takes.
    """

    def __init__(
        self, graph: Graph, params: Mapping[str, Any], ended: Mapping[str, str], values: Mapping[str, Any]
    ) -> None:
        self._graph = graph
        self._params = params
        self._ended = ended
        self._values = values
        self.errors: dict[str, BaseException] = {}
        self.sizes: dict[str, int] = {}
        self.heads: dict[str, Node] = {}
        self._columns: dict[str, list[_Column]] = {}  # of mapped tasks whose elements run or have run

    def open(self, node: Node, head: Node) -> None:
        """Note that the elements of a mapped task are to run.

        Args:
            node: the mapped task.
            head: the first node of its chain.
        """
        if node.name not in self.heads:
            self._columns[node.name] = self.columns(node)
            self.heads[node.name] = head

    def head_of(self, node: Node) -> Node:
        """Return the first node of the chain of a mapped task; the node itself, if its input is not a chain."""
        for index in self.sources(node):
            return self.heads.get(self._graph.names[index], node)
        return node

    def note_element(self, node: Node, element: int) -> None:
        """Note that an element was passed to an executor."""
        self.sizes[node.name] = max(self.sizes.get(node.name, 0), element + 1)
        self.open(node, self.head_of(node))

    def sources(self, node: Node) -> list[int]:
        """Return the indices of the upstreams whose results are mapped."""
        return node.mapped.sources(node.binding) if node.mapped is not None and node.binding is not None else []

    def columns(self, node: Node) -> list[_Column]:
        """Return the mapped inputs of a node; those whose source was skipped take their default."""
        mapped, binding = node.mapped, node.binding
        if mapped is None or binding is None:
            return []
        if node.name in self._columns:
            return self._columns[node.name]
        own = params_of(node, self._params)
        found: list[_Column] = []
        for name in mapped.parameters:
            if name in binding.named:
                found += self._column(name, binding.named[name])
            elif name in own or name in node.parameters.defaults:
                value = own[name] if name in own else node.parameters.defaults[name]
                found.append(_Column(name, None, is_mapped=False, value=value))
        for source in binding.rest:
            if source in mapped.rest:
                found += self._column(None, source)
        for name, source in binding.named_rest.items():
            if name in mapped.named_rest:
                found += self._column(name, source)
        return found

    def _column(self, parameter: str | None, index: int) -> Iterator[_Column]:
        source = self._graph.nodes[index]
        if self._ended.get(source.name, "succeeded") == "succeeded":
            is_mapped = source.mapped is not None
            yield _Column(parameter, index, is_mapped=is_mapped, value=self._values.get(source.name))

    def size(self, node: Node) -> int | None:
        """Return the number of elements of a mapped node; None while it is pulled from an iterator."""
        columns = self.columns(node)
        if any(column.is_lazy for column in columns):
            return self.sizes.get(node.name, 0) if node.name in self._ended else None
        for column in columns:
            if column.is_mapped and column.source is not None:
                return self.size(self._graph.nodes[column.source])
            return len(column.value) if hasattr(type(column.value), "__len__") else 0
        return 0

    def input_error(self, node: Node) -> type[BaseException] | None:
        """Return the class of the exception with which a node fails because of what it is mapped over; None if none."""
        sizes = set()
        for column in self.columns(node):
            if column.is_mapped and column.source is not None:
                sizes.add(self.size(self._graph.nodes[column.source]))
            elif isinstance(column.value, _NO_ORDER) or not hasattr(type(column.value), "__iter__"):
                return MappingTypeError
            elif not column.is_lazy:
                sizes.add(len(column.value))
        sizes.discard(None)
        return MapLengthError if len(sizes) > 1 else None

    def may_be_unequal(self, node: Node) -> bool:
        """Return whether inputs of a mapped node may turn out to have different lengths when they are read."""
        columns = self.columns(node)
        return len(columns) > 1 and any(column.is_lazy for column in columns)

    # ---- one element -------------------------------------------------------------------------------------------------

    def pending_sources(self, node: Node, element: int) -> list[str]:
        """Return what an element waits for: elements of its mapped inputs, and the other upstreams of its task."""
        mapped = self.sources(node)
        found = []
        for index in node.upstream:
            source = self._graph.nodes[index]
            name = source.name
            if index in mapped and source.mapped is not None and node.task.trigger == "none_failed":
                name = f"{name}[{element}]" if name not in self._ended else name
            if name not in self._ended:
                found.append(name)
        return found

    def take_items(self, node: Node, element: int, values: dict[int, Any], own: dict[str, Any]) -> None:
        """Replace the mapped inputs of a node by their items for an element.

        Args:
            node: the mapped node.
            element: number of the element.
            values: index of each upstream that has a result -> the result.
            own: each open parameter -> its value in ``params``.
        """
        for column in self.columns(node):
            state, item = self.item(column, element)
            if column.source is None:
                own[column.parameter or ""] = item
            elif state == "succeeded":
                values[column.source] = item
            else:
                values.pop(column.source, None)

    def item(self, column: _Column, element: int) -> tuple[str, Any]:
        """Return the state of an item of a mapped input, as it counts for the element that takes it, and its value."""
        if not column.is_mapped or column.source is None:
            return "succeeded", UNKNOWN if column.is_lazy else column.value[element]
        source = self._graph.nodes[column.source]
        name = f"{source.name}[{element}]"
        state = self._ended.get(name, "cancelled")
        if state == "succeeded":
            return state, self._values.get(name)
        if state == "failed":
            error = self.errors.get(name)
            if error is None or raises(source, error):
                return "upstream_failed", None
            return ("succeeded", error) if errors_of(source) == "return" else ("skipped", None)
        return state, None

    def decide_without_input(self, node: Node) -> str:
        """Return "started" if a mapped task that may run has something to map over, or the state that it ends with."""
        if self.columns(node):
            return "started"
        states = {self._ended.get(self._graph.names[index]) for index in self.sources(node)}
        if states & {"failed", "upstream_failed"}:
            return "upstream_failed"
        return "cancelled" if "cancelled" in states else "skipped"

    def decide(self, node: Node, element: int) -> str:
        """Return the next state of an element whose inputs are known: "started", or the state that it ends with."""
        columns = self.columns(node)
        states = [self.item(column, element)[0] for column in columns]
        bad = [state for state in states if state in ("upstream_failed", "cancelled")]
        if bad:
            return "upstream_failed" if "upstream_failed" in bad else "cancelled"
        skipped = [column for column, state in zip(columns, states, strict=True) if state == "skipped"]
        required = [name for name in node.parameters.names if name not in node.parameters.defaults]
        if any(column.parameter in required for column in skipped):
            return "skipped"
        if len(skipped) == len(columns) and all(column.parameter is None for column in columns):
            return "skipped"
        return "started"

    # ---- the end of the task -----------------------------------------------------------------------------------------

    def outcome(self, node: Node) -> tuple[str, Any]:
        """Return the state with which a mapped task ends whose elements have ended, and its result."""
        size = self.size(node)
        size = self.sizes.get(node.name, 0) if size is None else size
        names = [f"{node.name}[{number}]" for number in range(size)]
        states = [self._ended.get(name, "cancelled") for name in names]
        if any(name in self.errors and raises(node, self.errors[name]) for name in names):
            return "failed", None
        if any(
            column.is_lazy and self._ended.get(self._graph.names[column.source or 0]) == "failed"
            for column in self.columns_of_head(node)
        ):
            return "upstream_failed", None
        for index in self.sources(node):
            state = self._ended.get(self._graph.names[index], "succeeded")
            source = self._graph.nodes[index]
            in_chain = node.name in self.heads and self.heads.get(source.name, source) is self.heads[node.name]
            if state in ("failed", "upstream_failed") and (in_chain or not self.columns(node)):
                return "upstream_failed", None
            if state == "cancelled" and not self.columns(node):
                return "cancelled", None
        for state in ("cancelled", "upstream_failed"):
            if state in states:
                return state, None
        handling = errors_of(node)
        values = []
        for name, state in zip(names, states, strict=True):
            if state == "succeeded":
                values.append(self._values.get(name))
            elif state == "failed" and handling == "return":
                values.append(self.errors.get(name))
        return "succeeded", values

    def columns_of_head(self, node: Node) -> list[_Column]:
        """Return the mapped inputs of the first node of a chain, also those whose iterator has failed."""
        head = self.heads.get(node.name, node)
        found = []
        for index in self.sources(head):
            source = self._graph.nodes[index]
            found.append(_Column(None, index, is_mapped=source.mapped is not None, value=self._values.get(source.name)))
        return found


def errors_of(node: Node) -> str:
    """Return what happens to elements of a mapped node that fail."""
    return node.mapped.options.errors if node.mapped is not None else "raise"


def raises(node: Node, error: BaseException) -> bool:
    """Return whether the exception of an element makes its task fail."""
    return errors_of(node) == "raise" or not isinstance(error, Exception)


def is_iterator(value: Any) -> bool:
    """Return whether a value can be iterated once only, or has no length."""
    kind = type(value)
    return hasattr(kind, "__next__") or (hasattr(kind, "__iter__") and not hasattr(kind, "__len__"))
