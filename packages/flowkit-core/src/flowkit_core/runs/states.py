"""States of a task in one run, as small integers."""

from __future__ import annotations

STATES = ("pending", "succeeded", "failed", "skipped", "upstream_failed", "cancelled")
PENDING, SUCCEEDED, FAILED, SKIPPED, UPSTREAM_FAILED, CANCELLED = range(6)
DONE = (SUCCEEDED, SKIPPED)
BAD = (FAILED, UPSTREAM_FAILED, CANCELLED)
CLEAN_UP = ("all_done", "one_failed")
