"""Class `PortableProcess`: the process of one worker, by means of `subprocess` alone."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from flowkit_exec.process.transports.child_process import ChildProcess
from flowkit_exec.process.transports.orphans import forget_group

from .groups import kill, kill_rest

if TYPE_CHECKING:
    from .channel import PortableChannel
    from .resources import PortableResources

STARTING_INTERVAL = 0.02
CONNECTED_INTERVAL = 0.25  # on Windows, also the longest time that Ctrl-C waits for the event loop


class PortableProcess(ChildProcess):
    """A process that this one has started. Its group is killed with it, where there are such groups.

    Args:
        process: the process.
        resources: those of the worker.
        channel: the connection to it.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], resources: PortableResources, channel: PortableChannel
    ) -> None:
        self._process = process
        self._owner = resources.owner
        self._channel = channel
        super().__init__(self._process.pid)
        forget_group(self.pid)

    @property
    def check_interval(self) -> float:
        """Seconds after which `has_exited` should be called: nothing else notices a death before the connection."""
        return STARTING_INTERVAL if self._channel.connection is None else CONNECTED_INTERVAL

    def has_exited(self, timeout: float = 0.0) -> bool:
        """Wait for the exit of the process, ``timeout`` seconds at most; return whether it has exited."""
        if os.getpid() != self._owner:
            return True  # this process is a fork of the owner and has no workers
        if self.exitcode is None:
            if timeout > 0:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout)
            self.exitcode = self._process.poll()
            if self.exitcode is not None:
                kill_rest(self.pid)
        return self.exitcode is not None

    def kill(self) -> None:
        """Kill the process and its group; what it has sent can still be read."""
        if not self.has_exited():
            kill(self._process)
