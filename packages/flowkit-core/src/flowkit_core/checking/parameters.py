"""Open parameters of a graph: those that no upstream fills."""

from __future__ import annotations

from types import MappingProxyType

from flowkit_core._text import escape_control_chars, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.graphs.parameters import KEY

from .annotations import UNKNOWN, parameter_annotation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node


class Required:
    """Type of `REQUIRED`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "REQUIRED"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "REQUIRED"


REQUIRED = Required()
"""The default of an open parameter that has none."""


class OpenParameter:
    """A parameter of a pipeline: no upstream task fills it, so it takes ``run(params=...)``, then its default.

    Attributes:
        name: name of the parameter.
        annotation: its annotation in the first task that has one: the object, or the text if it cannot be evaluated;
            None without an annotation.
        default: its default in the first task that takes it; ``REQUIRED`` if it has none in at least one of the tasks.
        tasks: names of the tasks that take it, a tuple of str.
        mapped: names of those that are mapped over it, a tuple of str: ``run(params=...)`` must have an iterable of
            elements, and the annotation is that of an element.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def report(day: str, limit: int = 10): return f"{limit} lines of {day}"
        >>> parameters = DAG("report", tasks=[report]).parameters
        >>> parameters["limit"].annotation, parameters["limit"].default, parameters["day"].required
        (<class 'int'>, 10, True)
    """

    __slots__ = ("annotation", "default", "mapped", "name", "tasks")

    def __init__(
        self, name: str, annotation: Any, default: Any, tasks: Sequence[str], mapped: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.annotation = annotation
        self.default = default
        self.tasks = tuple(tasks)
        self.mapped = tuple(mapped)

    @property
    def required(self) -> bool:
        """Whether ``run(params=...)`` must have the parameter."""
        return self.default is REQUIRED

    def __str__(self) -> str:
        text = escape_control_chars(self.name)
        if self.annotation is not None:
            text += f": {_text_of(self.annotation)}"
        if not self.required:
            text += f" = {short_repr(self.default)}" if self.annotation is not None else f"={short_repr(self.default)}"
        takers = [f"each element of {task}" if task in self.mapped else task for task in self.tasks]
        tasks = escape_control_chars(", ".join(takers))
        return f"{text}, {'required' if self.required else 'taken'} by {tasks}"

    def __repr__(self) -> str:
        return f"<OpenParameter {self}>"


def open_parameters(graph: Graph) -> Mapping[str, OpenParameter]:
    """Return the open parameters of a graph by name, in topological order of their tasks; the mapping is read-only."""
    nodes: dict[str, list[Node]] = {}
    for node in graph:
        for name in node.binding.open if node.binding is not None else ():
            if name != KEY:
                nodes.setdefault(name, []).append(node)
    return MappingProxyType({name: _parameter(name, takers) for name, takers in nodes.items()})


def _parameter(name: str, nodes: Sequence[Node]) -> OpenParameter:
    annotations = [parameter_annotation(node.func, name, keep_text=True) for node in nodes]
    known = [annotation for annotation in annotations if annotation is not UNKNOWN]
    defaults = [node.parameters.defaults.get(name, REQUIRED) for node in nodes]
    default = REQUIRED if any(each is REQUIRED for each in defaults) else defaults[0]
    mapped = [node.name for node in nodes if node.mapped is not None and name in node.mapped.parameters]
    return OpenParameter(name, known[0] if known else None, default, [node.name for node in nodes], mapped)


def _text_of(annotation: Any) -> str:
    """Return an annotation as it is written in source code."""
    if isinstance(annotation, str):
        return escape_control_chars(annotation)
    if type(annotation) is type:
        return annotation.__qualname__
    return short_repr(annotation)
