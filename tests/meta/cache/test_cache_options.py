"""`TaskCache` and the option `refresh` of a run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from durable_tasks import Box, ManualClock, step

from flowkit import DAG, CacheKeyError, StateManager, Task, TaskCache


def test_ttl_expired_runs_again(box):
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


def test_ttl_zero_runs_again(box):
    only = box.task("only", cache=TaskCache(ttl=0))
    for _ in range(2):
        DAG("ttl", tasks=[only]).run("serial", state=box.db)
    assert len(box.ran) == 2


def test_ttl_with_clock_set_back_expires(box):
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


def test_key_replaces_comparison_of_inputs(box):
    folder = box.folder

    def ask(connection, query):
        return step(folder, "ask", query.upper())

    def pipeline():
        return DAG("ask", tasks=[Task(ask, cache=TaskCache(key=lambda connection, query: query))])

    for query in ("a", "a", "b"):
        params = {"connection": object(), "query": query}
        assert pipeline().run("serial", state=box.db, params=params) == {"ask": query.upper()}
    assert len(box.ran) == 2


def test_key_with_other_parameters_raises_and_names_both_signatures():
    def ask(connection, query):
        return query

    def run():
        asking = Task(ask, name="orders", cache=TaskCache(key=lambda query: query))
        DAG("ask", tasks=[asking]).run("serial", params={"connection": 1, "query": "a"})

    with pytest.raises(CacheKeyError, match=r"of orders\(connection, query\): it does not take 'connection'"):
        run()


def test_key_that_raises_fails_task_without_retry(box):
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


def test_key_may_omit_idempotency_key(box):
    folder = box.folder

    def pay(amount, idempotency_key):
        return step(folder, "pay", amount)

    def pipeline():
        return DAG("pay", tasks=[Task(pay, cache=TaskCache(key=lambda amount: amount))])

    for amount in (1, 1, 2):
        assert pipeline().run("serial", state=box.db, params={"amount": amount}) == {"pay": amount}
    assert len(box.ran) == 2


def test_changed_version_runs_again(box):
    def pipeline(version):
        return DAG("versions", tasks=[box.task("only", cache=TaskCache(version=version))])

    for version in (None, 1, 2, 1, 2, None):
        pipeline(version).run("serial", state=box.db)
    assert len(box.ran) == 3


def test_cache_with_own_state_ignores_state_of_run(box):
    path = Path(box.folder, "cache.db")
    with StateManager(path) as shared:
        only = box.task("only", cache=TaskCache(shared))
        for state in (box.db, Path(box.folder, "other.db"), None):
            assert DAG("own", tasks=[only]).run("serial", state=state) == {"only": "only"}
    assert len(box.ran) == 1


@pytest.mark.parametrize("cache", ["yes", 1, TaskCache, 60.0])
def test_invalid_cache_option_raises(cache):
    with pytest.raises((ValueError, TypeError), match="cache"):
        Task(lambda: 1, name="wrong", cache=cache)


def test_with_options_sets_cache(box):
    plain = box.task("only")
    for _ in range(2):
        DAG("options", tasks=[plain.with_options(cache=True)]).run("serial", state=box.db)
    assert len(box.ran) == 1


def test_refresh_runs_all_or_named_tasks_again(box):
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


def test_refresh_replaces_cached_result(box):
    folder = box.folder

    def now():
        return step(folder, "now", len(Box(folder).ran))

    pipeline = DAG("now", tasks=[Task(now, cache=True)])
    values = [pipeline.run("serial", state=box.db, refresh=refresh)["now"] for refresh in (False, False, True, False)]
    assert values == [0, 0, 1, 1]


def test_refresh_without_state_runs_again(box):
    pipeline = DAG("memory", tasks=[box.task("only", cache=True)])
    for refresh in (False, True, {"only"}, False):
        pipeline.run("serial", refresh=refresh)
    assert len(box.ran) == 3


def test_refresh_runs_downstream_only_if_result_changed(box):
    folder = box.folder

    def now():
        return step(folder, "now", Path(folder, "clock").read_text())

    def upper(now):
        return step(folder, "upper", now.upper())

    tasks = Task(now, cache=True), Task(upper, cache=True)
    tasks[0] >> tasks[1]
    pipeline = DAG("chain", tasks=tasks[1:])
    values = []
    for text, refresh in (("a", False), ("b", False), ("b", {"now"}), ("b", {"now"})):
        Path(folder, "clock").write_text(text)
        values.append(pipeline.run("serial", state=box.db, refresh=refresh)["upper"])
    assert values == ["A", "A", "B", "B"]
    assert box.ran == ["now", "upper", "now", "upper", "now"]


def test_resumed_run_uses_own_results_before_cache(box):
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


def test_new_run_after_failure_uses_cache(box):
    one, two = box.task("one", cache=True), box.task("two", cache=True)
    one >> two
    box.inject("two", "fail")
    pipeline = DAG("fresh", tasks=[two])
    pipeline.run("serial", state=box.db, raise_on_failure=False)
    box.repair("two")
    results = pipeline.run("serial", state=box.db)
    assert set(results.cached) == {"one"}
    assert box.ran == ["one", "two", "two"]


def test_refresh_does_not_repeat_recorded_task_of_resumed_run(box):
    one, two = box.task("one", cache=True), box.task("two", cache=True)
    one >> two
    box.inject("two", "fail")
    pipeline = DAG("both", tasks=[two])
    pipeline.run("serial", state=box.db, raise_on_failure=False)
    box.repair("two")
    results = pipeline.run("serial", state=box.db, resume=True, refresh=True)
    assert results == {"one": "one", "two": "two(one)"}
    assert box.ran == ["one", "two", "two"]
