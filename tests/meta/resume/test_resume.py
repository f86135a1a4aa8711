"""Runs that are recorded, and continued: what was done is not done again, and what comes out is the same."""

from __future__ import annotations

import collections.abc
import datetime as dt
import decimal
import logging
import os
import pickle
import socket
import threading
import typing
from collections import Counter
from pathlib import Path

import durable_tasks
import pytest
from durable_tasks import (
    CHAIN,
    RESULTS,
    Box,
    Point,
    PointSerializer,
    diamond,
    record_execution,
    step,
    task_states,
    wait_until,
)

import flowkit
from flowkit import (
    DAG,
    Flow,
    ResumeError,
    RunInUseError,
    StateClosedError,
    StateError,
    StateManager,
    Task,
    TaskReused,
    UnsupportedValueError,
    WorkerDiedError,
    task,
)

# Recording


def test_a_run_is_recorded(box, executor):
    results = diamond().run(executor, state=box.db, params=box.params)
    assert results == RESULTS
    (record,) = box.records()
    assert (record.run_id, record.pipeline, record.status) == (results.run_id, "numbers", "succeeded")
    assert task_states(record) == dict.fromkeys(RESULTS, "succeeded")
    with StateManager(box.db) as state:
        assert {name: item.result() for name, item in state.run(results.run_id).tasks.items()} == RESULTS


def test_a_run_without_a_state_leaves_nothing(box, monkeypatch):
    monkeypatch.chdir(box.folder)
    results = diamond().run("serial", params=box.params)
    assert (set(results.resumed), set(results.cached)) == (set(), set())
    assert [path.name for path in Path(box.folder).iterdir()] == ["ran"]


def test_a_task_is_in_the_file_before_what_depends_on_it_starts(box, executor):
    first, second = Task(durable_tasks.extract), Task(durable_tasks.read_record)
    first >> second
    results = DAG("looking", tasks=[second]).run(executor, state=box.db, params=box.params)
    assert results["read_record"] == ["running", "succeeded", [1, 2, 3]]


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_a_task_is_in_the_file_before_its_worker_goes_on(box, executor):
    """Also to a task that has nothing to do with it."""
    folder, db = box.folder, box.db

    def seen():
        with StateManager(db) as state:
            return step(folder, "seen", task_states(state.runs()[0]))

    first, second, third = (Task(seen, name=name) for name in ("first", "second", "third"))
    results = DAG("looking", max_workers=1, tasks=[first, second, third]).run(executor, state=db)
    done = [sum(state == "succeeded" for state in value.values()) for value in results.values()]
    assert sorted(done) == [0, 1, 2]


def test_every_way_to_end_is_recorded(box):
    """With attempts, reasons and errors."""
    box.inject("broken", "fail")
    good = box.task("good")
    broken = box.task("broken", retries=2, delay=0)
    skipped = box.task("skipped", when=lambda: False)
    after = box.task("after")
    good >> broken >> after
    results = DAG("ends", tasks=[after, skipped]).run("serial", state=box.db, fail_fast=False, raise_on_failure=False)
    (record,) = box.records()
    assert record.status == "failed"
    assert task_states(record) == results.states
    assert task_states(record) == {
        "good": "succeeded",
        "broken": "failed",
        "after": "upstream_failed",
        "skipped": "skipped",
    }
    assert {name: item.attempts for name, item in record.tasks.items() if item.attempts} == {"good": 1, "broken": 3}
    assert record.tasks["skipped"].reason == results.skipped["skipped"]
    assert record.tasks["broken"].error.message == "broken is broken"


# Going on


def test_resume_after_a_failure(box, executor):
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


def test_resume_as_often_as_it_takes(box):
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
def test_resume_after_an_interrupt(box, executor):
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
def test_resume_after_a_crash(box, script, name):
    """Of the process, in which a task kills it; another process goes on."""
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


def test_resume_in_another_process_and_with_another_executor(box, script):
    box.inject("report", "fail")
    box.failing_run(diamond(), params=box.params)
    box.repair("report")
    assert script(CRASH, box.folder, "process") == f"{RESULTS}\n"
    assert Counter(box.ran) == {"extract": 1, "double": 1, "count": 1, "report": 2}


def test_resume_after_the_death_of_a_worker_process(box):
    box.inject("double", "die")
    with pytest.raises(WorkerDiedError):
        diamond().run("process", state=box.db, params=box.params)
    assert task_states(box.records()[0])["double"] == "failed"
    box.repair("double")
    assert diamond().run("process", state=box.db, params=box.params, resume=True) == RESULTS
    assert Counter(box.ran)["extract"] == 1


def test_a_resume_that_dies_leaves_what_it_had_not_reached_pending(box, script):
    """What became of a task in an earlier part of the run is no news of this part."""
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


def test_names_and_texts_of_all_kinds(box):
    """Quotes, lone surrogates, NUL, newlines: in names of tasks and pipelines, in errors and values."""
    odd = "a 'name'\n\0 \ud800 \U0001f600 %s"
    folder = box.folder

    def fails(first):
        step(folder, "fails", None)
        if not Path(folder, "mended").exists():
            raise ValueError(odd)
        return first

    first, second = box.task("first", value=odd).with_options(name=odd), Task(fails, name=f"{odd} 2")
    first >> second
    pipeline = DAG(odd, tasks=[second])
    box.failing_run(pipeline)
    (record,) = box.records()
    assert record.tasks.keys() == {odd, f"{odd} 2"}
    assert record.tasks[f"{odd} 2"].error.message == odd
    assert record.tasks[odd].result() == odd
    assert [run.run_id for run in box.state().runs(odd)] == [record.run_id]
    Path(folder, "mended").touch()
    results = pipeline.run("serial", state=box.db, resume=True)
    assert results == {odd: odd, f"{odd} 2": odd}
    assert box.ran == ["first", "fails", "fails"]


@pytest.mark.parametrize("name", ["a b.db", "what?.db", "per%20cent.db", "hash#.db", "file:x.db", "\u00fc.db", "-x.db"])
def test_files_with_odd_names(box, monkeypatch, name):
    monkeypatch.chdir(box.folder)
    large = box.task("large", value="x" * 300_000)
    DAG("names", tasks=[large]).run("serial", state=name)
    assert Path(box.folder, name).exists()
    assert Path(box.folder, name + ".files").exists()


