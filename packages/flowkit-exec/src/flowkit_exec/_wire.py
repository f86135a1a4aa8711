"""What travels between a run and its worker processes: frames, values, large values in shared memory.

Everything here is used on both sides.

A large value goes into an anonymous segment of shared memory whose file descriptor is sent along. It has no name, so
the operating system frees it with its last user, whatever way that one ended. It is mapped copy-on-write: every task
sees a value of its own, and only the pages that a task changes are ever copied.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import struct
import sys
import weakref
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._segments import Segments

PROTOCOL = 5
DEPTH = "FLOWKIT_DEPTH"
"""The environment variable that says how deep process workers are nested in one another."""

LARGE = 64 * 1024
"""Values whose pickle has at least so many bytes travel in shared memory."""

HEADER = struct.Struct("<QBBxxQd")
"""Length of what follows, kind, number of file descriptors, ticket, seconds."""

TICKET = struct.Struct("<Q")

# to a worker
RUN, FUNCTION, BATCH = range(3)
# items of a batch: how the arguments are given
BY_POSITION, BY_NAME, SHARED, AS_IT_IS, PREVIOUS, AFTER = range(6)
# from a worker
READY, STARTED, VALUE, SEGMENT, ERROR, UNFIT, VOID, LOG, ASTRAY = range(10, 19)

MOST_DESCRIPTORS = 64
"""How many file descriptors are sent with one call; further large values go the ordinary way."""

Layout = tuple[int, tuple[tuple[int, int], ...]]


def frame(kind: int, payload: bytes = b"", ticket: int = 0, seconds: float = 0.0, descriptors: int = 0) -> bytes:
    """Return a frame."""
    return HEADER.pack(len(payload), kind, descriptors, ticket, seconds) + payload


# ---- surroundings ----------------------------------------------------------------------------------------------------


def folder() -> str | None:
    """Return the current folder; None if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def environment() -> dict[bytes, bytes]:
    """Return the environment variables, as they are kept: a copy of ``os.environ`` takes fifty times as long."""
    kept: dict[bytes, bytes] = os.environb._data  # type: ignore[attr-defined]
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


def encode(value: Any, dumps: Callable[..., bytes] = dumps) -> bytes | tuple[int, Layout]:
    """Return the pickle of a value; for a large one, the descriptor and layout of a segment that holds it."""
    buffers: list[pickle.PickleBuffer] = []
    data = dumps(value, buffers)
    if not buffers and len(data) < LARGE:
        return data
    try:
        views = [buffer.raw() for buffer in buffers]
    except BufferError:  # not contiguous: let pickle make a copy
        data, views = dumps(value), []
    if len(data) + sum(view.nbytes for view in views) < LARGE:
        return dumps(value) if views else data
    return write_segment(data, views)


def write_segment(data: bytes, views: Sequence[memoryview] = ()) -> tuple[int, Layout]:
    """Write a pickle and its buffers, each at a multiple of 64 bytes, into a new segment; return both facts of it."""
    descriptor = _anonymous()
    try:
        spans = []
        end = _write(descriptor, memoryview(data), 0)
        for view in views:
            start = (end + 63) & ~63
            end = _write(descriptor, view, start)
            spans.append((start, end))
        os.ftruncate(descriptor, max(end, 1))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, (len(data), tuple(spans))


def close(descriptor: int) -> None:
    """Close a descriptor, if it is still open."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _anonymous() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("flowkit", os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write(descriptor: int, view: memoryview, start: int) -> int:
    view = view.cast("B") if view.nbytes else view[:0]
    done = 0
    while done < view.nbytes:
        done += os.pwrite(descriptor, view[done : done + (1 << 30)], start + done)
    return start + done


def read_segment(descriptor: int, layout: Layout) -> Any:
    """Return the value in a segment, backed by a private mapping of it. The descriptor may be closed afterwards."""
    length, spans = layout
    size = max([length, *(end for _, end in spans), 1])
    view = _mapped(descriptor, size)
    return pickle.loads(view[:length], buffers=[view[start:end] for start, end in spans])


_UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
_mappings: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def _mapped(descriptor: int, size: int) -> memoryview:
    """Return the bytes of a segment: a private mapping, or a copy where every mapping would keep a descriptor open."""
    if _UNTRACKED or len(_mappings) < descriptor_budget():
        mapping = mmap.mmap(
            descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE, **_UNTRACKED
        )
        if not _UNTRACKED:
            _mappings.add(mapping)
        return memoryview(mapping)
    copy = memoryview(bytearray(size))
    done = 0
    while done < size:
        done += os.preadv(descriptor, [copy[done : done + (1 << 30)]], done) or size
    return copy


def descriptor_budget() -> int:
    """Return how many file descriptors may be spent on large values: a quarter of what this process may have open."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if soft == resource.RLIM_INFINITY else max(8, min(1024, soft // 4))


class SharingPickler(pickle.Pickler):
    """Pickles arguments, and leaves out those that lie in segments: it notes which, to send their descriptors along."""

    def __init__(self, file: BytesIO, segments: Segments) -> None:
        super().__init__(file, PROTOCOL)
        self._segments = segments
        self.used: list[Any] = []

    def persistent_id(self, value: Any) -> int | None:
        """Return the number of the segment that a value lies in."""
        segment = self._segments.get(id(value))
        if segment is None or len(self.used) == MOST_DESCRIPTORS:
            return None
        self.used.append(segment)
        return len(self.used) - 1


class SharingUnpickler(pickle.Unpickler):
    """Unpickles arguments, some of which lie in segments."""

    def __init__(self, data: bytes, descriptors: Sequence[int], layouts: Sequence[Layout]) -> None:
        super().__init__(BytesIO(data))
        self._shared = list(zip(descriptors, layouts, strict=True))

    def persistent_load(self, number: int) -> Any:
        """Return the value in the segment of that number."""
        return read_segment(*self._shared[number])
