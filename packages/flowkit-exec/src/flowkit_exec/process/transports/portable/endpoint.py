"""Class `PortableEndpoint`: the worker's end of the connection to the calling process, and its entry point."""

from __future__ import annotations

import errno
import os
import select
import sys
from threading import Thread
from typing import TYPE_CHECKING, Any

from flowkit_exec.process import protocol
from flowkit_exec.process.transports.frames import READ_SIZE, ReceivedFrames

from . import folder
from .handshake import KEY_SIZE, accept_answer, connect, listen, pack_request, read_exactly
from .memory import FileMemory
from .tickets import TicketFile

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from flowkit_exec.process.transports.interface import Memory


def main(port: int, tickets: str, main_module: dict[str, Any] | None) -> None:
    """Entry point of a worker, which ends in order when this function returns.

    Args:
        port: the port on which the calling process listens.
        tickets: path of the file with the tickets.
        main_module: what `describe_main` has returned in the calling process.
    """
    from flowkit_exec.process.worker import main, set_up_process

    key = read_exactly(lambda size: os.read(0, size), KEY_SIZE)
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # standard output or error was closed: nothing else may get its descriptor
    lifeline = os.dup(0)
    os.dup2(null, 0)  # the standard input of tasks is empty
    os.close(null)
    set_up_process()
    try:
        endpoint = PortableEndpoint(port, key, tickets, lifeline)
    except (OSError, EOFError) as error:  # usually because that process has ended
        sys.exit(f"flowkit: a worker process cannot reach the process that has started it ({error})")
    main(endpoint, main_module)


class PortableEndpoint:
    """Receives frames from the calling process, and sends it frames.

    Args:
        port: the port on which the calling process listens.
        key: the key of this worker.
        tickets: path of the file with the tickets, in the private folder of the calling process.
        lifeline: descriptor of a pipe to which nothing is written: it closes when the calling process ends.

    Attributes:
        memory: the large values.
    """

    def __init__(self, port: int, key: bytes, tickets: str, lifeline: int) -> None:
        shared_folder = os.path.dirname(tickets)
        folder.create_within(shared_folder)
        self.memory: Memory = FileMemory(shared_folder)
        Thread(target=_wait_for_lifeline, args=(lifeline, shared_folder), name="flowkit-lifeline", daemon=True).start()
        self._tickets: TicketFile | None = TicketFile(tickets)
        self._connection: socket.socket | None = connect(port, key)
        self._key = key
        self._idle_timeout: float | None = None
        self._received = ReceivedFrames()

    def receive(self) -> tuple[int, memoryview, list[int]]:
        """Wait for a frame; return its kind, its payload and the handles of the segments that it refers to.

        Raises:
            EOFError: the calling process has closed the connection, or no run has begun within the idle timeout.
        """
        received = self._received
        while True:
            frame = received.take()
            if frame is not None and frame[0] != protocol.HANDLES:
                return frame
            if frame is not None:
                received.handles += protocol.unpack_handles(frame[1])
                continue
            connection = self._connection
            if connection is None:
                raise EOFError
            if self._idle_timeout is not None and not select.select([connection], [], [], self._idle_timeout)[0]:
                raise EOFError
            data = connection.recv(max(READ_SIZE, received.missing()))
            if not data:
                raise EOFError
            received.data += data

    def set_idle_timeout(self, seconds: float | None) -> None:
        """Set how long :meth:`receive` waits; None means without limit."""
        self._idle_timeout = seconds

    def next_ticket(self) -> int | None:
        """Take the next ticket, and return it; None if there is none.

        Raises:
            EOFError: this process was forked by a task.
        """
        if self._tickets is None:
            raise EOFError
        return self._tickets.take()

    def remaining_tickets(self) -> list[int]:
        """Take all tickets, and return them."""
        return self._tickets.take_all() if self._tickets is not None else []

    def write(self, data: bytes) -> None:
        """Send frames. Must not be called by two threads at once."""
        if self._connection is not None:
            self._connection.sendall(data)

    def write_handle(self, ticket: int, handle: int) -> None:
        """Send the handle of the segment that contains the result of a call, before its frame."""
        self.write(protocol.frame(protocol.HANDLES, protocol.pack_handles((handle,)), ticket))

    def ask(self, ticket: int, request: bytes, send: Callable[[bytes], None]) -> socket.socket:
        """Send a request about a call, and listen; return the connection on which the answer comes.

        Raises:
            OSError: this process cannot open more files.
        """
        if self._connection is None:
            raise OSError(errno.ENOTCONN, "this process was forked by a task")
        with listen() as listener:
            listener.setblocking(True)
            challenge = os.urandom(KEY_SIZE)
            payload = pack_request(listener.getsockname()[1], challenge, request)
            send(protocol.frame(protocol.REQUEST, payload, ticket))
            return accept_answer(listener, self._key, challenge)

    def detach(self) -> None:
        """In a process forked by a task: give up the connection, which is that of the worker."""
        connection, self._connection = self._connection, None
        self._tickets = None
        if connection is not None:
            connection.close()


def _wait_for_lifeline(lifeline: int, shared_folder: str) -> None:
    """Body of the lifeline thread: wait for the end of the calling process, then end this one."""
    from .groups import kill_own_group

    try:
        os.read(lifeline, 1)
    except OSError:
        pass
    folder.remove(shared_folder)
    kill_own_group()
    os._exit(1)
