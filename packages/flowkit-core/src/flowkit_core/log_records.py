"""Log records that are made during a task carry run, pipeline, task, element and attempt, whatever their logger is.

This module does not import :mod:`logging`: a program that has not imported it logs nothing.
"""

from __future__ import annotations

import sys

from ._typing import TYPE_CHECKING
from .context import log_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from logging import LogRecord

    from ._typing import Any

sinks: dict[str, Callable[[LogRecord, Mapping[str, Any]], object]] = {}
"""Id of a run that is recorded in this process -> function that keeps a log record, given with its attributes."""

forwarders: dict[str, Callable[[LogRecord, Mapping[str, Any]], object]] = {}
"""Id of a run in another process -> function that sends a log record there, given with its argument ``extra``."""

CONTEXT = "flowkit_context"
"""Attribute of log records that loggers of flowkit-log make: what was given as keywords, by name."""

_MAX_FRAMES = 10
"""Frames between a factory of records and the method of the logger that called it, if other factories call it."""


def keep_record(record: LogRecord, attributes: Mapping[str, Any], extra: Mapping[str, Any] | None = None) -> None:
    """Keep a log record in the record of its run, if that is recorded in this process.

    Args:
        record: the log record.
        attributes: its attributes of the run.
        extra: the argument ``extra`` of the logging call, whose attributes the record may not have yet.
    """
    run_id = attributes.get("run_id")
    if type(run_id) is str and (sink := sinks.get(run_id)) is not None:
        sink(record, {**attributes, CONTEXT: extra[CONTEXT]} if extra and CONTEXT in extra else attributes)


def add_task_to_records() -> None:
    """Install the factory of log records that adds the attributes, if :mod:`logging` is imported.

    The factory that was installed before makes the records. Each run calls this function.
    """
    logging: Any = sys.modules.get("logging")
    if logging is None or not hasattr(logging, "setLogRecordFactory"):
        return
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, _RecordFactory):
        logging.setLogRecordFactory(_RecordFactory(factory, logging.Logger.makeRecord.__code__))


class _RecordFactory:
    """Makes log records, with the attributes of the running task.

    A logger refuses an argument ``extra`` with a name that the record has. Such a name is left to ``extra``.

    Args:
        factory: makes the records.
        code: code of the method of loggers that calls the factory.
    """

    def __init__(self, factory: Callable[..., LogRecord], code: Any) -> None:
        self._factory = factory
        self._code = code

    def __call__(self, name: Any, *args: Any, **kwargs: Any) -> LogRecord:
        record = self._factory(name, *args, **kwargs)
        if name is None:  # logging.makeLogRecord(): the attributes of another record follow
            return record
        attributes = log_attributes()
        if attributes or sinks:
            extra = self._extra()
            if "run_id" in extra:  # it is about another task
                attributes = extra
            elif attributes:
                known = vars(record)
                for attribute, value in attributes.items():
                    if attribute not in extra:
                        known.setdefault(attribute, value)
            if attributes:
                keep_record(record, attributes, extra)
                if forwarders and (forward := forwarders.get(attributes.get("run_id", ""))) is not None:
                    forward(record, extra or {})
        return record

    def _extra(self) -> Any:
        """Return the argument ``extra`` of the logging call."""
        frame = sys._getframe(2)
        for _ in range(_MAX_FRAMES):
            if frame.f_code is self._code:
                return frame.f_locals.get("extra") or ()
            if frame.f_back is None:
                break
            frame = frame.f_back
        return ()
