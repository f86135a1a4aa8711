"""Class `PortableWaiter`: waits for frames of many workers at once."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress
from threading import Lock
from typing import Any

_READ, _BOTH = selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE


class PortableWaiter:
    """Waits for frames of workers. That a worker has died shows in the end of its connection.

    Raises:
        OSError: the system provides no more sockets.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_up_lock = Lock()
        self._wake_up, self._waker = socket.socketpair()
        for end in (self._wake_up, self._waker):
            end.setblocking(False)
        self._selector.register(self._wake_up, _READ)
        self._watched: dict[Any, dict[socket.socket, int]] = {}  # socket -> events

    def add(self, worker: Any) -> None:
        """Wait for a worker, too."""
        self._watched[worker] = {}

    def remove(self, worker: Any) -> None:
        """Wait for a worker no longer."""
        for watched in self._watched.pop(worker, {}):
            self._unregister(watched)

    def wait(self, timeout: float | None) -> tuple[list[Any], list[Any]]:
        """Wait for events of workers, ``timeout`` seconds at most; None means without limit.

        Sends what waits to be sent meanwhile.

        Returns:
            The workers that may have sent something, and those of them that are known to have ended.
        """
        self._update()
        ready: dict[Any, None] = {}
        for key, events in self._selector.select(timeout):
            if key.data is None:
                with suppress(BlockingIOError):
                    self._wake_up.recv(4096)
                continue
            ready[key.data] = None
            if events & selectors.EVENT_WRITE:
                key.data.channel.flush()
        for worker in self._watched:
            if worker.channel.is_refused:
                ready[worker] = None
        return list(ready), []

    def wake(self) -> None:
        """End a wait; other threads may call this, also while the waiter is being closed."""
        with self._wake_up_lock, suppress(OSError):  # there is no room: it will end anyway, or it is closed
            self._waker.send(b".")

    def close(self) -> None:
        """Close the sockets of the waiter."""
        with self._wake_up_lock:
            self._selector.close()
            self._wake_up.close()
            self._waker.close()

    def _update(self) -> None:
        """Register the sockets that workers have now, for what they wait for."""
        wanted = {}
        for worker, watched in self._watched.items():
            channel: Any = worker.channel  # that of this transport
            events = _BOTH if channel.has_unsent and channel.connection is not None else _READ
            wanted[worker] = dict.fromkeys(channel.sockets(), events)
            for old in (
                watched.keys() - wanted[worker].keys()
            ):  # first: a new socket may have the number of a closed one
                self._unregister(old)
                del watched[old]
        for worker, watched in self._watched.items():
            for new, events in wanted[worker].items():
                if new not in watched:
                    self._selector.register(new, events, worker)
                elif watched[new] != events:
                    self._selector.modify(new, events, worker)
                watched[new] = events

    def _unregister(self, old: socket.socket) -> None:
        with suppress(KeyError, ValueError):  # it is closed
            self._selector.unregister(old)
