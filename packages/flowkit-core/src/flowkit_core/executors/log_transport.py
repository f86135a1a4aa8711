"""Log records of tasks in other processes: packed there, and handled by the handlers of the process of the run.

A program that has not imported :mod:`logging` must not import this module: it logs nothing.
"""

from __future__ import annotations

import logging
import pickle
import sys

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import safe_warn
from flowkit_core.failures import describe_error
from flowkit_core.log_records import keep_record, sinks
from flowkit_core.safe_text import is_interrupt, safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flowkit_core._typing import Any

PROTOCOL = 5


def configured_levels() -> dict[str, tuple[int, bool]]:
    """Return the configuration of the loggers of this process: logger name -> its level, whether it has handlers.

    Empty if no logger has a handler, and no run is recorded: then workers forward nothing.
    """
    levels = {
        name: (logger.level, any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers))
        for name, logger in loggers().items()
        if logger.level or logger.handlers
    }
    if sinks:
        return {"": (logging.root.level, False)} | levels
    return levels if any(has_handlers for _, has_handlers in levels.values()) else {}


def loggers() -> dict[str, logging.Logger]:
    """Return the loggers of this process by name; that of the root is empty."""
    known = {"": logging.root, **logging.root.manager.loggerDict}
    return {name: logger for name, logger in known.items() if isinstance(logger, logging.Logger)}


def main_is_renamed() -> bool:
    """Return whether the script is module ``__mp_main__`` here, as in spawned workers."""
    return getattr(sys.modules.get("__main__"), "__name__", None) == "__mp_main__"


def renamed(name: str, old: str, new: str) -> str:
    """Return the name of a logger, with another name of the script."""
    return ".".join([new if part == old else part for part in name.split(".")])


def pack_record(record: logging.LogRecord, more: Mapping[str, Any]) -> bytes:
    """Return a log record as bytes, with its message and traceback formatted.

    Args:
        record: the log record.
        more: further attributes.

    Raises:
        Exception: the arguments of the record do not fit its message.
    """
    attributes = vars(record) | dict(more)
    if main_is_renamed():
        attributes["name"] = renamed(record.name, "__mp_main__", "__main__")
    attributes["msg"], attributes["args"] = record.getMessage(), None
    if record.exc_info:
        attributes["exc_text"] = logging.Formatter().formatException(record.exc_info)
        attributes["exc_info"] = None
    return _pickled(attributes)


def _pickled(attributes: dict[str, Any]) -> bytes:
    """Return the pickle of the attributes of a record; of those that cannot be pickled, the repr."""
    try:
        return pickle.dumps(attributes, PROTOCOL)
    except BaseException:  # pickling runs the user's code
        picklable = {name: value if _is_picklable(value) else safe_repr(value) for name, value in attributes.items()}
        return pickle.dumps(picklable, PROTOCOL)


def _is_picklable(value: Any) -> bool:
    try:
        pickle.dumps(value, PROTOCOL)
    except BaseException:
        return False
    return True


def handle_record(data: bytes, context: dict[str, Any]) -> None:
    """Handle a packed record in the process of the run.

    Args:
        data: from :func:`pack_record`.
        context: attributes that the record gets: run, pipeline, task, element and attempt.
    """
    try:
        record = logging.makeLogRecord(pickle.loads(data))
    except BaseException as error:  # unpickling runs the user's code
        if is_interrupt(error):
            raise
        return
    if not hasattr(record, "run_id"):  # else of a run inside the task
        vars(record).update(context | vars(record))
    if main_is_renamed():  # this is a worker, too, and runs a pipeline inside a task
        record.name = renamed(record.name, "__main__", "__mp_main__")
    logger = logging.getLogger(record.name if record.name != "root" else None)
    if logger.isEnabledFor(record.levelno):
        keep_record(record, vars(record))
        call_logger(logger.handle, record)


def call_logger(log: Callable[..., object], *args: Any, **options: Any) -> None:
    """Call a method of a logger; warn if a handler raises, because no task is at fault."""
    try:
        log(*args, **options)
    except Exception as error:
        safe_warn(f"a log handler failed: {describe_error(error)}")
