"""Annotations along edges: whether a result can be what a parameter is annotated to take.

Only clear contradictions count: both annotations are plain classes, and neither is a subclass of the other. Anything
else may fit: unions, generics, protocols, abstract classes, ``Any``, texts that cannot be evaluated.
"""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType, NoneType

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING

from .problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node


class Unknown:
    """Type of `UNKNOWN`."""

    __slots__ = ()


UNKNOWN: Any = Unknown()
"""The annotation of a parameter or result that has none, or whose annotation cannot be read."""

_CONVERSIONS: dict[type, tuple[str, ...]] = {
    int: ("__index__",),
    float: ("__float__", "__index__"),
    complex: ("__complex__", "__float__", "__index__"),
}
"""Types of numbers -> methods: a value whose type has one of them is accepted as well."""
_BYTES = (bytearray, memoryview)
_NOT_MAPPABLE = (str, bytes, bytearray, memoryview, set, frozenset, dict)


def annotation_problems(graph: Graph) -> Iterator[Problem]:
    """Yield a problem for each edge whose result cannot be what its parameter is annotated to take."""
    for node in graph:
        for parameter, source in node.named_sources().items():
            upstream = graph.nodes[source]
            returned = _result_annotation(upstream.func)
            if node.mapped is not None and parameter in node.mapped.parameters:
                if upstream.mapped is None:
                    if (problem := _unmappable(node, parameter, upstream, returned)) is not None:
                        yield problem
                        continue
                    returned = _element_annotation(returned)
            elif upstream.mapped is not None and returned is not UNKNOWN:
                returned = list
            if returned is UNKNOWN or (returned is NoneType and _is_by_order(node, parameter, upstream)):
                continue  # of None by order, the graph warns
            taken = parameter_annotation(node.func, parameter)
            if taken is UNKNOWN or may_fit(returned, taken):
                continue
            if parameter in node.parameters.defaults and may_fit(returned, type(node.parameters.defaults[parameter])):
                continue  # "rows: list = None" takes None as well
            yield Problem(
                "annotation",
                node.name,
                f"task {node.name!r} takes the result of {upstream.name!r} as {parameter!r}, which is annotated "
                f"{_name(taken)}, but {upstream.name!r} is annotated to return {_name(returned)}: correct the wrong "
                f"one of the two annotations, or convert the value in one of the tasks",
                node.task.location,
            )


def _unmappable(node: Node, parameter: str, upstream: Node, returned: Any) -> Problem | None:
    """Return the problem of a task that is mapped over a result which has no elements, by its annotation."""
    if not _is_plain(returned) or (hasattr(returned, "__iter__") and not issubclass(returned, _NOT_MAPPABLE)):
        return None
    if hasattr(returned, "__getitem__") and not issubclass(returned, _NOT_MAPPABLE):
        return None
    return Problem(
        "annotation",
        node.name,
        f"task {node.name!r} is mapped over the result of {upstream.name!r} as {parameter!r}, but {upstream.name!r} is "
        f"annotated to return {_name(returned)}, which cannot be mapped over: return a list",
        node.task.location,
    )


def _element_annotation(annotation: Any) -> Any:
    """Return the annotation of the elements of an iterable: ``int`` for ``list[int]``; `UNKNOWN` if it has none."""
    origin, args = getattr(annotation, "__origin__", None), getattr(annotation, "__args__", ())
    is_iterable = isinstance(origin, type) and hasattr(origin, "__iter__")
    if not is_iterable or not args or (origin is tuple and args[1:] != (...,)):
        return UNKNOWN
    return NoneType if args[0] is None else args[0]


def _is_by_order(node: Node, parameter: str, upstream: Node) -> bool:
    return parameter != upstream.name and (node.binding is None or parameter in node.binding.by_order)


def may_fit(returned: Any, taken: Any) -> bool:
    """Return whether a value of one class may be what a parameter of another class takes.

    Args:
        returned: the annotation of the result.
        taken: the annotation of the parameter.
    """
    if not (_is_plain(returned) and _is_plain(taken)):
        return True
    if issubclass(returned, taken) or issubclass(taken, returned):
        return True
    if taken is bytes and returned in _BYTES:
        return True
    return any(hasattr(returned, method) for method in _CONVERSIONS.get(taken, ()))


def _is_plain(annotation: Any) -> bool:
    """Return whether an annotation is a class whose instances are exactly those of it and its subclasses."""
    if not isinstance(annotation, type):
        return False
    from enum import EnumType

    return type(annotation) in (type, EnumType) and not getattr(annotation, "_is_protocol", False)


def parameter_annotation(func: Any, name: str, *, keep_text: bool = False) -> Any:
    """Return the annotation of a parameter; `UNKNOWN` if there is none, or it cannot be read.

    Args:
        func: the function of a task.
        name: name of the parameter.
        keep_text: whether a text that cannot be evaluated is returned.
    """
    function = _function(func)
    return UNKNOWN if function is None else _annotation(function, name, keep_text=keep_text)


def _result_annotation(func: Any) -> Any:
    """Return the annotation of the result of a task; `UNKNOWN` if there is none, or it cannot be read."""
    function = _function(func)
    return UNKNOWN if function is None else _annotation(function, "return")


def _function(func: Any) -> FunctionType | None:
    """Return the function under partials and methods; None for any other callable, and for a decorated function.

    A decorator may change what its function takes and returns, and keeps the annotations.
    """
    while isinstance(func, partial):
        func = func.func
    if type(func) is MethodType:
        func = func.__func__
    if type(func) is not FunctionType or "__wrapped__" in func.__dict__ or "__signature__" in func.__dict__:
        return None
    return func


def _annotation(function: FunctionType, name: str, *, keep_text: bool = False) -> Any:
    try:
        found = function.__annotations__.get(name, UNKNOWN)
    except Exception:  # annotations that are evaluated when they are read
        return UNKNOWN
    if isinstance(found, str):
        text = found
        try:
            found = eval(text, function.__globals__, _variables(function))  # noqa: S307 - source code of the user
        except Exception:
            return text if keep_text else UNKNOWN
        if isinstance(found, str):  # a forward reference
            return found if keep_text else UNKNOWN
    return NoneType if found is None and not keep_text else found


def _variables(function: FunctionType) -> dict[str, Any]:
    """Return the variables of enclosing functions that a function refers to."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or ())
    found = {}
    for name, cell in cells:
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _name(annotation: type) -> str:
    return "None" if annotation is NoneType else escape_control_chars(annotation.__qualname__)
