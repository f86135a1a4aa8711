"""The logger that people hold: the standard one, with two more levels, context in keywords, and progress bars."""

from __future__ import annotations

import functools
import logging
import sys
import time
from contextlib import suppress

from ._levels import LogLevel, level_number
from ._progress import Progress
from ._record_attributes import attach
from ._typing import TYPE_CHECKING, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import FrameType, TracebackType
    from typing import Any

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

T = TypeVar("T")

ROOT_NAME = "flowkit"


class FlowkitLogger:
    """A logger of the standard tree below `flowkit`, made by [`get_logger`][flowkit_log.get_logger].

    The methods named like levels take a message and its arguments as `logging` does, `logger.info("%d rows", n)`, and
    any further keywords as context: they follow the message in text, are fields in JSON, and attributes of the record
    for handlers of your own. A context key that a record uses for something else, such as `name`, becomes `name_`.
    `exc_info`, `stack_info`, `stacklevel` and `extra` mean what they mean in `logging`; what is given as `extra` is not
    shown in text. A line never raises: not for arguments that do not fit, nor for a handler that fails.

    Attributes:
        logger: the standard `logging.Logger` behind it.
        context: what [`bind`][flowkit_log.FlowkitLogger.bind] has added to every line.

    ```python
    from flowkit_log import configure_logging, get_logger

    configure_logging()
    logger = get_logger("load")
    logger.info("Received %d records.", 14502)
    logger.warning("Response was slow.", latency_ms=450)
    logger.success("Task completed.")
    ```
    """

    __slots__ = ("context", "logger")

    def __init__(self, logger: logging.Logger, context: Mapping[str, object] | None = None) -> None:
        self.logger = logger
        self.context = dict(context or {})

    @property
    def name(self) -> str:
        """The logger's full name in the tree, such as `flowkit.load`."""
        return self.logger.name

    def bind(self, **context: object) -> FlowkitLogger:
        """Return a logger of the same name that adds this context to each of its lines.

        ```python
        from flowkit_log import get_logger

        logger = get_logger().bind(customer="acme")
        logger.info("Invoice sent.", number=17)  # customer=acme number=17
        ```
        """
        return FlowkitLogger(self.logger, {**self.context, **context})

    def is_enabled_for(self, level: LogLevel | int | str) -> bool:
        """Return whether a line of this level would be passed to any handler."""
        return self.logger.isEnabledFor(level_number(level))

    def debug(self, message: object, /, *args: object, **context: Any) -> None:
        """Log a line at level DEBUG."""
        if self.logger.isEnabledFor(10):
            self._log(10, message, args, **context)

    def info(self, message: object, /, *args: object, **context: Any) -> None:
        """Log a line at level INFO."""
        if self.logger.isEnabledFor(20):
            self._log(20, message, args, **context)

    def system(self, message: object, /, *args: object, **context: Any) -> None:
        """Log a line at level SYSTEM."""
        if self.logger.isEnabledFor(22):
            self._log(22, message, args, **context)

    def success(self, message: object, /, *args: object, **context: Any) -> None:
        """Log a line at level SUCCESS."""
        if self.logger.isEnabledFor(25):
            self._log(25, message, args, **context)

    def warning(self, message: object, /, *args: object, **context: Any) -> None:
        """Log a line at level WARNING."""
        if self.logger.isEnabledFor(30):
            self._log(30, message, args, **context)

    def error(self, message: object, /, *args: object, **context: Any) -> None:
        """Log a line at level ERROR."""
        if self.logger.isEnabledFor(40):
            self._log(40, message, args, **context)

    def exception(self, message: object, /, *args: object, **context: Any) -> None:
        """Log a line at level ERROR, with the traceback of the exception that is being handled."""
        if self.logger.isEnabledFor(40):
            self._log(40, message, args, **{"exc_info": True, **context})

    def log(self, level: LogLevel | int | str, message: object, /, *args: object, **context: Any) -> None:
        """Log a line at a level given as a `LogLevel`, an integer of at least 1 or a name.

        Raises:
            TypeError, ValueError: `level` is none of these.
        """
        number = level_number(level)
        if self.logger.isEnabledFor(number):
            self._log(number, message, args, **context)

    @overload
    def progress(
        self, label: str, items: None = None, *, total: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> Progress[None]: ...

    @overload
    def progress(
        self, label: str, items: Iterable[T], *, total: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> Progress[T]: ...

    def progress(
        self,
        label: str,
        items: Iterable[Any] | None = None,
        *,
        total: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Progress[Any]:
        """Return a progress bar: a context manager to `advance`, or an iterable that advances by itself.

        On a terminal the bar is redrawn in place. Everywhere else it is a line at the start, at every quarter, after
        ten seconds without one, and at the end. All are records of level INFO with `event="progress"`.

        Args:
            label: what is going on, in a few words.
            items: what to iterate over; the bar advances by one after each.
            total: how many steps there are, at least 0. By default `len(items)` where that is known; None shows a count
                instead of a bar.
            clock: returns the time in seconds; for tests.

        Raises:
            TypeError, ValueError: an argument is not of its type or is out of range.

        ```python
        from flowkit_log import get_logger

        logger = get_logger()
        with logger.progress("Streaming data chunks", total=40) as bar:
            for _ in range(10):
                bar.advance(4)
        for chunk in logger.progress("Checking chunks", ["a", "b"]):
            chunk.upper()
        ```
        """
        return Progress(self, label, items, total=total, clock=clock)

    def _log(
        self,
        level: int,
        message: object,
        args: tuple[object, ...],
        /,
        *,
        exc_info: object = None,
        stack_info: bool = False,
        stacklevel: int = 1,
        extra: Mapping[str, object] | None = None,
        **context: object,
    ) -> None:
        # `Logger.log` raises KeyError for context that is named like an attribute of the record, so the record is made
        # by its parts.
        logger = self.logger
        place = logger.findCaller(stack_info, stacklevel + _own_frames(sys._getframe()))
        record = logger.makeRecord(
            logger.name, level, place[0], place[1], message, args, _exc_info(exc_info), place[2], None, place[3]
        )
        if extra:
            attach(record, extra)
        if self.context or context:
            record.flowkit_context = attach(record, {**self.context, **context})
        where = getattr(logging.getLogger(ROOT_NAME), "flowkit_where", None)  # set by who runs tasks
        if where is not None:
            for fact, value in where().items():
                vars(record).setdefault(fact, value)
        try:
            logger.handle(record)
        except RecursionError:
            raise
        except Exception:
            # A handler that raises would fail the task that logs; say it as `logging` says such things.
            with suppress(Exception):
                logging.NullHandler().handleError(record)

    def __repr__(self) -> str:
        context = f" {self.context!r}" if self.context else ""
        return f"<FlowkitLogger {self.name!r}{context}>"


def get_logger(name: str | None = None) -> FlowkitLogger:
    """Return the logger of this name: `get_logger("load")` is the standard logger `flowkit.load`.

    The same name gives the same logger. It may be called before or after
    [`configure_logging`][flowkit_log.configure_logging], at the top of a module or inside a task.

    Args:
        name: the name below `flowkit`, with dots for levels of its own; None or "" for `flowkit` itself. A name that
            starts with `flowkit.` already is taken as it is.

    Raises:
        TypeError: `name` is not a string.

    ```python
    from flowkit_log import get_logger

    assert get_logger("load").name == "flowkit.load"
    assert get_logger("load") is get_logger("flowkit.load")
    assert get_logger().name == "flowkit"
    ```
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name={name!r} is of type {type(name).__name__}: a logger's name is a string, or None.")
    if not name or name == ROOT_NAME:
        return _named(ROOT_NAME)
    return _named(name if name.startswith(f"{ROOT_NAME}.") else f"{ROOT_NAME}.{name}")


@functools.cache
def _named(name: str) -> FlowkitLogger:
    return FlowkitLogger(logging.getLogger(name))


def _exc_info(given: object) -> Any:
    """Return what `logging` calls exc_info: None, or the type, the exception and its traceback."""
    if not given:
        return None
    if isinstance(given, BaseException):
        return type(given), given, given.__traceback__
    found = given if isinstance(given, tuple) else sys.exc_info()
    return found if found[1] is not None else None


def _own_frames(frame: FrameType | None) -> int:
    """Return how many frames, from this one outwards, are code of this package: the next one is the caller's."""
    count = 0
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        count += 1
        frame = frame.f_back
    return count


_HERE = get_logger.__code__.co_filename.removesuffix("_logger.py")

# Without it, a record nobody handles would be printed by `logging.lastResort`.
logging.getLogger(ROOT_NAME).addHandler(logging.NullHandler())
