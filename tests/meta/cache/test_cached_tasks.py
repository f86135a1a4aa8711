"""Results that are used again: the same code and the same inputs, in whatever run and process, and nothing else."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import durable_tasks
import pytest
from durable_tasks import Box, ManualClock, Point, diamond, record_execution, step

from flowkit import (
    DAG,
    CacheKeyError,
    Flow,
    StateManager,
    Task,
    TaskCache,
    TaskReused,
    UnknownRunError,
    UnsupportedValueError,
    get_logger,
    task,
)

logger = get_logger("cached").bind(folder="a")


def square(folder, value):
    """Return a pipeline of a task that makes a value, and a cached one that squares it."""

    def made():
        return value

    def squared(made):
        return step(folder, "squared", made * made)

    return pair(made, squared, cache=True)


def pair(first, second, **options):
    """Return a pipeline of two functions, the second of which is a task with these options."""
    tasks = Task(first), Task(second, **options)
    tasks[0] >> tasks[1]
    return DAG("pair", tasks=tasks[1:])


def why(box, run_id=None):
    with StateManager(box.db) as state:
        return state.explain(run_id)


# What is used again


def test_a_result_is_used_again(box, executor):
    """In another run, with any executor."""
    first = diamond(cache=True).run(executor, state=box.db, params=box.params)
    second = diamond(cache=True).run(executor, state=box.db, params=box.params)
    assert first == second == durable_tasks.RESULTS
    assert (set(first.cached), set(second.cached)) == (set(), set(durable_tasks.RESULTS))
    assert set(second.resumed) == set()
    assert second.states == dict.fromkeys(durable_tasks.RESULTS, "succeeded")
    assert first.run_id != second.run_id
    assert Counter(box.ran) == dict.fromkeys(durable_tasks.RESULTS, 1)


def test_one_executor_uses_what_another_has_computed(box):
    for number, name in enumerate(("process", "thread", "serial", "process")):
        results = diamond(cache=True).run(name, state=box.db, params=box.params)
        assert len(results.cached) == (4 if number else 0)
    assert len(box.ran) == 4


def test_only_what_is_cached_is_used_again(box):
    pipeline = square(box.folder, 3)
    assert pipeline.run("serial", state=box.db) == {"made": 3, "squared": 9}
    results = pipeline.run("serial", state=box.db)
    assert results == {"made": 3, "squared": 9}
    assert set(results.cached) == {"squared"}
    assert box.ran == ["squared"]


def test_without_a_state_the_memory_of_the_process_keeps_it(box):
    pipeline = square(box.folder, 3)
    assert pipeline.run("serial") == pipeline.run("thread") == {"made": 3, "squared": 9}
    assert box.ran == ["squared"]
    assert not Path(box.db).exists()


def test_a_cache_may_be_switched_off(box):
    folder = box.folder

    def made():
        return step(folder, "made", 1)

    for _ in range(2):
        DAG("off", tasks=[Task(made, cache=False)]).run("serial", state=box.db)
    assert box.ran == ["made", "made"]


def test_other_inputs_are_another_result(box):
    for value in (3, 4, 3, 4):
        assert square(box.folder, value).run("serial", state=box.db)["squared"] == value * value
    assert box.ran == ["squared", "squared"]


def test_inputs_are_compared_by_content_and_type(box):
    folder = box.folder

    def kind(value):
        return step(folder, "kind", repr(value))

    pipeline = DAG("kinds", tasks=[Task(kind, cache=True)])
    values = [
        1,
        True,
        1.0,
        "1",
        b"1",
        (1,),
        [1],
        {1},
        {1: 1},
        {"1": 1},
        0.0,
        -0.0,
        None,
        list(range(1000)),
        float("nan"),
    ]
    for _ in range(2):
        for value in values:
            assert pipeline.run("serial", state=box.db, params={"value": value}) == {"kind": repr(value)}
    assert len(box.ran) == len(values)


def test_the_order_in_which_a_dict_or_a_set_was_filled(box):
    """Counts for a dict, whose order a task can see, or does no harm; never for a set."""
    folder = box.folder

    def shown(value):
        return step(folder, "shown", list(value))

    pipeline = DAG("order", tasks=[Task(shown, cache=True)])
    for value in ({"a": 1, "b": 2}, {"b": 2, "a": 1}):
        assert pipeline.run("serial", state=box.db, params={"value": value}) == {"shown": list(value)}


def test_what_came_through_args_counts_in_its_order(box):
    folder = box.folder

    def join(*parts):
        return step(folder, "join", "-".join(parts))

    def pipeline(*values):
        joined = Task(join, cache=True)
        for number, value in enumerate(values):
            Task(lambda value=value: value, name=f"part_{number}") >> joined
        return DAG("join", tasks=[joined])

    for values in (("a", "b"), ("b", "a"), ("a", "b"), ("a",), ("a-b",)):
        assert pipeline(*values).run("serial", state=box.db)["join"] == "-".join(values)
    assert len(box.ran) == 4


def test_defaults_count(box):
    folder = box.folder

    def make(default):
        def scaled(factor=default):
            return step(folder, "scaled", factor)

        return DAG("defaults", tasks=[Task(scaled, cache=True)])

    assert make(1).run("serial", state=box.db) == {"scaled": 1}
    assert make(2).run("serial", state=box.db) == {"scaled": 2}
    assert make(1).run("serial", state=box.db) == {"scaled": 1}
    assert make(1).run("serial", state=box.db, params={"factor": 3}) == {"scaled": 3}
    assert len(box.ran) == 3


def test_closures_count(box):
    folder = box.folder

    def make(value):
        def scaled():
            return step(folder, "scaled", value)

        return DAG("closures", tasks=[Task(scaled, cache=True)])

    for value in (1, 2, 1):
        assert make(value).run("serial", state=box.db) == {"scaled": value}
    assert len(box.ran) == 2


def test_none_is_a_result(box):
    folder = box.folder

    def nothing():
        return step(folder, "nothing", None)

    pipeline = DAG("nothing", tasks=[Task(nothing, cache=True)])
    for _ in range(2):
        assert pipeline.run("serial", state=box.db) == {"nothing": None}
    assert box.ran == ["nothing"]


def test_async_tasks_and_flows_are_cached(box):
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


def test_what_is_done_to_a_result_is_not_done_to_the_cache(box):
    folder = box.folder

    def rows():
        return step(folder, "rows", [1])

    def append(rows):
        rows.append(2)
        return list(rows)

    first, second = Task(rows, cache=True), Task(append)
    first >> second
    pipeline = DAG("mutation", tasks=[second])
    for place in (box.db, None):
        for _ in range(3):
            results = pipeline.run("serial", state=place)
            assert results["append"] == [1, 2]
            results["rows"].append(3)
    assert box.ran == ["rows", "rows"], "once for the file, once for the memory"


def test_a_cached_value_goes_to_what_is_not_cached(box):
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


def test_two_tasks_of_one_run_may_share_a_result(box):
    """Or not; what comes out is right."""
    folder = box.folder

    def make():
        return step(folder, "make", 5)

    tasks = [Task(make, name=name, cache=True) for name in ("one", "two")]
    for _ in range(2):
        assert DAG("twins", tasks=tasks).run("serial", state=box.db) == {"one": 5, "two": 5}
    assert len(box.ran) <= 2


def test_large_results_are_cached(box):
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


# What is not


def test_failures_are_not_cached(box):
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


def test_an_attempt_that_fails_is_not_cached_and_the_next_is(box):
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


def test_a_condition_goes_before_the_cache(box):
    """A task that is not wanted is skipped, though its result is known; a skip is not remembered."""
    folder = box.folder

    def wanted():
        record_execution(folder, "asked")
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
    assert box.ran == ["asked", "only", "asked", "asked"]


def test_a_default_in_place_of_what_was_skipped_is_an_input_like_any(box):
    folder = box.folder

    def optional():
        return 5

    def use(optional=0):
        return step(folder, "use", optional)

    def pipeline(wanted):
        first, second = Task(optional, when=lambda: wanted), Task(use, cache=True)
        first >> second
        return DAG("optional", tasks=[second])

    for wanted in (True, False, True, False):
        assert pipeline(wanted).run("serial", state=box.db)["use"] == (5 if wanted else 0)
    assert box.ran == ["use", "use"]


def test_an_input_that_cannot_be_compared_is_not_guessed(box, caplog):
    """The task runs each time, and the log says so once."""
    folder = box.folder

    def made():
        return iter([1])

    def use(made):
        return step(folder, "use", list(made))

    pipeline = pair(made, use, cache=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            results = pipeline.run("serial")
            assert results["use"] == [1]
            assert set(results.cached) == set()
    assert box.ran == ["use"] * 3
    said = [record.getMessage() for record in caplog.records if "use" in record.getMessage()]
    assert len(said) == 1
    assert "list_iterator" in said[0]


OPTIONS = """
import argparse
from configparser import ConfigParser

