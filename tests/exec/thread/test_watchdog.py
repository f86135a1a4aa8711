"""How long the watchdog of a threaded run sleeps between two looks at the ready queue."""

from __future__ import annotations

import pytest

from flowkit_exec.thread.watchdog import (
    IDLE_BACKOFF,
    MAX_IDLE_INTERVAL,
    MAX_POLL_INTERVAL,
    POLL_INTERVAL,
    PollInterval,
)

HEAD, NEXT = object(), object()


def test_interval_doubles_up_to_a_maximum_while_nothing_happens():
    interval = PollInterval(HEAD, 0, now=0.0)
    found = [interval.seconds]
    for _ in range(10):
        interval.update(HEAD, 0, now=0.0, has_added=False)
        found.append(interval.seconds)
    assert found[:4] == [POLL_INTERVAL, 2 * POLL_INTERVAL, 4 * POLL_INTERVAL, 8 * POLL_INTERVAL]
    assert found[-1] == MAX_POLL_INTERVAL


@pytest.mark.parametrize(("head", "activity"), [(NEXT, 0), (HEAD, 1), (None, 0)])
def test_interval_is_short_after_activity(head, activity):
    interval = PollInterval(HEAD, 0, now=0.0)
    interval.update(HEAD, 0, now=0.0, has_added=False)
    interval.update(head, activity, now=0.0, has_added=False)
    assert interval.seconds == POLL_INTERVAL


@pytest.mark.parametrize(("has_added", "seconds"), [(True, POLL_INTERVAL), (False, 0.1 * IDLE_BACKOFF)])
def test_interval_is_longer_if_no_worker_was_added_for_long(has_added, seconds):
    interval = PollInterval(HEAD, 0, now=0.0)
    interval.update(NEXT, 1, now=0.1, has_added=has_added)
    assert interval.seconds == pytest.approx(seconds)


@pytest.mark.parametrize(("now", "seconds"), [(0.0, 0.0), (1.0, IDLE_BACKOFF), (100.0, MAX_IDLE_INTERVAL)])
def test_idle_interval_is_a_share_of_the_time_without_activity(now, seconds):
    assert PollInterval(None, 0, now=0.0).idle_seconds(now) == seconds
