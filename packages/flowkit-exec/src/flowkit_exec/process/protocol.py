"""Frames between a run and its worker processes, and helpers that both sides use.

A frame is a header (`HEADER`) and a payload. Its kind determines what the payload is:

====================  =============  ==================================================================================
kind                  sent by        payload
====================  =============  ==================================================================================
RUN                   lane           pickled surroundings of the calling process, None if they have not changed, and
                                     the initializer in the first run
FUNCTION              lane           pickled (number, kind of reference, reference)
BATCH                 lane           pickled (first ticket, [(number << 3 | mode of arguments, arguments)])
IDLE                  lane           pickled number of seconds after which the worker ends, if no run begins
READY                 worker         version of Python: the worker has started
STARTED               worker         empty: the call has started (sent if an observer asks for it, or it has a timeout)
VALUE                 worker         pickled result
SEGMENT               worker         pickled layout of a result in shared memory; its handle is sent before
ERROR                 worker         exception that the call has raised, see `exception_transport`
NOT_SERIALIZABLE      worker         pickled (part, type, reason): function, argument or result cannot be transferred
RETURNED_UNSTARTED    worker         empty: the call was not started, because the one before in its chain failed
LOG                   worker         pickled attributes of a log record
REQUEST               worker         request for the context of a task, see `task_context`; sent with a socket
CHDIR_FAILED          worker         text of the exception: the worker cannot enter the current folder of the caller
NOT_INITIALIZED       worker         exception that the initializer has raised, see `exception_transport`
NOT_A_WORKER          (another)      empty: the program that was started as a worker is another one
WARNING               worker         pickled warning, see `warning_forwarding`
HANDLES               both           handles of segments for the next call or result (the portable transport only)
SCRIPT_SLOW           worker         empty: executing the script takes longer than `SCRIPT_SLOW_AFTER`
====================  =============  ==================================================================================
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PICKLE_PROTOCOL = 5
DEPTH_VARIABLE = "FLOWKIT_DEPTH"
"""The environment variable with the number of process workers that this process is nested in."""

START_VARIABLE = "FLOWKIT_WORKER_START"
"""The environment variable by which a program that was started in place of a worker reports that. A worker deletes it.

Its value is the descriptor of the outcomes pipe, or the path of the file with the tickets."""

HEADER = struct.Struct("<QBBxxQd")
"""Length of the payload, kind, number of handles sent along, ticket, seconds that the call took."""

TICKET = struct.Struct("<Q")

# kinds of frames to a worker
RUN, FUNCTION, BATCH, IDLE = range(4)
# kinds of frames from a worker
READY, STARTED, VALUE, SEGMENT, ERROR, NOT_SERIALIZABLE, RETURNED_UNSTARTED, LOG, CHDIR_FAILED = range(10, 19)
SCRIPT_SLOW, NOT_INITIALIZED, NOT_A_WORKER, REQUEST, WARNING = range(19, 24)
# kind of frames in both directions
HANDLES = 30
# modes of arguments in a batch: a pickled tuple; pickled (args, kwargs); pickle and layouts of segments; a tuple;
# ((timeout, task), one of the first three modes, its arguments); a pickled block of elements, see `blocks`
ARGS_PICKLED, ARGS_BY_NAME, ARGS_SHARED, ARGS_INLINE, ARGS_TIMED, ARGS_BLOCK = range(6)
# modes in a chain: the result of the call with the given ticket, which must be the one before; none, but that call must
# have succeeded
ARGS_FROM_PREVIOUS, NO_ARGS_CHAINED = 6, 7

SCRIPT_SLOW_AFTER = 5.0
"""Seconds after which a worker that still executes the script sends SCRIPT_SLOW."""


def frame(kind: int, payload: bytes = b"", ticket: int = 0, seconds: float = 0.0, handles: int = 0) -> bytes:
    """Return a frame."""
    return HEADER.pack(len(payload), kind, handles, ticket, seconds) + payload


def pack_handles(handles: tuple[int, ...]) -> bytes:
    """Return the payload of a frame HANDLES."""
    return struct.pack(f"<{len(handles)}Q", *handles)


def unpack_handles(payload: bytes | memoryview) -> tuple[int, ...]:
    """Return the handles in the payload of a frame HANDLES."""
    return struct.unpack(f"<{len(payload) // 8}Q", payload)


def python_version() -> str:
    """Return the minor version of Python that this process runs: ``"3.11"``."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def has_errno(error: BaseException | None) -> bool:
    """Return whether the operating system raised an error; an OSError that a signal handler raised has no errno."""
    return isinstance(error, OSError) and error.errno is not None


class suppress(contextlib.suppress):  # noqa: N801 - named like its base class
    """Suppress errors of these classes, except an OSError without errno: a signal handler may raise TimeoutError."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Return whether the error is suppressed."""
        return super().__exit__(kind, error, trace) and (has_errno(error) or not isinstance(error, OSError))


def close(descriptor: int) -> None:
    """Close a descriptor, if it is open."""
    with suppress(OSError):
        os.close(descriptor)


# ---- values ----------------------------------------------------------------------------------------------------------

interactive = False
"""Whether this is a worker of an interactive session: its classes cannot be imported, so cloudpickle is tried."""


def dumps(value: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
    """Return the pickle of a value; by cloudpickle, if pickle fails and this is a worker of an interactive session.

    Args:
        value: the value.
        buffers: receives the out-of-band buffers; None means that they are part of the pickle.
    """
    try:
        return pickle.dumps(value, PICKLE_PROTOCOL, buffer_callback=None if buffers is None else buffers.append)
    except Exception:
        if not interactive or (by_value := _cloudpickle_dumps()) is None:
            raise
    if buffers is None:
        return by_value(value, PICKLE_PROTOCOL)
    buffers.clear()
    return by_value(value, PICKLE_PROTOCOL, buffers.append)


def _cloudpickle_dumps() -> Callable[..., bytes] | None:
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ModuleNotFoundError:
        return None
    found: Callable[..., bytes] = cloudpickle.dumps
    return found
