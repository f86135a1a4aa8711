"""Class `Reference`: a plain evaluation of a graph, one function after the other, to compare results with."""

from __future__ import annotations

from contextlib import suppress

from flowkit_core._text import short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.coroutines import CoroutineType
from flowkit_core.failures import describe_error

from .map_checker import errors_of, is_iterator
from .traced_run import Substitutes
from .virtual_loop import run_virtually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node

    from .map_checker import MapModel

    Arguments = tuple[Sequence[Any], Mapping[str, Any]]


class Reference:
    """Evaluates the tasks of a graph that succeeded in a run, with the arguments that they had there.

    The results of upstreams among the arguments are replaced by those of the evaluation.

    Args:
        graph: the graph.
        options: the options of the simulation.
        maps: the elements of mapped tasks.
        values: name of a task, or of an element -> its result in the run.
        arguments: name of a task, or of an element -> its arguments.
        missing: name of a task, or of an element -> indices of the upstreams that had not ended when it started.
    """

    def __init__(
        self,
        graph: Graph,
        options: Mapping[str, Any],
        maps: MapModel,
        values: Mapping[str, Any],
        arguments: Mapping[str, Arguments],
        missing: Mapping[str, set[int]],
    ) -> None:
        self._graph = graph
        self._substitutes = Substitutes(options["functions"] or {}, options["call"], lambda: 0.0)
        self._maps = maps
        self._values = values
        self._arguments = arguments
        self._missing = missing
        self._plain: dict[str, Any] = {}

    def problem(self) -> str | None:
        """Return the first difference; None if there is none."""
        for node in self._graph.nodes:
            elements = [None] if node.mapped is None else [*range(self._maps.sizes.get(node.name, 0))]
            for element in elements:
                name = node.name if element is None else f"{node.name}[{element}]"
                if name not in self._values:
                    continue
                args, kwargs = self._replaced(node, name, element)
                try:
                    value = _call(self._substitutes.function(node), args, kwargs)
                    value = _items(value) if is_iterator(value) and node.feeds else value
                except Exception as error:
                    return f"{name!r} raises {describe_error(error)} in a plain evaluation"
                self._plain[name] = value
                was = self._values[name]
                if not is_iterator(was) and not same(was, value):
                    return (
                        f"the result of {name!r} is {short_repr(was)}, but that of a plain evaluation is "
                        f"{short_repr(value)}"
                    )
            if node.mapped is not None and node.name in self._values:
                self._plain[node.name] = self._list(node)
        return None

    def _list(self, node: Node) -> list[Any]:
        names = [f"{node.name}[{number}]" for number in range(self._maps.sizes.get(node.name, 0))]
        found = {name: self._maps.errors[name] for name in names if name in self._maps.errors}
        found = found if errors_of(node) == "return" else {}
        return [self._plain.get(name, found.get(name)) for name in names if name in self._plain or name in found]

    def _replaced(self, node: Node, name: str, element: int | None) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of the last attempt, with the results of upstreams replaced."""
        args, kwargs = list(self._arguments[name][0]), dict(self._arguments[name][1])
        positional = node.parameters.positional
        named, rest, named_rest = sources_of(node)
        for parameter, source in (*named.items(), *named_rest.items()):
            has_value, value = self._value(node, name, source, element)
            if not has_value:
                continue
            if parameter in kwargs:
                kwargs[parameter] = value
            elif parameter in positional and positional.index(parameter) < len(args):
                args[positional.index(parameter)] = value
        found = [self._value(node, name, source, element) for source in rest]
        others = [value for has_value, value in found if has_value]
        return (args[: len(positional)] + others if others else args), kwargs

    def _value(self, node: Node, name: str, index: int, element: int | None) -> tuple[bool, Any]:
        """Return whether an upstream has a value for a task or an element, and the value."""
        source = self._graph.nodes[index]
        if element is not None and index in self._maps.sources(node):
            if all(column.source != index for column in self._maps.columns(node)):
                return False, None  # it has no result, and is not mapped over
            if source.mapped is None:
                items = self._plain.get(source.name, ())
                return element < len(items), items[element] if element < len(items) else None
            own = f"{source.name}[{element}]"
            if own in self._maps.errors and errors_of(source) == "return":
                return True, self._maps.errors[own]
            return own in self._plain, self._plain.get(own)
        if source.name not in self._plain or index in self._missing[name]:
            return False, None
        return True, self._plain[source.name]


def _items(iterator: Any) -> list[Any]:
    """Return the items of an iterator until it raises: in the run, what took them may not have reached that point."""
    items = []
    with suppress(Exception):
        for item in iterator:
            items.append(item)  # noqa: PERF402 - what precedes the exception is kept
    return items


def sources_of(node: Node) -> tuple[Mapping[str, int], Sequence[int], Mapping[str, int]]:
    """Return the sources of the named parameters, of ``*args`` and of ``**kwargs``."""
    if node.binding is not None:
        return node.binding.named, node.binding.rest, node.binding.named_rest
    sources, positional = node.arg_sources or (), node.parameters.positional
    return dict(zip(positional, sources)), sources[len(positional) :], {}


def _call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    value = function(*args, **kwargs)
    return run_virtually(value) if type(value) is CoroutineType else value


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal: by ``==``, or by their pickles if that does not return True.

    Exceptions are equal if their classes and arguments are, also those in lists and tuples.
    """
    try:
        if one is other or (one == other) is True:
            return True
    except Exception:  # noqa: S110 - `==` may raise, or not return a bool (NumPy arrays)
        pass
    if isinstance(one, BaseException):
        return type(one) is type(other) and same(one.args, other.args)
    if isinstance(one, (list, tuple)) and type(one) is type(other) and len(one) == len(other):
        return all(map(same, one, other))
    import pickle

    try:
        return pickle.dumps(one) == pickle.dumps(other)
    except Exception:
        return False
