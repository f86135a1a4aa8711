"""Random graphs have the same results on every executor."""

from __future__ import annotations

import conformance_tasks as p
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowkit_core import (
    DAG,
    Task,
    TaskStarted,
)

CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@st.composite
def shapes(draw):
    """Return the upstreams of each node, as positions of earlier nodes."""
    count = draw(st.integers(1, 12))
    return [draw(st.lists(st.sampled_from(range(n)), unique=True, max_size=4)) if n else [] for n in range(count)]


@settings(max_examples=20, suppress_health_check=CHECKS)
@given(shape=shapes())
def test_random_graph_has_the_results_of_sequential_evaluation(executor, shape):
    tasks = [Task(p.node, name=f"n{number}") for number in range(len(shape))]
    expected = {}
    for number, upstream in enumerate(shape):
        [tasks[source] for source in upstream] >> tasks[number]
        expected[f"n{number}"] = p.node(*(expected[f"n{source}"] for source in upstream))
    assert DAG("random", tasks=tasks).run(executor) == expected


@settings(max_examples=20, suppress_health_check=CHECKS)
@given(shape=shapes(), data=st.data())
def test_task_runs_in_a_random_graph_if_no_upstream_failed(executor, shape, data):
    broken = data.draw(st.sets(st.sampled_from(range(len(shape))), max_size=2))
    tasks = [
        p.fail.with_options(name=f"n{number}") if number in broken else Task(p.node, name=f"n{number}")
        for number in range(len(shape))
    ]
    expected, seen = {}, []
    for number, upstream in enumerate(shape):
        if number not in broken:
            [tasks[source] for source in upstream] >> tasks[number]
        below = number not in broken and any(expected[f"n{source}"] != "succeeded" for source in upstream)
        expected[f"n{number}"] = "failed" if number in broken else "upstream_failed" if below else "succeeded"
    results = DAG("random", tasks=tasks).run(executor, fail_fast=False, raise_on_failure=False, observers=[seen.append])
    assert {name: results.states[name] for name in expected} == expected
    assert set(results) == {name for name, state in expected.items() if state == "succeeded"}
    ended = set()
    for event in seen[1:-1]:
        assert event.task not in ended
        if isinstance(event, TaskStarted):
            assert expected[event.task] != "upstream_failed"
            number = int(event.task[1:])
            assert number in broken or {f"n{source}" for source in shape[number]} <= ended
        else:
            ended.add(event.task)
    assert ended == set(expected)
