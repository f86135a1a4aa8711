"""Function `configure_logging`: print the records of the logger `flowkit` to a stream."""

from __future__ import annotations

import logging
import threading

from ._console import ConsoleHandler
from ._json_formatter import JsonFormatter
from ._levels import LogLevel, level_number
from ._logger import ROOT_NAME, FlowkitLogger, get_logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_lock = threading.Lock()


class _Console(ConsoleHandler):
    """The handler that `configure_logging` installs, distinguished by its class from handlers that users install."""


class _RootHandlers(logging.Handler):
    """Passes records to the handlers of the root logger, except to those that print to the same terminal.

    It replaces propagation, which would print every line twice after `logging.basicConfig`.
    """

    def __init__(self, console: ConsoleHandler) -> None:
        super().__init__()
        self._console = console

    def handle(self, record: logging.LogRecord) -> bool:
        """Pass the record on, unless propagation has been turned on again.

        It overrides `handle`, because `emit` runs with the lock of this handler held: the root handlers take locks of
        their own, and holding two locks at once can deadlock.
        """
        if not logging.getLogger(ROOT_NAME).propagate:
            for handler in logging.getLogger().handlers:
                if record.levelno >= handler.level and not self._console.shares_terminal(handler):
                    handler.handle(record)
        return True


def configure_logging(
    level: LogLevel | int | str = LogLevel.INFO,
    use_colors: bool | None = None,
    json_output: bool = False,
    *,
    stream: TextIO | None = None,
) -> FlowkitLogger:
    """Print the log records of flowkit and of loggers from [`get_logger`][flowkit_log.get_logger].

    It applies to all loggers below `flowkit`, including those created earlier. Another call replaces the previous
    configuration. The root logger is not changed. Its handlers still receive the records, except a handler that prints
    to the same terminal or stream (as `logging.basicConfig` installs), so every line is printed once. To keep the
    records from the root logger's handlers, set `logging.getLogger("flowkit").propagate = False` before the call.

    Args:
        level: the lowest level to print, as a `LogLevel`, an integer of at least 1, or a name.
        use_colors: True turns colors on, False turns them off. None turns them on for a terminal, unless the
            environment has `NO_COLOR` or `TERM=dumb`, and for any stream if it has `FORCE_COLOR`.
        json_output: print JSON lines, without colors and bars, instead of text.
        stream: the text stream to print to; None means `sys.stderr`, looked up for each line.

    Returns:
        The logger `flowkit`.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: `level` is not a level.

    ```python
    from flowkit_log import LogLevel, configure_logging

    logger = configure_logging(level=LogLevel.DEBUG)
    logger.debug("Connected to %s.", "db.example.com")
    ```
    """
    number = level_number(level)
    if use_colors is not None and not isinstance(use_colors, bool):
        raise TypeError(f"use_colors={use_colors!r} is of type {type(use_colors).__name__}: use True, False or None.")
    if stream is not None and not callable(getattr(stream, "write", None)):
        raise TypeError(f"stream={stream!r} is of type {type(stream).__name__}: use an open text file, or None.")
    console = _Console(stream, use_colors, number)
    if json_output:
        console.setFormatter(JsonFormatter())
    logger = logging.getLogger(ROOT_NAME)
    with _lock:
        previous = [handler for handler in logger.handlers if isinstance(handler, (_Console, _RootHandlers))]
        propagates = logger.propagate or any(isinstance(handler, _RootHandlers) for handler in previous)
        for handler in previous:
            logger.removeHandler(handler)
            handler.close()
        logger.addHandler(console)
        if propagates:
            logger.addHandler(_RootHandlers(console))
        logger.propagate = False
        logger.setLevel(number)
        _enable(logger)
    return get_logger()


def _enable(logger: logging.Logger) -> None:
    """Enable the loggers that `logging.config.dictConfig` has disabled because its configuration does not name them."""
    logger.disabled = False
    for name, other in list(logging.root.manager.loggerDict.items()):
        if name.startswith(f"{ROOT_NAME}.") and isinstance(other, logging.Logger):
            other.disabled = False
