"""Class `PosixProcess`: the process of one worker: whether it has exited, how, and how it is killed."""

from __future__ import annotations

import os
import select
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING

from flowkit_exec.process import protocol
from flowkit_exec.process.transports.child_process import ChildProcess
from flowkit_exec.process.transports.orphans import forget_group, reap_group

if TYPE_CHECKING:
    from .resources import PosixResources


class PosixProcess(ChildProcess):
    """A process that this one has started, and its process group.

    Args:
        pid: id of the process.
        resources: their ``pid`` is set to None when the process is reaped, and ``pidfd`` is added to their descriptors.

    Attributes:
        pidfd: descriptor that becomes readable when the process ends; None where the system has none.
    """

    def __init__(self, pid: int, resources: PosixResources) -> None:
        super().__init__(pid)
        self.pidfd: int | None = None
        self._resources = resources
        self._has_exited = False
        forget_group(pid)
        with protocol.suppress(AttributeError, OSError):  # Linux only; elsewhere the socket closes when it ends
            self.pidfd = os.pidfd_open(pid)
            resources.descriptors.append(self.pidfd)

    @property
    def check_interval(self) -> float | None:
        """Seconds after which to call :meth:`has_exited`; None if a `Waiter` always notices the exit."""
        return 0.5 if self.pidfd is None else None  # the socket may stay open: a child process of a task may have it

    def has_exited(self, timeout: float = 0.0) -> bool:
        """Wait for the exit of the process, ``timeout`` seconds at most; return whether it has exited."""
        until = monotonic() + timeout
        pause = threading.Event()
        while not self._has_exited:
            self._has_exited = self._reap()
            if self._has_exited or monotonic() >= until:
                break
            if self.pidfd is not None:
                _wait_for_exit(self.pidfd, until - monotonic())
            else:
                pause.wait(0.002)
        return self._has_exited

    def _reap(self) -> bool:
        """Reap the process and set ``exitcode``, if it has exited; kill its process group first."""
        if os.getpid() != self._resources.owner:
            return True  # this process is a fork of the owner and has no workers
        with protocol.suppress(ChildProcessError, AttributeError):  # AttributeError: macOS before Python 3.13
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            self._kill_group()
        with protocol.suppress(ChildProcessError):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return False
            self.exitcode = os.waitstatus_to_exitcode(status)
        if self.exitcode is None:  # already reaped elsewhere, or SIGCHLD is ignored: no exit status
            self._kill_orphans()
        reap_group(self.pid)
        self._resources.pid = None
        return True

    def _kill_group(self) -> None:
        """Kill the process and its group. Must not be called once it is reaped: the system may use its id again."""
        for kill in (os.killpg, os.kill):
            with protocol.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)

    def _kill_orphans(self) -> None:
        """Kill the rest of the group of a process that was reaped elsewhere.

        As long as the group exists, no other process gets its id.
        """
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            with protocol.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        except PermissionError:
            pass

    def kill(self) -> None:
        """Kill the process and its group; what it has sent can still be read."""
        if not self.has_exited():
            self._kill_group()

    def close(self) -> None:
        """Use no descriptor any more."""
        self.pidfd = None


def _wait_for_exit(pidfd: int, timeout: float) -> None:
    """Wait for the exit of a process, ``timeout`` seconds at most."""
    poll = select.poll()  # select.select() does not accept a descriptor above 1023
    poll.register(pidfd, select.POLLIN)
    poll.poll(max(0.0, timeout * 1000))
