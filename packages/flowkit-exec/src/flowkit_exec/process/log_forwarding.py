"""Log records of worker processes: sent to the process that runs the pipeline, and handled by its handlers."""

from __future__ import annotations

import logging
import pickle
import sys
from typing import TYPE_CHECKING, Any

from flowkit_core._warnings import report

from . import protocol as wire
from .safe_text import described, is_for_the_program, shown

if TYPE_CHECKING:
    from collections.abc import Callable


def levels() -> dict[str, tuple[int, bool]]:
    """Return, by name of logger, the level set on it, and whether it has handlers; nothing if no logger has any."""
    heard = {
        name: (logger.level, any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers))
        for name, logger in _loggers().items()
        if logger.level or logger.handlers
    }
    return heard if any(handled for _, handled in heard.values()) else {}


def _loggers() -> dict[str, logging.Logger]:
    known = {"": logging.root, **logging.root.manager.loggerDict}
    return {name: logger for name, logger in known.items() if isinstance(logger, logging.Logger)}


def _is_script() -> bool:
    """Say whether this is a worker in which the script has another name."""
    return getattr(sys.modules.get("__main__"), "__name__", None) == "__mp_main__"


def _renamed(name: str, old: str, new: str) -> str:
    return ".".join([new if part == old else part for part in name.split(".")])


class _Forwarder(logging.Handler):
    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, with its message and traceback made into text."""
        if getattr(record, "_flowkit_sent", False):
            return
        try:
            facts = dict(vars(record))
            if _is_script():
                facts["name"] = _renamed(record.name, "__mp_main__", "__main__")
            facts["msg"], facts["args"] = record.getMessage(), None
            if record.exc_info:
                facts["exc_text"] = logging.Formatter().formatException(record.exc_info)
                facts["exc_info"] = None
            record._flowkit_sent = True
            self._send(_pickled(facts))
        except Exception:
            self.handleError(record)


def _pickled(facts: dict[str, Any]) -> bytes:
    try:
        return pickle.dumps(facts, wire.PROTOCOL)
    except BaseException:  # pickling runs the user's code
        return pickle.dumps(
            {name: value if _travels(value) else shown(value) for name, value in facts.items()}, wire.PROTOCOL
        )


def _travels(value: Any) -> bool:
    try:
        pickle.dumps(value, wire.PROTOCOL)
    except BaseException:
        return False
    return True


def forward(send: Callable[[bytes], None], heard: dict[str, tuple[int, bool]]) -> None:
    """Let the loggers of this worker send what is heard there, instead of whatever the script has set up here too."""
    if _is_script():
        heard = {_renamed(name, "__main__", "__mp_main__"): facts for name, facts in heard.items()}
    for name in {"", "flowkit", *heard}:
        logger = logging.getLogger(name or None)
        level, handled = heard.get(name, (logger.level, True))
        logger.setLevel(level)
        if handled or not name:
            logger.handlers.clear()
        if not logger.handlers and not heard:
            logger.addHandler(logging.NullHandler())  # nobody listens there, so nothing is printed here
    for name, logger in _loggers().items():
        if not name or not logger.propagate:  # the ends of the roads that records take
            logger.handlers[:] = [handler for handler in logger.handlers if not isinstance(handler, _Forwarder)]
            if heard:
                logger.addHandler(_Forwarder(send))


def handle(data: bytes, where: dict[str, str]) -> None:
    """Hand a record from a worker to the handlers of this process; flowkit's own are told where they are from."""
    try:
        record = logging.makeLogRecord(pickle.loads(data))
    except BaseException as error:  # unpickling runs the user's code
        if is_for_the_program(error):
            raise
        return
    if record.name.partition(".")[0] == "flowkit" and not hasattr(record, "run_id"):  # else of a run within the task
        vars(record).update(where | vars(record))
    if _is_script():  # in a worker too, for the workers of a run inside a task
        record.name = _renamed(record.name, "__main__", "__mp_main__")
    logger = logging.getLogger(record.name if record.name != "root" else None)
    if logger.isEnabledFor(record.levelno):
        _guarded(logger.handle, record)


def tell(message: str, facts: dict[str, Any]) -> None:
    """Say something in the voice of this executor."""
    _guarded(logging.getLogger("flowkit").info, "%s", message, extra=facts)


def _guarded(log: Callable[..., object], *args: Any, **options: Any) -> None:
    """Call a logger: one of its handlers, which are the user's, may fail, and no task is to blame for that."""
    try:
        log(*args, **options)
    except Exception as error:
        report(f"a log handler failed: {described(error)}")
