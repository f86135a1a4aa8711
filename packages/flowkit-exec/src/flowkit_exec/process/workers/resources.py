"""Class `WorkerResources`: the socket, pipes and process of one worker, released after any interrupt."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import threading
from _thread import start_new_thread
from collections import deque
from itertools import repeat
from time import sleep
from typing import TYPE_CHECKING

from flowkit_core import ExecutorError
from flowkit_exec.process import protocol

if TYPE_CHECKING:
    from collections.abc import Callable

_LAST_STANDARD_STREAM = 2


class WorkerResources:
    """OS resources of one worker (socket, pipes, pid). A finalizer releases them if an interrupt skips the normal path.

    Attributes:
        socket: this end of the socket; None before it is opened.
        descriptors: the open descriptors besides that of the socket.
        pid: id of the process; None before it is started and after it is reaped: the system may use the id again.
        owner: id of the process that owns the resources; a fork of it must not kill the worker.
    """

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.descriptors: list[int] = []
        self.pid: int | None = None
        self.owner = os.getpid()
        self._acquiring = threading.Lock()
        self._is_released = False

    def acquire(self, work: Callable[[], None]) -> None:
        """Call a function that acquires resources, in another thread: no signal handler runs between two of its steps.

        Args:
            work: acquires resources and stores each in an attribute.
        """
        errors: list[BaseException] = []
        done = threading.Lock()
        done.acquire()

        def run() -> None:
            try:
                with self._acquiring:
                    if not self._is_released:
                        work()
            except BaseException as error:
                errors.append(error)
            finally:
                done.release()

        try:
            start_new_thread(run, ())
        except RuntimeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise  # a signal handler has raised it
            run()  # the system cannot start more threads
        done.acquire()
        if errors:
            raise errors.pop()

    def close(self) -> None:
        """Close all descriptors."""
        if self.socket is not None:
            self.socket.close()
        own = self.descriptors
        while own:
            with protocol.suppress(OSError):  # one call into C: no interrupt between removing and closing a descriptor
                deque(map(os.close, map(list.pop, repeat(own, len(own)))), 0)

    def release(self) -> None:
        """Close all descriptors, and kill the process and its group."""
        if self.owner != os.getpid():  # this process is a fork of the owner
            self.close()
            return
        with self._acquiring:
            self._is_released = True
        self.close()
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


_groups: set[int] = set()  # process groups of ended workers, some of whose processes may not be reaped


def reap_group(group: int) -> None:
    """Reap what tasks have left, if this process inherits it: as process 1 of a container, or as a "subreaper"."""
    _groups.add(group)
    for number in tuple(_groups):
        try:
            for _ in range(10):  # killed processes end soon, not at once
                while os.waitpid(-number, os.WNOHANG)[0]:
                    pass
                sleep(0.001)
        except ChildProcessError:  # none is left
            _groups.discard(number)


def forget_group(group: int) -> None:
    """Forget a process group, because another one has its id now."""
    _groups.discard(group)


def start_error(error: OSError) -> ExecutorError:
    """Return the error for a process that the operating system does not start."""
    hint = "use fewer max_workers"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        hint += ", or let this process open more files (ulimit -n)"
    elif error.errno in (errno.EAGAIN, errno.ENOMEM):
        hint += ", or let this user have more processes or memory (ulimit -u, -v)"
    elif error.errno == errno.E2BIG:
        hint = "make the import path (sys.path) or the environment variables shorter, or use executor='thread'"
    return ExecutorError(f"no worker process could be started ({error}): {hint}")
