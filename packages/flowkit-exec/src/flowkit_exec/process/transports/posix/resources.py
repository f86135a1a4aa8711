"""Class `PosixResources`: the socket, pipes and process of one worker, released after any interrupt."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections import deque
from itertools import repeat

from flowkit_exec.process import protocol
from flowkit_exec.process.transports.resources import Resources

_LAST_STANDARD_STREAM = 2


class PosixResources(Resources):
    """Socket, pipes and process of one worker.

    Attributes:
        socket: this end of the socket; None before it is opened.
        descriptors: the open descriptors besides that of the socket.
        pid: id of the process; None before it is started and after it is reaped: the system may use the id again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.socket: socket.socket | None = None
        self.descriptors: list[int] = []
        self.pid: int | None = None

    def close(self) -> None:
        """Close all descriptors."""
        if self.socket is not None:
            self.socket.close()
        own = self.descriptors
        while own:
            with protocol.suppress(OSError):  # one call into C: no interrupt between removing and closing a descriptor
                deque(map(os.close, map(list.pop, repeat(own, len(own)))), 0)

    def end_process(self) -> None:
        """Kill the process and its group, and reap it, if it is running."""
        pid, self.pid = self.pid, None
        if pid is not None:
            for kill in (os.killpg, os.kill):
                with protocol.suppress(ProcessLookupError, PermissionError):
                    kill(pid, signal.SIGKILL)
            with protocol.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def open_pipes(descriptors: list[int]) -> list[tuple[int, int]]:
    """Open a pair of connected sockets and three pipes; return both descriptors of each.

    Args:
        descriptors: each descriptor is added to this list as soon as it is open.
    """
    for is_pipe in (False, True, True, True):
        descriptors += os.pipe() if is_pipe else (end.detach() for end in socket.socketpair())
        descriptors[-2:] = map(_above_standard_streams, descriptors[-2:])
    return list(zip(descriptors[::2], descriptors[1::2], strict=True))


def _above_standard_streams(descriptor: int) -> int:
    """Return a descriptor above 2: where the standard streams are closed, a worker would print into its pipes."""
    if descriptor > _LAST_STANDARD_STREAM:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LAST_STANDARD_STREAM + 1)
    finally:
        os.close(descriptor)
