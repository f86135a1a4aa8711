"""Class `FileMemory`: large values in files of a private folder, which processes map into memory."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from flowkit_exec.process.shared_memory import map_file, no_descriptor, write_buffers
from flowkit_exec.process.transports.limits import descriptor_budget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowkit_exec.process.transports.interface import Layout

_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)


class FileMemory:
    """Segments that are files in a folder; the handle of a segment is a number, which is the name of the file.

    Only the process that calls ``run()`` deletes them, also those that a worker has written and sent.

    Args:
        folder: path of the folder.
    """

    def __init__(self, folder: str) -> None:
        self.max_segments = descriptor_budget()  # a mapping may keep its file open
        self._folder = folder
        self._released: set[str] = set()  # files to delete

    def write(self, data: bytes, views: Sequence[memoryview]) -> tuple[int, Layout]:
        """Write a pickle and its buffers into a new segment; return its handle and layout."""
        handle = int.from_bytes(os.urandom(8), "little")
        path = self._path(handle)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            try:
                layout = write_buffers(descriptor, data, views)
            finally:
                os.close(descriptor)
        except BaseException:
            os.unlink(path)
            raise
        return handle, layout

    def map(self, handle: int, size: int) -> memoryview:
        """Return the bytes of a segment: a private mapping, or a copy."""
        try:
            descriptor = os.open(self._path(handle), os.O_RDONLY | _FLAGS)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise no_descriptor() from error
            raise
        try:
            return map_file(descriptor, size, self.max_segments)
        finally:
            os.close(descriptor)

    def release(self, handle: int) -> None:
        """Delete a segment; values that were read from it remain valid."""
        self._released.add(self._path(handle))
        for path in tuple(self._released):
            with suppress(PermissionError):  # Windows: it is mapped; it is deleted later, or with the folder
                with suppress(FileNotFoundError):
                    os.unlink(path)
                self._released.discard(path)

    def forget(self, handle: int) -> None:
        """In a worker: do nothing, as the segment belongs to the calling process."""

    def _path(self, handle: int) -> str:
        return os.path.join(self._folder, f"{handle:016x}")
