"""Process groups, where the system has them: a worker, and the processes that its tasks have started."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import Any

from flowkit_exec.process.transports.orphans import reap_group

_HAS_GROUPS = hasattr(os, "killpg")
_NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
OWN_GROUP: dict[str, Any] = {"process_group": 0} if _HAS_GROUPS else {"creationflags": _NEW_GROUP}
"""Arguments of :class:`subprocess.Popen` for a process in a group of its own: Ctrl-C at a console does not reach it."""


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its group. Does nothing once it is reaped: the system may use its id again."""
    if _HAS_GROUPS and process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def kill_own_group() -> None:
    """Kill this process and its group, if it is in a group of its own; else return."""
    if _HAS_GROUPS and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


def kill_rest(group: int) -> None:
    """Kill what is left of the group of a process that was reaped; while it exists, no process gets its id."""
    if _HAS_GROUPS:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        reap_group(group)
