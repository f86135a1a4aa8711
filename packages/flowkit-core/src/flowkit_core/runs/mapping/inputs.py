"""The elements of values that tasks are mapped over."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.graphs.map_errors import MapLengthError, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flowkit_core._typing import Any


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
        return f"<Missing: {self.reason}>"


class PartialColumn(list[object]):
    """The values of the elements of a mapped task, by number, with a `Missing` for each that has none."""


def is_lazy(value: Any) -> bool:
    """Return whether a value is iterated while its elements run: an iterator, or an iterable without a length."""
    kind = type(value)
    return hasattr(kind, "__next__") or (hasattr(kind, "__iter__") and not hasattr(kind, "__len__"))


def elements_of(task: str, parameter: str, value: Any) -> Sequence[Any] | Iterator[Any]:
    """Return the elements of a value: a sequence, or an iterator for a lazy value.

    Raises:
        MappingTypeError: the value has no elements, or they have no order.
        Exception: of an iterator of the user.
    """
    if type(value) is tuple:
        found: Sequence[Any] = value
        return found
    error = refusal(task, parameter, value)
    if error is not None:
        raise error
    return iter(value) if is_lazy(value) else list(value)


def columns_of_one_length(task: str, columns: dict[str, Sequence[Any] | Iterator[Any]]) -> list[Sequence[Any]]:
    """Return several mapped values as sequences of one length.

    Raises:
        MapLengthError: they have different numbers of elements.
    """
    listed = [found if hasattr(type(found), "__len__") else list(found) for found in columns.values()]
    lengths = list(map(len, listed))  # type: ignore[arg-type]
    if len(set(lengths)) > 1:
        raise MapLengthError(task, tuple(columns), tuple(lengths))
    return listed  # type: ignore[return-value]
