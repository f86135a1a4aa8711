"""Events and durations, on every executor."""

from __future__ import annotations

import conformance_tasks as p
from conformance_checks import SECONDS, copies, fresh

from flowkit_core import (
    DAG,
    RunFinished,
    RunStarted,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSucceeded,
)


def test_events_of_a_run_are_the_same_for_every_executor(executor, tmp_path):
    start, large, small, end = fresh(p.one, p.large, p.small, p.collect)
    (flaky,), broken, below, cleaned = copies(p.flaky, "flaky", retries=2, delay=0), *fresh(p.fail, p.after, p.clean_up)
    start >> [large, small] >> end
    broken >> [below, cleaned]
    seen = []
    DAG("story", tasks=[end, flaky, below, cleaned]).run(
        executor,
        params={"path": str(tmp_path / "tries"), "failures": 1},
        fail_fast=False,
        raise_on_failure=False,
        observers=[seen.append],
    )
    assert isinstance(seen[0], RunStarted)
    assert seen[0].tasks == 8
    assert isinstance(seen[-1], RunFinished)
    assert seen[-1].counts == {"succeeded": 5, "failed": 1, "skipped": 1, "upstream_failed": 1}
    stories = {}
    for event in seen[1:-1]:
        stories.setdefault(event.task, []).append(type(event).__name__)
    normal = ["TaskStarted", "TaskSucceeded"]
    assert stories == {
        "one": normal,
        "large": ["TaskNotRun"],
        "small": normal,
        "collect": normal,
        "flaky": ["TaskStarted", "TaskRetrying", *normal],
        "fail": ["TaskStarted", "TaskFailed"],
        "after": ["TaskNotRun"],
        "clean_up": normal,
    }
    order = {(event.task, type(event)): place for place, event in enumerate(seen[1:-1])}
    assert order["one", TaskSucceeded] < order["small", TaskStarted]
    assert order["small", TaskSucceeded] < order["collect", TaskStarted]
    assert order["fail", TaskFailed] < order["clean_up", TaskStarted]
    assert {event.delay for event in seen if isinstance(event, TaskRetrying)} == {0}


def test_durations_contain_the_tasks_that_ran(executor):
    start, large, small = fresh(p.one, p.large, p.small)
    start >> [large, small]
    results = DAG("durations", tasks=[large, small]).run(executor)
    assert set(results.durations) == {"one", "small"}
    assert all(0 <= seconds < SECONDS for seconds in results.durations.values())
