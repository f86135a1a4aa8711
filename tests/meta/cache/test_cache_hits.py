"""When a task reuses a result of an earlier run, and when it does not."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from pathlib import Path

import durable_tasks
import pytest
from cache_pipelines import square
from durable_tasks import Box, Point, diamond, record_execution, step

from flowkit import DAG, Flow, StateManager, Task, TaskReused, UnsupportedValueError, task


def test_cached_result_is_reused_by_next_run(box, executor):
    first = diamond(cache=True).run(executor, state=box.db, params=box.params)
    second = diamond(cache=True).run(executor, state=box.db, params=box.params)
    assert first == second == durable_tasks.RESULTS
    assert (set(first.cached), set(second.cached)) == (set(), set(durable_tasks.RESULTS))
    assert set(second.resumed) == set()
    assert second.states == dict.fromkeys(durable_tasks.RESULTS, "succeeded")
    assert first.run_id != second.run_id
    assert Counter(box.ran) == dict.fromkeys(durable_tasks.RESULTS, 1)


def test_cached_result_is_reused_by_other_executor(box):
    for number, name in enumerate(("process", "thread", "serial", "process")):
        results = diamond(cache=True).run(name, state=box.db, params=box.params)
        assert len(results.cached) == (4 if number else 0)
    assert len(box.ran) == 4


def test_task_without_cache_runs_again(box):
    pipeline = square(box.folder, 3)
    assert pipeline.run("serial", state=box.db) == {"made": 3, "squared": 9}
    results = pipeline.run("serial", state=box.db)
    assert results == {"made": 3, "squared": 9}
    assert set(results.cached) == {"squared"}
    assert box.ran == ["squared"]


def test_cache_without_state_is_in_memory(box):
    pipeline = square(box.folder, 3)
    assert pipeline.run("serial") == pipeline.run("thread") == {"made": 3, "squared": 9}
    assert box.ran == ["squared"]
    assert not Path(box.db).exists()


def test_cache_false_runs_again(box):
    folder = box.folder

    def made():
        return step(folder, "made", 1)

    for _ in range(2):
        DAG("off", tasks=[Task(made, cache=False)]).run("serial", state=box.db)
    assert box.ran == ["made", "made"]


def test_cached_none_is_reused(box):
    folder = box.folder

    def nothing():
        return step(folder, "nothing", None)

    pipeline = DAG("nothing", tasks=[Task(nothing, cache=True)])
    for _ in range(2):
        assert pipeline.run("serial", state=box.db) == {"nothing": None}
    assert box.ran == ["nothing"]


def test_async_task_of_flow_is_cached(box):
    folder = box.folder

    @task
    def first():
        return 2

    @task(cache=True)
    async def second(first):
        return step(folder, "second", first + 1)

    for _ in range(2):
        assert Flow("async").add(first).add(second).run("serial", state=box.db) == {"first": 2, "second": 3}
    assert box.ran == ["second"]


def test_mutation_of_result_does_not_change_cache(box):
    folder = box.folder

    def rows():
        return step(folder, "rows", [1])

    def append(rows):
        rows.append(2)
        return list(rows)

    first, second = Task(rows, cache=True), Task(append)
    first >> second
    pipeline = DAG("mutation", tasks=[second])
    for state in (box.db, None):
        for _ in range(3):
            results = pipeline.run("serial", state=state)
            assert results["append"] == [1, 2]
            results["rows"].append(3)
    assert box.ran == ["rows", "rows"], "once for the file, once for the memory"


def test_cached_result_is_input_of_uncached_task(box):
    folder = box.folder

    def made():
        return step(folder, "made", (1, {2}))

    def use(made):
        return step(folder, "use", repr(made))

    tasks = Task(made, cache=True), Task(use)
    tasks[0] >> tasks[1]
    for _ in range(2):
        assert DAG("use", tasks=tasks[1:]).run("serial", state=box.db)["use"] == "(1, {2})"
    assert box.ran == ["made", "use", "use"]


def test_equal_tasks_of_one_run_have_equal_results(box):
    folder = box.folder

    def make():
        return step(folder, "make", 5)

    tasks = [Task(make, name=name, cache=True) for name in ("one", "two")]
    for _ in range(2):
        assert DAG("twins", tasks=tasks).run("serial", state=box.db) == {"one": 5, "two": 5}
    assert len(box.ran) <= 2


def test_large_result_is_cached_and_survives_gc(box):
    large = box.task("large", value="x" * 2**20, cache=True)
    for _ in range(2):
        assert DAG("large", tasks=[large]).run("serial", state=box.db)["large"] == "x" * 2**20
    assert box.ran == ["large"]
    with StateManager(box.db) as state:
        for record in state.runs():
            state.forget(record.run_id)
        state.gc()
    assert DAG("large", tasks=[large]).run("serial", state=box.db)["large"] == "x" * 2**20
    assert box.ran == ["large"], "the cache still needs its file"


def test_failure_is_not_cached(box):
    only = box.task("only", cache=True)
    pipeline = DAG("failures", tasks=[only])
    box.inject("only", "fail")
    for _ in range(2):
        with pytest.raises(ValueError, match="only is broken"):
            pipeline.run("serial", state=box.db)
    box.repair("only")
    for _ in range(2):
        assert pipeline.run("serial", state=box.db) == {"only": "only"}
    assert box.ran == ["only"] * 3


def test_result_of_last_attempt_is_cached(box):
    folder = box.folder

    def flaky():
        step(folder, "flaky", None)
        if len(Box(folder).ran) < 3:
            raise ValueError("not yet")
        return 1

    pipeline = DAG("flaky", tasks=[Task(flaky, cache=True, retries=4, delay=0)])
    assert pipeline.run("serial", state=box.db).attempts == {"flaky": 3}
    results = pipeline.run("serial", state=box.db)
    assert results == {"flaky": 1}
    assert set(results.cached) == {"flaky"}
    assert len(box.ran) == 3


def test_condition_is_evaluated_before_cache_lookup(box):
    """A skip is not cached."""
    folder = box.folder

    def wanted():
        record_execution(folder, "condition")
        return not Path(folder, "unwanted").exists()

    pipeline = DAG("when", tasks=[box.task("only", cache=True, when=wanted)])
    assert pipeline.run("serial", state=box.db) == {"only": "only"}
    Path(folder, "unwanted").touch()
    results = pipeline.run("serial", state=box.db)
    assert (results, results.states) == ({}, {"only": "skipped"})
    Path(folder, "unwanted").unlink()
    results = pipeline.run("serial", state=box.db)
    assert results == {"only": "only"}
    assert set(results.cached) == {"only"}
    assert box.ran == ["condition", "only", "condition", "condition"]


def test_unstorable_result_without_state_is_logged_and_with_state_raises(box, caplog):
    folder = box.folder

    def made():
        return step(folder, "made", Point(1))

    pipeline = DAG("point", tasks=[Task(made, cache=True)])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert pipeline.run("serial") == {"made": Point(1)}
    assert box.ran == ["made", "made"]
    assert any("Point" in record.getMessage() for record in caplog.records)
    with pytest.raises(UnsupportedValueError):
        pipeline.run("serial", state=box.db, state_errors="raise")


def test_functions_of_same_name_have_separate_results(box, load_module):
    source = (
        "from flowkit import DAG, task\n@task(cache=True)\ndef same():\n    return 1\ndag = DAG('{0}', tasks=[same])"
    )
    one = load_module(source.format("one"), "one").dag
    two = load_module(source.replace("return 1", "return 2").format("two"), "two").dag
    for _ in range(2):
        assert one.run("serial", state=box.db) == {"same": 1}
        assert two.run("serial", state=box.db) == {"same": 2}


def test_concurrent_runs_of_threads_share_cache(box):
    with StateManager(box.db) as state:
        all_results = []
        threads = [
            threading.Thread(
                target=lambda: all_results.append(diamond(cache=True).run("serial", state=state, params=box.params))
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all_results == [durable_tasks.RESULTS] * 4
        assert len(state.runs()) == 4
        assert max(Counter(box.ran).values()) <= 4


def test_events_of_reused_result(box):
    one, two = box.task("one", cache=True), box.task("two")
    one >> two
    pipeline = DAG("events", tasks=[two])
    pipeline.run("serial", state=box.db)
    events = []
    pipeline.run("serial", state=box.db, observers=[events.append])
    assert [(type(event).__name__, getattr(event, "task", None)) for event in events] == [
        ("RunStarted", None),
        ("TaskReused", "one"),
        ("TaskStarted", "two"),
        ("TaskSucceeded", "two"),
        ("RunFinished", None),
    ]
    assert isinstance(events[1], TaskReused)
    assert events[1].source == "cache"
    assert events[-1].counts == {"succeeded": 2}
