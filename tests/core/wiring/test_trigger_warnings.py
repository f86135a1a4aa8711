"""Warnings of a graph for tasks that cannot run, or that share an iterator."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, Task


def fails():
    raise OSError("disk full")


def test_alert_that_requires_the_result_of_its_only_upstream_is_a_warning():
    load, alert = Task(fails, name="load"), Task(lambda error: "sent", name="alert", trigger="one_failed")
    load >> alert
    with pytest.warns(RuntimeWarning, match=r"task 'alert' never runs: .*'error' requires .*alert.after\(load\)"):
        results = DAG("d", tasks=[alert]).run("serial", raise_on_failure=False)
    assert results.states == {"load": "failed", "alert": "upstream_failed"}


@pytest.mark.parametrize(
    "func", [lambda: "sent", lambda error=None: "sent", lambda *errors: "sent"], ids=["none", "default", "any"]
)
def test_alert_that_can_run_is_no_warning(func):
    load, alert = Task(fails, name="load"), Task(func, name="alert", trigger="one_failed")
    load >> alert
    assert DAG("d", tasks=[alert]).run("serial", raise_on_failure=False)["alert"] == "sent"


def test_alert_beside_another_upstream_is_no_warning():
    load, rows = Task(fails, name="load"), Task(lambda: [1], name="rows")
    alert = Task(lambda rows: f"{len(rows)} rows are lost", name="alert", trigger="one_failed").after(load)
    rows >> alert
    assert DAG("d", tasks=[alert]).run("serial", raise_on_failure=False, fail_fast=False)["alert"] == "1 rows are lost"


def numbers():
    yield 1
    yield 2


def test_generator_that_two_tasks_take_is_a_warning():
    rows = Task(numbers)
    takers = [Task(lambda rows: list(rows), name=name) for name in ("first", "second")]
    rows >> takers
    with pytest.warns(RuntimeWarning, match="'numbers' returns a generator, which 'first' and 'second' take: .*a list"):
        results = DAG("d", tasks=takers).run("serial")
    assert (results["first"], results["second"]) == ([1, 2], [])


def test_generator_that_one_task_takes_is_no_warning():
    rows, total = Task(numbers), Task(lambda rows: sum(rows), name="total")
    only_after = Task(lambda: "done", name="only_after").after(rows)
    rows >> total
    assert DAG("d", tasks=[total, only_after]).run("serial")["total"] == 3
