"""Class `PosixEndpoint`: the worker's end of the connections to the calling process, and its entry point."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

from flowkit_exec.process import protocol
from flowkit_exec.process.shared_memory import MAX_HANDLES
from flowkit_exec.process.transports.frames import READ_SIZE, ReceivedFrames

from .channel import REQUEST_BIT
from .memory import NO_DESCRIPTOR, DescriptorMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_exec.process.transports.interface import Memory

_read, _write, _number_of = os.read, os.write, int.from_bytes  # called for each task
_CONTROL_SIZE = socket.CMSG_SPACE(4 * MAX_HANDLES)


def main(channel: int, outcomes: int, tickets: int, lifeline: int, main_module: dict[str, Any] | None) -> None:
    """Entry point of a spawned worker, which ends in order when this function returns.

    Args:
        channel: descriptor of the socket; this and the other descriptors are as for `PosixEndpoint`.
        outcomes: descriptor of the outcomes pipe.
        tickets: descriptor of the tickets pipe.
        lifeline: descriptor of the lifeline pipe.
        main_module: what `describe_main` has returned in the calling process.
    """
    from flowkit_exec.process.worker import main, set_up_process

    for descriptor in (channel, outcomes, tickets, lifeline):
        os.set_inheritable(descriptor, False)
    set_up_process()
    main(PosixEndpoint(channel, outcomes, tickets, lifeline), main_module)


class PosixEndpoint:
    """Receives frames from the calling process, and sends it frames.

    Args:
        channel: descriptor of the socket on which batches arrive, and on which file descriptors are sent.
        outcomes: descriptor of the write end of the pipe for outcomes; small writes are cheaper than on a socket.
        tickets: descriptor of the read end of the ticket pipe, which does not block.
        lifeline: descriptor of the read end of a pipe to which nothing is written: it closes when the calling process
            ends.

    Attributes:
        memory: the large values.
    """

    def __init__(self, channel: int, outcomes: int, tickets: int, lifeline: int) -> None:
        self.memory: Memory = DescriptorMemory()
        self._socket = socket.socket(fileno=channel)
        self._socket.setblocking(True)
        self._outcomes = outcomes
        self._tickets = tickets
        self._received = ReceivedFrames()
        is_bound = _bind_to_lifeline(lifeline)
        try:
            Thread(target=_wait_for_lifeline, args=(lifeline,), name="flowkit-lifeline", daemon=True).start()
        except RuntimeError:  # the system cannot start more threads
            if not is_bound:
                raise

    def receive(self) -> tuple[int, memoryview, list[int]]:
        """Wait for a frame; return its kind, its payload and the descriptors that were sent with it.

        Raises:
            EOFError: the calling process has closed the socket, or no run has begun within the idle timeout.
        """
        received = self._received
        while (frame := received.take()) is None:
            try:
                data, control, flags, _ = self._socket.recvmsg(max(READ_SIZE, received.missing()), _CONTROL_SIZE)
            except TimeoutError:  # no run has begun within idle_timeout
                raise EOFError from None
            if not data:
                raise EOFError
            received.data += data
            arrived = [descriptor for _, _, sent in control for (descriptor,) in struct.iter_unpack("i", sent)]
            for descriptor in arrived:
                os.set_inheritable(descriptor, False)
            if flags & socket.MSG_CTRUNC:  # this process has too many open files
                lost = _count_descriptors(received.data) - len(received.handles) - len(arrived)
                arrived += [NO_DESCRIPTOR] * lost
            received.handles += arrived
        return frame

    def set_idle_timeout(self, seconds: float | None) -> None:
        """Set how long :meth:`receive` waits; None means without limit."""
        self._socket.settimeout(seconds)

    def next_ticket(self) -> int | None:
        """Take the next ticket, and return it; None if there is none.

        Raises:
            EOFError: the calling process has closed the pipe.
        """
        try:
            ticket = _number_of(_read(self._tickets, 8), "little")
        except BlockingIOError:
            return None
        if not ticket:  # end of file
            raise EOFError
        return ticket

    def remaining_tickets(self) -> list[int]:
        """Take all tickets, and return them."""
        try:
            data = os.read(self._tickets, 1 << 16)
        except BlockingIOError:
            return []
        return [ticket for (ticket,) in protocol.TICKET.iter_unpack(data)]

    def write(self, data: bytes) -> None:
        """Send frames. Must not be called by two threads at once."""
        sent = _write(self._outcomes, data)
        while sent < len(data):
            sent += _write(self._outcomes, data[sent : sent + (1 << 20)])

    def write_handle(self, ticket: int, handle: int) -> None:
        """Send the descriptor of the segment that contains the result of a call, before its frame; close it here.

        Raises:
            OSError: too many descriptors are in transit.
        """
        try:
            socket.send_fds(self._socket, [protocol.TICKET.pack(ticket)], (handle,))
        finally:
            os.close(handle)

    def ask(self, ticket: int, request: bytes, send: Callable[[bytes], None]) -> socket.socket:
        """Send a request about a call, and one end of a pair of sockets; return the other, on which the answer comes.

        Raises:
            OSError: this process cannot open more files.
        """
        own, other = socket.socketpair()
        try:
            with other:  # one call sends number and descriptor, whatever other threads send meanwhile
                socket.send_fds(self._socket, [protocol.TICKET.pack(ticket | REQUEST_BIT)], [other.fileno()])
            send(protocol.frame(protocol.REQUEST, request, ticket))
        except BaseException:
            own.close()
            raise
        return own

    def detach(self) -> None:
        """In a process forked by a task: redirect the descriptors to /dev/null."""
        descriptors = (self._socket.fileno(), self._outcomes, self._tickets)
        os.close(self._outcomes)  # first: the process may be unable to open one more
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in descriptors:
            if descriptor != null:
                os.dup2(null, descriptor, inheritable=False)
        if null not in descriptors:
            os.close(null)


def _bind_to_lifeline(lifeline: int) -> bool:
    """Have the kernel kill this process group when the lifeline closes, even if a task holds the GIL (Linux only)."""
    try:
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    except (AttributeError, OSError):
        return False
    return True


def _wait_for_lifeline(lifeline: int) -> None:
    """Body of the lifeline thread: wait for the end of the calling process, then kill the process group of the worker.

    The group includes the processes that tasks have started.
    """
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    with suppress(AttributeError, OSError):  # a fork of the calling process keeps the lifeline open (Linux only)
        poll.register(os.pidfd_open(os.getppid()), select.POLLIN)
    poll.poll()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _count_descriptors(buffer: bytearray) -> int:
    """Return how many descriptors are sent with the frames in a buffer."""
    total = at = 0
    while len(buffer) - at >= protocol.HEADER.size:
        length, _, count, _, _ = protocol.HEADER.unpack_from(buffer, at)
        total += count
        at += protocol.HEADER.size + length
    return total
