"""Retries, conditions, skips and triggers in resumed runs."""

from __future__ import annotations

from collections import Counter

import pytest
from durable_tasks import RESULTS, Box, diamond, record_execution, step

from flowkit import DAG, Skip, StateManager, Task, task


def test_failed_task_has_all_attempts_again_on_resume(box):
    a, b = box.task("a"), box.task("b", retries=2, delay=0)
    a >> b
    pipeline = DAG("retries", tasks=[b])
    box.inject("b", "fail")
    for _ in range(2):
        assert box.failing_run(pipeline, resume=True).attempts["b"] == 3
    assert Counter(box.ran) == {"a": 1, "b": 6}
    box.repair("b")
    results = pipeline.run("serial", state=box.db, resume=True)
    assert results == {"a": "a", "b": "b(a)"}
    assert results.attempts["b"] == 1


def test_task_that_succeeds_after_retry_is_recorded_as_succeeded(box):
    folder = box.folder

    def flaky():
        step(folder, "flaky", None)
        if Box(folder).ran.count("flaky") < 3:
            raise ValueError("not yet")
        return 1

    pipeline = DAG("flaky", tasks=[Task(flaky, retries=5, delay=0)])
    assert pipeline.run("serial", state=box.db) == {"flaky": 1}
    record = box.records()[0].tasks["flaky"]
    assert (record.state, len(record.attempts), record.error) == ("succeeded", 3, None)


def test_skipped_task_stays_skipped_on_resume(box):
    """Its condition is not evaluated again, and skips of downstream tasks are kept."""
    folder = box.folder

    def condition():
        record_execution(folder, "condition")
        return False

    def dependent(optional):
        return step(folder, "dependent", optional)

    def lenient(optional="none", last="none"):
        return step(folder, "lenient", (optional, last))

    optional, last = box.task("optional", when=condition), box.task("last")
    needs, does_without = Task(dependent), Task(lenient)
    optional >> [needs, does_without]
    last >> does_without
    pipeline = DAG("skips", tasks=[needs, does_without])
    box.inject("last", "fail")
    first = box.failing_run(pipeline, fail_fast=False)
    assert first.skipped.keys() == {"optional", "dependent"}
    box.repair("last")
    results = pipeline.run("serial", state=box.db, resume=True)
    assert results == {"last": "last", "lenient": ("none", "last")}
    assert results.skipped == first.skipped
    assert results.states == {
        "optional": "skipped",
        "last": "succeeded",
        "dependent": "skipped",
        "lenient": "succeeded",
    }
    assert Counter(box.ran) == {"condition": 1, "last": 2, "lenient": 1}


def test_condition_of_task_that_did_not_run_is_evaluated_on_resume(box):
    folder = box.folder

    def condition(a):
        record_execution(folder, f"condition of {a}")
        return True

    a, b = box.task("a"), box.task("b", when=condition)
    a >> b
    box.inject("a", "fail")
    box.failing_run(DAG("when", tasks=[b]))
    box.repair("a")
    DAG("when", tasks=[b]).run("serial", state=box.db, resume=True)
    assert box.ran == ["a", "a", "condition of a", "b"]


def test_cleanup_task_that_succeeded_does_not_run_again(box):
    work, tidy = box.task("work"), box.task("tidy", trigger="all_done")
    work >> tidy
    pipeline = DAG("cleanup", tasks=[tidy])
    box.inject("work", "fail")
    assert box.failing_run(pipeline).states == {"work": "failed", "tidy": "succeeded"}
    box.repair("work")
    results = pipeline.run("serial", state=box.db, resume=True)
    assert results == {"work": "work", "tidy": "tidy"}
    assert Counter(box.ran) == {"work": 2, "tidy": 1}


def test_cleanup_task_that_failed_runs_again(box):
    work, tidy = box.task("work"), box.task("tidy", trigger="all_done")
    work >> tidy
    pipeline = DAG("cleanup", tasks=[tidy])
    box.inject("work", "fail")
    box.inject("tidy", "fail")
    box.failing_run(pipeline)
    box.repair("tidy")
    box.failing_run(pipeline, resume=True)
    box.repair("work")
    results = pipeline.run("serial", state=box.db, resume=True)
    assert results == {"work": "work", "tidy": "tidy"}
    assert Counter(box.ran) == {"work": 3, "tidy": 2}


