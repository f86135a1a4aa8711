"""Large values in shared memory: written once, mapped by every process that needs them.

A large value is written into a *segment*: a file, whose *handle* is sent to other processes. It is mapped
copy-on-write: a task that changes the value changes its own copy of the pages that it touches. What a handle is, and
how a segment is created and deleted, depends on the transport; see `Memory`.
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import sys
import weakref
from io import BytesIO
from typing import TYPE_CHECKING, Any

from . import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .transports.interface import Layout, Memory

MAX_HANDLES = 64
"""Maximum number of segments that one call refers to; further large values are sent on the socket."""

MIN_SHARED_SIZE = 64 * 1024
"""Bytes from which the pickle of a value is put into shared memory."""


def share(value: Any, memory: Memory, dumps: Callable[..., bytes] = protocol.dumps) -> bytes | tuple[int, Layout]:
    """Return the pickle of a value; for a large one, the handle and layout of a segment that contains it."""
    buffers: list[pickle.PickleBuffer] = []
    data = dumps(value, buffers)
    if not buffers and len(data) < MIN_SHARED_SIZE:
        return data
    try:
        views = [buffer.raw() for buffer in buffers]
    except BufferError:  # not contiguous: make it a part of the pickle
        data, views = dumps(value), []
    if len(data) + sum(view.nbytes for view in views) < MIN_SHARED_SIZE:
        return dumps(value) if views else data
    return memory.write(data, views)


def read_segment(memory: Memory, handle: int, layout: Layout) -> Any:
    """Return the value in a segment, backed by a private mapping of it. The handle may be released afterwards."""
    length, spans = layout
    view = memory.map(handle, max([length, *(end for _, end in spans), 1]))
    return pickle.loads(view[:length], buffers=[view[start:end] for start, end in spans])


# ---- for the transports ----------------------------------------------------------------------------------------------


def write_buffers(descriptor: int, data: bytes, views: Sequence[memoryview]) -> Layout:
    """Write a pickle and its buffers, aligned to 64 bytes, into a new file; return the layout."""
    spans = []
    end = _write(descriptor, memoryview(data), 0)
    for view in views:
        start = (end + 63) & ~63
        end = _write(descriptor, view, start)
        spans.append((start, end))
    os.ftruncate(descriptor, max(end, 1))
    return len(data), tuple(spans)


def _write(descriptor: int, view: memoryview, start: int) -> int:
    """Write a buffer at a position; return the position after it."""
    view = view.cast("B") if view.nbytes else view[:0]
    os.lseek(descriptor, start, os.SEEK_SET)
    done = 0
    while done < view.nbytes:
        done += os.write(descriptor, view[done : done + (1 << 30)])
    return start + done


_WITHOUT_DESCRIPTOR: dict[str, Any] = (
    {"trackfd": False} if sys.version_info >= (3, 13) and sys.platform != "win32" else {}
)
_mappings: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def map_file(descriptor: int, size: int, most: int) -> memoryview:
    """Return the bytes of a file: a private mapping, or a copy.

    Args:
        descriptor: descriptor of the file, which may be closed afterwards.
        size: size of the file.
        most: maximum number of mappings of this process, if each keeps a descriptor open; after that, copies.
    """
    if _WITHOUT_DESCRIPTOR or len(_mappings) < most:
        mapping = mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY, **_WITHOUT_DESCRIPTOR)
        if not _WITHOUT_DESCRIPTOR:
            _mappings.add(mapping)
        return memoryview(mapping)
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as mapping:
        return memoryview(bytearray(mapping))


def no_descriptor() -> OSError:
    """Return the error for a worker that has too many open files."""
    return OSError(errno.EMFILE, "a large value needs a file descriptor, and this worker may open no more")


# ---- the segments of a run -------------------------------------------------------------------------------------------


class Segment:
    """A large value in shared memory.

    Attributes:
        value: the value; the reference keeps its ``id()`` unique.
        handle: its handle.
        layout: what the segment contains.
    """

    __slots__ = ("handle", "layout", "value")

    def __init__(self, value: Any, handle: int, layout: Layout) -> None:
        self.value = value
        self.handle = handle
        self.layout = layout


class Segments:
    """The segments of one run, by the ``id()`` of their values.

    Args:
        memory: creates and releases them.

    Attributes:
        memory: the same.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._kept: dict[int, Segment] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: int) -> Segment | None:
        """Return the segment of the value with this ``id()``."""
        return self._kept.get(key)

    def hold_any(self, values: Iterable[Any]) -> bool:
        """Return whether any of these values is in a segment."""
        return any(id(value) in self._kept for value in values)

    def keep(self, value: Any, handle: int, layout: Layout) -> None:
        """Keep the segment of a value until the run ends; release it if the value has one, or there are too many."""
        known = self._kept.get(id(value))
        if known is not None or len(self._kept) < self.memory.max_segments:
            self._kept[id(value)] = Segment(value, handle, layout)
            if known is None:
                return
            handle = known.handle  # unpickling returned an existing object
        self.memory.release(handle)

    def share(self, values: Iterable[Any], size: int, dumps: Callable[..., bytes]) -> bool:
        """Put large arguments into segments; return whether there was one.

        Results of workers are in segments already. These come from ``run(params=...)``, from the cache or a record.

        Args:
            values: the arguments of a call.
            size: size of their pickle, in bytes.
            dumps: pickles a value; takes a list for its out-of-band buffers.
        """
        new = {id(value): value for value in values if id(value) not in self._kept}
        if size < MIN_SHARED_SIZE * len(new):  # many small ones: pickling each costs more
            return False
        before = len(self._kept)
        for value in new.values():
            if len(self._kept) == self.memory.max_segments:
                break
            try:
                encoded = share(value, self.memory, dumps)
            except OSError:  # too little shared memory, or too many open files: send them on the socket
                break
            if not isinstance(encoded, bytes):
                self.keep(value, *encoded)
        return len(self._kept) > before

    def close(self) -> None:
        """Close all segments; values that were read from them remain valid."""
        while self._kept:
            self.memory.release(self._kept.popitem()[1].handle)


class SharingPickler(pickle.Pickler):
    """Pickles arguments, with references to segments in place of the values in them.

    Args:
        file: receives the pickle.
        segments: the segments.

    Attributes:
        used: the segments that the pickle refers to, by index.
    """

    def __init__(self, file: BytesIO, segments: Segments) -> None:
        super().__init__(file, protocol.PICKLE_PROTOCOL)
        self._segments = segments
        self.used: list[Any] = []

    def persistent_id(self, value: Any) -> int | None:
        """Return the index in ``used`` of the segment of a value; None to pickle it."""
        segment = self._segments.get(id(value))
        if segment is None or len(self.used) == MAX_HANDLES:
            return None
        self.used.append(segment)
        return len(self.used) - 1


class SharingUnpickler(pickle.Unpickler):
    """Unpickles what `SharingPickler` has pickled.

    Args:
        data: the pickle.
        memory: the memory of this process.
        handles: handles of the segments that it refers to.
        layouts: their layouts.
    """

    def __init__(self, data: bytes, memory: Memory, handles: Sequence[int], layouts: Sequence[Layout]) -> None:
        super().__init__(BytesIO(data))
        self._memory = memory
        self._shared = list(zip(handles, layouts, strict=True))

    def persistent_load(self, index: int) -> Any:
        """Return the value in a segment."""
        return read_segment(self._memory, *self._shared[index])
