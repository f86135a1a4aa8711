"""`run(resume=True)` after a failure, an interrupt or a crash."""

from __future__ import annotations

import logging
import pickle
from collections import Counter

import durable_tasks
import pytest
from durable_tasks import CHAIN, RESULTS, diamond, step, task_states

import flowkit
from flowkit import DAG, Flow, ResumeError, RunInUseError, StateError, Task, TaskReused, WorkerDiedError, task


def test_resume_after_failure_runs_only_unfinished_tasks(box, executor):
    box.inject("double", "fail")
    with pytest.raises(ValueError, match="double is broken") as caught:
        diamond().run(executor, state=box.db, params=box.params)
    first = caught.value.flowkit_results
    assert {item.status for item in box.records()} == {"failed"}
    box.repair("double")
    results = diamond().run(executor, state=box.db, params=box.params, resume=True)
    assert results == RESULTS
    assert list(results) == list(RESULTS)
    assert results.run_id == first.run_id
    assert set(results.resumed) == set(first)
    assert results.states == dict.fromkeys(RESULTS, "succeeded")
    assert Counter(box.ran) == {"extract": 1, "double": 2, "count": 1, "report": 1}
    (record,) = box.records()
    assert (record.status, record.resumes) == ("succeeded", 1)
    assert {name: item.result() for name, item in record.tasks.items()} == RESULTS


def test_resume_several_times(box):
    pipeline = box.chain()
    run_ids = set()
    for name in "abc":
        box.inject(name, "fail")
        run_ids.add(box.failing_run(pipeline, resume=True).run_id)
        box.repair(name)
    results = pipeline.run("serial", state=box.db, resume=True)
    assert results == CHAIN
    assert {results.run_id} == run_ids
    assert set(results.resumed) == {"a", "b"}
    assert box.ran == ["a", "a", "b", "b", "c", "c"]
    assert box.records()[0].resumes == 3


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_resume_after_interrupt(box, executor):
    pipeline = box.chain()
    box.inject("b", "interrupt")
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(executor, state=box.db)
    assert box.records()[0].status == "interrupted"
    box.repair("b")
    assert pipeline.run(executor, state=box.db, resume=True) == CHAIN
    assert box.ran == ["a", "b", "b", "c"]


CRASH = """
import sys
from durable_tasks import Box, diamond

box = Box(sys.argv[1])
print(diamond().run(sys.argv[2], state=box.db, params=box.params, resume=True))
"""


@pytest.mark.parametrize("name", ["serial", "thread"])
def test_resume_after_kill_of_process(box, script, name):
    box.inject("report", "die")
    script(CRASH, box.folder, name, code=-9)
    assert sorted(box.ran) == ["count", "double", "extract", "report"]
    (record,) = box.records()
    assert record.status == "interrupted"
    assert task_states(record) == {
        "extract": "succeeded",
        "double": "succeeded",
        "count": "succeeded",
        "report": "pending",
    }
    box.repair("report")
    results = diamond().run(name, state=box.db, params=box.params, resume=True)
    assert results == RESULTS
    assert results.run_id == record.run_id
    assert set(results.resumed) == {"extract", "double", "count"}
    assert Counter(box.ran) == {"extract": 1, "double": 1, "count": 1, "report": 2}


def test_resume_in_other_process_with_other_executor(box, script):
    box.inject("report", "fail")
    box.failing_run(diamond(), params=box.params)
    box.repair("report")
    assert script(CRASH, box.folder, "process") == f"{RESULTS}\n"
    assert Counter(box.ran) == {"extract": 1, "double": 1, "count": 1, "report": 2}


def test_resume_after_worker_death(box):
    box.inject("double", "die")
    with pytest.raises(WorkerDiedError):
        diamond().run("process", state=box.db, params=box.params)
    assert task_states(box.records()[0])["double"] == "failed"
    box.repair("double")
    assert diamond().run("process", state=box.db, params=box.params, resume=True) == RESULTS
    assert Counter(box.ran)["extract"] == 1