def test_one_failed_trigger_that_succeeded_does_not_run_again(box):
    work, alarm = box.task("work"), box.task("alarm", trigger="one_failed")
    work >> alarm
    pipeline = DAG("alarm", tasks=[alarm])
    box.inject("work", "fail")
    assert box.failing_run(pipeline).states == {"work": "failed", "alarm": "succeeded"}
    assert box.failing_run(pipeline, resume=True).states == {"work": "failed", "alarm": "succeeded"}
    assert Counter(box.ran) == {"work": 2, "alarm": 1}
    box.repair("work")
    assert pipeline.run("serial", state=box.db, resume=True).states["work"] == "succeeded"
    assert Counter(box.ran) == {"work": 3, "alarm": 1}


def test_one_failed_trigger_that_was_skipped_stays_skipped(box):
    work, alarm, last = box.task("work"), box.task("alarm", trigger="one_failed"), box.task("last")
    work >> [alarm, last]
    pipeline = DAG("alarm", tasks=[alarm, last])
    box.inject("last", "fail")
    assert box.failing_run(pipeline, fail_fast=False).states["alarm"] == "skipped"
    box.repair("last")
    results = pipeline.run("serial", state=box.db, resume=True)
    assert results.states == {"work": "succeeded", "alarm": "skipped", "last": "succeeded"}
    assert box.ran == ["work", "last", "last"]


@pytest.mark.parametrize("trigger", ["one_success", "all_success", "none_failed", "all_done", "one_failed"])
def test_trigger_evaluates_recorded_states_of_upstreams(box, trigger):
    good, skipped = box.task("good"), box.task("skipped", when=lambda: False)
    target, gate = box.task("target", trigger=trigger), box.task("gate")
    [good, skipped, gate] >> target
    pipeline = DAG("triggers", tasks=[target])
    undisturbed = pipeline.run("serial")
    box.inject("gate", "interrupt")
    with pytest.raises(KeyboardInterrupt):
        pipeline.run("serial", state=box.db)
    box.repair("gate")
    before = len(box.ran)
    results = pipeline.run("serial", state=box.db, resume=True)
    assert (results, results.states) == (undisturbed, undisturbed.states)
    assert box.ran[before:] == (["gate", "target"] if "target" in results else ["gate"])


def test_independent_branch_that_succeeded_does_not_run_again(box, executor):
    box.inject("double", "fail")
    with pytest.raises(ExceptionGroup):
        diamond().run(executor, state=box.db, params=box.params, fail_fast=False)
    box.repair("double")
    results = diamond().run(executor, state=box.db, params=box.params, fail_fast=False, resume=True)
    assert results == RESULTS
    assert set(results.resumed) == {"extract", "count"}
    assert Counter(box.ran) == {"extract": 1, "count": 1, "double": 2, "report": 1}


def test_raised_skip_is_taken_over_and_not_cached(tmp_path):
    calls = []

    @task(cache=True)
    def load():
        calls.append("load")
        raise Skip("no new files")

    @task
    def report(load=0):
        calls.append("report")
        if calls.count("report") == 1:
            raise ValueError("no server")
        return load

    load >> report
    dag = DAG("nightly", tasks=[report])
    with StateManager(tmp_path / "runs.db") as state:
        with pytest.raises(ValueError, match="no server"):
            dag.run("serial", state=state)
        results = dag.run("serial", state=state, resume=True)
        assert (results, results.skipped, results.resumed) == ({"report": 0}, {"load": "no new files"}, ("load",))
        record = state.run(results.run_id).tasks["load"]
        assert (record.state, record.reason) == ("skipped", "no new files")
        assert calls == ["load", "report", "report"]
        assert dag.run("serial", state=state).skipped == {"load": "no new files"}
        assert calls[3:] == ["load", "report"]
