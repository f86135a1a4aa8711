"""Random pipelines of mapped, async and plain tasks can be resumed after a crash at each record."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from random_tasks import plans

from flowkit.testing import VirtualTimeExecutor, verify_resume

EXECUTORS = {"serial": "serial", "thread": "thread", "virtual": VirtualTimeExecutor()}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("executor", list(EXECUTORS))
def test_random_pipeline_can_be_resumed(executor):
    points = 0

    @settings(max_examples=15)
    @given(plan=plans(most=5, sizes=(0, 1, 3)))
    def verify(plan):
        nonlocal points
        results = plan.pipeline().run("serial", params=plan.params, raise_on_failure=False)
        assume(set(results.states.values()) <= {"succeeded", "skipped"})
        pipeline = plan.pipeline()
        points += verify_resume(
            pipeline, params=plan.params, executor=EXECUTORS[executor], serializer="pickle", progress=False
        ).points

    verify()
    assert points > 15
