"""Durations and delays do not depend on the wall clock, which may be set during a run."""

from __future__ import annotations

import time

import pytest
from durable_tasks import RESULTS, diamond

from flowkit import RunFinished, TaskRetrying, TaskStarted, TaskSucceeded


@pytest.mark.parametrize("jump", [10.0**9, -(10.0**9)])
def test_wall_clock_that_jumps_changes_neither_durations_nor_delays(box, executor, monkeypatch, jump):
    shift, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    monkeypatch.setattr(time, "time_ns", lambda: int((real() + shift[0]) * 1e9))
    events = []

    def observer(event):
        events.append((event, time.perf_counter()))
        shift[0] += jump if len(events) % 3 else -2 * jump
        if isinstance(event, TaskRetrying):
            box.repair("extract")

    box.inject("extract", "fail")
    pipeline = diamond(retries=1, delay=0.02, backoff=1, jitter=0)
    began = time.perf_counter()
    results = pipeline.run(executor, params=box.params, observers=[observer])
    spent = time.perf_counter() - began
    assert results == RESULTS
    (failed,) = [at for event, at in events if isinstance(event, TaskRetrying)]
    again = next(at for event, at in events if isinstance(event, TaskStarted) and at > failed)
    assert again - failed >= 0.02
    durations = [event.duration for event, _ in events if isinstance(event, (TaskSucceeded, RunFinished))]
    assert len(durations) == 5
    assert all(0 <= seconds <= spent for seconds in (*durations, *results.durations.values()))
