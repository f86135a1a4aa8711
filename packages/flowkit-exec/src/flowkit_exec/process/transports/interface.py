"""What the transports have in common: how workers are started, reached, waited for and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import socket
    from collections import deque
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .child_process import ChildProcess
    from .resources import Resources

    Layout = tuple[int, tuple[tuple[int, int], ...]]
    """What a segment contains: the length of the pickle, and the start and end of each out-of-band buffer."""


class Transport(Protocol):
    """A way to start worker processes, and to talk to them.

    Attributes:
        name: its name.
        can_fork: whether a worker may be a fork of this process.
    """

    name: str
    can_fork: bool

    def max_workers(self) -> int:
        """Return the maximum number of workers, by the limits of this process and the operating system."""

    def resources(self) -> Resources:
        """Return the resources of a new worker, which are empty."""

    def spawn(
        self, resources: Resources, executable: str, env: Mapping[bytes, bytes] | Mapping[str, str]
    ) -> tuple[Channel, ChildProcess]:
        """Start a new interpreter that runs a worker.

        Args:
            resources: receives each resource as soon as it is acquired.
            executable: path of the interpreter.
            env: environment variables, in addition to those of this process.
        """

    def fork(
        self, resources: Resources, functions: Mapping[int, Callable[..., object]]
    ) -> tuple[Channel, ChildProcess]:
        """Start a fork of this process that runs a worker; to be called only if ``can_fork``.

        Args:
            resources: receives each resource as soon as it is acquired.
            functions: function number -> function.
        """

    def waiter(self, *, can_wake: bool) -> Waiter:
        """Return a new waiter; other threads may wake it if asked."""

    def memory(self) -> Memory:
        """Return a new object that creates segments in this process."""


class Channel(Protocol):
    """This end of the connections to one worker.

    A call may start only with its *ticket*. Either the worker or this process takes a ticket, and owns its call then:
    so this process can withdraw, at any moment, the calls that the worker has not started, and knows which calls it had
    started when it died.

    Attributes:
        max_calls: how many calls the worker can hold.
    """

    max_calls: int

    @property
    def is_open(self) -> bool:
        """Whether :meth:`close` was not called."""

    @property
    def has_unsent(self) -> bool:
        """Whether :meth:`send` could not send everything yet."""

    def issue_tickets(self, tickets: Iterable[int]) -> None:
        """Issue tickets. To be called before the frame with their calls is sent."""

    def withdraw_tickets(self) -> list[int]:
        """Take the tickets that the worker has not taken, and return them."""

    def send(self, data: bytes, handles: tuple[int, ...] = ()) -> None:
        """Send frames without blocking; :meth:`flush` sends the rest.

        Args:
            data: the frames.
            handles: handles of the segments that the last frame refers to.
        """

    def flush(self) -> bool:
        """Send what :meth:`send` could not send; return whether nothing is left."""

    def receive(self) -> bool:
        """Read what the worker has sent, without blocking; return whether it may send more."""

    def frames(self) -> deque[tuple[int, int, float, bytes]]:
        """Return the complete frames: kind, ticket, seconds, payload. The caller removes each one that it handles."""

    def take_handle(self, ticket: int) -> int:
        """Return the handle of the segment that contains the result of a call.

        Raises:
            OSError: this process cannot open more files.
        """

    def open_reply(self, ticket: int, payload: bytes) -> tuple[bytes, socket.socket]:
        """Return a request of the worker, and the connection on which to answer it.

        Args:
            ticket: number of the call that it is about.
            payload: payload of the frame REQUEST.

        Raises:
            OSError: this process cannot open more files, or the worker waits no longer.
        """

    def request_exit(self) -> None:
        """Ask the worker to exit; it may still send log records."""

    def close(self) -> None:
        """Close the connections."""


class Waiter(Protocol):
    """Waits for many workers at once: objects that have a ``channel`` and a ``process``."""

    def add(self, worker: Any) -> None:
        """Wait for a worker, too."""

    def remove(self, worker: Any) -> None:
        """Wait for a worker no longer. To be called before its channel is closed."""

    def wait(self, timeout: float | None) -> tuple[list[Any], list[Any]]:
        """Wait for events of workers, ``timeout`` seconds at most; None means without limit.

        Sends meanwhile what could not be sent before.

        Returns:
            The workers that may have sent something, and those of them whose processes are known to have ended.
        """

    def wake(self) -> None:
        """End a wait; other threads may call this, also while the waiter is being closed."""

    def close(self) -> None:
        """Release what the waiter has opened."""


class Memory(Protocol):
    """Creates segments for large values, and maps those of other processes.

    Attributes:
        max_segments: maximum number of segments that this process should hold.
    """

    max_segments: int

    def write(self, data: bytes, views: Sequence[memoryview]) -> tuple[int, Layout]:
        """Write a pickle and its buffers into a new segment; return its handle and layout.

        Raises:
            OSError: there is too little memory, or this process cannot open more files.
        """

    def map(self, handle: int, size: int) -> memoryview:
        """Return the bytes of a segment: a private mapping, or a copy.

        Raises:
            OSError: this process cannot open more files.
        """

    def release(self, handle: int) -> None:
        """Give up a segment; values that were read from it remain valid."""

    def forget(self, handle: int) -> None:
        """In a worker: give up a segment that the calling process has sent."""


class Endpoint(Protocol):
    """The worker's end of the connections to the calling process.

    Attributes:
        memory: creates segments for results, and maps those of arguments.
    """

    memory: Memory

    def receive(self) -> tuple[int, memoryview, list[int]]:
        """Wait for a frame; return its kind, its payload and the handles that were sent with it.

        Raises:
            EOFError: the calling process asks this one to exit, or no run has begun within the idle timeout.
        """

    def set_idle_timeout(self, seconds: float | None) -> None:
        """Set how long :meth:`receive` waits; None means without limit."""

    def next_ticket(self) -> int | None:
        """Take the next ticket, and return it; None if there is none.

        Raises:
            EOFError: the calling process has closed the connection.
        """

    def remaining_tickets(self) -> list[int]:
        """Take all tickets, and return them."""

    def write(self, data: bytes) -> None:
        """Send frames. Must not be called by two threads at once."""

    def write_handle(self, ticket: int, handle: int) -> None:
        """Send the handle of the segment that contains the result of a call, before its frame.

        Raises:
            OSError: it cannot be sent.
        """

    def ask(self, ticket: int, request: bytes, send: Callable[[bytes], None]) -> socket.socket:
        """Send a request about a call; return the connection on which the answer comes. Any thread may call this.

        Args:
            ticket: number of the call.
            request: the request.
            send: sends a frame.

        Raises:
            OSError: there is no such connection.
        """

    def detach(self) -> None:
        """In a process forked by a task: give up the connections, which are those of the worker."""
