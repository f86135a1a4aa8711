"""Class `BatchPolicy`: how many calls a worker is given ahead of the one that it executes."""

from __future__ import annotations

SECONDS_AHEAD = 2e-3
"""Seconds of work that a worker is given ahead."""
MAX_FIRST_BATCH = 64
"""Maximum number of calls that an idle worker is given at once, and any worker as long as no duration is known."""
SEND_AHEAD_BELOW = 5e-3
"""Seconds per task up to which a worker is given the next call ahead: a worker waits up to a tenth of this time for a
call."""
SORT_FROM = 1e-3
"""Seconds per task from which tasks start in order of their critical path."""
STALL_AFTER = 1e-3
"""Seconds that a worker may spend on one task before the calls that it was given ahead go to idle workers."""
CHEAP_TASK = 1.5e-6
"""Seconds per task up to which a task is cheap: executing it takes no longer than sending its call and receiving its
outcome, and waking another worker takes longer."""
CHEAP_TASK_TOLERANCE = 10 * CHEAP_TASK
"""Seconds per task up to which hot mode continues: a busy machine interrupts a worker for a millisecond at times."""
CHEAP_STREAK = 100
"""Number of consecutive cheap tasks that start hot mode."""
MIN_CALLS_FOR_NAP = 64
"""Number of calls that the hot worker must hold for this process to sleep instead of waiting for each outcome."""
NAP_PER_CALL = 0.5e-6
"""Seconds of that sleep per call: less than the worker needs."""


class BatchPolicy:
    """Decides how many calls a worker is given ahead, from the durations of the tasks so far. It does no I/O.

    The shorter the tasks, the more of them a worker is given ahead, so that it does not wait for each. While tasks are
    cheap, the policy is in *hot mode*: one worker is given all of them, because waking another costs more than the
    tasks.

    Args:
        is_recorded: whether the run is recorded. Then workers are given one call at a time, so that a crash loses no
            calls that workers have made ahead.

    Attributes:
        seconds_per_task: moving average of the durations of tasks; None as long as none has ended.
        is_hot: whether hot mode is on.
    """

    def __init__(self, *, is_recorded: bool = False) -> None:
        self.seconds_per_task: float | None = None
        self.is_hot = False
        self._is_recorded = is_recorded
        self._cheap_streak = 0

    def observe(self, tasks: int, seconds: float) -> None:
        """Take the durations of tasks that a worker has ended into account.

        Args:
            tasks: number of tasks, at least 1.
            seconds: sum of their durations.
        """
        latest, average = seconds / tasks, self.seconds_per_task
        self.seconds_per_task = latest if average is None else (average + latest) / 2
        is_cheap = latest <= (CHEAP_TASK_TOLERANCE if self.is_hot else CHEAP_TASK)
        self._cheap_streak = self._cheap_streak + tasks if is_cheap else 0
        self.is_hot = self._cheap_streak >= CHEAP_STREAK

    def observe_stall(self) -> None:
        """Take into account that a worker has spent a long time on one task while it held others."""
        self.seconds_per_task = max(self.seconds_per_task or 0.0, SEND_AHEAD_BELOW)

    def cool_down(self) -> None:
        """Leave hot mode, until the next cheap task."""
        self.is_hot = False

    @property
    def tasks_are_long(self) -> bool:
        """Whether tasks take long enough for their order to matter."""
        return self.seconds_per_task is not None and self.seconds_per_task > SORT_FROM

    def depth(self) -> int:
        """Return how many calls a worker may hold, the running one included."""
        seconds = self.seconds_per_task
        if self._is_recorded:
            return 1
        if seconds is None:
            return MAX_FIRST_BATCH
        return max(2 if seconds < SEND_AHEAD_BELOW else 1, int(SECONDS_AHEAD / max(seconds, 1e-6)))

    def batch_size(self, held: int, depth: int) -> int:
        """Return how many more calls a worker is given.

        Args:
            held: how many it holds. One that holds none is given a single call as long as no duration is known, so that
                the first tasks are spread over all workers.
            depth: how many it may hold.
        """
        if held:
            return max(1, depth - held)
        return 1 if self.seconds_per_task is None else max(1, min(depth, MAX_FIRST_BATCH))

    def stall_timeout(self, *, all_are_busy: bool) -> float:
        """Return how many seconds a worker may spend on one task before the calls that it was given ahead move.

        Args:
            all_are_busy: whether no other worker is idle or can be started.
        """
        if self.is_hot:  # other workers are kept idle on purpose
            return 3 * STALL_AFTER
        return STALL_AFTER + (4 * min(self.seconds_per_task or 0.0, SEND_AHEAD_BELOW) if all_are_busy else 0.0)

    def nap(self, held: int) -> float:
        """Return how many seconds to sleep before reading outcomes, while the hot worker holds `held` calls."""
        return held * NAP_PER_CALL if held >= MIN_CALLS_FOR_NAP else 0.0
