"""Large values in shared memory: written once, mapped by every process that needs them.

A large value goes into an anonymous segment whose file descriptor is sent along. It has no name, so the operating
system frees it with its last user, whatever way that one ended. It is mapped copy-on-write: every task sees a value of
its own, and only the pages that a task changes are ever copied.
"""

from __future__ import annotations

import mmap
import os
import pickle
import sys
import weakref
from io import BytesIO
from typing import TYPE_CHECKING, Any

from . import protocol as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Layout = tuple[int, tuple[tuple[int, int], ...]]

MOST_DESCRIPTORS = 64
"""How many file descriptors are sent with one call; further large values go the ordinary way."""

LARGE = 64 * 1024
"""Values whose pickle has at least so many bytes travel in shared memory."""


def encode(value: Any, dumps: Callable[..., bytes] = wire.dumps) -> bytes | tuple[int, Layout]:
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


def workers_within_limits() -> int:
    """Return how many workers may be had at most: their descriptors must leave some for large values."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else max(1, (soft - descriptor_budget() - 32) // 7)


def descriptor_budget() -> int:
    """Return how many file descriptors may be spent on large values: a quarter of what this process may have open."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if soft == resource.RLIM_INFINITY else max(8, min(1024, soft // 4))


# ---- those of a run --------------------------------------------------------------------------------------------------


class Segment:
    """A large value in shared memory: the descriptor that keeps it, and what lies where.

    The value is held, so that its ``id()`` stays its own.
    """

    __slots__ = ("descriptor", "layout", "value")

    def __init__(self, value: Any, descriptor: int, layout: Layout) -> None:
        self.value = value
        self.descriptor = descriptor
        self.layout = layout


class Segments:
    """The segments of one run, no more of them than there are descriptors to spare."""

    def __init__(self) -> None:
        self._kept: dict[int, Segment] = {}
        self._most = descriptor_budget()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: int) -> Segment | None:
        """Return the segment of the value with this ``id()``."""
        return self._kept.get(key)

    def hold_any(self, values: Iterable[Any]) -> bool:
        """Say whether any of these values lies in a segment."""
        return any(id(value) in self._kept for value in values)

    def keep(self, value: Any, descriptor: int, layout: Layout) -> None:
        """Keep a segment for as long as the run goes; or let go of it at once, if there are too many."""
        known = self._kept.get(id(value))
        if known is not None or len(self._kept) < self._most:
            self._kept[id(value)] = Segment(value, descriptor, layout)
            descriptor = known.descriptor if known is not None else -1  # unpickling gave an object that was there
        if descriptor >= 0:
            wire.close(descriptor)

    def share(self, values: Iterable[Any], size: int, dumps: Callable[..., bytes]) -> bool:
        """Put what is large among arguments, whose pickle has this size, into segments; say whether anything was.

        Results of workers are there already. These come from ``run(params=...)``, from the cache or from a record.
        """
        new = {id(value): value for value in values if id(value) not in self._kept}
        if size < LARGE * len(new):  # many small ones: not worth looking at each
            return False
        before = len(self._kept)
        for value in new.values():
            if len(self._kept) == self._most:
                break
            try:
                encoded = encode(value, dumps)
            except OSError:  # no memory there, or no descriptors: the ordinary way
                break
            if not isinstance(encoded, bytes):
                self.keep(value, *encoded)
        return len(self._kept) > before

    def close(self) -> None:
        """Let go of all of them; values that were read from them stay."""
        while self._kept:
            wire.close(self._kept.popitem()[1].descriptor)


class SharingPickler(pickle.Pickler):
    """Pickles arguments, and leaves out those that lie in segments: it notes which, to send their descriptors along."""

    def __init__(self, file: BytesIO, segments: Segments) -> None:
        super().__init__(file, wire.PROTOCOL)
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
