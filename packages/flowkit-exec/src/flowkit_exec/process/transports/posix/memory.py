"""Class `DescriptorMemory`: large values in anonymous files, whose descriptors are sent to other processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flowkit_exec.process import protocol
from flowkit_exec.process.shared_memory import map_file, no_descriptor, write_buffers
from flowkit_exec.process.transports.limits import descriptor_budget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowkit_exec.process.transports.interface import Layout

NO_DESCRIPTOR = -1
"""In place of a descriptor that this process could not receive."""


class DescriptorMemory:
    """Segments without a name; the handle of a segment is a file descriptor of it.

    The operating system frees a segment when the last process closes it, however that process ended.
    """

    def __init__(self) -> None:
        self.max_segments = descriptor_budget()

    def write(self, data: bytes, views: Sequence[memoryview]) -> tuple[int, Layout]:
        """Write a pickle and its buffers into a new segment; return its handle and layout."""
        descriptor = _create()
        try:
            return descriptor, write_buffers(descriptor, data, views)
        except BaseException:
            os.close(descriptor)
            raise

    def map(self, handle: int, size: int) -> memoryview:
        """Return the bytes of a segment: a private mapping, or a copy."""
        if handle == NO_DESCRIPTOR:
            raise no_descriptor()
        return map_file(handle, size, self.max_segments)

    def release(self, handle: int) -> None:
        """Close the descriptor; values that were read from the segment remain valid."""
        if handle != NO_DESCRIPTOR:
            protocol.close(handle)

    forget = release


def _create() -> int:
    """Return the descriptor of a new, empty segment."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("flowkit", os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
