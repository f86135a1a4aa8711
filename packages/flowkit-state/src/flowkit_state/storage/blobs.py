"""Class `BlobStore`: content-addressed files next to a database, for large values."""

from __future__ import annotations

import os
import re
from hashlib import sha256

from flowkit_state.errors import RestoreError
from flowkit_state.storage import atomic_files, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

INLINE_LIMIT = 256 * 1024
"""Largest value stored in its row, in bytes; larger ones go to a blob file."""

_is_name = re.compile(r"[0-9a-f]{64}\Z").match


class BlobStore:
    """The folder `<database>.files`, created when the first file is written.

    The name of a file is the SHA-256 digest of its content. A file is complete or absent, because it is renamed to its
    name after it was written and synced. A row refers to a file only after that.
    """

    def __init__(self, database: str) -> None:
        self.folder = f"{database}.files"

    @staticmethod
    def name_of(data: bytes) -> str:
        """Return the name of the file with this content."""
        return sha256(data).hexdigest()

    def write(self, name: str, data: bytes) -> None:
        """Write the file `name` with its content `data`, unless it exists."""
        path = self._path(name)
        try:
            self.read(name)
        except RestoreError:
            pass  # absent or damaged
        else:
            return
        try:
            atomic_files.make_folder(path)
            atomic_files.write_file(path, data, None)
        except OSError as error:
            raise atomic_files.failure(path, "write it", error) from error

    def read(self, name: str) -> bytes:
        """Return the content of a file. Raises `RestoreError` if it is missing or damaged."""
        path = self._path(name)
        try:
            data, _ = atomic_files.read_file(path)
        except FileNotFoundError:
            raise RestoreError(None, f"its file {path} is missing.") from None
        except OSError as error:
            raise atomic_files.failure(path, "read it", error) from error
        if self.name_of(data) != name:
            raise RestoreError(None, f"its file {path} is damaged: its content does not match its name.")
        return data

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield the name and the size in bytes of every file."""
        try:
            groups = syscalls.names_in(self.folder)
        except FileNotFoundError:
            return
        for group in groups:
            for name in syscalls.names_in(os.path.join(self.folder, group)):
                try:
                    yield name, syscalls.stat(os.path.join(self.folder, group, name)).st_size
                except FileNotFoundError:
                    continue  # a temporary file that was just renamed

    def size(self, name: str) -> int:
        """Return the size in bytes of a file, 0 if there is none."""
        try:
            return syscalls.stat(self._path(name)).st_size
        except (OSError, RestoreError):
            return 0

    def remove(self, name: str) -> None:
        """Delete a file."""
        try:
            syscalls.unlink(os.path.join(self.folder, name[:2], name))
        except FileNotFoundError:
            pass

    def _path(self, name: str) -> str:
        if not _is_name(name):  # a damaged row must not refer to any other file
            raise RestoreError(None, "the name of its file is damaged.")
        return os.path.join(self.folder, name[:2], name)
