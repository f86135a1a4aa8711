"""Class `VirtualClock`: a clock that jumps from one scheduled action to the next."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_IDLE_WAITS = 1000


class StuckError(Exception):
    """Nothing is scheduled, and the run has not ended: with a real executor, it would never end."""


class Action:
    """A scheduled action.

    Attributes:
        run: what to call; None after the action was cancelled.
    """

    __slots__ = ("run",)

    def __init__(self, run: Callable[[], None]) -> None:
        self.run: Callable[[], None] | None = run

    def cancel(self) -> None:
        """Do not run the action."""
        self.run = None


class VirtualClock:
    """The clock of a simulated session. Waiting takes no time: it runs the next scheduled action.

    Args:
        random: returns numbers in [0, 1), which decide the order of simultaneous actions.

    Examples:
        >>> from random import Random
        >>> clock = VirtualClock(Random(1).random)
        >>> _ = clock.schedule(5.0, lambda: print("five seconds later"))
        >>> clock.wait()
        five seconds later
        >>> clock.now()
        5.0
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._now = 0.0
        self._is_set = False
        self._idle_waits = 0
        self._order = count()
        self._heap: list[tuple[float, float, int, Action]] = []

    def now(self) -> float:
        """Return the current time in seconds."""
        return self._now

    def set(self) -> None:
        """End the next wait at once."""
        self._is_set = True

    def wait(self, timeout: float | None = None) -> None:
        """Run the next action, if it is scheduled within ``timeout`` seconds; else advance by ``timeout``.

        Raises:
            StuckError: there is no action, and no timeout; or the timeout was 0 a thousand times.
        """
        if self._is_set:
            self._is_set = False
            return
        until = None if timeout is None else self._now + timeout
        if self._step(until):
            self._idle_waits = 0
            return
        self._idle_waits = self._idle_waits + 1 if until == self._now else 0
        if until is None or self._idle_waits > _MAX_IDLE_WAITS:
            raise StuckError
        self._now = until

    def schedule(self, seconds: float, run: Callable[[], None]) -> Action:
        """Schedule an action.

        Args:
            seconds: when, from now.
            run: what to call.
        """
        action = Action(run)
        heappush(self._heap, (self._now + seconds, self._random(), next(self._order), action))
        return action

    def run_until(self, until: float | None = None) -> None:
        """Run all actions that are scheduled until a time; None means all."""
        while self._step(until):
            pass

    def _step(self, until: float | None) -> bool:
        """Run the next action until a time; return whether there was one."""
        while self._heap and (until is None or self._heap[0][0] <= until):
            time, _, _, action = heappop(self._heap)
            if action.run is None:
                continue
            self._now = max(self._now, time)
            action.run()
            return True
        return False