def test_resume_from_an_empty_file_is_a_fresh_run(box):
    results = box.chain().run("serial", state=box.db, resume=True)
    assert results == CHAIN
    assert set(results.resumed) == set()
    assert box.records()[0].resumes == 0


def test_resume_after_a_finished_run_is_a_fresh_run(box):
    """Finished is what succeeded or was skipped."""
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


def test_without_resume_a_run_is_fresh_whatever_was_before(box):
    pipeline = box.chain()
    box.inject("b", "fail")
    first = box.failing_run(pipeline)
    box.repair("b")
    second = pipeline.run("serial", state=box.db)
    assert first.run_id != second.run_id
    assert box.ran == ["a", "b", "a", "b", "c"]
    assert [record.status for record in box.records()] == ["succeeded", "failed"]
    third = pipeline.run("serial", state=box.db, resume=True)
    assert third.run_id not in (first.run_id, second.run_id), "the last run counts, and that one finished"


def test_the_last_run_is_resumed(box):
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


def test_a_run_belongs_to_the_pipeline_of_its_name(box):
    box.inject("report", "fail")
    one = box.failing_run(diamond("one"), params=box.params)
    two = box.failing_run(diamond("two"), params=box.params)
    box.repair("report")
    results = diamond("one").run("serial", state=box.db, params=box.params, resume=True)
    assert results.run_id == one.run_id
    assert {record.run_id: record.status for record in box.records()} == {one.run_id: "succeeded", two.run_id: "failed"}
    three = diamond("three").run("serial", state=box.db, params=box.params, resume=True)
    assert set(three.resumed) == set()


def test_a_flow_is_resumed(box, executor):
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


def test_a_dag_that_discovers_its_tasks_is_resumed(box):
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


def test_async_tasks_are_resumed(box):
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


def test_a_pipeline_without_tasks(box):
    results = DAG("empty", tasks=[]).run("serial", state=box.db, resume=True)
    assert results == {}
    assert [record.status for record in box.records()] in (["succeeded"], [])


def test_a_run_inside_a_task_is_a_run_of_its_own(box):
    folder, db = box.folder, box.db
    box.inject("c", "fail")

    def outer():
        return step(folder, "outer", dict(Box(folder).chain().run("serial", state=db, resume=True)))

    pipeline = DAG("outer", tasks=[Task(outer)])
    with pytest.raises(ValueError, match="c is broken"):
        pipeline.run("serial", state=db)
    box.repair("c")
    assert pipeline.run("serial", state=db, resume=True) == {"outer": CHAIN}
    assert box.ran == ["a", "b", "c", "c", "outer"]


# Values


@pytest.mark.parametrize(
    "value",
    [
        None,
        False,
        "",
        (1, (2, [3])),
        {"b": {1, 2}, 1: frozenset("x")},
        b"\x00\xff",
        dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC),
        decimal.Decimal("1.10"),
        Path("a/b"),
        float("inf"),
        1j,
        "\ud800 lone",
        10**400,
    ],
    ids=str,
)
def test_values_come_back_as_they_were(box, value):
    """None is a value."""
    folder = box.folder

    def make():
        return step(folder, "make", value)

    def use(made):
        return step(folder, "use", repr(made))

    first, second = Task(make), Task(use)
    first >> second
    box.inject("use", "fail")
    box.failing_run(DAG("values", tasks=[second]))
    box.repair("use")
    results = DAG("values", tasks=[second]).run("serial", state=box.db, resume=True)
    assert results["make"] == value
    assert type(results["make"]) is type(value)
    assert results["use"] == repr(value)
    assert box.ran == ["make", "use", "use"]


def test_a_value_is_recorded_as_it_was_when_it_was_returned(box):
    """What a later task does to it is not in the file."""
    folder = box.folder

    def rows():
        return step(folder, "rows", [1])

    def append(rows):
        rows.append(2)
        return step(folder, "append", len(rows))

    first, second = Task(rows), Task(append)
    first >> second
    pipeline = DAG("mutation", tasks=[second])
    box.inject("append", "fail")
    box.failing_run(pipeline)
    box.repair("append")
    assert pipeline.run("serial", state=box.db, resume=True)["append"] == 2
    assert box.records()[0].tasks["rows"].result() == [1]


# Retries, conditions, triggers


def test_a_task_that_failed_gets_all_its_attempts_again(box):
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


def test_an_attempt_that_fails_is_not_the_end(box):
    """What counts is how the task ended."""
    folder = box.folder

    def flaky():
        step(folder, "flaky", None)
        if box_ran(folder).count("flaky") < 3:
            raise ValueError("not yet")
        return 1

    pipeline = DAG("flaky", tasks=[Task(flaky, retries=5, delay=0)])
    assert pipeline.run("serial", state=box.db) == {"flaky": 1}
    record = box.records()[0].tasks["flaky"]
    assert (record.state, record.attempts, record.error) == ("succeeded", 3, None)


def box_ran(folder):
    return Box(folder).ran


def test_what_was_skipped_stays_skipped(box):
    """Its condition is not asked again, and what could not do without it stays skipped too."""
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


def test_a_condition_of_what_did_not_run_is_asked_on_resume(box):
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


def test_a_cleanup_that_ran_is_not_run_again(box):
    work, tidy = box.task("work"), box.task("tidy", trigger="all_done")
    work >> tidy
    pipeline = DAG("cleanup", tasks=[tidy])
    box.inject("work", "fail")
    assert box.failing_run(pipeline).states == {"work": "failed", "tidy": "succeeded"}
    box.repair("work")
    results = pipeline.run("serial", state=box.db, resume=True)
    assert results == {"work": "work", "tidy": "tidy"}
    assert Counter(box.ran) == {"work": 2, "tidy": 1}


def test_a_cleanup_that_failed_runs_again(box):
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


def test_an_alarm_rings_in_each_attempt_to_go_on_that_needs_it(box):
    """One that rang has rung; one that was not needed was skipped, and that is recorded too."""
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


