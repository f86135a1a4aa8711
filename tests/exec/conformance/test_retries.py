"""Retries, on every executor."""

from __future__ import annotations

import functools

import conformance_tasks as p
import faulty_tasks as faults
from conformance_checks import SECONDS, copies, notes

from flowkit_core import (
    DAG,
    Task,
    TaskRetrying,
)


def test_task_waiting_for_a_retry_fails_when_the_run_stops(executor, tmp_path):
    retrying = tmp_path / "retrying"

    def observe(event):
        if isinstance(event, TaskRetrying):
            retrying.write_text(".")

    (flaky,) = copies(p.flaky, "flaky", retries=2, delay=SECONDS)
    broken = Task(functools.partial(faults.fail_when, started=str(retrying)), name="broken")
    results = DAG("retries", tasks=[flaky, broken]).run(
        executor,
        params={"path": str(tmp_path / "tries"), "failures": 1},
        raise_on_failure=False,
        observers=[observe],
    )
    assert results.states == {"flaky": "failed", "broken": "failed"}
    assert (type(results.failed["flaky"]), results.attempts["flaky"]) == (p.OwnError, 1)
    assert "task 'flaky' of 'retries' failed on attempt 1 of 3 too: OwnError" in notes(results.failed["broken"])
