"""One call that makes the records visible."""

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
    """The handler of `configure_logging`, to tell it from those that people make."""


class _RootHandlers(logging.Handler):
    """Hands every record to the handlers of the root logger, as propagation does, but for those on the same terminal.

    People who have called `logging.basicConfig` would otherwise read every line twice.
    """

    def __init__(self, console: ConsoleHandler) -> None:
        super().__init__()
        self._console = console

    def handle(self, record: logging.LogRecord) -> bool:
        """Pass the record on, unless somebody has turned propagation on again.

        This is `handle` and not `emit`, which is called with a lock held: the handlers have their own, and two locks at
        once can block each other.
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
    """Print what flowkit logs, and what is logged with [`get_logger`][flowkit_log.get_logger].

    It holds for all loggers below `flowkit`, also those obtained earlier. Calling it again replaces what it did before.
    The root logger is not changed. Its handlers go on receiving the records, except one that prints to the same
    terminal or stream, as `logging.basicConfig` makes: every line is printed once. To keep the records from the root
    logger's handlers, set `logging.getLogger("flowkit").propagate = False` before.

    Args:
        level: the lowest level to print, as a `LogLevel`, an integer of at least 1, or a name.
        use_colors: True and False force it. None colors a terminal, unless the environment has `NO_COLOR` or
            `TERM=dumb`, and everything if it has `FORCE_COLOR`.
        json_output: print JSON lines, without colors and bars, instead of text.
        stream: where to print; None is `sys.stderr`, looked up for each line.

    Returns:
        The logger `flowkit`.

    Raises:
        TypeError, ValueError: an argument is not of its type, or is not a level.

    ```python
    from flowkit_log import LogLevel, configure_logging

    logger = configure_logging(level=LogLevel.DEBUG)
    logger.debug("Now you see me.")
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
        ours = [handler for handler in logger.handlers if isinstance(handler, (_Console, _RootHandlers))]
        propagates = logger.propagate or any(isinstance(handler, _RootHandlers) for handler in ours)
        for handler in ours:
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
    """Undo what `logging.config.dictConfig` does to loggers that its configuration does not name."""
    logger.disabled = False
    for name, other in list(logging.root.manager.loggerDict.items()):
        if name.startswith(f"{ROOT_NAME}.") and isinstance(other, logging.Logger):
            other.disabled = False
