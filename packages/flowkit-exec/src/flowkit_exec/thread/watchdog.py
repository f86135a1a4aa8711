"""Class `PollInterval`: how long the watchdog thread sleeps between two looks at the ready queue."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flowkit_core import Node

POLL_INTERVAL = 200e-6
"""Seconds of the shortest interval."""
MAX_POLL_INTERVAL = 5e-3
"""Seconds of the longest interval after activity."""
IDLE_BACKOFF = 1 / 32
"""Share of the time without activity that an interval takes, so a task starts late by that share at most."""
MAX_IDLE_INTERVAL = 0.25
"""Seconds of the longest interval."""


class PollInterval:
    """How long the watchdog sleeps until it looks at the ready queue again. It does not read the clock.

    The interval begins short and doubles up to `MAX_POLL_INTERVAL`, as long as nothing happens; it is longer from the
    start if no worker had to be added for a long time.

    Args:
        head: the first node of the queue, or None.
        activity: a counter that grows with each event after which nodes may become ready.
        now: the time, in seconds.

    Attributes:
        seconds: the interval.
        head: the first node of the queue when the watchdog last looked.
        activity: the counter at that time.
    """

    __slots__ = ("_active_at", "_added_at", "activity", "head", "seconds")

    def __init__(self, head: Node | None, activity: int, now: float) -> None:
        self.seconds = POLL_INTERVAL
        self.head = head
        self.activity = activity
        self._added_at = self._active_at = now

    def update(self, head: Node | None, activity: int, now: float, *, has_added: bool) -> None:
        """Choose the next interval.

        Args:
            head: as for the class.
            activity: as for the class.
            now: as for the class.
            has_added: whether workers were added.
        """
        if has_added:
            self._added_at = now
        if head is not self.head or activity != self.activity:
            self.seconds = max(POLL_INTERVAL, (now - self._added_at) * IDLE_BACKOFF)
            self.activity = activity
            self._active_at = now
        else:
            self.seconds *= 2
        self.seconds = min(self.seconds, MAX_POLL_INTERVAL)
        self.head = head

    def idle_seconds(self, now: float) -> float:
        """Return the interval for a queue that is empty and stays so until there is activity."""
        return min((now - self._active_at) * IDLE_BACKOFF, MAX_IDLE_INTERVAL)
