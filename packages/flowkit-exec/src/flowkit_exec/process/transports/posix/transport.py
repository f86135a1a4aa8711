"""Class `PosixTransport`."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from flowkit_exec.process import protocol
from flowkit_exec.process.transports.limits import max_workers

from .channel import PosixChannel
from .child_process import PosixProcess
from .memory import DescriptorMemory
from .resources import PosixResources
from .start import fork, spawn
from .waiter import PosixWaiter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class PosixTransport:
    """Inherited pipes and sockets, file descriptors of shared memory, process groups and signals."""

    name = "posix"
    can_fork = True

    def max_workers(self) -> int:
        """Return the maximum number of workers, by the limit of open files of this process."""
        return max_workers(7)

    def resources(self) -> PosixResources:
        """Return the resources of a new worker, which are empty."""
        return PosixResources()

    def spawn(self, resources: Any, executable: str, env: Mapping[Any, Any]) -> tuple[PosixChannel, PosixProcess]:
        """Start a new interpreter that runs a worker; see `Transport.spawn`."""
        channel = PosixChannel(resources)
        process = PosixProcess(spawn(channel, resources, executable, env), resources)
        channel.close_worker_ends()
        return channel, process

    def fork(self, resources: Any, functions: Mapping[int, Callable[..., object]]) -> tuple[PosixChannel, PosixProcess]:
        """Start a fork of this process: in this thread, because only this one exists in the fork; signals blocked."""
        for stream in (sys.stdout, sys.stderr):
            with protocol.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        # functions of os.register_at_fork() run meanwhile, and Python ignores an interrupt that is raised in them
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            channel = PosixChannel(resources)
            process = PosixProcess(fork(channel, resources, functions, before), resources)
            channel.close_worker_ends()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return channel, process

    def waiter(self, *, can_wake: bool) -> PosixWaiter:
        """Return a new waiter; other threads may wake it if asked."""
        return PosixWaiter(can_wake=can_wake)

    def memory(self) -> DescriptorMemory:
        """Return a new object that creates segments in this process."""
        return DescriptorMemory()
