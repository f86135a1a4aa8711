"""Log records of worker processes: forwarded to the calling process, and handled by its handlers."""

from __future__ import annotations

import logging
import pickle
import sys
from typing import TYPE_CHECKING, Any

from flowkit_core._warnings import safe_warn
from flowkit_core.failures import describe_error
from flowkit_core.log_records import keep_record, sinks
from flowkit_core.safe_text import is_interrupt, safe_repr

from . import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def configured_levels() -> dict[str, tuple[int, bool]]:
    """Return the configuration of the loggers of this process: logger name -> its level, whether it has handlers.

    Empty if no logger has a handler, and no run is recorded: then workers forward nothing.
    """
    levels = {
        name: (logger.level, any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers))
        for name, logger in _loggers().items()
        if logger.level or logger.handlers
    }
    if sinks:
        return {"": (logging.root.level, False)} | levels
    return levels if any(has_handlers for _, has_handlers in levels.values()) else {}


def _loggers() -> dict[str, logging.Logger]:
    known = {"": logging.root, **logging.root.manager.loggerDict}
    return {name: logger for name, logger in known.items() if isinstance(logger, logging.Logger)}


def _main_is_renamed() -> bool:
    """Return whether the script is module ``__mp_main__`` here, as in spawned workers."""
    return getattr(sys.modules.get("__main__"), "__name__", None) == "__mp_main__"


def _renamed(name: str, old: str, new: str) -> str:
    return ".".join([new if part == old else part for part in name.split(".")])


class _ForwardingHandler(logging.Handler):
    """Sends records to the calling process.

    Args:
        send: sends a pickled record.
        element: returns further attributes of a record.
    """

    def __init__(self, send: Callable[[bytes], None], element: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._send = send
        self._element = element

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, with its message and traceback formatted."""
        if getattr(record, "_flowkit_sent", False):
            return
        try:
            attributes = vars(record) | self._element()
            if _main_is_renamed():
                attributes["name"] = _renamed(record.name, "__mp_main__", "__main__")
            attributes["msg"], attributes["args"] = record.getMessage(), None
            if record.exc_info:
                attributes["exc_text"] = logging.Formatter().formatException(record.exc_info)
                attributes["exc_info"] = None
            record._flowkit_sent = True
            self._send(_pickled(attributes))
        except Exception:
            self.handleError(record)


def _pickled(attributes: dict[str, Any]) -> bytes:
    """Return the pickle of the attributes of a record; of those that cannot be pickled, the repr."""
    try:
        return pickle.dumps(attributes, protocol.PICKLE_PROTOCOL)
    except BaseException:  # pickling runs the user's code
        picklable = {name: value if _is_picklable(value) else safe_repr(value) for name, value in attributes.items()}
        return pickle.dumps(picklable, protocol.PICKLE_PROTOCOL)


def _is_picklable(value: Any) -> bool:
    try:
        pickle.dumps(value, protocol.PICKLE_PROTOCOL)
    except BaseException:
        return False
    return True


def forward_records(
    send: Callable[[bytes], None],
    levels: Mapping[str, tuple[int, bool]],
    element: Callable[[], dict[str, Any]] = dict,
) -> None:
    """Configure the loggers of this worker like those of the calling process, with handlers that forward records.

    Args:
        send: sends a pickled record.
        levels: what `configured_levels` has returned in the calling process.
        element: returns task and element of a call in a block of elements, as attributes.
    """
    if _main_is_renamed():
        levels = {_renamed(name, "__main__", "__mp_main__"): entry for name, entry in levels.items()}
    for name in {"", "flowkit", *levels}:
        logger = logging.getLogger(name or None)
        level, has_handlers = levels.get(name, (logger.level, True))
        logger.setLevel(level)
        if has_handlers or not name:
            logger.handlers.clear()
        if not logger.handlers and not levels:
            logger.addHandler(logging.NullHandler())  # else warnings are printed to standard error
    for name, logger in _loggers().items():
        if not name or not logger.propagate:  # loggers where propagation ends
            logger.handlers[:] = [handler for handler in logger.handlers if not isinstance(handler, _ForwardingHandler)]
            if levels:
                logger.addHandler(_ForwardingHandler(send, element))


def handle_record(data: bytes, context: dict[str, Any]) -> None:
    """Handle a record from a worker in this process.

    Args:
        data: the pickled record.
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
    if _main_is_renamed():  # this is a worker, too, and runs a pipeline inside a task
        record.name = _renamed(record.name, "__main__", "__mp_main__")
    logger = logging.getLogger(record.name if record.name != "root" else None)
    if logger.isEnabledFor(record.levelno):
        keep_record(record, vars(record))
        _call_logger(logger.handle, record)


def log_info(message: str, extra: dict[str, Any]) -> None:
    """Log a message to the logger ``flowkit``, at level INFO."""
    _call_logger(logging.getLogger("flowkit").info, "%s", message, extra=extra)


def log_warning(message: str, extra: dict[str, Any]) -> None:
    """Log a message to the logger ``flowkit``, at level WARNING."""
    _call_logger(logging.getLogger("flowkit").warning, "%s", message, extra=extra)


def _call_logger(log: Callable[..., object], *args: Any, **options: Any) -> None:
    """Call a method of a logger; warn if a handler raises, because no task is at fault."""
    try:
        log(*args, **options)
    except Exception as error:
        safe_warn(f"a log handler failed: {describe_error(error)}")
