"""Retries, on every executor."""

from __future__ import annotations

import functools

import conformance_tasks as p
import faulty_tasks as faults
import pytest
from conformance_checks import SECONDS, copies, fresh, notes

from flowkit_core import (
    DAG,
    Task,
    TaskRetrying,
)


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_task_is_retried_until_it_succeeds(executor, tmp_path, failures):
    path = tmp_path / "tries"
    results = DAG("retries", tasks=copies(p.flaky, "flaky", retries=3, delay=0)).run(
        executor, params={"path": str(path), "failures": failures}
    )
    assert results == {"flaky": failures + 1}
    assert path.stat().st_size == failures + 1


def test_last_error_is_raised_when_retries_are_used_up(executor, tmp_path):
    path = tmp_path / "tries"
    with pytest.raises(p.OwnError, match="failure 3") as caught:
        DAG("retries", tasks=copies(p.flaky, "flaky", retries=2, delay=0)).run(
            executor, params={"path": str(path), "failures": 9}
        )
    assert path.stat().st_size == 3
    assert "task 'flaky' of 'retries' failed after 3 attempts" in notes(caught.value)


def test_delayed_retry_does_not_delay_other_tasks(executor, tmp_path):
    (flaky,), (start, middle, broken) = (
        copies(p.flaky, "flaky", retries=1, delay=SECONDS),
        fresh(p.one, p.add_one, p.fail),
    )
    start >> middle >> broken
    with pytest.raises(p.OwnError, match="boom") as caught:
        DAG("retries", tasks=[flaky, broken]).run(executor, params={"path": str(tmp_path / "tries"), "failures": 1})
    assert caught.value.flowkit_results == {"one": 1, "add_one": 2}
    assert caught.value.flowkit_results.states["flaky"] in ("cancelled", "failed")


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
