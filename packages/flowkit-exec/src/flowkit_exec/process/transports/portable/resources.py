"""Class `PortableResources`: the sockets, files and process of one worker, released after any interrupt."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flowkit_exec.process import protocol
from flowkit_exec.process.transports.resources import Resources

from .groups import kill

if TYPE_CHECKING:
    import socket
    import subprocess

    from .tickets import TicketFile


class PortableResources(Resources):
    """OS resources of one worker.

    Attributes:
        sockets: the open sockets.
        tickets: the file with its tickets; None before it is created.
        process: its process; its standard input is the lifeline of the worker, which ends when that is closed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sockets: list[socket.socket] = []
        self.tickets: TicketFile | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def close_socket(self, closed: socket.socket) -> None:
        """Close one socket."""
        closed.close()
        self.sockets.remove(closed)

    def close(self) -> None:
        """Close sockets and files, and delete the file with the tickets."""
        while self.sockets:
            self.close_socket(self.sockets[-1])
        tickets, self.tickets = self.tickets, None
        if tickets is not None:
            tickets.close()
            with protocol.suppress(OSError):  # Windows: the worker has mapped it; it is deleted with the folder
                os.unlink(tickets.path)
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def end_process(self) -> None:
        """Kill the process, and reap it."""
        if self.process is not None and self.process.returncode is None:
            kill(self.process)
            self.process.wait()
