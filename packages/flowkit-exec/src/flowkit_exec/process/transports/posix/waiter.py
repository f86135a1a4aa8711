"""Class `PosixWaiter`: waits for many workers at once, by ``poll()``."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from threading import Lock
from typing import Any

MAX_POLL_MS = 3_600_000.0
"""Maximum timeout of poll(), in milliseconds: it does not take large numbers."""


class PosixWaiter:
    """Waits for frames of workers, for their ends, and for room to send.

    Args:
        can_wake: whether other threads may call :meth:`wake`.
    """

    def __init__(self, *, can_wake: bool) -> None:
        self._poll = select.poll()
        self._workers: list[Any] = []
        self._by_descriptor: dict[int, Any] = {}
        self._wake_up_lock = Lock()
        self._wake_up: tuple[int, int] | None = None  # a pipe
        if can_wake:
            self._wake_up = os.pipe()
            for descriptor in self._wake_up:
                os.set_blocking(descriptor, False)
            self._poll.register(self._wake_up[0], select.POLLIN)

    def add(self, worker: Any) -> None:
        """Wait for a worker, too."""
        self._workers.append(worker)
        channel, process = _ends(worker)
        for descriptor, events in (
            (channel.outcomes, select.POLLIN),
            (process.pidfd, select.POLLIN),
            (channel.socket.fileno(), 0),
        ):
            if descriptor is not None:
                self._poll.register(descriptor, events)
                self._by_descriptor[descriptor] = worker

    def remove(self, worker: Any) -> None:
        """Wait for a worker no longer. To be called before its channel is closed."""
        self._workers.remove(worker)
        channel, process = _ends(worker)
        for descriptor in (channel.outcomes, process.pidfd, channel.socket.fileno()):
            if descriptor is not None and self._by_descriptor.pop(descriptor, None) is not None:
                self._poll.unregister(descriptor)

    def wait(self, timeout: float | None) -> tuple[list[Any], list[Any]]:
        """Wait for events of workers, ``timeout`` seconds at most; None means without limit.

        Returns:
            The workers that may have sent something, and those of them whose processes have ended.
        """
        for worker in self._workers:
            if worker.channel.has_unsent:
                self._poll.modify(_ends(worker)[0].socket, select.POLLOUT)
        events = self._poll.poll(None if timeout is None else min(timeout * 1000, MAX_POLL_MS))
        ready: list[Any] = []
        ended: list[Any] = []
        for descriptor, _ in events:
            if descriptor not in self._by_descriptor:
                self._drain_wake_up()
                continue
            worker = self._by_descriptor[descriptor]
            channel, process = _ends(worker)
            if worker not in ready:
                ready.append(worker)
            if descriptor == process.pidfd:
                ended.append(worker)
            elif channel.has_unsent and channel.flush():
                self._poll.modify(channel.socket, 0)
        return ready, ended

    def wake(self) -> None:
        """End a wait; other threads may call this, also while the waiter is being closed."""
        with self._wake_up_lock:
            if self._wake_up is not None:
                with suppress(BlockingIOError):  # the pipe is full: the wait will end
                    os.write(self._wake_up[1], b".")

    def close(self) -> None:
        """Close the pipe of the waiter."""
        with self._wake_up_lock:
            pipe, self._wake_up = self._wake_up, None
        for descriptor in pipe or ():
            os.close(descriptor)

    def _drain_wake_up(self) -> None:
        if self._wake_up is not None:
            with suppress(BlockingIOError):
                os.read(self._wake_up[0], 4096)


def _ends(worker: Any) -> tuple[Any, Any]:
    """Return channel and process of a worker, which are those of this transport."""
    return worker.channel, worker.process
