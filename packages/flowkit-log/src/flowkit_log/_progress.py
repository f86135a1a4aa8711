"""Progress: a bar in place on a terminal, a few plain lines elsewhere, fields in JSON, all from the same records."""

from __future__ import annotations

import itertools
import operator
import threading
import time

from ._console import OPEN_BARS, ConsoleHandler
from ._text_formatter import safe_str
from ._typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Any, Self, SupportsIndex

    from ._logger import FlowkitLogger

T = TypeVar("T")

_CELLS = 20
_QUARTERS = 4
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_DRAWINGS = 0.1

_ids = itertools.count(1)


class Progress(Generic[T]):
    """How far a piece of work has come, made by [`FlowkitLogger.progress`][flowkit_log.FlowkitLogger.progress].

    Use it in a `with` block and call `advance`, or iterate over it. It may be advanced from several threads at once.
    After its end it goes on counting, but says nothing any more.

    Attributes:
        label: what is going on.
        total: how many steps there are, or None if that is not known.
        count: how many steps were made.

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
        logger: FlowkitLogger,
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
            total = _checked("total", total, "an integer of at least 0, or None if it is not known")
        self.label = safe_str(label)
        self.total = total
        self.count = 0
        self._logger = logger
        self._items = items
        self._clock = clock
        self._lock = threading.Lock()
        self._id = next(_ids)
        self._started = self._ended = self._in_block = False
        self._told = -1  # the count of the last line
        self._line_at = self._drawing_at = 0.0

    @property
    def percent(self) -> int | None:
        """How much is done, from 0 to 100, or None without a total. 100 is never shown too early."""
        if self.total is None:
            return None
        return 100 if self.count >= self.total else self.count * 100 // self.total

    def advance(self, count: int = 1) -> None:
        """Say that `count` more steps were made.

        More than the total is allowed: the bar stays at 100% and its last line says how many there were.

        Raises:
            TypeError, ValueError: `count` is not an integer of at least 0.
        """
        count = _checked("count", count, "an integer of at least 0")
        self._start()
        with self._lock:
            before, self.count = self.count, self.count + count
            if self._ended:
                return
            now = self._clock()
            draw = now >= self._drawing_at
            line = self._reached(before) or (now >= self._line_at and not self._complete(before))
            if line:
                self._told = self.count
                self._line_at = now + _SECONDS_BETWEEN_LINES
            if draw or line:
                self._drawing_at = now + _SECONDS_BETWEEN_DRAWINGS
        if line:
            self._tell()
        elif draw:
            for console in _consoles(self._logger.logger):
                console.refresh(self._id)

    def finish(self) -> None:
        """End the bar, with a last line that says how far it came unless the line before has said it."""
        self._end(None)

    def status(self) -> str:
        """Return what stands behind the label: `[========            ] 40%`, or a count where there is no total."""
        if self.total is None:
            return f"{self.count:,}"
        filled = _CELLS if self._complete(self.count) else self.count * _CELLS // self.total
        return f"[{'=' * filled:{_CELLS}}] {self.percent}%"

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
            # In a `with` block the end of the block is the end, and knows whether there was an exception.
            if not self._in_block:
                self._end(failure)

    def __repr__(self) -> str:
        return f"<Progress {self.label!r} {self.status()}>"

    def _complete(self, count: int) -> bool:
        return self.total is not None and count >= self.total

    def _reached(self, before: int) -> bool:
        """Return whether a quarter lies between the count before and the count now."""
        if not self.total or before >= self.total:
            return False
        return before * _QUARTERS // self.total != min(self.count, self.total) * _QUARTERS // self.total

    def _start(self) -> None:
        with self._lock:
            if self._started:
                return
            self._started = True
            now = self._clock()
            self._line_at = now + _SECONDS_BETWEEN_LINES
            self._drawing_at = now + _SECONDS_BETWEEN_DRAWINGS
            self._told = self.count
            OPEN_BARS[self._id] = self
        self._tell()

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
            complete = self._complete(self.count)
            news = self._told != self.count or not complete
        if news and self._started:
            self._tell(ended=True, error=None if complete else error)
        OPEN_BARS.pop(self._id, None)

    def _tell(self, ended: bool = False, error: BaseException | None = None) -> None:
        """Log a line that says how far it has come."""
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
    """Yield the consoles that a record of this logger would come to."""
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


def _checked(name: str, value: SupportsIndex, allowed: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is of type {type(value).__name__}: it must be {allowed}.")
    number = operator.index(value)
    if number < 0:
        raise ValueError(f"{name}={number} is out of range: it must be {allowed}.")
    return number
