"""Class `PortableChannel`: this end of the connection to one worker."""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import TYPE_CHECKING

from flowkit_exec.process import protocol
from flowkit_exec.process.transports.frames import READ_SIZE, FrameBuffer
from flowkit_exec.process.transports.resources import start_error

from .folder import new_path, private_folder
from .handshake import KEY_SIZE, Guest, connect_to_answer, listen, send_at_once, unpack_request
from .tickets import CAPACITY, TicketFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .resources import PortableResources

MAX_CALLS_AHEAD = CAPACITY // 4
"""Maximum number of calls that a worker is given at once: chains may double it."""
MAX_GUESTS = 16
"""Maximum number of connections that have not proved to be the worker; the oldest one is closed if there are more."""
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # without it, a script that resets SIGPIPE would die with its worker


class PortableChannel(FrameBuffer):
    """Sends frames and tickets to one worker, and receives its frames.

    The worker connects to a socket on the loopback interface that listens for it alone, and proves that it is the
    worker; see `handshake`. Until then, frames wait here. Tickets are in a file, see `tickets`; large values, too.

    Args:
        resources: receives sockets and files as soon as they are open.

    Attributes:
        key: the secret that the worker must prove that it has.
        port: the port on which this process listens for it.
        connection: the connection; None before there is one.
        max_calls: how many calls the worker can hold.
    """

    max_calls = MAX_CALLS_AHEAD

    def __init__(self, resources: PortableResources) -> None:
        super().__init__()
        self._resources = resources
        self.key = os.urandom(KEY_SIZE)
        self.tickets = resources.tickets = TicketFile(new_path(private_folder()), create=True)
        self._listener = listen()
        resources.sockets.append(self._listener)
        self.port: int = self._listener.getsockname()[1]
        self.connection: socket.socket | None = None
        self._guests: list[Guest] = []
        self._unsent: deque[memoryview] = deque()
        self._handles: dict[int, int] = {}  # ticket -> handle of the segment that contains its result

    @property
    def is_open(self) -> bool:
        """Whether :meth:`close` was not called."""
        return self._resources.tickets is not None

    @property
    def is_refused(self) -> bool:
        """Whether another program was started in place of the worker, and has reported that."""
        return self.connection is None and self.tickets.is_refused

    def close(self) -> None:
        """Close the connection, and what belongs to it."""
        self._unsent.clear()
        self._guests.clear()
        self._resources.close()

    # ---- the connection ------------------------------------------------------------------------------------------

    def sockets(self) -> list[socket.socket]:
        """Return the sockets on which the worker, or another program, may send something."""
        if self.connection is not None:
            return [self.connection]
        return [self._listener, *(guest.connection for guest in self._guests)]

    def _let_in(self) -> socket.socket | None:
        """Return the connection of the worker, if it has proved that it is the worker; close connections of others."""
        while self.connection is None:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if not protocol.has_errno(error):  # of a signal handler
                    raise
                if isinstance(error, ConnectionError):  # it has gone already
                    continue
                raise start_error(error) from error
            connection.setblocking(False)
            self._resources.sockets.append(connection)
            self._guests.append(Guest(connection, self.key))
            if len(self._guests) > MAX_GUESTS:
                self._resources.close_socket(self._guests.pop(0).connection)
        for guest in tuple(self._guests):
            is_worker = guest.is_worker()
            if is_worker is None:
                continue
            self._guests.remove(guest)
            if not is_worker:
                self._resources.close_socket(guest.connection)
                continue
            send_at_once(guest.connection)
            self.connection = guest.connection
            for other in (self._listener, *(other.connection for other in self._guests)):
                self._resources.close_socket(other)
            self._guests.clear()
            break
        return self.connection

    # ---- to the worker -------------------------------------------------------------------------------------------

    def issue_tickets(self, tickets: Iterable[int]) -> None:
        """Issue tickets. To be called before the frame with their calls is sent."""
        self.tickets.issue(tickets)

    def withdraw_tickets(self) -> list[int]:
        """Take the tickets that the worker has not taken, and return them."""
        return self.tickets.take_all()

    def send(self, data: bytes, handles: tuple[int, ...] = ()) -> None:
        """Send frames without blocking; :meth:`flush` sends the rest.

        Args:
            data: the frames.
            handles: handles of the segments that the last frame refers to.
        """
        if handles:
            data = protocol.frame(protocol.HANDLES, protocol.pack_handles(handles)) + data
        self._unsent.append(memoryview(data))
        self.flush()

    def flush(self) -> bool:
        """Send what :meth:`send` could not send; return whether nothing is left."""
        unsent = self._unsent
        while unsent:
            sent = self._try_send(unsent[0])
            if sent < len(unsent[0]):
                unsent[0] = unsent[0][sent:]
                return False
            unsent.popleft()
        return True

    def _try_send(self, data: memoryview) -> int:
        """Send without blocking; return how many bytes were sent."""
        if self.connection is None:
            return 0
        try:
            return self.connection.send(data, _NO_SIGNAL)
        except BlockingIOError:
            return 0
        except ConnectionError as error:
            if not protocol.has_errno(error):
                raise
            return len(data)  # it died, which is noticed when its outcomes are read

    @property
    def has_unsent(self) -> bool:
        """Whether :meth:`send` could not send everything yet."""
        return bool(self._unsent)

    def request_exit(self) -> None:
        """Ask the worker to exit; it may still send log records."""
        if self.connection is not None:
            with protocol.suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)

    # ---- from the worker -----------------------------------------------------------------------------------------

    def receive(self) -> bool:
        """Read what the worker has sent, without blocking; return whether it may send more."""
        connection = self.connection
        if connection is None:
            if self.is_refused:
                self.unread.append(protocol.frame(protocol.NOT_A_WORKER))
            connection = self._let_in()
            if connection is None:
                return True
            self.flush()
        unread, receive = self.unread, connection.recv
        while True:
            try:
                unread.extend(map(receive, (READ_SIZE,)))  # one call into C: Ctrl-C loses nothing
            except BlockingIOError:
                return True
            except ConnectionError as error:
                if not protocol.has_errno(error):
                    raise
                return False
            if not unread[-1]:
                return False
            if len(unread[-1]) < READ_SIZE:
                return True

    def frames(self) -> deque[tuple[int, int, float, bytes]]:
        """Return the complete frames: kind, ticket, seconds, payload. The caller removes each one that it handles."""
        frames = super().frames()
        for frame in [frame for frame in frames if frame[0] == protocol.HANDLES]:
            _, ticket, _, payload = frame
            (self._handles[ticket],) = protocol.unpack_handles(payload)
            frames.remove(frame)
        return frames

    def open_reply(self, ticket: int, payload: bytes) -> tuple[bytes, socket.socket]:
        """Return a request of the worker, and the connection on which to answer it; the worker listens for it.

        Raises:
            OSError: this process cannot open more files, or the worker waits no longer.
        """
        port, challenge, request = unpack_request(payload)
        return request, connect_to_answer(port, self.key, challenge)

    def take_handle(self, ticket: int) -> int:
        """Return the handle of the segment that contains the result of a call."""
        return self._handles.pop(ticket)
