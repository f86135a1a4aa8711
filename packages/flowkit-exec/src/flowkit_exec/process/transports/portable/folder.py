"""The private folder in which this process keeps the files that it shares with its workers."""

from __future__ import annotations

import atexit
import os
from contextlib import suppress
from itertools import count

_folder: str | None = None
_owner = 0
_numbers = count()
_parent: str | None = None  # where to create the folder; None means the folder for temporary files


def private_folder() -> str:
    """Return the path of the folder of this process; create it, if this is the first call."""
    global _folder, _owner
    if _folder is None or _owner != os.getpid():  # in a fork, the folder belongs to the process that was forked
        import tempfile

        _folder, _owner = tempfile.mkdtemp(prefix="flowkit-", dir=_parent), os.getpid()
        atexit.register(_remove_own)
    return _folder


def new_path(folder: str) -> str:
    """Return the path of a file that this process may create in a folder; no other process returns the same path."""
    return os.path.join(folder, f"{os.getpid()}-{next(_numbers)}")


def create_within(folder: str) -> None:
    """Have :func:`private_folder` create the folder in this one, so that it is removed with it."""
    global _parent
    _parent = folder


def _remove_own() -> None:
    if _folder is not None and _owner == os.getpid():
        remove(_folder)


def remove(folder: str) -> None:
    """Remove a folder with what is in it; what cannot be removed stays."""
    with suppress(OSError):
        with os.scandir(folder) as entries:
            for entry in list(entries):
                if entry.is_dir(follow_symlinks=False):
                    remove(entry.path)
                else:
                    with suppress(OSError):  # Windows: another process has mapped it
                        os.unlink(entry.path)
        os.rmdir(folder)
