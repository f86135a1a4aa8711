"""Class `DaskHandle`: a result that stays on the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from flowkit_core import SerializationError
from flowkit_core._text import escape_control_chars

from .envelope import opened
from .errors import summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Future

_NOT_FETCHED = object()


class Gatherer(Protocol):
    """What a handle uses of its lane."""

    def gather(self, futures: Sequence[Any]) -> list[Any]:
        """Return the values of futures."""


class DaskHandle:
    """A result that stays on the cluster.

    Args:
        lane: the lane that made it.
        task: name of the task.
        future: the future of the result.

    Attributes:
        lane, task: see above.
        digest: its digest for caches, made by the worker; None if there is none.
        is_returned: whether the run returns the value: then a value that was brought here stays.
        future: the future; None after :meth:`release`.
    """

    __flowkit_handle__ = True
    __slots__ = ("_value", "digest", "future", "is_returned", "lane", "task")
    nbytes = None

    def __init__(self, lane: Gatherer, task: str, future: Future[Any]) -> None:
        self.digest: Any = None
        self.is_returned = False
        self.lane = lane
        self.task = task
        self.future: Future[Any] | None = future
        self._value: Any = _NOT_FETCHED

    @property
    def is_here(self) -> bool:
        """Whether the value was brought here, and :meth:`fetch` returns it at once."""
        return self._value is not _NOT_FETCHED

    def keep(self, value: Any) -> None:
        """Keep the value for :meth:`fetch`, which drops it unless the run returns it."""
        self._value = opened(value)

    def fetch(self) -> Any:
        """Return the value.

        Raises:
            SerializationError: the value cannot be pickled, or unpickled here.
            ExecutorError: the value is lost.
        """
        value = self._value
        if not self.is_returned:
            self._value = _NOT_FETCHED
        if value is not _NOT_FETCHED:
            return value
        try:
            return opened(self.lane.gather([self.future])[0])
        except (TypeError, AttributeError, ImportError, ValueError) as error:
            hint = "return plain data, or a class that can be imported here"
            reason = f"could not be brought from the cluster ({summary(error)})"
            raise SerializationError(self.task, "result", reason, hint) from error

    def __repr__(self) -> str:
        return f"<the result of {escape_control_chars(self.task)} on the cluster>"

    def release(self) -> None:
        """Have the cluster drop the value."""
        future, self.future = self.future, None
        self._value = _NOT_FETCHED
        if future is not None:
            future.release()