from flowkit import DAG, task

args = argparse.Namespace(limit=LIMIT, verbose=VERBOSE)
config = ConfigParser()
config.read_string("[etl]\\nrate = RATE")


@task(cache=True)
def extract():
    return args.limit


@task(cache=True)
def clean(extract):
    return extract * config["etl"].getint("rate")


extract >> clean
etl = DAG("etl", tasks=[clean])
"""


def test_options_and_configurations_are_compared(box, load):
    def run(**values):
        source = OPTIONS
        for name, value in values.items():
            source = source.replace(name, str(value))
        results = load(source).etl.run("serial", state=box.db)
        with StateManager(box.db) as state:
            return results["clean"], set(results.cached), state.explain()

    assert run(LIMIT=10, VERBOSE=0, RATE=1)[:2] == (10, set())
    assert run(LIMIT=10, VERBOSE=1, RATE=1)[:2] == (10, {"extract", "clean"})
    value, cached, why = run(LIMIT=10, VERBOSE=0, RATE=2)
    assert (value, cached, why["clean"]) == (20, {"extract"}, "constant etl.config has changed")
    value, cached, why = run(LIMIT=20, VERBOSE=0, RATE=2)
    assert (value, cached, why["extract"]) == (40, set(), "constant etl.args.limit has changed")


def test_an_idempotency_key_is_no_input(box):
    """It is another one in each run, and would make every look-up a miss."""
    folder = box.folder

    def pay(idempotency_key):
        return step(folder, "pay", len(idempotency_key) > 0)

    pipeline = DAG("pay", tasks=[Task(pay, cache=True)])
    for _ in range(2):
        assert pipeline.run("serial", state=box.db) == {"pay": True}
    assert box.ran == ["pay"]


def test_a_result_that_cannot_be_kept_is_no_fault_where_nothing_is_recorded(box, caplog):
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
        pipeline.run("serial", state=box.db)


def test_two_functions_of_one_name_are_two(box, load):
    source = (
        "from flowkit import DAG, task\n@task(cache=True)\ndef same():\n    return 1\ndag = DAG('{0}', tasks=[same])"
    )
    one = load(source.format("one"), "one").dag
    two = load(source.replace("return 1", "return 2").format("two"), "two").dag
    for _ in range(2):
        assert one.run("serial", state=box.db) == {"same": 1}
        assert two.run("serial", state=box.db) == {"same": 2}


# TaskCache


def test_ttl(box):
    clock = ManualClock()
    only = box.task("only", cache=TaskCache(ttl=60))
    with StateManager(box.db, clock=clock) as state:
        for seconds, ran in ((0, 1), (59, 1), (2, 2), (59, 2)):
            clock.now += seconds
            assert DAG("ttl", tasks=[only]).run("serial", state=state) == {"only": "only"}
            assert len(box.ran) == ran
        clock.now += 100
        DAG("ttl", tasks=[only]).run("serial", state=state)
        assert "expired" in state.explain()["only"]


def test_ttl_zero_is_never(box):
    only = box.task("only", cache=TaskCache(ttl=0))
    for _ in range(2):
        DAG("ttl", tasks=[only]).run("serial", state=box.db)
    assert len(box.ran) == 2


def test_a_clock_set_back_does_not_make_a_result_last_for_ever(box):
    clock = ManualClock()
    only = box.task("only", cache=TaskCache(ttl=60))
    pipeline = DAG("ttl", tasks=[only])
    with StateManager(box.db, clock=clock) as state:
        pipeline.run("serial", state=state)
        clock.now -= 1_000_000
        pipeline.run("serial", state=state)
        clock.now += 61
        pipeline.run("serial", state=state)
    assert len(box.ran) >= 2


def test_key_says_what_counts(box):
    folder = box.folder

    def ask(connection, query):
        return step(folder, "ask", query.upper())

    def pipeline():
        return DAG("ask", tasks=[Task(ask, cache=TaskCache(key=lambda connection, query: query))])

    for query in ("a", "a", "b"):
        params = {"connection": object(), "query": query}
        assert pipeline().run("serial", state=box.db, params=params) == {"ask": query.upper()}
    assert len(box.ran) == 2


def test_key_that_does_not_take_the_arguments_of_the_task_is_an_error_that_names_both():
    def ask(connection, query):
        return query

    def run():
        asking = Task(ask, name="orders", cache=TaskCache(key=lambda query: query))
        DAG("ask", tasks=[asking]).run("serial", params={"connection": 1, "query": "a"})

    with pytest.raises(CacheKeyError, match=r"of orders\(connection, query\): it does not take 'connection'"):
        run()


def test_key_that_raises_fails_the_task_with_a_note_and_is_not_retried(box):
    folder = box.folder

    def load(rows):
        return step(folder, "load", len(rows))

    keys = []

    def key(rows):
        keys.append(rows)
        return rows["id"]

    loading = Task(load, cache=TaskCache(key=key), retries=2, delay=0)
    results = DAG("load", tasks=[loading]).run("serial", params={"rows": {}}, raise_on_failure=False)
    assert isinstance(results.failed["load"], KeyError)
    assert results.failed["load"].__notes__[0] == "flowkit: the key function of 'load', TaskCache(key=...), raised this"
    assert len(keys) == 1
    assert box.ran == []


def test_key_may_leave_out_the_idempotency_key(box):
    folder = box.folder

    def pay(amount, idempotency_key):
        return step(folder, "pay", amount)

    def pipeline():
        return DAG("pay", tasks=[Task(pay, cache=TaskCache(key=lambda amount: amount))])

    for amount in (1, 1, 2):
        assert pipeline().run("serial", state=box.db, params={"amount": amount}) == {"pay": amount}
    assert len(box.ran) == 2


def test_version_forgets(box):
    def pipeline(version):
        return DAG("versions", tasks=[box.task("only", cache=TaskCache(version=version))])

    for version in (None, 1, 2, 1, 2, None):
        pipeline(version).run("serial", state=box.db)
    assert len(box.ran) == 3


def test_a_cache_with_a_state_of_its_own(box):
    """It is that, whatever the state of the run; one may be shared by pipelines."""
    path = Path(box.folder, "cache.db")
    with StateManager(path) as shared:
        only = box.task("only", cache=TaskCache(shared))
        for place in (box.db, Path(box.folder, "other.db"), None):
            assert DAG("own", tasks=[only]).run("serial", state=place) == {"only": "only"}
    assert len(box.ran) == 1


@pytest.mark.parametrize("cache", ["yes", 1, TaskCache, 60.0])
def test_a_cache_option_that_cannot_be_meant(cache):
    with pytest.raises((ValueError, TypeError), match="cache"):
        Task(lambda: 1, name="wrong", cache=cache)


def test_with_options_changes_the_cache(box):
    plain = box.task("only")
    for _ in range(2):
        DAG("options", tasks=[plain.with_options(cache=True)]).run("serial", state=box.db)
    assert len(box.ran) == 1


# Refresh


def test_refresh(box):
    """All, or those that are named; what comes out is kept from then on."""
    one, two = box.task("one", cache=True), box.task("two", cache=True)
    pipeline = DAG("refresh", tasks=[one, two])
    ran = []
    for refresh in (False, True, {"two"}, ["one"], False, set()):
        before = len(box.ran)
        results = pipeline.run("serial", state=box.db, refresh=refresh)
        assert results == {"one": "one", "two": "two"}
        ran.append(box.ran[before:])
        assert set(results.cached) == {"one", "two"} - set(ran[-1])
    assert ran == [["one", "two"], ["one", "two"], ["two"], ["one"], [], []]


def test_a_refreshed_result_takes_the_place_of_the_old(box):
    folder = box.folder

    def now():
        return step(folder, "now", len(Box(folder).ran))

    pipeline = DAG("now", tasks=[Task(now, cache=True)])
    found = [pipeline.run("serial", state=box.db, refresh=refresh)["now"] for refresh in (False, False, True, False)]
    assert found == [0, 0, 1, 1]


def test_refresh_works_without_a_state(box):
    pipeline = DAG("memory", tasks=[box.task("only", cache=True)])
    for refresh in (False, True, {"only"}, False):
        pipeline.run("serial", refresh=refresh)
    assert len(box.ran) == 3


def test_refresh_of_a_task_reaches_those_after_it_through_its_result(box):
    folder = box.folder

    def now():
        return step(folder, "now", Path(folder, "clock").read_text())

    def upper(now):
        return step(folder, "upper", now.upper())

    tasks = Task(now, cache=True), Task(upper, cache=True)
    tasks[0] >> tasks[1]
    pipeline = DAG("chain", tasks=tasks[1:])
    found = []
    for text, refresh in (("a", False), ("b", False), ("b", {"now"}), ("b", {"now"})):
        Path(folder, "clock").write_text(text)
        found.append(pipeline.run("serial", state=box.db, refresh=refresh)["upper"])
    assert found == ["A", "A", "B", "B"]
    assert box.ran == ["now", "upper", "now", "upper", "now"]


# Cache and resume


def test_resume_and_cache(box):
    """What was done in the run itself is resumed; what another run has done comes from the cache."""
    one, two, three = (box.task(name, cache=True) for name in ("one", "two", "three"))
    one >> two >> three
    DAG("other", tasks=[one]).run("serial", state=box.db)
    pipeline = DAG("main", tasks=[three])
    box.inject("three", "fail")
    first = pipeline.run("serial", state=box.db, raise_on_failure=False)
    assert set(first.cached) == {"one"}
    box.repair("three")
    results = pipeline.run("serial", state=box.db, resume=True)
    assert (set(results.resumed), set(results.cached)) == ({"one", "two"}, set())
    again = pipeline.run("serial", state=box.db, resume=True)
    assert (set(again.resumed), set(again.cached)) == (set(), {"one", "two", "three"})
    assert Counter(box.ran) == {"one": 1, "two": 1, "three": 2}
    last, before, _ = box.state().runs()
    assert {name: item.source for name, item in last.tasks.items()} == dict.fromkeys(again, "cache")
    assert before.tasks["three"].source == "run"
    assert before.tasks["two"].source in ("run", "resume")


def test_a_fresh_run_after_a_failed_one_uses_the_cache(box):
    one, two = box.task("one", cache=True), box.task("two", cache=True)
    one >> two
    box.inject("two", "fail")
    pipeline = DAG("fresh", tasks=[two])
    pipeline.run("serial", state=box.db, raise_on_failure=False)
    box.repair("two")
    results = pipeline.run("serial", state=box.db)
    assert set(results.cached) == {"one"}
    assert box.ran == ["one", "two", "two"]


def test_refresh_and_resume(box):
    """What was recorded in this run is done: it is not computed again."""
    one, two = box.task("one", cache=True), box.task("two", cache=True)
    one >> two
    box.inject("two", "fail")
    pipeline = DAG("both", tasks=[two])
    pipeline.run("serial", state=box.db, raise_on_failure=False)
    box.repair("two")
    results = pipeline.run("serial", state=box.db, resume=True, refresh=True)
    assert results == {"one": "one", "two": "two(one)"}
    assert box.ran == ["one", "two", "two"]


# Events


def test_events_of_a_reused_result(box):
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


# Why did this run again?


ETL = """
from flowkit import DAG, task
from durable_tasks import step

