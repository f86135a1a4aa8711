"""Protocol `Handle`: a value that a lane keeps elsewhere. Class `ListHandle`: a list with such values."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flowkit_core._typing import Any


class Handle(Protocol):
    """A value that a lane keeps elsewhere, such as a result on a cluster. A run passes it on without looking inside.

    Calls that the same lane makes get the handle. For other lanes, for the record and for the results of the run,
    :meth:`fetch` returns the value.

    Attributes:
        lane: the lane that made it.
        nbytes: size of the value in bytes; None if it is not known.
        digest: what the function of ``run.argument_digest(node)`` has returned for the value, where that is; None if it
            was not called. With it, `Cache.find` takes the handle in place of the value.
    """

    __flowkit_handle__: bool
    lane: Any
    nbytes: int | None
    digest: Any

    def fetch(self) -> Any:
        """Return the value; called in a thread that may wait."""

    def release(self) -> None:
        """Drop the value; called once, when no task and no result needs it any more."""


class ListHandle:
    """The result of a mapped task, some of whose elements have results that are elsewhere.

    Args:
        items: the results of the elements; at least one is a handle.

    Attributes:
        items: see above.
        lane: the lane of the handles.
    """

    __flowkit_handle__ = True
    __slots__ = ("items", "lane")
    nbytes = digest = None

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items
        self.lane = next(item.lane for item in items if is_handle(item))

    def fetch(self) -> list[Any]:
        """Return the list of the values."""
        prefetch(self.items)
        return [*map(fetched, self.items)]

    def release(self) -> None:
        """Drop the values that are elsewhere."""
        release(self.items)


def is_handle(value: Any) -> bool:
    """Return whether a value is a handle, by its class."""
    return getattr(type(value), "__flowkit_handle__", False) is True


def prefetch(values: Iterable[Any]) -> None:
    """Have lanes get the values of all handles among some values at once, where they can: see `Lane`."""
    handles_of: dict[Any, list[Any]] = {}
    for handle in handles_among(values):
        handles_of.setdefault(handle.lane, []).append(handle)
    for lane, handles in handles_of.items():
        get = getattr(lane, "prefetch", None)
        if get is not None and len(handles) > 1:
            get(handles)


def fetched(value: Any) -> Any:
    """Return the value of a handle; any other value as it is."""
    return value.fetch() if is_handle(value) else value


def handles_among(values: Iterable[Any]) -> list[Any]:
    """Return the handles among some values, with those in each `ListHandle` in its place."""
    handles: list[Any] = []
    for value in filter(is_handle, values):
        handles += handles_among(value.items) if type(value) is ListHandle else [value]
    return handles


def release(values: Iterable[Any]) -> None:
    """Release the handles among some values."""
    for value in values:
        if is_handle(value):
            value.release()
