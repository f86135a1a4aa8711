"""Large values in shared memory: written once, mapped by every process that needs them.

A large value is written into an anonymous *segment*, whose file descriptor is sent to other processes. The segment has
no name, so the operating system frees it when the last process closes it, however that process ended. It is mapped
copy-on-write: a task that changes the value changes its own copy of the pages that it touches.
"""

from __future__ import annotations

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

Layout = tuple[int, tuple[tuple[int, int], ...]]
"""What a segment contains: the length of the pickle, and the start and end of each out-of-band buffer."""

MAX_DESCRIPTORS = 64
"""Maximum number of file descriptors that are sent with one call; further large values are sent on the socket."""

MIN_SHARED_SIZE = 64 * 1024
"""Bytes from which the pickle of a value is put into shared memory."""


def encode(value: Any, dumps: Callable[..., bytes] = protocol.dumps) -> bytes | tuple[int, Layout]:
    """Return the pickle of a value; for a large one, the descriptor and layout of a segment that contains it."""
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
    return write_segment(data, views)


def write_segment(data: bytes, views: Sequence[memoryview] = ()) -> tuple[int, Layout]:
    """Write a pickle and its buffers, aligned to 64 bytes, into a new segment; return descriptor and layout."""
    descriptor = _create_segment()
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


def _create_segment() -> int:
    """Return the descriptor of a new, empty segment."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("flowkit", os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write(descriptor: int, view: memoryview, start: int) -> int:
    """Write a buffer at a position; return the position after it."""
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


_WITHOUT_DESCRIPTOR: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
_mappings: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def _mapped(descriptor: int, size: int) -> memoryview:
    """Return the bytes of a segment: a private mapping; a copy if too many mappings keep a descriptor open."""
    if _WITHOUT_DESCRIPTOR or len(_mappings) < descriptor_budget():
        mapping = mmap.mmap(
            descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE, **_WITHOUT_DESCRIPTOR
        )
        if not _WITHOUT_DESCRIPTOR:
            _mappings.add(mapping)
        return memoryview(mapping)
    copy = memoryview(bytearray(size))
    done = 0
    while done < size:
        done += os.preadv(descriptor, [copy[done : done + (1 << 30)]], done) or size
    return copy


def workers_within_limits() -> int:
    """Return the maximum number of workers: their descriptors must leave some for large values."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else max(1, (soft - descriptor_budget() - 32) // 7)


def descriptor_budget() -> int:
    """Return the maximum number of file descriptors for large values: a quarter of the limit of this process."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if soft == resource.RLIM_INFINITY else max(8, min(1024, soft // 4))


# ---- the segments of a run -------------------------------------------------------------------------------------------


class Segment:
    """A large value in shared memory.

    Attributes:
        value: the value; the reference keeps its ``id()`` unique.
        descriptor: descriptor of the segment.
        layout: what the segment contains.
    """

    __slots__ = ("descriptor", "layout", "value")

    def __init__(self, value: Any, descriptor: int, layout: Layout) -> None:
        self.value = value
        self.descriptor = descriptor
        self.layout = layout


class Segments:
    """The segments of one run, by the ``id()`` of their values; at most as many as `descriptor_budget` says."""

    def __init__(self) -> None:
        self._kept: dict[int, Segment] = {}
        self._most = descriptor_budget()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: int) -> Segment | None:
        """Return the segment of the value with this ``id()``."""
        return self._kept.get(key)

    def hold_any(self, values: Iterable[Any]) -> bool:
        """Return whether any of these values is in a segment."""
        return any(id(value) in self._kept for value in values)

    def keep(self, value: Any, descriptor: int, layout: Layout) -> None:
        """Keep the segment of a value until the run ends; close it if the value has one, or there are too many."""
        known = self._kept.get(id(value))
        if known is not None or len(self._kept) < self._most:
            self._kept[id(value)] = Segment(value, descriptor, layout)
            descriptor = known.descriptor if known is not None else -1  # unpickling returned an existing object
        if descriptor >= 0:
            protocol.close(descriptor)

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
            if len(self._kept) == self._most:
                break
            try:
                encoded = encode(value, dumps)
            except OSError:  # too little shared memory, or too many open files: send them on the socket
                break
            if not isinstance(encoded, bytes):
                self.keep(value, *encoded)
        return len(self._kept) > before

    def close(self) -> None:
        """Close all segments; values that were read from them remain valid."""
        while self._kept:
            protocol.close(self._kept.popitem()[1].descriptor)


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
        if segment is None or len(self.used) == MAX_DESCRIPTORS:
            return None
        self.used.append(segment)
        return len(self.used) - 1


class SharingUnpickler(pickle.Unpickler):
    """Unpickles what `SharingPickler` has pickled.

    Args:
        data: the pickle.
        descriptors: descriptors of the segments that it refers to.
        layouts: their layouts.
    """

    def __init__(self, data: bytes, descriptors: Sequence[int], layouts: Sequence[Layout]) -> None:
        super().__init__(BytesIO(data))
        self._shared = list(zip(descriptors, layouts, strict=True))

    def persistent_load(self, index: int) -> Any:
        """Return the value in a segment."""
        return read_segment(*self._shared[index])
