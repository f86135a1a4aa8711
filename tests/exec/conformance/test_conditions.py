"""Conditions and skips, on every executor."""

from __future__ import annotations

import conformance_tasks as p
import pytest
from conformance_checks import copies, fresh

from flowkit_core import (
    DAG,
)


def test_condition_gets_the_arguments_of_its_task(executor):
    start, large, small, end = fresh(p.one, p.large, p.small, p.collect)
    start >> [large, small] >> end
    results = DAG("conditions", tasks=[end]).run(executor)
    assert results == {"one": 1, "small": "small 1", "collect": ("small 1",)}
    assert results.skipped == {"large": "its condition was false"}
    assert results.states == {"one": "succeeded", "large": "skipped", "small": "succeeded", "collect": "succeeded"}


def test_default_replaces_the_result_of_a_skipped_upstream(executor):
    first, never, end = fresh(p.one, p.never, p.with_defaults)
    [never, first] >> end
    assert DAG("defaults", tasks=[end]).run(executor) == {"one": 1, "with_defaults": ("a?", 1, "c?")}


def test_skip_propagates_to_tasks_that_need_the_result(executor):
    never, middle, end = [*fresh(p.never), *copies(p.add_one, "middle", "end")]
    never >> middle >> end
    results = DAG("skips", tasks=[end]).run(executor)
    assert results == {}
    assert set(results.states.values()) == {"skipped"}
    assert '"middle"' in results.skipped["end"]


def test_exception_in_a_condition_fails_the_task(executor):
    with pytest.raises(ZeroDivisionError) as caught:
        DAG("conditions", tasks=fresh(p.bad_condition)).run(executor)
    assert caught.value.flowkit_results.states == {"bad_condition": "failed"}
