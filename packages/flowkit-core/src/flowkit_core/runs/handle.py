"""Protocol `Handle`: a value that a lane keeps elsewhere."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowkit_core._typing import Any


class Handle(Protocol):
    """A value that a lane keeps elsewhere, such as a result on a cluster. A run passes it on without looking inside.

    Calls that the same lane makes get the handle. For other lanes, for the record and for the results of the run,
    :meth:`fetch` returns the value.

    Attributes:
        lane: the lane that made it.
        nbytes: size of the value in bytes; None if it is not known.
        digest: what the function of ``run.argument_digest(node)`` has returned for the value, where that is; None if it
            was not called. With it, a cache is asked for the result of a call that takes the value.
    """

    __flowkit_handle__: bool
    lane: Any
    nbytes: int | None
    digest: Any

    def fetch(self) -> Any:
        """Return the value; called in a thread that may wait."""

    def release(self) -> None:
        """Drop the value; called once, when no task and no result needs it any more."""


def is_handle(value: Any) -> bool:
    """Return whether a value is a handle, by its class."""
    return getattr(type(value), "__flowkit_handle__", False) is True


def prefetch(values: Iterable[Any]) -> None:
    """Have lanes get the values of all handles among some values at once, where they can: see `Lane`."""
    handles_of: dict[Any, list[Any]] = {}
    for value in values:
        if is_handle(value):
            handles_of.setdefault(value.lane, []).append(value)
    for lane, handles in handles_of.items():
        get = getattr(lane, "prefetch", None)
        if get is not None and len(handles) > 1:
            get(handles)


def fetched(value: Any) -> Any:
    """Return the value of a handle; any other value as it is."""
    return value.fetch() if is_handle(value) else value
