"""Class `PosixChannel`: this end of the connections to one worker, for frames, tickets and file descriptors."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
import weakref
from collections import deque
from typing import TYPE_CHECKING

from flowkit_exec.process import protocol
from flowkit_exec.process.transports.frames import READ_SIZE, FrameBuffer

from .resources import open_pipes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .resources import PosixResources

REQUEST_BIT = 1 << 63
"""Distinguishes the descriptor that is sent with a request from that of a result."""
MAX_CALLS_AHEAD = 1024
"""Maximum number of calls that a worker is given at once."""
_SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)
_GET_PIPE_SIZE = getattr(fcntl, "F_GETPIPE_SZ", None)
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # without it, a script that resets SIGPIPE would die with its worker
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

_channels: weakref.WeakSet[PosixChannel] = weakref.WeakSet()


class PosixChannel(FrameBuffer):
    """Sends frames and tickets to one worker, and receives its frames and file descriptors.

    Opens a socket and three pipes; see the diagram in :mod:`flowkit_exec.process`. A call may start only with its
    *ticket*. Tickets lie in a pipe that both the worker and this process read: the one that reads a ticket owns its
    call. So this process can withdraw the calls that the worker has not started, at any moment.

    Args:
        resources: receives each descriptor as soon as it is open.

    Attributes:
        socket: this end of the socket.
        outcomes: descriptor of the pipe on which the worker sends frames; -1 after :meth:`close`.
        tickets: descriptor of the read end of the ticket pipe, which the worker reads as well.
        worker_ends: descriptors for the worker: socket, write end of the outcomes pipe, read end of the lifeline pipe.
        max_calls: how many calls the worker can hold: their tickets must fit into the pipe.
    """

    def __init__(self, resources: PosixResources) -> None:
        super().__init__()
        self._resources = resources
        self._unsent: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._received_fds: dict[int, int] = {}  # ticket -> descriptor that arrived before its frame was handled
        (ours, theirs), tickets, outcomes, lifeline = open_pipes(resources.descriptors)
        resources.descriptors.remove(ours)
        resources.socket = self.socket = socket.socket(fileno=ours)
        self.tickets, self._ticket_source = tickets
        self.outcomes, their_outcomes = outcomes
        their_lifeline, self._lifeline = lifeline
        self.worker_ends = theirs, their_outcomes, their_lifeline
        capacity = _pipe_size(self.tickets) // protocol.TICKET.size
        self.max_calls = min(MAX_CALLS_AHEAD, capacity // 2)  # chains may double the number of calls
        self.socket.setblocking(False)  # of the object too: socket.setdefaulttimeout() may have been called
        for descriptor in (self.tickets, self.outcomes):
            os.set_blocking(descriptor, False)
        if _SET_PIPE_SIZE is not None:  # Linux only, and up to a limit: a worker should not wait for its reader
            with protocol.suppress(OSError):
                fcntl.fcntl(their_outcomes, _SET_PIPE_SIZE, 1 << 20)
        _channels.add(self)

    def close_worker_ends(self) -> None:
        """Close the descriptors that the worker has now."""
        for descriptor in self.worker_ends:
            self._resources.descriptors.remove(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """Close all descriptors of the worker in this process."""
        self._resources.descriptors += [descriptor for _, descriptors in self._unsent for descriptor in descriptors]
        self._resources.descriptors += self._received_fds.values()
        self._unsent.clear()
        self._received_fds.clear()
        self._resources.close()
        self._lifeline = self._ticket_source = self.tickets = self.outcomes = -1

    @property
    def is_open(self) -> bool:
        """Whether :meth:`close` was not called."""
        return self.outcomes >= 0

    # ---- to the worker -------------------------------------------------------------------------------------------

    def issue_tickets(self, tickets: Iterable[int]) -> None:
        """Write tickets into the pipe. To be called before the frame with their calls is sent."""
        os.write(self._ticket_source, b"".join(map(protocol.TICKET.pack, tickets)))

    def withdraw_tickets(self) -> list[int]:
        """Read the tickets that the worker has not read, and return them."""
        try:
            data = os.read(self.tickets, 1 << 16)
        except BlockingIOError:
            return []
        return [number for (number,) in protocol.TICKET.iter_unpack(data)]

    def send(self, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Send a frame without blocking; :meth:`flush` sends the rest."""
        if self._unsent:
            self._unsent.append((memoryview(data), tuple(map(os.dup, descriptors))))
            return
        sent = self._try_send(memoryview(data), descriptors)
        if sent < len(data):
            kept = () if sent else tuple(map(os.dup, descriptors))
            self._unsent.append((memoryview(data)[sent:], kept))

    def flush(self) -> bool:
        """Send what :meth:`send` could not send; return whether nothing is left."""
        while self._unsent:
            data, descriptors = self._unsent[0]
            sent = self._try_send(data, descriptors)
            if sent:
                for descriptor in descriptors:
                    os.close(descriptor)
                descriptors = ()
            if sent < len(data):
                self._unsent[0] = data[sent:], descriptors
                return False
            self._unsent.popleft()
        return True

    def _try_send(self, data: memoryview, descriptors: tuple[int, ...]) -> int:
        """Send without blocking; return how many bytes were sent."""
        try:
            if not descriptors:
                return self.socket.send(data, _NO_SIGNAL)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
            return self.socket.sendmsg([data], [rights], _NO_SIGNAL)  # socket.send_fds() ignores its flags
        except BlockingIOError:
            return 0
        except OSError as error:
            if isinstance(error, ConnectionError) and protocol.has_errno(error):
                return len(data)  # it died, which is noticed when its outcomes are read
            if error.errno in (errno.ETOOMANYREFS, errno.ENOBUFS):  # too many descriptors are in transit: try later
                return 0
            raise

    @property
    def has_unsent(self) -> bool:
        """Whether :meth:`send` could not send everything yet."""
        return bool(self._unsent)

    def request_exit(self) -> None:
        """Ask the worker to exit, by closing the socket; it may still send log records."""
        with protocol.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    # ---- from the worker -----------------------------------------------------------------------------------------

    def receive(self) -> bool:
        """Read what the worker has sent, without blocking; return whether it may send more."""
        unread = self.unread
        while True:
            try:
                unread.extend(map(os.read, (self.outcomes,), (READ_SIZE,)))  # one call into C: Ctrl-C loses nothing
            except BlockingIOError:
                return True
            if not unread[-1]:
                return False
            if len(unread[-1]) < READ_SIZE:
                return True

    def open_reply(self, ticket: int, payload: bytes) -> tuple[bytes, socket.socket]:
        """Return a request of the worker, and the connection on which to answer it; the worker has sent its descriptor.

        Raises:
            OSError: this process cannot open more files.
        """
        return payload, socket.socket(fileno=self.take_handle(ticket | REQUEST_BIT))

    def take_handle(self, ticket: int) -> int:
        """Return the file descriptor that the worker has sent for a ticket, on the socket.

        Raises:
            OSError: this process cannot open more files.
        """
        while ticket not in self._received_fds:
            for is_last_try in (False, True):
                try:  # socket.recv_fds() ignores its flags
                    data, control, _, _ = self.socket.recvmsg(
                        protocol.TICKET.size, socket.CMSG_SPACE(4), _CLOSE_ON_EXEC
                    )
                    break
                except ConnectionResetError as error:  # it died before it had read all; what it had sent is there
                    if is_last_try or not protocol.has_errno(error):
                        raise
            if not control:
                raise OSError(errno.EMFILE, "a large value needs a file descriptor, and this process may open no more")
            (descriptor,) = struct.unpack("i", control[0][2][:4])
            self._received_fds[protocol.TICKET.unpack(data)[0]] = descriptor
            os.set_inheritable(descriptor, False)  # where _CLOSE_ON_EXEC does not exist
        return self._received_fds.pop(ticket)


def close_inherited_channels() -> None:
    """In a fork of the calling process: close its channels."""
    for channel in tuple(_channels):
        channel.close()


def _pipe_size(descriptor: int) -> int:
    """Return the capacity of a pipe in bytes, or a lower bound: it is small if the user has many pipes."""
    with protocol.suppress(OSError):
        return fcntl.fcntl(descriptor, _GET_PIPE_SIZE) if _GET_PIPE_SIZE is not None else 1 << 14
    return 1 << 12
