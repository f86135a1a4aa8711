"""Class `AsyncCaller`: the coroutine that waits for a run in ``arun()``, and its cancellation."""

from __future__ import annotations

from _thread import allocate_lock

from flowkit_core._typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable


class Cancellable(Protocol):
    """What the caller uses of a session."""

    def check_caller(self) -> None:
        """Check how often the caller was cancelled; called from any thread, and returns at once."""


class AsyncCaller:
    """The coroutine that waits for a run. The run itself is driven by another thread.

    Args:
        loop: the event loop of the coroutine, which runs the async tasks of the run.

    Attributes:
        loop: see above.
        cancellations: how often the coroutine was cancelled.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.cancellations = 0
        self._lock = allocate_lock()
        self._session: Cancellable | None = None
        self._waiting: set[Callable[[], None]] = set()  # functions that cancel the coroutines that threads wait for

    def attach(self, session: Cancellable | None) -> None:
        """Set the session of the run, from when it can be cancelled; None when it is over."""
        with self._lock:
            self._session = session
            is_late = session is not None and self.cancellations > 0
        if is_late and session is not None:
            session.check_caller()

    def cancel(self) -> None:
        """Stop the run; the second time, end it at once. Does not block."""
        with self._lock:
            self.cancellations += 1
            session, waiting = self._session, [*self._waiting]
        for cancel in waiting:
            cancel()
        if session is not None:
            session.check_caller()

    def add_waiting(self, cancel: Callable[[], None]) -> int:
        """Register a function that cancels a coroutine, which is called when the run is cancelled.

        Returns:
            The number of cancellations so far.
        """
        with self._lock:
            self._waiting.add(cancel)
            return self.cancellations

    def remove_waiting(self, cancel: Callable[[], None]) -> None:
        """Unregister such a function, because its coroutine has ended."""
        with self._lock:
            self._waiting.discard(cancel)
