"""Transports: how the calling process starts workers, exchanges frames and large values with them, and ends them.

Everything that differs between operating systems is here, behind the interface in `interface`:

* `posix` (Linux, macOS): a socket pair and pipes that the worker inherits, file descriptors of anonymous shared
  memory, ``poll()``, process groups and signals. Workers may be forks of this process.
* `portable` (everywhere): a connection to a socket on the loopback interface, files in a private folder, and what
  `subprocess` and `selectors` offer on each system. Workers are always new interpreters.

Both use `child_process`: the process of a worker, and how it is killed. `frames`: splits what was received into frames.
`interpreter`: the command line of a worker. `resources`: what a worker takes of the system. `limits`: how many workers
the limit of open files allows. `orphans`: reaps the processes that tasks have left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .interface import Transport

TRANSPORT_VARIABLE = "FLOWKIT_TRANSPORT"
"""The environment variable with the name of the transport to use where ``ProcessExecutor`` is given none: for tests."""
NAMES = ("posix", "portable")


def find_transport(name: str | None) -> Transport:
    """Return a transport.

    Args:
        name: "posix" or "portable"; None means the first of these that works on this system.

    Raises:
        ImportError: this system lacks what the transport needs.
    """
    if name == "portable":
        from .portable.transport import PortableTransport

        return PortableTransport()
    if name == "posix":
        from .posix.transport import PosixTransport

        return PosixTransport()
    try:
        return find_transport("posix")
    except ImportError:
        return find_transport("portable")
