"""Large results: files beside the database, named after their content, written whole before any row names them."""

from __future__ import annotations

import os
import re
from hashlib import sha256

from flowkit_state.errors import RestoreError
from flowkit_state.storage import atomic_files, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

COMFORT = 256 * 1024
"""Bytes up to which a result is kept in its row."""

_is_name = re.compile(r"[0-9a-f]{64}\Z").match


class Beside:
    """The folder `<database>.files`.

    A file is there whole or not at all, for it is renamed into place when it has been synced. It is made at the first
    need. Two files of one content are one file.
    """

    def __init__(self, path: str) -> None:
        self.folder = f"{path}.files"

    @staticmethod
    def name_of(data: bytes) -> str:
        """Return the name of the file with this content."""
        return sha256(data).hexdigest()

    def write(self, name: str, data: bytes) -> None:
        """Make the file `name` with its content `data`, unless it is there."""
        path = self._path(name)
        try:
            self.read(name)
        except RestoreError:
            pass  # it is not there, or damaged
        else:
            return
        try:
            atomic_files.make_folder(path)
            atomic_files.write_file(path, data, None)
        except OSError as error:
            raise atomic_files.failure(path, "write it", error) from error

    def read(self, name: str) -> bytes:
        """Return the content of a file. Raises `RestoreError` if it is gone, or not what was written."""
        path = self._path(name)
        try:
            data, _ = atomic_files.read_file(path)
        except FileNotFoundError:
            raise RestoreError(None, f"its file {path} is gone.") from None
        except OSError as error:
            raise atomic_files.failure(path, "read it", error) from error
        if self.name_of(data) != name:
            raise RestoreError(None, f"its file {path} is damaged: its content is not what its name says.")
        return data

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Return the names of the files, and their sizes in bytes; leftovers of writers that died are among them."""
        try:
            groups = syscalls.names_in(self.folder)
        except FileNotFoundError:
            return
        for group in groups:
            for name in syscalls.names_in(os.path.join(self.folder, group)):
                try:
                    yield name, syscalls.stat(os.path.join(self.folder, group, name)).st_size
                except FileNotFoundError:
                    continue  # its writer has just given it its name

    def remove(self, name: str) -> None:
        """Delete a file."""
        try:
            syscalls.unlink(os.path.join(self.folder, name[:2], name))
        except FileNotFoundError:
            pass

    def _path(self, name: str) -> str:
        if not _is_name(name):  # a damaged row must not lead anywhere else
            raise RestoreError(None, "the name of its file is damaged.")
        return os.path.join(self.folder, name[:2], name)
