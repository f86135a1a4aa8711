"""Checks whether another user could have written a file of pickles, which can run any code when loaded."""

from __future__ import annotations

import os
import stat

from flowkit_state.errors import UntrustedPickleError
from flowkit_state.storage import syscalls


def check_trust(path: str | None) -> None:
    """Check that only this user and root could have written the file `path`; `None` stands for memory.

    Raises:
        UntrustedPickleError: another user could have written it.
    """
    problem = None if path is None else foreign_writer(path)
    if path is not None and problem is not None:
        hint = "make file and folder writable by you alone (chmod 600 and 700), if you trust what is in it now."
        reason = f"its pickles are not loaded, because {problem}, and a pickle can run any code; {hint}"
        raise UntrustedPickleError(path, reason)


def foreign_writer(path: str) -> str | None:
    """Return why another user could have written `path`, or `None` if only this user and root could.

    The file and all its parent folders are checked: write permission for a folder allows replacing the files in it,
    unless the folder is sticky, as /tmp is. Nothing is checked on Windows, where access lists decide.
    """
    if not syscalls.HAS_OWNERS:
        return None
    location = path
    while True:
        try:
            status = syscalls.stat(location)
        except OSError as error:
            return f"{location} cannot be checked ({error.strerror})"
        if status.st_uid not in (os.geteuid(), 0) or (location == path and status.st_uid != os.geteuid()):
            return f"{location} belongs to another user (uid {status.st_uid})"
        shared = status.st_mode & 0o022
        if shared and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
            return f"{location} can be written by other users (mode {stat.S_IMODE(status.st_mode):04o})"
        if location == os.path.dirname(location):
            return None
        location = os.path.dirname(location)