RATE = 10
LIMITS = {"low", "high", "middle", "none"}


def convert(row):
    return adjust(row) * RATE


def adjust(row):
    return row + 0


class Rounding:
    digits = 1

    def apply(self, value):
        return round(value, self.digits)


@task
def rows():
    return [1, 2]


@task(cache=True)
def clean(rows):
    assert "low" in LIMITS
    assert "low" in {"low", "high", "other"}
    return step(FOLDER, "clean", [Rounding().apply(convert(row)) for row in rows])


@task(cache=True)
def total(clean, scale=1):
    return step(FOLDER, "total", sum(clean) * scale)


def unrelated():
    return 1


rows >> clean >> total
etl = DAG("etl", tasks=[total])
"""


@pytest.fixture
def etl(box, load):
    """Return a function that runs the pipeline of an edited source, and returns what ran and the explanations."""
    constant = f"FOLDER = {box.folder!r}\n"

    def run(*pairs, **options):
        source = ETL
        for old, new in pairs:
            assert old in source
            source = source.replace(old, new)
        before = len(box.ran)
        # the folder is an annotation-free constant behind the code, so that line numbers stay as in the source
        load(source.replace("rows >> clean", constant + "rows >> clean")).etl.run("serial", state=box.db, **options)
        return box.ran[before:], why(box)

    return run


def test_explain_what_has_just_been_computed(etl):
    ran, explained = etl()
    assert ran == ["clean", "total"]
    assert explained.keys() == {"clean", "total"}, "those that are cached"
    assert all("never computed before" in text for text in explained.values())
    ran, explained = etl()
    assert ran == []
    assert all(text.startswith("reused") for text in explained.values())


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (("* RATE", "* 1 * RATE"), "function etl.convert has changed"),
        (("row + 0", "row - 0"), "function etl.adjust has changed"),
        (("RATE = 10", "RATE = 10.0"), "constant etl.RATE has changed"),
        (('"middle", "none"}', '"middle"}'), "constant etl.LIMITS has changed"),
        (("for row in rows]", "for row in list(rows)]"), "function etl.clean has changed"),
        (("round(value, self.digits)", "round(value + 0, self.digits)"), "etl.Rounding"),
        (("digits = 1", "digits = 2"), "etl.Rounding"),
        (("return [1, 2]", "return [1, 3]"), "input 'rows' has changed"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1],
)
def test_explain_what_has_changed(etl, pair, reason):
    etl()
    ran, explained = etl(pair)
    assert ran[0] == "clean"
    assert reason in explained["clean"]
    if "total" in ran:
        assert "input 'clean' has changed" in explained["total"]
    else:
        assert explained["total"].startswith("reused")
    ran, explained = etl(pair)
    assert ran == []
    ran, explained = etl()
    assert ran == [], "what was computed before is still known"


@pytest.mark.parametrize(
    "pair",
    [
        ("RATE = 10\n", "\n\n\n# a remark\nRATE = 10  # another\n"),
        ("return adjust(row) * RATE", "return (\n        adjust( row )\n        *  RATE  )  # remark"),
        ('{"low", "high", "middle", "none"}', '{"none", "middle", "high", "low"}'),
        ("def unrelated():\n    return 1", "def unrelated():\n    return 2"),
        ("def unrelated():\n    return 1\n", ""),
        ("@task(cache=True)\ndef clean", "@task(cache=True, retries=3, delay=0.5)\ndef clean"),
        ('DAG("etl"', 'DAG("other"'),
    ],
    ids=["comments", "format", "a set", "unrelated", "unrelated gone", "retries", "pipeline"],
)
def test_a_change_that_changes_nothing_keeps_results(etl, pair):
    etl()
    ran, explained = etl(pair)
    assert ran == []
    assert all(text.startswith("reused") for text in explained.values())


def test_explain_refresh(etl):
    etl()
    ran, explained = etl(refresh={"clean"})
    assert ran == ["clean"]
    assert "refresh was asked for" in explained["clean"]
    assert explained["total"].startswith("reused")


def test_explain_an_older_run(box, etl):
    etl()
    etl()
    with StateManager(box.db) as state:
        last, first = state.runs()
        assert "never computed before" in state.explain(first.run_id)["clean"]
        assert state.explain(last.run_id) == state.explain()
        assert state.explain()["clean"].startswith("reused")
        assert first.tasks["clean"].why in state.explain(first.run_id)["clean"]
        with pytest.raises(UnknownRunError):
            state.explain("no such run")


def test_explain_two_changes_names_both(etl):
    etl()
    _, explained = etl(("RATE = 10", "RATE = 11"), ("return [1, 2]", "return [5]"))
    assert "constant etl.RATE" in explained["clean"]
    assert "'rows'" in explained["clean"]


# Other processes


RUN = """
import json, sys
from etl import etl
from flowkit import StateManager

