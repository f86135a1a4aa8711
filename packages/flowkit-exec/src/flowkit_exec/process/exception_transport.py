"""Exceptions from a worker process to the calling process, with notes on globals that the worker does not have."""

from __future__ import annotations

from flowkit_core.runs import exception_transport

from .functions.missing_globals import explain, find_globals_used
from .protocol import dumps


def pack_error(error: BaseException) -> bytes:
    """Return an exception as bytes for :func:`unpack_error`. Does not raise."""
    return exception_transport.pack_error(error, dumps=dumps, find_facts=find_globals_used)


def unpack_error(data: bytes, task: str) -> BaseException:
    """Return the exception that :func:`pack_error` has packed, or a `RemoteTaskError` in place of it.

    Args:
        data: the packed exception.
        task: name of the task that raised it.
    """
    return exception_transport.unpack_error(data, task, explain)
