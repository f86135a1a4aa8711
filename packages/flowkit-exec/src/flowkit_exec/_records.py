"""Log records of worker processes: sent to the process that runs the pipeline, and handled by its handlers."""

from __future__ import annotations

import logging
import pickle
import sys
from typing import TYPE_CHECKING, Any

from . import _wire as wire

if TYPE_CHECKING:
    from collections.abc import Callable


def levels() -> dict[str, int]:
    """Return the levels that records must reach to be heard in this process: of the root logger, and of flowkit's."""
    found = sys.modules.get("logging")
    if found is None or not hasattr(found, "getLogger"):
        return {}
    heard = {}
    for name in ("", "flowkit"):
        logger = logging.getLogger(name or None)
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            heard[name] = logger.getEffectiveLevel()
    return heard


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
            facts["msg"], facts["args"] = record.getMessage(), None
            if record.exc_info:
                facts["exc_text"] = logging.Formatter().formatException(record.exc_info)
                facts["exc_info"] = None
            record._flowkit_sent = True
            self._send(wire.frame(wire.LOG, _pickled(facts)))
        except Exception:
            self.handleError(record)


def _pickled(facts: dict[str, Any]) -> bytes:
    try:
        return pickle.dumps(facts, wire.PROTOCOL)
    except Exception:
        return pickle.dumps({name: value if _travels(value) else repr(value) for name, value in facts.items()}, wire.PROTOCOL)


def _travels(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


def forward(send: Callable[[bytes], None], heard: dict[str, int]) -> None:
    """Let the loggers of this worker send what is heard there, instead of whatever the script has set up."""
    for name in ("", "flowkit"):
        logger = logging.getLogger(name or None)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        if name in heard:
            logger.addHandler(_Forwarder(send))
            logger.setLevel(heard[name])


def handle(data: bytes) -> None:
    """Hand a record from a worker to the handlers of this process."""
    try:
        record = logging.makeLogRecord(pickle.loads(data))
    except Exception:
        return
    logger = logging.getLogger(record.name if record.name != "root" else None)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
