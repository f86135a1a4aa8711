"""Log records of worker processes: forwarded to the calling process, and handled by its handlers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flowkit_core.executors.log_transport import (
    call_logger,
    loggers,
    main_is_renamed,
    pack_record,
    renamed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
            data = pack_record(record, self._element())
            record._flowkit_sent = True
            self._send(data)
        except Exception:
            self.handleError(record)


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
    if main_is_renamed():
        levels = {renamed(name, "__main__", "__mp_main__"): entry for name, entry in levels.items()}
    for name in {"", "flowkit", *levels}:
        logger = logging.getLogger(name or None)
        level, has_handlers = levels.get(name, (logger.level, True))
        logger.setLevel(level)
        if has_handlers or not name:
            logger.handlers.clear()
        if not logger.handlers and not levels:
            logger.addHandler(logging.NullHandler())  # else warnings are printed to standard error
    for name, logger in loggers().items():
        if not name or not logger.propagate:  # loggers where propagation ends
            logger.handlers[:] = [handler for handler in logger.handlers if not isinstance(handler, _ForwardingHandler)]
            if levels:
                logger.addHandler(_ForwardingHandler(send, element))


def log_info(message: str, extra: dict[str, Any]) -> None:
    """Log a message to the logger ``flowkit``, at level INFO."""
    call_logger(logging.getLogger("flowkit").info, "%s", message, extra=extra)


def log_warning(message: str, extra: dict[str, Any]) -> None:
    """Log a message to the logger ``flowkit``, at level WARNING."""
    call_logger(logging.getLogger("flowkit").warning, "%s", message, extra=extra)
