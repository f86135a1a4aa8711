"""How a worker and the process that has started it prove to each other that they have the key of the worker.

The worker connects and sends 32 random bytes. The calling process sends 32 random bytes, and its proof: a keyed digest
of both. The worker sends its own proof. The key itself is never sent on the connection, and neither side reads or
writes anything else there before the other has proved that it has the key.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

try:
    from _blake2 import blake2s  # importing hashlib would load OpenSSL, which takes milliseconds in each worker
except ImportError:
    from hashlib import blake2s

from _operator import _compare_digest

from flowkit_exec.process import protocol

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "127.0.0.1"
KEY_SIZE = 32
_SIZE = 32  # of random bytes and of a proof
_compare: Callable[[bytes, bytes], bool] = _compare_digest


def _proof(key: bytes, side: bytes, challenges: bytes) -> bytes:
    return blake2s(side + challenges, key=key).digest()


def listen() -> socket.socket:
    """Return a socket that listens on a free port of the loopback interface, and does not block."""
    listener = socket.socket()
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows: no other program may listen on the same port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        listener.setblocking(False)
        listener.bind((HOST, 0))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def send_at_once(connection: socket.socket) -> None:
    """Have a connection send small frames at once, instead of waiting for more to send."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Guest:
    """A connection to the listening socket that has not proved yet that it is the worker.

    Args:
        connection: the connection, which does not block.
        key: the key of the worker.
    """

    def __init__(self, connection: socket.socket, key: bytes) -> None:
        self.connection = connection
        self._key = key
        self._received = b""
        self._sent = b""

    def is_worker(self) -> bool | None:
        """Read what it has sent; return whether it is the worker, None if it has not sent all of its proof."""
        try:
            while len(self._received) < 2 * _SIZE:
                data = self.connection.recv(2 * _SIZE - len(self._received))
                if not data:
                    return False
                self._received += data
                if not self._sent and len(self._received) >= _SIZE:
                    self._sent = os.urandom(_SIZE)
                    proof = _proof(self._key, b"caller", self._received[:_SIZE] + self._sent)
                    self.connection.send(self._sent + proof)  # the first bytes on a connection: there is room
        except BlockingIOError:
            return None
        except OSError as error:
            if not protocol.has_errno(error):  # of a signal handler
                raise
            return False
        challenges, proof = self._received[:_SIZE] + self._sent, self._received[_SIZE:]
        return _compare(proof, _proof(self._key, b"worker", challenges))


def connect(port: int, key: bytes) -> socket.socket:
    """In a worker: connect to the calling process, and return the socket.

    Raises:
        ConnectionError: another program listens there.
    """
    connection = socket.create_connection((HOST, port))
    try:
        connection.settimeout(None)  # socket.setdefaulttimeout() may have been called by sitecustomize
        own = os.urandom(_SIZE)
        connection.sendall(own)
        received = read_exactly(connection.recv, 2 * _SIZE)
        challenges = own + received[:_SIZE]
        if not _compare(received[_SIZE:], _proof(key, b"caller", challenges)):
            raise ConnectionError(f"the program that listens on port {port} has not started this worker process")
        connection.sendall(_proof(key, b"worker", challenges))
        send_at_once(connection)
    except BaseException:
        connection.close()
        raise
    return connection


_PORT = struct.Struct("<H")
_PATIENCE = 1.0
"""Seconds in which a program that connects to a worker must prove that it has the key."""


def pack_request(port: int, challenge: bytes, request: bytes) -> bytes:
    """Return the payload of a frame REQUEST: the port on which the worker listens for the answer, and random bytes."""
    return _PORT.pack(port) + challenge + request


def unpack_request(payload: bytes) -> tuple[int, bytes, bytes]:
    """Return what :func:`pack_request` was given."""
    start = _PORT.size
    return _PORT.unpack_from(payload)[0], payload[start : start + _SIZE], payload[start + _SIZE :]


def connect_to_answer(port: int, key: bytes, challenge: bytes) -> socket.socket:
    """Connect to a worker that has sent a request, and prove that this is the calling process; return the socket."""
    connection = socket.create_connection((HOST, port), timeout=_PATIENCE)
    try:
        connection.sendall(_proof(key, b"answer", challenge))
    except BaseException:
        connection.close()
        raise
    return connection


def accept_answer(listener: socket.socket, key: bytes, challenge: bytes) -> socket.socket:
    """In a worker: return the connection of the calling process, and close those of other programs."""
    while True:
        connection, _ = listener.accept()
        try:
            connection.settimeout(_PATIENCE)
            if _compare(read_exactly(connection.recv, _SIZE), _proof(key, b"answer", challenge)):
                connection.settimeout(None)
                return connection
        except (OSError, EOFError):
            pass
        connection.close()


def read_exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """Call `read` until it has returned `size` bytes; it takes their number, and may return fewer.

    Raises:
        EOFError: there are fewer.
    """
    data = b""
    while len(data) < size:
        found = read(size - len(data))
        if not found:
            raise EOFError
        data += found
    return data