def test_an_alarm_that_was_not_needed_stays_skipped(box):
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
def test_a_trigger_sees_what_was_recorded_as_if_it_had_just_ended(box, trigger):
    """The same end as in a run that nothing interrupted: upstreams are in the file, the task itself is not."""
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


def test_branches_that_went_on_are_not_run_again(box, executor):
    box.inject("double", "fail")
    with pytest.raises(ExceptionGroup):
        diamond().run(executor, state=box.db, params=box.params, fail_fast=False)
    box.repair("double")
    results = diamond().run(executor, state=box.db, params=box.params, fail_fast=False, resume=True)
    assert results == RESULTS
    assert set(results.resumed) == {"extract", "count"}
    assert Counter(box.ran) == {"extract": 1, "count": 1, "double": 2, "report": 1}


def test_a_resume_that_fails_says_so_in_its_results(box):
    pipeline = box.chain()
    box.inject("b", "fail")
    box.failing_run(pipeline)
    with pytest.raises(ValueError, match="b is broken") as caught:
        pipeline.run("serial", state=box.db, resume=True)
    results = caught.value.flowkit_results
    assert results == {"a": "a"}
    assert set(results.resumed) == {"a"}
    assert results.states == {"a": "succeeded", "b": "failed", "c": "upstream_failed"}


def test_the_results_of_a_resume_survive_pickling_and_copying(box):
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


# Where the state is


@pytest.mark.parametrize("kind", ["text", "Path", "manager", "memory", "sqlite", "sqlite3"])
def test_where_a_state_can_be(box, kind):
    place = {
        "text": lambda: box.db,
        "Path": lambda: Path(box.db),
        "manager": lambda: StateManager(box.db),
        "memory": StateManager,
        "sqlite": lambda: box.db.replace(".db", ".sqlite"),
        "sqlite3": lambda: box.db.replace(".db", ".sqlite3"),
    }[kind]()
    pipeline = box.chain()
    box.inject("b", "fail")
    with pytest.raises(ValueError, match="b is broken"):
        pipeline.run("serial", state=place)
    box.repair("b")
    assert pipeline.run("serial", state=place, resume=True) == CHAIN
    assert box.ran == ["a", "b", "b", "c"]
    if isinstance(place, StateManager):
        assert [record.status for record in place.runs()] == ["succeeded"]
        place.set("mine", 1)  # it is still open: it belongs to the one who made it
        place.close()


def test_a_state_in_a_folder_that_is_not_there_yet(box):
    path = Path(box.folder, "deep", "below", "runs.db")
    box.chain().run("serial", state=path)
    assert path.exists()


def test_a_path_means_what_it_means_when_the_run_begins(box, monkeypatch, tmp_path):
    """A task may change the directory."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    text = str(elsewhere)

    def move():
        os.chdir(text)

    first, second = Task(move), box.task("second")
    first >> second
    DAG("moving", tasks=[second]).run("serial", state="runs.db")
    assert list(elsewhere.iterdir()) == []
    assert task_states(box.records()[0]) == {"move": "succeeded", "second": "succeeded"}


def test_runs_and_entries_share_a_file(box):
    """And do not see each other."""
    with StateManager(box.db) as state:
        state.set("mine", [1], ttl=3600)
        box.chain().run("serial", state=state)
        assert state.keys() == ["mine"]
        assert state.get("mine") == [1]
        assert len(state.runs()) == 1
    with StateManager(box.db) as state:
        assert state.get_all() == {"mine": [1]}
        assert len(state.runs()) == 1


def test_a_path_is_not_kept_open(box):
    """Whoever gives a path gets a file that is closed when the run is over: nothing lies in the log beside it."""
    box.chain().run("thread", state=box.db)
    wal = Path(box.db + "-wal")
    assert not wal.exists() or wal.stat().st_size == 0


@pytest.mark.parametrize("make", [str, Path, StateManager], ids=["text", "Path", "manager"])
def test_a_json_file_is_refused(box, monkeypatch, make):
    monkeypatch.chdir(box.folder)  # of a long path, the message would show the beginning
    place = make("runs.json")
    with pytest.raises((ValueError, TypeError), match=r"(?s)\.json.*(SQLite|\.db)"):
        box.chain().run("serial", state=place)
    assert box.ran == []


def test_a_run_within_a_batch_is_refused(box):
    """Nothing of it would be committed before the batch ends, and a crash would lose all."""
    with StateManager(box.db) as state, state.batch(), pytest.raises(StateError, match="batch"):
        box.chain().run("serial", state=state)
    assert box.ran == []


def test_a_closed_state_is_refused(box):
    state = StateManager(box.db)
    state.close()
    with pytest.raises(StateClosedError):
        box.chain().run("serial", state=state)
    assert box.ran == []


# What cannot be meant


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": 42}, "42"),
        ({"state": "runs.txt"}, "runs.txt"),
        ({"state": b"runs.db"}, ""),
        ({"state": True}, "True"),
        ({"resume": True}, "state"),
        ({"resume": "force"}, "state"),
        ({"state": None, "resume": True}, "state"),
        ({"state": "runs.db", "resume": "yes"}, "'yes'"),
        ({"state": "runs.db", "resume": 2}, "2"),
        ({"state": "runs.db", "resume": None}, "None"),
        ({"state": "runs.db", "resume": "Force"}, "'Force'"),
        ({"state": "runs.db", "refresh": "a"}, "'a'"),
        ({"state": "runs.db", "refresh": {"extrac"}}, "extract"),
        ({"state": "runs.db", "refresh": [1]}, "1"),
        ({"state": "runs.db", "refresh": 1.5}, "1.5"),
        ({"state": "runs.db", "state_errors": "ignore"}, "'ignore'"),
    ],
)
def test_arguments_that_cannot_be_meant(box, monkeypatch, options, words):
    """Are refused before anything runs, and with their names."""
    monkeypatch.chdir(box.folder)
    with pytest.raises((ValueError, TypeError)) as caught:
        diamond().run("serial", params=box.params, **options)
    for name in {"resume", "refresh", "state_errors"} & set(options):
        assert name in str(caught.value)
    assert words in str(caught.value)
    assert box.ran == []
    assert box.records() == []


def test_a_name_that_no_task_has_is_refused_with_the_near_misses(box):
    with pytest.raises(ValueError, match=r"'repot'.*report") as caught:
        diamond().run("serial", params=box.params, state=box.db, refresh={"repot"})
    assert "refresh" in str(caught.value)


def test_what_is_wrong_with_the_wiring_is_said_before_a_run_is_recorded(box):
    def needs(what_nobody_has):
        return what_nobody_has

    with pytest.raises(TypeError, match="what_nobody_has"):
        DAG("wrong", tasks=[Task(needs)]).run("serial", state=box.db)
    assert box.records() == []


# Changed pipelines


ETL = """
from flowkit import DAG, task
from durable_tasks import step

