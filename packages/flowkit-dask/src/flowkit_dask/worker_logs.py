"""Log records of tasks on workers: sent to the process of the run, which passes them to its handlers and its record."""

from __future__ import annotations

import logging
import pickle
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from flowkit_core.executors.log_transport import configured_levels, pack_record
from flowkit_core.log_records import forwarders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_PROCESS = uuid4().hex
"""What identifies this process: the records of a worker in the process of the run need not be sent."""

_lock = Lock()
_runs: dict[str, int] = {}  # run id -> number of its calls that are running
_levels: dict[str, list[int]] = {}  # name of a logger with a lower level -> its own level, number of calls that need it


def logging_of_client(run_id: str) -> bytes | None:
    """Return what workers need to send log records of a run here; None if nothing here handles or keeps them."""
    found = configured_levels()
    levels = {name: level for name, (level, _) in found.items() if level or not name}
    return pickle.dumps((_PROCESS, run_id, levels)) if found else None


@lru_cache(64)
def _unpacked(data: bytes) -> tuple[str, str, Mapping[str, int]]:
    process, run_id, levels = pickle.loads(data)
    return process, run_id, levels


@contextmanager
def forwarded_records(data: bytes | None, send: Callable[[bytes], object]) -> Iterator[None]:
    """Send the log records that the tasks of a run make in this block.

    Meanwhile loggers have the levels of the client, where these are lower. Handlers of the worker get all records, too.
    Without handlers, those that are sent are not printed on the worker.

    Args:
        data: what :func:`logging_of_client` has returned on the client.
        send: sends a packed record.
    """
    process, run_id, levels = _unpacked(data) if data is not None else (_PROCESS, "", {})
    if process == _PROCESS:
        yield
        return
    with _lock:
        if not _runs and not logging.root.handlers:
            logging.root.addHandler(_last_resort)
        _runs[run_id] = _runs.get(run_id, 0) + 1
        forwarders[run_id] = _Forwarder(send)
        lowered = _lower(levels)
    try:
        yield
    finally:
        with _lock:
            _runs[run_id] -= 1
            if not _runs[run_id]:
                del _runs[run_id]
                forwarders.pop(run_id, None)
            _restore(lowered)
            if not _runs:
                logging.root.removeHandler(_last_resort)


def _lower(levels: Mapping[str, int]) -> list[str]:
    """Lower the levels of loggers that have higher ones; return the names of those that :func:`_restore` needs."""
    lowered = []
    for name, level in levels.items():
        logger = logging.getLogger(name or None)
        if name not in _levels and logger.getEffectiveLevel() <= level:
            continue
        entry = _levels.setdefault(name, [logger.level, 0])
        entry[1] += 1
        if logger.getEffectiveLevel() > level:
            logger.setLevel(level)
        lowered.append(name)
    return lowered


def _restore(names: list[str]) -> None:
    """Give loggers their own levels again that no running call needs to be lower."""
    for name in names:
        entry = _levels[name]
        entry[1] -= 1
        if not entry[1]:
            del _levels[name]
            logging.getLogger(name or None).setLevel(entry[0])


class _Forwarder:
    """Sends log records of one run.

    Args:
        send: sends a packed record.
    """

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send

    def __call__(self, record: logging.LogRecord, extra: Mapping[str, Any]) -> None:
        """Send a record with its further attributes; leave out one whose arguments do not fit its message."""
        try:
            data = pack_record(record, extra)
        except Exception:
            return
        record._flowkit_sent = True
        self._send(data)


class _LastResort(logging.Handler):
    """Does what logging does without handlers, which is to print warnings, but for records that were sent."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        last: Any = logging.lastResort
        if last is not None and record.levelno >= last.level and not getattr(record, "_flowkit_sent", False):
            last.handle(record)


_last_resort = _LastResort()