def test_killed_resume_leaves_unfinished_tasks_pending(box, script):
    """The state of a task in an earlier part of the run does not count."""
    box.inject("double", "fail")
    first = box.failing_run(diamond(), params=box.params, fail_fast=False)
    assert first.states["report"] == "upstream_failed"
    box.inject("double", "die")
    script(CRASH, box.folder, "serial", code=-9)
    (record,) = box.records()
    assert (record.status, record.resumes) == ("interrupted", 1)
    assert task_states(record) == {
        "extract": "succeeded",
        "double": "pending",
        "count": "succeeded",
        "report": "pending",
    }


def test_resume_from_empty_file_starts_new_run(box):
    results = box.chain().run("serial", state=box.db, resume=True)
    assert results == CHAIN
    assert set(results.resumed) == set()
    assert box.records()[0].resumes == 0


def test_resume_after_finished_run_starts_new_run(box):
    pipeline = box.chain()
    last = box.task("last", when=lambda: False)
    pipeline = DAG("chain", tasks=[*pipeline_tasks(pipeline), last])
    first = pipeline.run("serial", state=box.db, resume=True)
    second = pipeline.run("serial", state=box.db, resume=True)
    assert first == second == CHAIN
    assert first.run_id != second.run_id
    assert set(second.resumed) == set()
    assert box.ran == ["a", "b", "c", "a", "b", "c"]
    assert [record.run_id for record in box.records()] == [second.run_id, first.run_id]


def pipeline_tasks(pipeline):
    return [node.task for node in pipeline.graph().nodes]


def test_run_without_resume_starts_new_run(box):
    pipeline = box.chain()
    box.inject("b", "fail")
    first = box.failing_run(pipeline)
    box.repair("b")
    second = pipeline.run("serial", state=box.db)
    assert first.run_id != second.run_id
    assert box.ran == ["a", "b", "a", "b", "c"]
    assert [record.status for record in box.records()] == ["succeeded", "failed"]
    third = pipeline.run("serial", state=box.db, resume=True)
    assert third.run_id not in (first.run_id, second.run_id), "the last run counts, and it has finished"


def test_resume_continues_last_run(box):
    pipeline = box.chain()
    box.inject("a", "fail")
    box.failing_run(pipeline)
    box.repair("a")
    box.inject("c", "fail")
    last = box.failing_run(pipeline)
    box.repair("c")
    results = pipeline.run("serial", state=box.db, resume=True)
    assert results.run_id == last.run_id
    assert box.ran == ["a", "a", "b", "c", "c"]


def test_resume_selects_runs_by_pipeline_name(box):
    box.inject("report", "fail")
    one = box.failing_run(diamond("one"), params=box.params)
    two = box.failing_run(diamond("two"), params=box.params)
    box.repair("report")
    results = diamond("one").run("serial", state=box.db, params=box.params, resume=True)
    assert results.run_id == one.run_id
    assert {record.run_id: record.status for record in box.records()} == {one.run_id: "succeeded", two.run_id: "failed"}
    three = diamond("three").run("serial", state=box.db, params=box.params, resume=True)
    assert set(three.resumed) == set()


def test_resume_of_flow(box, executor):
    def flow():
        first, left, right, last = map(
            Task, (durable_tasks.extract, durable_tasks.double, durable_tasks.count, durable_tasks.report)
        )
        return Flow("numbers", max_workers=2).add(first).branch(left, right).merge(last)

    box.inject("report", "fail")
    with pytest.raises(ValueError, match="report is broken"):
        flow().run(executor, state=box.db, params=box.params)
    box.repair("report")
    results = flow().run(executor, state=box.db, params=box.params, resume=True)
    assert results == RESULTS
    assert Counter(box.ran) == {"extract": 1, "double": 1, "count": 1, "report": 2}


def test_resume_of_dag_block(box):
    folder = box.folder

    def pipeline():
        with DAG("block") as dag:

            @task
            def first():
                return step(folder, "first", 1)

            @task
            def second(first):
                return step(folder, "second", first + 1)

            first >> second
        return dag

    box.inject("second", "fail")
    box.failing_run(pipeline())
    box.repair("second")
    assert pipeline().run("serial", state=box.db, resume=True) == {"first": 1, "second": 2}
    assert box.ran == ["first", "second", "second"]