RATE = 10
UNUSED = 1


def convert(row):
    return row * RATE


@task
def extract(folder):
    return step(folder, "extract", [1, 2])


@task
def clean(extract, folder):
    return step(folder, "clean", [convert(row) for row in extract])


@task
def audit(extract, folder):
    return step(folder, "audit", len(extract))


@task
def load(clean, audit, folder):
    return step(folder, "load", sum(clean) + audit)


@task
def tidy():
    return None


extract >> [clean, audit] >> load
etl = DAG("etl", tasks=[load])
"""
ETL_RESULTS = {"extract": [1, 2], "clean": [10, 20], "audit": 2, "load": 32}


def fails_at(box, load_module, name, source=ETL):
    """Run the pipeline of a module until a task fails, and repair that task."""
    box.inject(name, "fail")
    results = box.failing_run(load_module(source).etl, params=box.params)
    box.repair(name)
    return results


def edited(*pairs):
    source = ETL
    for old, new in pairs:
        assert old in source
        source = source.replace(old, new)
    return source


def facts(error):
    return {
        "added": tuple(error.added),
        "removed": tuple(error.removed),
        "rewired": tuple(error.rewired),
        "changed": dict(error.changed),
        "params": tuple(error.params),
    }


SAME = {"added": (), "removed": (), "rewired": (), "changed": {}, "params": ()}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (
            [("return row * RATE", "return RATE * row + 0")],
            {"changed": {"clean": ("function etl.convert has changed",)}},
        ),
        ([("RATE = 10", "RATE = 11")], {"changed": {"clean": ("constant etl.RATE has changed",)}}),
        (
            [('"clean", [convert(row)', '"clean", [1 + convert(row)')],
            {"changed": {"clean": ("function etl.clean has changed",)}},
        ),
        (
            [("return row * RATE", "return row + RATE"), ("len(extract)", "1 + len(extract)")],
            {"changed": {"clean": ("function etl.convert has changed",), "audit": ("function etl.audit has changed",)}},
        ),
        ([("[clean, audit] >> load", "[clean, audit] >> load >> tidy"), ("[load]", "[tidy]")], {"added": ("tidy",)}),
        ([("tasks=[load]", "tasks=[clean, audit]")], {"removed": ("load",)}),
        (
            [
                ("load(clean, audit, folder)", "load(clean, folder, audit=2)"),
                ("[clean, audit] >> load", "clean >> load"),
            ],
            {"removed": ("audit",), "rewired": ("load",), "changed": {"load": ("function etl.load has changed",)}},
        ),
        ([("audit, folder):\n", "audit, tidy, folder):\n"), ("audit] >> load", "audit, tidy] >> load")], None),
    ],
    ids=["helper", "constant", "function", "two", "added", "removed", "rewired and removed", "everything"],
)
def test_a_changed_pipeline_is_refused(box, load_module, pairs, expected):
    """It says what changed, nothing runs, and the pipeline as it was can still go on."""
    first = fails_at(box, load_module, "load")
    ran = box.ran
    with pytest.raises(ResumeError) as caught:
        load_module(edited(*pairs)).etl.run("serial", state=box.db, params=box.params, resume=True)
    error = caught.value
    assert isinstance(error, StateError)
    assert error.run_id == first.run_id
    if expected is not None:
        assert facts(error) == SAME | expected
    else:
        assert (tuple(error.added), tuple(error.rewired)) == (("tidy",), ("load",))
        assert set(error.changed) == {"load"}
    for fact in facts(error).values():
        for name in fact:
            assert name in str(error)
    assert "force" in str(error)
    assert box.ran == ran
    assert facts(pickle.loads(pickle.dumps(error))) == facts(error)
    results = load_module(ETL).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert results == ETL_RESULTS
    assert results.run_id == first.run_id
    assert box.ran == [*ran, "load"]


OPTIONS = """
import argparse
import configparser

from flowkit import DAG, ResumeError, task

parser = argparse.ArgumentParser()
parser.add_argument("--fail", action="store_true")
parser.add_argument("--limit", type=int)
parser.add_argument("--rate", default="1")
args = parser.parse_args()
config = configparser.ConfigParser()
config.read_string(f"[etl]\\nrate = {args.rate}")


@task
def extract():
    return args.limit


@task
def clean(extract):
    return extract * config["etl"].getint("rate")


@task
def load(clean):
    if args.fail:
        raise ConnectionError("no route")
    return clean


extract >> clean >> load
try:
    print(DAG("etl", tasks=[load]).run("serial", state="runs.db", resume=True))
except ConnectionError as error:
    print(error)
except ResumeError as error:
    print(error.changed)
