"""Class `Progress`: a progress bar that logs records.

A console on a terminal draws the bar of the latest record, other handlers print a line per record, and JSON lines have
the numbers as fields.
"""

from __future__ import annotations

import itertools
import operator
import threading
import time

from ._bars import OPEN_BARS
from ._console import ConsoleHandler
from ._text_formatter import safe_str
from ._typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Any, Protocol, Self, SupportsIndex

    class BarLogger(Protocol):
        """The part of `FlowkitLogger` that a progress bar calls."""

        logger: logging.Logger

        def is_enabled_for(self, level: int, /) -> bool:
            """Return whether the logger is enabled for this level."""

        def info(self, message: object, /, *args: object, **context: Any) -> None:
            """Log a line at level INFO."""


T = TypeVar("T")

_CELLS = 20
_QUARTERS = 4
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_DRAWINGS = 0.1

_ids = itertools.count(1)


class Progress(Generic[T]):
    """Progress bar, returned by [`FlowkitLogger.progress`][flowkit_log.FlowkitLogger.progress].

    Use it in a `with` block and call `advance`, or iterate over it. Several threads may advance it at the same time.
    After it has ended, it counts but logs nothing.

    Attributes:
        label: text in front of the bar.
        total: number of steps, or None if it is not known.
        count: number of completed steps.

    ```python
    from flowkit_log import get_logger

    with get_logger().progress("Streaming data chunks", total=4) as bar:
        bar.advance()
        bar.advance(3)
    assert bar.percent == 100
    ```
    """

    def __init__(
        self,
        logger: BarLogger,
        label: str,
        items: Iterable[T] | None = None,
        *,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(label, str):
            raise TypeError(f"label is of type {type(label).__name__}: a progress label is a string.")
        if items is not None and not hasattr(items, "__iter__") and not hasattr(items, "__getitem__"):
            raise TypeError(f"items is of type {type(items).__name__}: progress needs an iterable, or None.")
        if total is None and items is not None:
            total = _length(items)
        if total is not None:
            total = _non_negative("total", total, "an integer of at least 0, or None if it is not known")
        self.label = safe_str(label)
        self.total = total
        self.count = 0
        self._logger = logger
        self._items = items
        self._clock = clock
        self._lock = threading.Lock()
        self._id = next(_ids)
        self._started = self._ended = self._in_block = False
        self._logged_count = -1  # the count in the last line
        self._next_line = self._next_drawing = 0.0  # times of the clock

    @property
    def percent(self) -> int | None:
        """Completed part, from 0 to 100, rounded down; None without a total."""
        if self.total is None:
            return None
        return 100 if self.count >= self.total else self.count * 100 // self.total

    def advance(self, count: int = 1) -> None:
        """Count `count` more completed steps.

        The count may exceed the total: the bar stays at 100% and its last line has the count.

        Raises:
            TypeError: `count` is not an integer.
            ValueError: `count` is negative.
        """
        count = _non_negative("count", count, "an integer of at least 0")
        self._start()
        with self._lock:
            before, self.count = self.count, self.count + count
            if self._ended:
                return
            now = self._clock()
            draw = now >= self._next_drawing
            line = self._quarter_passed(before) or (now >= self._next_line and not self._complete(before))
            if line:
                self._logged_count = self.count
                self._next_line = now + _SECONDS_BETWEEN_LINES
            if draw or line:
                self._next_drawing = now + _SECONDS_BETWEEN_DRAWINGS
        if line:
            self._log()
        elif draw:
            for console in _consoles(self._logger.logger):
                console.refresh(self._id)

    def finish(self) -> None:
        """End the bar; log a last line, unless the previous line had the same count and was complete."""
        self._end(None)

    def status(self, cells: int = _CELLS) -> str:
        """Return the text after the label: `[========            ] 40%`, or the count if there is no total.

        Args:
            cells: length of the bar.
        """
        if self.total is None:
            return f"{self.count:,}"
        filled = cells if self._complete(self.count) else self.count * cells // self.total
        return f"[{'=' * filled:{cells}}] {self.percent}%"

    def __enter__(self) -> Self:
        self._in_block = True
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(error)

    def __iter__(self) -> Iterator[T]:
        if self._items is None:
            raise TypeError(
                f"progress {self.label!r} has nothing to iterate over: "
                "give it items, logger.progress(label, items), or call advance()."
            )
        self._start()
        failure = None
        try:
            for item in self._items:
                yield item
                self.advance()
        except GeneratorExit:
            raise
        except BaseException as error:
            failure = error
            raise
        finally:
            # A bar in a `with` block is ended by `__exit__`, which receives the exception of the block.
            if not self._in_block:
                self._end(failure)

    def __repr__(self) -> str:
        return f"<Progress {self.label!r} {self.status()}>"

    def _complete(self, count: int) -> bool:
        return self.total is not None and count >= self.total

    def _quarter_passed(self, before: int) -> bool:
        """Return whether a quarter of the total lies between the previous count and the current one."""
        if not self.total or before >= self.total:
            return False
        return before * _QUARTERS // self.total != min(self.count, self.total) * _QUARTERS // self.total

    def _start(self) -> None:
        with self._lock:
            if self._started:
                return
            self._started = True
            now = self._clock()
            self._next_line = now + _SECONDS_BETWEEN_LINES
            self._next_drawing = now + _SECONDS_BETWEEN_DRAWINGS
            self._logged_count = self.count
            OPEN_BARS[self._id] = self
        self._log()

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
            complete = self._complete(self.count)
            unlogged = self._logged_count != self.count or not complete
        if unlogged and self._started:
            self._log(ended=True, error=None if complete else error)
        OPEN_BARS.pop(self._id, None)

    def _log(self, ended: bool = False, error: BaseException | None = None) -> None:
        """Log a line with the current count."""
        if not self._logger.is_enabled_for(20):
            return
        done = ended or self._complete(self.count)
        facts: dict[str, Any] = {"event": "progress", "progress_id": self._id, "label": self.label, "count": self.count}
        if self.total is not None:
            facts |= {"total": self.total, "percent": self.percent}
        text = f"{self.label}: {self.status()}"
        if error is not None:
            text += f" (stopped by {type(error).__name__})"
            facts["error"] = type(error).__name__
        elif self.total is None:
            text += " done" if ended else ""
        elif done and self.count != self.total:
            text += f" ({self.count:,} of {self.total:,})"
        facts["status"] = ("stopped" if error is not None else "done") if done else "running"
        self._logger.info("%s", text, extra=facts)


def _consoles(logger: logging.Logger | None) -> Iterator[ConsoleHandler]:
    """Yield the consoles among the handlers of this logger and of those that it propagates to."""
    while logger is not None:
        for handler in logger.handlers:
            if isinstance(handler, ConsoleHandler):
                yield handler
        logger = logger.parent if logger.propagate else None


def _length(items: object) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]
    except TypeError:
        return None


def _non_negative(name: str, value: SupportsIndex, allowed: str) -> int:
    """Return an argument as an `int`, or raise an error that names it."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is of type {type(value).__name__}: it must be {allowed}.")
    number = operator.index(value)
    if number < 0:
        raise ValueError(f"{name}={number} is out of range: it must be {allowed}.")
    return number
