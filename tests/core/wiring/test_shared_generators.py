"""Warnings of a graph for tasks that share an iterator."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, Task


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
