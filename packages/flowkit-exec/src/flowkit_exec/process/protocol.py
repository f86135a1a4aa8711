"""What travels between a run and its worker processes: frames, what a run says of its surroundings, values.

Everything here is used on both sides.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

PROTOCOL = 5
DEPTH = "FLOWKIT_DEPTH"
"""The environment variable that says how deep process workers are nested in one another."""

HEADER = struct.Struct("<QBBxxQd")
"""Length of what follows, kind, number of file descriptors, ticket, seconds."""

TICKET = struct.Struct("<Q")

# to a worker
RUN, FUNCTION, BATCH = range(3)
# items of a batch: how the arguments are given
BY_POSITION, BY_NAME, SHARED, AS_IT_IS, PREVIOUS, AFTER = range(6)
# from a worker
READY, STARTED, VALUE, SEGMENT, ERROR, UNFIT, VOID, LOG, ASTRAY, SLOW = range(10, 20)


PATIENCE = 5.0
"""After how many seconds a worker that is still executing the script says so."""


def frame(kind: int, payload: bytes = b"", ticket: int = 0, seconds: float = 0.0, descriptors: int = 0) -> bytes:
    """Return a frame."""
    return HEADER.pack(len(payload), kind, descriptors, ticket, seconds) + payload


def of_system(error: BaseException | None) -> bool:
    """Say whether the system raised an error: it has a number then. What the handler of a signal raises, has none."""
    return isinstance(error, OSError) and error.errno is not None


class suppress(contextlib.suppress):  # noqa: N801 - it is what it is named after
    """Suppress errors of these classes, but not, say, the TimeoutError by which a handler of a signal limits a call."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Say whether the error is dropped."""
        return super().__exit__(kind, error, trace) and (of_system(error) or not isinstance(error, OSError))


def close(descriptor: int) -> None:
    """Close a descriptor, if it is still open."""
    with suppress(OSError):
        os.close(descriptor)


# ---- surroundings ----------------------------------------------------------------------------------------------------


def folder() -> str | None:
    """Return the current folder; None if it was removed."""
    with suppress(OSError):
        return os.getcwd()
    return None


def environment() -> Mapping[bytes, bytes]:
    """Return the environment variables, as CPython keeps them: a copy of ``os.environ`` takes fifty times as long."""
    kept: Mapping[bytes, bytes] = getattr(os.environb, "_data", os.environb)
    return kept


# ---- values ----------------------------------------------------------------------------------------------------------

interactive = False
"""Whether this is a worker of an interactive session: there is no script to import the session's classes from."""


def dumps(value: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
    """Return the pickle of a value: by value, where it needs to be and can be."""
    try:
        return pickle.dumps(value, PROTOCOL, buffer_callback=None if buffers is None else buffers.append)
    except Exception:
        if not interactive or (by_value := _cloudpickle()) is None:
            raise
    if buffers is None:
        return by_value(value, PROTOCOL)
    buffers.clear()
    return by_value(value, PROTOCOL, buffers.append)


def _cloudpickle() -> Callable[..., bytes] | None:
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ModuleNotFoundError:
        return None
    found: Callable[..., bytes] = cloudpickle.dumps
    return found