def test_resume_of_async_tasks(box):
    folder = box.folder

    @task
    async def first():
        return step(folder, "first", 1)

    @task
    async def second(first):
        return step(folder, "second", first + 1)

    first >> second
    box.inject("second", "fail")
    box.failing_run(DAG("async", tasks=[second]))
    box.repair("second")
    assert DAG("async", tasks=[second]).run("thread", state=box.db, resume=True) == {"first": 1, "second": 2}
    assert box.ran == ["first", "second", "second"]


def test_resume_of_pipeline_without_tasks(box):
    results = DAG("empty", tasks=[]).run("serial", state=box.db, resume=True)
    assert results == {}
    assert [record.status for record in box.records()] in (["succeeded"], [])


def test_failed_run_can_be_resumed_in_same_process(box):
    pipeline = box.chain()
    for what, error in (("fail", ValueError), ("interrupt", KeyboardInterrupt)):
        box.inject("b", what)
        with pytest.raises(error):
            pipeline.run("serial", state=box.db, resume=True)
        box.repair("b")
    assert pipeline.run("serial", state=box.db, resume=True) == CHAIN


def test_failed_resume_has_results_with_states(box):
    pipeline = box.chain()
    box.inject("b", "fail")
    box.failing_run(pipeline)
    with pytest.raises(ValueError, match="b is broken") as caught:
        pipeline.run("serial", state=box.db, resume=True)
    results = caught.value.flowkit_results
    assert results == {"a": "a"}
    assert set(results.resumed) == {"a"}
    assert results.states == {"a": "succeeded", "b": "failed", "c": "upstream_failed"}


def test_results_of_resume_can_be_pickled_and_copied(box):
    pipeline = box.chain()
    box.inject("b", "fail")
    box.failing_run(pipeline)
    box.repair("b")
    results = pipeline.run("serial", state=box.db, resume=True)
    for other in (pickle.loads(pickle.dumps(results)), results.copy()):
        assert other == results
        assert set(other.resumed) == {"a"}
        assert set(other.cached) == set()
        assert other.states == results.states


def test_events_of_resume(box):
    pipeline = box.chain()
    box.inject("b", "fail")
    run_id = box.failing_run(pipeline).run_id
    box.repair("b")
    events = []
    pipeline.run("serial", state=box.db, resume=True, observers=[events.append])
    assert {event.run_id for event in events} == {run_id}
    assert [(type(event).__name__, getattr(event, "task", None)) for event in events] == [
        ("RunStarted", None),
        ("TaskReused", "a"),
        ("TaskStarted", "b"),
        ("TaskSucceeded", "b"),
        ("TaskStarted", "c"),
        ("TaskSucceeded", "c"),
        ("RunFinished", None),
    ]
    assert events[1].source == "resume"
    assert isinstance(events[1], TaskReused)
    assert events[-1].counts == {"succeeded": 3}


def test_observer_of_task_reused_only(box):
    pipeline = box.chain()
    box.inject("c", "fail")
    box.failing_run(pipeline)
    box.repair("c")
    seen = []

    def observer(event):
        seen.append(event.task)

    observer.events = (TaskReused,)
    pipeline.run("thread", state=box.db, resume=True, observers=[observer])
    assert seen == ["a", "b"]


def test_resumed_task_is_logged_as_reused(box, caplog):
    pipeline = box.chain()
    box.inject("b", "fail")
    with pytest.raises(ValueError, match="b is broken"):
        pipeline.run("serial", state=box.db)
    box.repair("b")
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "flowkit"):
        results = pipeline.run("serial", state=box.db, resume=True)
    about = [record for record in caplog.records if getattr(record, "task", None) == "a"]
    assert [record.event for record in about] == ["task_reused"]
    assert {record.run_id for record in about} == {results.run_id}


def test_public_names_of_recorded_runs():
    for name in ("ResumeError", "RunInUseError", "RunRecord", "TaskRecord", "TaskReused", "UnknownRunError"):
        assert name in flowkit.__all__
    assert issubclass(ResumeError, StateError)
    assert issubclass(RunInUseError, StateError)
