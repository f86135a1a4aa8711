"""Exceptions that pass from workers to the client: those of tasks, packed, and those of workers that cannot run any."""

from __future__ import annotations

from flowkit_core._text import escape_control_chars
from flowkit_core.failures import describe_error
from flowkit_core.runs import exception_transport

from .pickling import dumps


class CallFailedError(Exception):
    """Raised on a worker in place of the exception of a task: Dask can always send and format it.

    It does not refer to that exception, whose class may raise whatever Dask does with it.

    Args:
        packed: the exception, from :func:`pack_error`.
        retryable: whether the retries of the task apply.
        text: what the log of the worker and the dashboard show.
    """

    def __init__(self, packed: bytes, retryable: bool, text: str) -> None:
        super().__init__(packed, retryable, text)
        self.packed, self.retryable, self.text = packed, retryable, text

    def __str__(self) -> str:
        return self.text


class WorkerMismatchError(Exception):
    """Raised on a worker that has another version of Python or of flowkit than the client."""


def pack_error(error: BaseException) -> bytes:
    """Return an exception as bytes for ``unpack_error()`` of the core. Does not raise."""
    return exception_transport.pack_error(error, dumps=dumps)


def summary(error: BaseException) -> str:
    """Return type and message of an exception on one line. Never raises."""
    return escape_control_chars(describe_error(error))
