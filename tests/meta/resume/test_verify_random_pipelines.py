"""Random pipelines of mapped, async and plain tasks can be resumed after a crash at each record, and after failures."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_tasks import facts, plans

from flowkit import DAG, StateManager, Task
from flowkit.testing import VirtualTimeExecutor, verify_resume

pytestmark = pytest.mark.filterwarnings("ignore:.*needs the result of:RuntimeWarning")  # random triggers
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


@pytest.mark.sampled(3)
@pytest.mark.parametrize("executor", list(EXECUTORS))
def test_resumed_random_pipeline_ends_like_one_that_was_never_recorded(executor):
    """Also if tasks and elements have failed, under each failure policy, and in a run that fails again."""

    @settings(max_examples=40, deadline=None)
    @given(plan=plans(most=6, sizes=(0, 1, 3, 12)), fail_fast=st.booleans())
    def compare(plan, fail_fast):
        options = {"params": plan.params, "raise_on_failure": False}
        expected = outcome(plan.pipeline().run("serial", fail_fast=False, **options))
        pipeline = plan.pipeline()
        with StateManager(serializer="pickle") as state:
            first = pipeline.run(EXECUTORS[executor], state=state, fail_fast=fail_fast, **options)
            second = pipeline.run(EXECUTORS[executor], state=state, resume=True, fail_fast=False, **options)
        assert outcome(second) == expected
        assert set(second.resumed) <= {
            name for name, state in first.states.items() if state in ("succeeded", "skipped")
        }

    compare()


def outcome(results):
    """Return what a resumed run has in common with one that is not resumed: all but the number of attempts."""
    found = facts(results)
    del found["attempts"]
    return found | {"elements": {name: (each[0], *each[2:]) for name, each in found["elements"].items()}}


def test_map_over_a_task_that_was_cancelled_runs_in_the_resumed_run():
    attempts = []

    def fail_once():
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("once")

    first, source = Task(fail_once), Task(lambda: [1, 2], name="source", priority=-1)
    work = Task(lambda number=0: number, name="work", trigger="all_done")
    source >> work.map("number")
    dag = DAG("cancelled", tasks=[first, work])
    with StateManager() as state:
        states = dag.run("serial", state=state, raise_on_failure=False).states
        assert states == {"fail_once": "failed", "source": "cancelled", "work": "cancelled"}
        assert dag.run("serial", state=state, resume=True)["work"] == [1, 2]