"""


def test_a_script_with_another_command_line_is_refused(script, tmp_path, monkeypatch):
    """Only where tasks that were done have read what differs; not even where there is a configuration between."""
    monkeypatch.chdir(tmp_path)
    assert script(OPTIONS, "--fail", "--limit", 10) == "no route\n"
    assert script(OPTIONS, "--limit", 20) == "{'extract': ('constant script.args.limit has changed',)}\n"
    assert script(OPTIONS, "--limit", 10, "--rate", 2) == "{'clean': ('constant script.config has changed',)}\n"
    assert script(OPTIONS, "--limit", 10) == "{'extract': 10, 'clean': 10, 'load': 10}\n"


def test_a_task_between_two_others_rewires_them(box):
    a, b = box.task("a"), box.task("b")
    a >> b
    box.inject("b", "fail")
    box.failing_run(DAG("chain", tasks=[b]))
    a, between, b = box.task("a"), box.task("between"), box.task("b")
    a >> between >> b
    with pytest.raises(ResumeError) as caught:
        DAG("chain", tasks=[b]).run("serial", state=box.db, resume=True)
    assert facts(caught.value) == SAME | {"added": ("between",), "rewired": ("b",)}


def test_a_renamed_task_is_removed_and_added(box):
    box.inject("b", "fail")
    box.failing_run(box.chain("ab"))
    with pytest.raises(ResumeError) as caught:
        box.chain("xb").run("serial", state=box.db, resume=True)
    assert (tuple(caught.value.added), tuple(caught.value.removed)) == (("x",), ("a",))


@pytest.mark.parametrize(
    "pairs",
    [
        [("RATE = 10\n", "RATE = 10  # percent\n\n\n# a comment\n")],
        [("return row * RATE", "return (\n        row\n        * RATE\n    )")],
        [("UNUSED = 1", "UNUSED = 2")],
        [("def tidy():\n    return None", "def tidy():\n    return 1")],
        [("@task\ndef load", "@task(retries=3, delay=0.5)\ndef load")],
        [("extract >> [clean, audit] >> load", "extract >> [clean, audit]\n[clean, audit] >> load\nextract >> clean")],
        [('DAG("etl", tasks', 'DAG("etl", max_workers=3, tasks')],
    ],
    ids=["comments", "format", "a constant nobody reads", "a task of nobody", "retries", "same wiring", "workers"],
)
def test_a_change_that_changes_nothing_is_none(box, load_module, pairs):
    fails_at(box, load_module, "load")
    results = load_module(edited(*pairs)).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert results == ETL_RESULTS
    assert box.ran == ["extract", "clean", "audit", "load", "load"]


def test_a_finished_run_has_no_say_in_what_comes_after(box, load_module):
    load_module(ETL).etl.run("serial", state=box.db, params=box.params)
    source = edited(("RATE = 10", "RATE = 20"))
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert results["load"] == 62
    assert set(results.resumed) == set()


def test_force_takes_what_still_fits(box, load_module):
    """What is as it was, and stands on what is as it was."""
    first = fails_at(box, load_module, "load")
    source = edited(("RATE = 10", "RATE = 20"))
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume="force")
    assert results == {"extract": [1, 2], "clean": [20, 40], "audit": 2, "load": 62}
    assert results.run_id == first.run_id
    assert set(results.resumed) == {"extract", "audit"}
    assert Counter(box.ran) == {"extract": 1, "audit": 1, "clean": 2, "load": 2}
    (record,) = box.records()
    assert record.status == "succeeded"
    assert record.tasks["clean"].result() == [20, 40]


def test_force_runs_what_stands_on_something_new(box, load_module):
    fails_at(box, load_module, "load")
    source = edited(("[1, 2])", "[1, 2, 3])"))
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume="force")
    assert results == {"extract": [1, 2, 3], "clean": [10, 20, 30], "audit": 3, "load": 63}
    assert set(results.resumed) == set()


def test_force_with_tasks_added_and_removed(box, load_module):
    fails_at(box, load_module, "load")
    source = edited(
        ("load(clean, audit, folder)", "load(clean, folder, audit=2)"),
        ("[clean, audit] >> load", "clean >> load >> tidy"),
        ("[load]", "[tidy]"),
    )
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume="force")
    assert results == {"extract": [1, 2], "clean": [10, 20], "load": 32, "tidy": None}
    assert set(results.resumed) == {"extract", "clean"}
    again = load_module(source).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert again.run_id != results.run_id, "the run of the changed pipeline is finished"


def test_force_then_failure_then_resume_of_the_changed_pipeline(box, load_module):
    """After a forced resume the run is one of the pipeline as it is now."""
    fails_at(box, load_module, "load")
    source = edited(("RATE = 10", "RATE = 20"))
    box.inject("load", "fail")
    box.failing_run(load_module(source).etl, params=box.params, resume="force")
    box.repair("load")
    ran = box.ran
    results = load_module(source).etl.run("serial", state=box.db, params=box.params, resume=True)
    assert results == {"extract": [1, 2], "clean": [20, 40], "audit": 2, "load": 62}
    assert box.ran == [*ran, "load"]


def test_force_on_a_pipeline_that_is_the_same_is_a_resume(box, load_module):
    fails_at(box, load_module, "load")
    results = load_module(ETL).etl.run("serial", state=box.db, params=box.params, resume="force")
    assert results == ETL_RESULTS
    assert set(results.resumed) == {"extract", "clean", "audit"}


# Parameters of a run


def scaled(box):
    folder = box.folder

    def base():
        return step(folder, "base", 2)

    def scale(base, factor):
        return step(folder, "scale", base * factor)

    def last(scale):
        return step(folder, "last", scale + 1)

    tasks = [Task(base), Task(scale), Task(last)]
    tasks[0] >> tasks[1] >> tasks[2]
    return DAG("scaled", tasks=tasks[2:])


def test_params_are_part_of_a_run(box):
    pipeline = scaled(box)
    box.inject("last", "fail")
    first = box.failing_run(pipeline, params={"factor": 10})
    box.repair("last")
    with pytest.raises(ResumeError) as caught:
        pipeline.run("serial", state=box.db, params={"factor": 11}, resume=True)
    assert facts(caught.value) == SAME | {"params": ("factor",)}
    assert "factor" in str(caught.value)
    results = pipeline.run("serial", state=box.db, params={"factor": 10}, resume=True)
    assert results == {"base": 2, "scale": 20, "last": 21}
    assert results.run_id == first.run_id
    assert box.ran == ["base", "scale", "last", "last"]


def test_force_with_other_params_never_mixes_old_and_new(box):
    pipeline = scaled(box)
    box.inject("last", "fail")
    box.failing_run(pipeline, params={"factor": 10})
    box.repair("last")
    results = pipeline.run("serial", state=box.db, params={"factor": 100}, resume="force")
    assert results == {"base": 2, "scale": 200, "last": 201}
    assert "scale" not in results.resumed
    assert "base" in results.resumed


def test_params_that_cannot_be_kept_do_not_stop_a_run(box):
    """A connection, say: it is no result, and nothing of it has to come back."""

    class Connection:
        pass

    folder = box.folder

    def use(connection):
        return step(folder, "use", type(connection).__name__)

    def last(use):
        return step(folder, "last", use.lower())

    first, second = Task(use), Task(last)
    first >> second
    pipeline = DAG("connection", tasks=[second])
    box.inject("last", "fail")
    box.failing_run(pipeline, params={"connection": Connection()})
    box.repair("last")
    assert box.records()[0].params.keys() == {"connection"}
    results = pipeline.run("serial", state=box.db, params={"connection": Connection()}, resume="force")
    assert results == {"use": "Connection", "last": "connection"}


# Results that cannot be kept


def unstorable(kind, folder):
    def a_lambda():
        return step(folder, "made", lambda: 1)

    def a_generator():
        return step(folder, "made", (number for number in range(3)))

    def an_open_file():
        return step(folder, "made", OPEN[0])

    def an_object():
        return step(folder, "made", Point(1))

    return {"lambda": a_lambda, "generator": a_generator, "file": an_open_file, "object": an_object}[kind]


OPEN = []  # the open file of a test, which is closed by it


@pytest.fixture(params=["lambda", "generator", "file", "object"])
def odd(request, box):
    """A pipeline with a result that cannot be kept between others that can."""
    with Path(__file__).open() as file:
        OPEN[:] = [file]
        folder = box.folder

        def use(made):
            return step(folder, "use", type(made).__name__)

        before, made = box.task("before"), Task(unstorable(request.param, folder), name="made")
        after, tidy = Task(use), box.task("tidy", trigger="all_done")
        before >> Task(lambda before: None, name="between") >> made >> after >> tidy
        yield DAG("odd", tasks=[tidy])
        OPEN.clear()


def test_a_result_that_cannot_be_kept_ends_the_run_but_loses_nothing(box, odd):
    with pytest.raises(UnsupportedValueError) as caught:
        odd.run("serial", state=box.db)
    error = caught.value
    assert any("made" in note for note in error.__notes__)
    results = error.flowkit_results
    assert results["before"] == "before"
    assert results["made"] is not None, "what was computed is not lost"
    assert box.ran == ["before", "made", "tidy"], "clean-up tasks run"
    (record,) = box.records()
    assert record.status == "failed"
    recorded = task_states(record)
    assert (recorded["before"], recorded["tidy"]) == ("succeeded", "succeeded")
    assert recorded["made"] != "succeeded"
    with pytest.raises(UnsupportedValueError):
        odd.run("serial", state=box.db, resume=True)
    assert Counter(box.ran) == {"before": 1, "made": 2, "tidy": 1}


def test_a_run_can_go_on_with_a_warning(box, odd):
    with pytest.warns(RuntimeWarning, match="made") as warned:
        results = odd.run("serial", state=box.db, state_errors="warn")
    assert [warning.category for warning in warned if warning.category is not ResourceWarning] == [RuntimeWarning]
    assert box.ran == ["before", "made", "use", "tidy"]
    assert results.states["made"] == "succeeded"
    assert results["use"]
    assert task_states(box.records()[0])["made"] != "succeeded"


def test_what_was_not_recorded_is_run_again_on_resume(box, odd):
    box.inject("use", "fail")
    with pytest.warns(RuntimeWarning, match="made"):
        box.failing_run(odd, state_errors="warn")
    box.repair("use")
    with pytest.warns(RuntimeWarning, match="made"):
        results = odd.run("serial", state=box.db, state_errors="warn", resume=True)
    assert results["use"]
    assert Counter(box.ran) == {"before": 1, "made": 2, "use": 2, "tidy": 1}


def test_the_same_with_every_executor(box, executor):
    first, second = Task(durable_tasks.point), Task(durable_tasks.shift)
    first >> second
    pipeline = DAG("points", tasks=[second])
    with pytest.raises(UnsupportedValueError) as caught:
        pipeline.run(executor, state=box.db, params=box.params)
    assert any("point" in note for note in caught.value.__notes__)
    assert caught.value.flowkit_results == {"point": Point(7)}
    assert box.ran == ["point"]


def test_pickle_keeps_what_json_cannot(box, executor):
    first, second = Task(durable_tasks.point), Task(durable_tasks.shift)
    first >> second
    pipeline = DAG("points", tasks=[second])
    with StateManager(box.db, serializer="pickle") as state:
        box.inject("shift", "fail")
        with pytest.raises(ValueError, match="shift is broken"):
            pipeline.run(executor, state=state, params=box.params)
        box.repair("shift")
        results = pipeline.run(executor, state=state, params=box.params, resume=True)
    assert results == {"point": Point(7), "shift": 8}
    assert box.ran == ["point", "shift", "shift"]


@pytest.mark.parametrize("several", [False, True], ids=["one", "list"])
def test_a_serializer_for_a_type_keeps_what_json_cannot(box, several):
    """Also inside of something else."""
    folder = box.folder

    def points():
        return step(folder, "points", {"first": Point(1), "all": [Point(2), (Point(3), None)]})

    def use(points):
        return step(folder, "use", points["all"][1][0].x)

    first, second = Task(points), Task(use)
    first >> second
    pipeline = DAG("points", tasks=[second])
    serializer = [PointSerializer()] if several else PointSerializer()
    with StateManager(box.db, serializer=serializer) as state:
        box.inject("use", "fail")
        with pytest.raises(ValueError, match="use is broken"):
            pipeline.run("serial", state=state)
        box.repair("use")
        results = pipeline.run("serial", state=state, resume=True)
        state.set("point", Point(9))
        assert state.get("point") == Point(9)
    assert results == {"points": {"first": Point(1), "all": [Point(2), (Point(3), None)]}, "use": 3}
    assert box.ran == ["points", "use", "use"]


def test_what_a_serializer_wrote_needs_that_serializer(box):
    """Without it the run is not resumed as if nothing had been there: it says what is missing."""
    folder = box.folder

    def made():
        return step(folder, "made", Point(1))

    first, second = Task(made), box.task("second")
    first >> second
    pipeline = DAG("points", tasks=[second])
    box.inject("second", "fail")
    with StateManager(box.db, serializer=PointSerializer()) as state, pytest.raises(ValueError, match="second"):
        pipeline.run("serial", state=state)
    box.repair("second")
    with pytest.raises(StateError, match="point"):
        pipeline.run("serial", state=box.db, resume=True)
    with StateManager(box.db, serializer=PointSerializer()) as state:
        assert pipeline.run("serial", state=state, resume=True)["made"] == Point(1)
    assert box.ran == ["made", "second", "second"]


class ndarray:  # noqa: N801 - it stands for numpy's
    pass


ndarray.__module__ = "numpy"


@pytest.mark.parametrize(
    "annotation",
    [
        collections.abc.Generator[int, None, None],
        collections.abc.Iterator[int],
        collections.abc.Callable[[], int],
        typing.Callable[[], int],
        typing.Generator[int, None, None],
        typing.Iterator[int],
        ndarray,
        list[ndarray],
        tuple[ndarray, ndarray],
    ],
    ids=str,
)
def test_an_annotation_that_promises_trouble_is_refused_before_anything_runs(box, annotation):
    late = box.task("late")
    late.func.__annotations__["return"] = annotation
    early = box.task("early")
    early >> late
    with pytest.raises(UnsupportedValueError, match="late"):
        DAG("annotated", tasks=[late]).run("serial", state=box.db)
    assert box.ran == []
    DAG("annotated", tasks=[late]).run("serial")  # no state, no trouble


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        None,
        "str",
        list[int],
        dict[str, tuple[int, ...]],
        int | None,
        typing.Any,
        object,
        Point,
        "Nowhere",
        collections.abc.Sequence[int],
        typing.TypeVar("T"),
    ],
    ids=str,
)
def test_an_annotation_that_promises_nothing_bad_is_no_reason(box, annotation):
    only = box.task("only")
    only.func.__annotations__["return"] = annotation
    assert DAG("annotated", tasks=[only]).run("serial", state=box.db) == {"only": "only"}


# Large results


def large_files(box):
    folder = Path(box.db + ".files")
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_large_results_lie_beside_the_database(box):
    """By content: two that are the same are one file."""
    size = 2**20
    tasks = [
        box.task("small", value="s" * 1000),
        box.task("large", value="x" * size),
        box.task("twin", value="x" * size),
        box.task("other", value=b"y" * size),
        box.task("last"),
    ]
    pipeline = DAG("large", tasks=tasks)
    box.inject("last", "fail")
    box.failing_run(pipeline)
    box.repair("last")
    assert len(large_files(box)) == 2
    assert sum(path.stat().st_size for path in Path(box.folder).glob("runs.db*") if path.is_file()) < size
    assert all(path.stat().st_mode & 0o077 == 0 for path in (Path(box.db + ".files"), *large_files(box)))
    results = pipeline.run("serial", state=box.db, resume=True)
    assert (results["large"], results["twin"], results["other"]) == ("x" * size, "x" * size, b"y" * size)
    assert results["small"] == "s" * 1000
    assert box.ran == ["small", "large", "twin", "other", "last", "last"]


def test_small_results_need_no_folder(box):
    DAG("small", tasks=[box.task("small", value="s" * 100_000)]).run("serial", state=box.db)
    assert large_files(box) == []


@pytest.mark.parametrize("damage", ["gone", "cut", "altered"])
def test_a_large_result_that_was_damaged_is_never_taken_for_the_real_one(box, damage):
    first, second = box.task("first", value="x" * 2**20), box.task("second")
    first >> second
    pipeline = DAG("large", tasks=[second])
    box.inject("second", "fail")
    box.failing_run(pipeline)
    box.repair("second")
    (file,) = large_files(box)
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        file.write_bytes(file.read_bytes().replace(b"xxxx", b"xxyx", 1))
    try:
        results = pipeline.run("serial", state=box.db, resume=True)
    except StateError as error:
        assert file.name in str(error) or "first" in str(error)
    else:
        assert results["first"] == "x" * 2**20
        assert box.ran.count("first") == 2


def test_a_damaged_result_can_be_made_anew(box):
    """As the error says, by force; what is made then is whole."""
    first, second = box.task("first", value="x" * 2**20), box.task("second")
    first >> second
    pipeline = DAG("large", tasks=[second])
    box.inject("second", "fail")
    box.failing_run(pipeline)
    (file,) = large_files(box)
    file.write_bytes(file.read_bytes().replace(b"xxxx", b"xxyx", 1))
    with pytest.raises(StateError, match='resume="force"'):
        pipeline.run("serial", state=box.db, resume=True)
    box.failing_run(pipeline, resume="force")
    box.repair("second")
    results = pipeline.run("serial", state=box.db, resume=True)
    assert set(results.resumed) == {"first"}
    assert box.records()[0].tasks["first"].result() == "x" * 2**20


def test_a_file_and_what_lies_beside_it_can_move_together(box, tmp_path):
    first, second = box.task("first", value="x" * 2**20), box.task("second")
    first >> second
    pipeline = DAG("large", tasks=[second])
    box.inject("second", "fail")
    box.failing_run(pipeline)
    box.repair("second")
    target = tmp_path / "elsewhere"
    target.mkdir()
    for path in Path(box.folder).glob("runs.db*"):
        path.rename(target / path.name)
    results = pipeline.run("serial", state=target / "runs.db", resume=True)
    assert set(results.resumed) == {"first"}
    assert results["first"] == "x" * 2**20


# One at a time


def test_a_run_that_is_going_on_is_refused(box):
    """In the same process too: two threads are two owners."""
    pipeline = box.chain()
    box.inject("c", "fail")
    box.failing_run(pipeline)
    box.repair("c")
    box.inject("c", "wait")
    found = []
    thread = threading.Thread(target=lambda: found.append(pipeline.run("serial", state=box.db, resume=True)))
    thread.start()
    try:
        wait_until(lambda: box.ran.count("c") == 2)
        with pytest.raises(RunInUseError) as caught:
            pipeline.run("serial", state=box.db, resume=True)
        with pytest.raises(RunInUseError):
            pipeline.run("serial", state=box.db, resume="force")
    finally:
        box.repair("c")
        thread.join()
    error = caught.value
    assert isinstance(error, StateError)
    assert error.run_id == found[0].run_id
    assert error.pid == os.getpid()
    assert error.host == socket.gethostname()
    assert str(error.pid) in str(error)
    assert error.started
    assert pickle.loads(pickle.dumps(error)).pid == error.pid
    assert found[0] == CHAIN
    assert box.ran == ["a", "b", "c", "c"]


def test_fresh_runs_of_one_pipeline_at_once_are_two_runs(box):
    pipeline = box.chain()
    box.inject("b", "wait")
    found = []
    threads = [threading.Thread(target=lambda: found.append(pipeline.run("serial", state=box.db))) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: box.ran.count("b") == 2)
        assert [record.status for record in box.records()] == ["running", "running"]
    finally:
        box.repair("b")
        for thread in threads:
            thread.join()
    assert found == [CHAIN, CHAIN]
    assert {results.run_id for results in found} == {record.run_id for record in box.records()}
    assert [record.status for record in box.records()] == ["succeeded", "succeeded"]


def test_a_run_that_failed_is_free_again(box):
    """Whatever ended it, in the process that lives on."""
    pipeline = box.chain()
    for what, error in (("fail", ValueError), ("interrupt", KeyboardInterrupt)):
        box.inject("b", what)
        with pytest.raises(error):
            pipeline.run("serial", state=box.db, resume=True)
        box.repair("b")
    assert pipeline.run("serial", state=box.db, resume=True) == CHAIN


def test_release_of_a_run_that_nobody_has_is_harmless(box):
    pipeline = box.chain()
    box.inject("b", "fail")
    results = box.failing_run(pipeline)
    box.repair("b")
    with StateManager(box.db) as state:
        state.release(results.run_id)
    assert pipeline.run("serial", state=box.db, resume=True).run_id == results.run_id


# A key that stays the same


def test_an_idempotency_key_is_the_same_in_every_attempt_and_resume(box):
    folder = box.folder

    def pay(idempotency_key):
        record_execution(folder, idempotency_key)
        return step(folder, "pay", idempotency_key)

    def ship(pay, idempotency_key):
        return step(folder, "ship", [pay, idempotency_key])

    first, second = Task(pay, retries=1, delay=0), Task(ship)
    first >> second
    pipeline = DAG("shop", tasks=[second])
    box.inject("pay", "fail")
    run_id = box.failing_run(pipeline).run_id
    box.repair("pay")
    results = pipeline.run("serial", state=box.db, resume=True)
    assert results.run_id == run_id
    keys = [line for line in box.ran if line not in ("pay", "ship")]
    assert len(keys) == 3
    assert set(keys) == {results["pay"]}
    assert type(results["pay"]) is str
    assert results["ship"][1] not in (results["pay"], "")
    again = pipeline.run("serial", state=box.db)
    assert again["pay"] != results["pay"], "another run pays again"


def test_an_idempotency_key_without_a_state(box):
    pipeline = DAG("keys", tasks=[Task(durable_tasks.return_key), Task(durable_tasks.return_key, name="other")])
    results = pipeline.run("thread", params=box.params)
    assert all(type(value) is str and value for value in results.values())
    assert results["return_key"] != results["other"]
    assert pipeline.run("thread", params=box.params)["return_key"] != results["return_key"]


def test_an_idempotency_key_in_a_flow_and_as_an_option(box):
    folder = box.folder

    def first():
        return step(folder, "first", 1)

    def second(first, *, idempotency_key=None):
        return step(folder, "second", idempotency_key)

    results = Flow("keys").add(Task(first)).add(Task(second)).run("serial", state=box.db)
    assert type(results["second"]) is str


def test_an_idempotency_key_of_ones_own(box):
    """Like any parameter, it comes from an upstream or from params where they have it."""

    def own(idempotency_key):
        return idempotency_key

    upstream = Task(lambda: "from upstream", name="idempotency_key")
    bound = Task(own, name="bound")
    upstream >> bound
    assert DAG("keys", tasks=[bound]).run("serial", state=box.db)["bound"] == "from upstream"
    free = DAG("free", tasks=[Task(own)])
    assert free.run("serial", state=box.db, params={"idempotency_key": "mine"}) == {"own": "mine"}


# Events and logs


def test_events_of_a_resume(box):
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


def test_an_observer_may_want_nothing_else(box):
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


def test_the_log_says_what_was_taken(box, caplog):
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


UNSEEN = """
from flowkit import DAG, task
from durable_tasks import step

