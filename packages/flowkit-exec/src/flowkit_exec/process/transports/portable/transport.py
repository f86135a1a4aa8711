"""Class `PortableTransport`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from flowkit_exec.process import protocol
from flowkit_exec.process.functions.main_module import describe_main
from flowkit_exec.process.transports.interpreter import environment_of_worker, interpreter_command
from flowkit_exec.process.transports.limits import max_workers

from .channel import PortableChannel
from .child_process import PortableProcess
from .folder import private_folder
from .groups import OWN_GROUP
from .memory import FileMemory
from .resources import PortableResources
from .waiter import PortableWaiter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_MAX_SOCKETS = 512 if sys.platform == "win32" else 1 << 16
"""How many sockets ``select()`` waits for; a worker needs two of them while it starts."""


class PortableTransport:
    """Connections on the loopback interface, files in a private folder, and what `subprocess` offers on each system."""

    name = "portable"
    can_fork = False

    def max_workers(self) -> int:
        """Return the maximum number of workers, by the limit of open files or of ``select()``."""
        return min(max_workers(6), _MAX_SOCKETS // 2)

    def resources(self) -> PortableResources:
        """Return the resources of a new worker, which are empty."""
        return PortableResources()

    def spawn(self, resources: Any, executable: str, env: Mapping[Any, Any]) -> tuple[PortableChannel, PortableProcess]:
        """Start a new interpreter that runs a worker; see `Transport.spawn`. It reads its key from standard input."""
        channel = PortableChannel(resources)
        arguments = channel.port, channel.tickets.path, describe_main()
        process = resources.process = subprocess.Popen(  # noqa: S603 - our own interpreter
            interpreter_command(executable, "flowkit_exec.process.transports.portable.endpoint", arguments),
            stdin=subprocess.PIPE,
            bufsize=0,
            env=environment_of_worker(env, channel.tickets.path),
            **OWN_GROUP,
        )
        with protocol.suppress(OSError):  # it has ended already, which is noticed soon
            process.stdin.write(channel.key)  # type: ignore[union-attr]  # fewer bytes than any pipe holds
        return channel, PortableProcess(process, resources, channel)

    def fork(self, resources: Any, functions: Mapping[int, Callable[..., object]]) -> tuple[Any, Any]:
        """Raise an error: this transport starts no forks."""
        raise NotImplementedError

    def waiter(self, *, can_wake: bool) -> PortableWaiter:
        """Return a new waiter, which other threads may wake."""
        return PortableWaiter()

    def memory(self) -> FileMemory:
        """Return a new object that creates segments in this process."""
        return FileMemory(private_folder())
