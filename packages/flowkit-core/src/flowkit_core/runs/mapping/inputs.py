"""The elements of values that tasks are mapped over."""

from __future__ import annotations

from itertools import count

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.graphs.map_errors import MapLengthError, mapping_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node


class Missing:
    """In place of the value of an element that has none.

    Attributes:
        state: number of the state with which an element ends that requires the value.
        reason: why there is no value.
    """

    __slots__ = ("reason", "state")

    def __init__(self, state: int, reason: str) -> None:
        self.state = state
        self.reason = reason

    def __repr__(self) -> str:
        return f"missing ({self.reason})"


class PartialColumn(list[object]):
    """The values of the elements of a mapped task, by number, with a `Missing` for each that has none."""


def is_lazy(value: Any) -> bool:
    """Return whether a value is iterated while its elements run: an iterator, or an iterable without a length."""
    kind = type(value)
    return hasattr(kind, "__next__") or (hasattr(kind, "__iter__") and not hasattr(kind, "__len__"))


def elements_of(task: str, parameter: str, value: Any, source: str | None = None) -> Sequence[Any] | Iterator[Any]:
    """Return the elements of a value: a sequence, or an iterator for a lazy value.

    Args:
        task: name of the mapped task.
        parameter: the parameter that is mapped.
        value: the value.
        source: name of the task whose result the value is; None if it is not a result.

    Raises:
        MappingTypeError: the value has no elements, or they have no order.
        Exception: of an iterator of the user.
    """
    if type(value) is tuple:
        found: Sequence[Any] = value
        return found
    error = mapping_error(task, parameter, value, source)
    if error is not None:
        raise error
    return iter(value) if is_lazy(value) else list(value)


def check_lengths(task: str, columns: Mapping[str, Sequence[Any]], sources: Mapping[str, str]) -> None:
    """Check that several mapped values have the same number of elements.

    Args:
        task: name of the mapped task.
        columns: the mapped values by parameter.
        sources: names of the tasks whose results they are, by parameter.

    Raises:
        MapLengthError: they have not.
    """
    lengths = tuple(map(len, columns.values()))
    if len(set(lengths)) > 1:
        raise MapLengthError(task, tuple(columns), lengths, sources=sources)


class LazyInput:
    """The mapped inputs of a node, at least one of which is an iterator. Iterating it gives the elements, once.

    Args:
        task: name of the mapped task.
        columns: the mapped values by parameter.
        sources: the nodes whose results are the iterators, by parameter.
        names: names of the tasks whose results are mapped, by parameter.

    Attributes:
        name: name of the task whose iterator it is; that of the mapped task, if there is none.
        culprit: the node whose iterator was advanced last: if an exception was raised, by this one.
    """

    def __init__(
        self, task: str, columns: Mapping[str, Any], sources: Mapping[str, Node], names: Mapping[str, str]
    ) -> None:
        self._task = task
        self._columns = dict(columns)
        self._sources = sources
        self._names = names
        self.culprit: Node | None = next(iter(sources.values()), None)
        self.name = task if self.culprit is None else self.culprit.name

    def __iter__(self) -> Iterator[Any]:
        columns, self._columns = self._columns, {}
        if len(columns) == 1:
            return iter(*columns.values())
        sizes = {name: len(column) for name, column in columns.items() if hasattr(type(column), "__len__")}
        return self._pairs({name: iter(column) for name, column in columns.items()}, sizes)

    def _pairs(self, columns: Mapping[str, Iterator[Any]], sizes: Mapping[str, int]) -> Iterator[tuple[Any, ...]]:
        """Yield tuples of one element of each column.

        Raises:
            MapLengthError: one column has ended before another one.
        """
        for number in count():
            values: list[Any] = []
            longer: list[str] = []
            for name, column in columns.items():
                self.culprit = self._sources.get(name)
                try:
                    values.append(next(column))
                except StopIteration:
                    continue
                longer.append(name)
            self.culprit = None
            if len(values) < len(columns):
                if longer:
                    lengths = tuple([sizes.get(name, number + (name in longer)) for name in columns])
                    unread = tuple([name for name in longer if name not in sizes])
                    raise MapLengthError(self._task, tuple(columns), lengths, unread, self._names)
                return
            yield tuple(values)