db, executor = sys.argv[1:]
if __name__ == "__main__":
    results = etl.run(executor, state=db)
    with StateManager(db) as state:
        print(json.dumps([dict(results), sorted(results.cached), state.explain()]))
"""


@pytest.fixture
def elsewhere(box, tmp_path, script):
    """Return a function that runs the pipeline of an edited source in a process of its own."""

    def run(*pairs, executor="serial", **variables):
        source = ETL.replace("rows >> clean", f"FOLDER = {box.folder!r}\nrows >> clean")
        for old, new in pairs:
            assert old in source
            source = source.replace(old, new)
        (tmp_path / "etl.py").write_text(source)
        return json.loads(script(RUN, box.db, executor, **variables))

    return run


def test_a_result_is_used_again_in_another_process(elsewhere, box):
    """With another hash seed and executor."""
    results, cached, _ = elsewhere(PYTHONHASHSEED="1")
    assert (results, cached) == ({"rows": [1, 2], "clean": [10, 20], "total": 30}, [])
    for options in (
        {"PYTHONHASHSEED": "2"},
        {"PYTHONHASHSEED": "3", "executor": "thread"},
        {"PYTHONHASHSEED": "4", "executor": "process"},
    ):
        again, cached, explained = elsewhere(**options)
        assert again == results
        assert cached == ["clean", "total"], explained
    assert box.ran == ["clean", "total"]


def test_a_changed_helper_and_constant_in_another_process(elsewhere, box):
    elsewhere()
    results, cached, explained = elsewhere(("RATE = 10", "RATE = 20"))
    assert (results["total"], cached) == (60, [])
    assert "constant etl.RATE has changed" in explained["clean"]
    results, cached, explained = elsewhere(("row + 0", "row + 1"))
    assert (results["total"], cached) == (50, [])
    assert "function etl.adjust has changed" in explained["clean"]
    results, cached, _ = elsewhere(("def convert", "# remark\n\ndef convert"))
    assert (results["total"], cached) == (30, ["clean", "total"])


def test_code_of_another_module_counts(box, tmp_path, script):
    helper, source = (
        "FACTOR = {0}\ndef helped(row):\n    return row * FACTOR\n",
        f"""
