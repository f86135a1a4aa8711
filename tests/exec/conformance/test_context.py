"""Context variables of tasks that run in the calling process."""

from __future__ import annotations

import itertools

import conformance_tasks as p

from flowkit_core import (
    DAG,
    Task,
)


def test_context_variables_of_the_caller_are_visible(local_executor):
    token = p.setting.set("of the caller")
    try:
        tasks = [Task(p.setting.get, name=f"task_{number}") for number in range(20)]
        assert set(DAG("context", tasks=tasks).run(local_executor).values()) == {"of the caller"}
    finally:
        p.setting.reset(token)


def test_context_changes_of_a_task_are_not_visible_to_others(local_executor):
    def change(*_):
        before = p.setting.get()
        p.setting.set("changed")
        return before

    tasks = [Task(change, name=f"task_{number}") for number in range(20)]
    for before, following in itertools.pairwise(tasks[:10]):
        before >> following
    assert set(DAG("context", tasks=tasks).run(local_executor).values()) == {"unset"}
    assert p.setting.get() == "unset"
