"""States of a task in one run, phases of a run, and the triggers of clean-up tasks."""

from __future__ import annotations

STATES = ("pending", "succeeded", "failed", "skipped", "upstream_failed", "cancelled")
"""Names of the states; the index of a name is the number of the state."""
PENDING, SUCCEEDED, FAILED, SKIPPED, UPSTREAM_FAILED, CANCELLED = range(6)

DONE = (SUCCEEDED, SKIPPED)
"""States that a resumed run takes over from the record."""
NOT_DONE = (FAILED, UPSTREAM_FAILED, CANCELLED)
"""Final states for which the run counts as failed."""

CLEANUP_TRIGGERS = ("all_done", "one_failed", "all_failed")
"""Triggers of tasks that still start after a failure has stopped the run."""

FAILURE_TRIGGERS = ("one_failed", "all_failed")
"""Triggers of tasks that run only after failures."""

HAS_FAILED = (FAILED, UPSTREAM_FAILED)
"""States of an upstream that count as failed for these triggers."""


class Phase:
    """Phases of a run, in order. A run never returns to an earlier phase.

    Attributes:
        RUNNING: ready nodes start.
        STOPPING: only clean-up tasks start, because a task failed or the run could not be recorded.
        CANCELLED: no node starts.
        ABANDONED: every node has its final state, and outcomes that arrive later are ignored.
    """

    RUNNING, STOPPING, CANCELLED, ABANDONED = range(4)
