"""Class `FlowkitLogger`: a standard logger with two more levels, context as keywords, and progress bars."""

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
    from types import FrameType
    from typing import Any

T = TypeVar("T")

ROOT_NAME = "flowkit"


class FlowkitLogger:
    """A logger of the standard tree below `flowkit`, made by [`get_logger`][flowkit_log.get_logger].

    The methods named after levels take a message and its arguments as in `logging`, `logger.info("%d rows", n)`. All
    other keywords are context: they follow the message in text, are fields in JSON, and are attributes of the record
    for other handlers. A context key that is an attribute of every record, such as `name`, becomes `name_`. `exc_info`,
    `stack_info`, `stacklevel` and `extra` have the same meaning as in `logging`; `extra` is not printed in text. A
    logging call never raises, even if the arguments do not match the message or a handler fails.

    Attributes:
        logger: the standard `logging.Logger` that it wraps.
        context: the context that [`bind`][flowkit_log.FlowkitLogger.bind] adds to every line.

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
        """The full name of the logger, such as `flowkit.load`."""
        return self.logger.name

    def __flowkit_fingerprint__(self) -> tuple[logging.Logger, dict[str, object]]:
        return self.logger, self.context

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
        """Return whether the logger is enabled for this level."""
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
        """Log a line at level ERROR with the traceback of the exception that is being handled."""
        if self.logger.isEnabledFor(40):
            self._log(40, message, args, **{"exc_info": True, **context})

    def log(self, level: LogLevel | int | str, message: object, /, *args: object, **context: Any) -> None:
        """Log a line at a level given as a `LogLevel`, an integer of at least 1 or a name.

        Raises:
            TypeError: `level` is of another type.
            ValueError: the name is unknown, or the integer is below 1.
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
        """Return a progress bar: a context manager with `advance`, or an iterable that advances after each item.

        On a terminal the bar is redrawn in place. Elsewhere a line is printed at the start, at every quarter, after ten
        seconds without a line, and at the end. All are records of level INFO with `event="progress"`.

        Args:
            label: short text in front of the bar.
            items: the iterable to iterate over; the bar advances by one after each item.
            total: number of steps, at least 0. By default `len(items)`, if `items` has a length; None shows a count
                instead of a bar.
            clock: a function that returns the time in seconds; for tests.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: `total` is negative.

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
        # `Logger.log` raises KeyError for context that is named like an attribute of the record, so this method creates
        # the record and passes it to the handlers.
        logger = self.logger
        file, line, function, stack = logger.findCaller(stack_info, stacklevel + _package_frames(sys._getframe()))
        context = {**self.context, **context}
        known = (
            {"flowkit_context": context} if context else None
        )  # for the factory of flowkit-core, which keeps records
        record = logger.makeRecord(
            logger.name, level, file, line, message, args, _exc_info(exc_info), function, known, stack
        )
        where = getattr(logging.getLogger(ROOT_NAME), "__flowkit_where__", None)  # set by flowkit-core
        facts: dict[str, object] = {} if where is None else where()
        for name in facts:  # those of the caller take precedence
            vars(record).pop(name, None)
        if extra:
            attach(record, extra)
        if context:
            record.flowkit_context = attach(record, context)
        for name, value in facts.items():
            vars(record).setdefault(name, value)
        try:
            logger.handle(record)
        except RecursionError:
            raise
        except Exception:
            # A handler that raises must not fail the task that logs; report it as `logging` reports errors of handlers.
            with suppress(Exception):
                logging.NullHandler().handleError(record)

    def __repr__(self) -> str:
        context = f" {self.context!r}" if self.context else ""
        return f"<FlowkitLogger {self.name!r}{context}>"


def get_logger(name: str | None = None) -> FlowkitLogger:
    """Return the logger of this name: `get_logger("load")` is the standard logger `flowkit.load`.

    Calls with the same name return the same logger. Call it before or after
    [`configure_logging`][flowkit_log.configure_logging], at the top of a module or inside a task.

    Args:
        name: the name below `flowkit`, which may have dots; None or "" for `flowkit` itself. A name that starts with
            `flowkit.` is not prefixed again.

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
    """Return `exc_info` for a record, from any form that `logging` accepts: type, exception, traceback; or None."""
    if not given:
        return None
    if isinstance(given, BaseException):
        return type(given), given, given.__traceback__
    exc_info = given if isinstance(given, tuple) else sys.exc_info()
    return exc_info if exc_info[1] is not None else None


def _package_frames(frame: FrameType | None) -> int:
    """Return the number of frames between this one and the first frame outside of this package."""
    count = 0
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE_FOLDER):
        count += 1
        frame = frame.f_back
    return count


_PACKAGE_FOLDER = get_logger.__code__.co_filename.removesuffix("_logger.py")

# Without a handler, `logging.lastResort` would print warnings and errors.
logging.getLogger(ROOT_NAME).addHandler(logging.NullHandler())