rows, other, ours = iter([1]), iter([2]), None


def source():
    global ours
    ours = ours or iter([3])
    return rows


@task
def extract(folder):
    return step(folder, "extract", source() is None)


@task
def clean(extract, folder):
    return step(folder, "clean", rows is None)


@task
def load(clean, folder):
    return step(folder, "load", other is None)


extract >> clean >> load
etl = DAG("etl", tasks=[load])
"""


def test_the_log_names_once_what_cannot_be_compared(box, load_module, caplog):
    """Of the tasks that are taken over, and only then."""

    def run(fails, **options):
        box.inject(fails, "fail")
        caplog.clear()
        results = box.failing_run(load_module(UNSEEN).etl, params=box.params, **options)
        box.repair(fails)
        return results.run_id, [record.getMessage() for record in caplog.records if record.name == "flowkit.state"]

    with caplog.at_level(logging.WARNING, "flowkit.state"):
        assert run("extract", resume=True)[1] == []
        assert run("load", resume=True)[1] == []
        run_id, told = run("load", resume=True)
        (sentence,) = told
        assert sentence == (
            f"Run {run_id} of 'etl' goes on with recorded results, though nothing tells whether all that their tasks "
            "read is what it was: constant etl.rows is of type list_iterator. If that has changed, start anew with "
            "resume=False."
        )
        assert run("load", resume=True)[1] == []


def test_the_names_are_where_users_look_for_them():
    for name in ("ResumeError", "RunInUseError", "RunRecord", "TaskRecord", "TaskReused", "UnknownRunError"):
        assert name in flowkit.__all__
    assert issubclass(ResumeError, StateError)
    assert issubclass(RunInUseError, StateError)
