"""Class `BlobStore`: content-addressed files next to a database, for large values."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from hashlib import sha256

from flowkit_state.errors import RestoreError
from flowkit_state.storage import atomic_files, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

INLINE_LIMIT = 256 * 1024
"""Largest value stored in its row, in bytes; larger ones go to a blob file."""

_is_name = re.compile(r"[0-9a-f]{64}\Z").match
_is_own = re.compile(r"[0-9a-f]{64}(\.[0-9]+-[0-9a-f]{12}\.tmp)?\Z").match
_is_group = re.compile(r"[0-9a-f]{2}\Z").match


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
            raise RestoreError(None, f"its file {path} is missing.", damaged=True) from None
        except OSError as error:
            raise atomic_files.failure(path, "read it", error) from error
        if self.name_of(data) != name:
            reason = f"its file {path} is damaged: its content does not match its name."
            raise RestoreError(None, reason, damaged=True)
        return data

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield the name and the size in bytes of every file that this class has created, also of temporary ones.

        Other files are left out, and symbolic links are not followed.
        """
        for group in self._names_in(self.folder):
            if _is_group(group):
                folder = os.path.join(self.folder, group)
                for name in self._names_in(folder):
                    if name.startswith(group) and _is_own(name):
                        status = _status(os.path.join(folder, name))
                        if status is not None and stat.S_ISREG(status.st_mode):
                            yield name, status.st_size

    def _names_in(self, folder: str) -> list[str]:
        status = _status(folder)
        if status is None or not stat.S_ISDIR(status.st_mode):
            return []  # also for a symbolic link
        try:
            return syscalls.names_in(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def size(self, name: str) -> int:
        """Return the size in bytes of a file, 0 if there is none."""
        try:
            return syscalls.stat(self._path(name)).st_size
        except (OSError, RestoreError):
            return 0

    def remove(self, name: str) -> None:
        """Delete a file, unless its folder is a symbolic link."""
        group = os.path.join(self.folder, name[:2])
        if all((status := _status(folder)) and stat.S_ISDIR(status.st_mode) for folder in (self.folder, group)):
            with suppress(FileNotFoundError):
                syscalls.unlink(os.path.join(group, name))

    def _path(self, name: str) -> str:
        if type(name) is not str or not _is_name(name):  # a damaged row must not refer to any other file
            raise RestoreError(None, "the name of its file is damaged.", damaged=True)
        return os.path.join(self.folder, name[:2], name)


def _status(path: str) -> os.stat_result | None:
    """Return the status of a file or a symbolic link; `None` if there is none."""
    try:
        return syscalls.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