import helpers
from helpers import helped
from flowkit import DAG, StateManager, task
from durable_tasks import step

@task(cache=True)
def one():
    return step({box.folder!r}, "one", helped(1))

@task(cache=True)
def two():
    return step({box.folder!r}, "two", helpers.helped(2))

results = DAG("modules", tasks=[one, two]).run("serial", state={box.db!r})
print(dict(results), sorted(results.cached))
""",
    )
    for factor, out in ((1, "[]"), (1, "['one', 'two']"), (5, "[]"), (1, "['one', 'two']")):
        (tmp_path / "helpers.py").write_text(helper.format(factor))
        assert script(source) == f"{{'one': {factor}, 'two': {2 * factor}}} {out}\n"
    assert "constant helpers.FACTOR has changed" in explained_after(box, tmp_path, script, source, helper)


def explained_after(box, tmp_path, script, source, helper):
    (tmp_path / "helpers.py").write_text(helper.format(7))
    script(source)
    return why(box)["two"]


def test_a_script_and_its_workers_mean_the_same(box, script):
    """The module of a script is __main__ in one process, and not in another."""
    source = f"""
import sys
from flowkit import DAG, task
from durable_tasks import step

RATE = 3

def helped(value):
    return value * RATE

@task(cache=True)
def one():
    return step({box.folder!r}, "one", helped(1))

@task(cache=True)
def two(one):
    return step({box.folder!r}, "two", helped(one))

one >> two
results = DAG("script", tasks=[two]).run(sys.argv[1], state={box.db!r})
print(dict(results), sorted(results.cached))
"""
    for executor, cached in (("process", []), ("serial", ["one", "two"]), ("thread", ["one", "two"])):
        assert script(source, executor) == f"{{'one': 3, 'two': 9}} {cached}\n"
    assert len(box.ran) == 2


def test_processes_that_share_a_file_at_once(box, tmp_path):
    """Each gets the right results, none is told that the file is locked, and all is known afterwards."""
    source = """
import sys
from durable_tasks import Box, diamond, RESULTS
box = Box(sys.argv[1])
for number in range(5):
    results = diamond(f"numbers {sys.argv[2]}", cache=True).run("thread", state=box.db, params=box.params)
    assert results == RESULTS, results
    print(len(results.cached))
"""
    path = tmp_path / "sharing.py"
    path.write_text(source)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, path, box.folder]
    options = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen([*command, str(number)], **options) for number in range(3)]
    for process in started:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        assert out.splitlines()[1:] == ["4"] * 4
    assert max(Counter(box.ran).values()) <= 3
    results = diamond(cache=True).run("serial", state=box.db, params=box.params)
    assert len(results.cached) == 4
    with StateManager(box.db) as state:
        assert len(state.runs()) == 16


def test_threads_that_share_a_state_at_once(box):
    with StateManager(box.db) as state:
        found = []
        threads = [
            threading.Thread(
                target=lambda: found.append(diamond(cache=True).run("serial", state=state, params=box.params))
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [durable_tasks.RESULTS] * 4
        assert len(state.runs()) == 4
        assert max(Counter(box.ran).values()) <= 4


def test_a_task_that_logs_is_cached(box, monkeypatch):
    """A logger of flowkit's counts by its name and its context."""

    @task(cache=True)
    def told(folder):
        logger.info("here")
        return step(folder, "told", 1)

    dag = DAG("told", tasks=[told])
    for context, ran in (("a", 1), ("a", 1), ("b", 2)):
        monkeypatch.setitem(logger.context, "folder", context)
        dag.run("serial", params=box.params, state=box.db)
        assert box.ran == ["told"] * ran
