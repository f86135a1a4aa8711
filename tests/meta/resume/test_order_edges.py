"""Recorded and resumed runs with order edges."""

from __future__ import annotations

import pytest
from order_tasks import create_table, extract, load, load_by_name, report

from flowkit import DAG, Flow, ResumeError, Task

LOADED = "7 rows in orders"
RESULTS = {"create_table": None, "extract": 7, "load": LOADED, "report": f"report: {LOADED}"}


def pipeline(kind="dag", **options):
    """Return a pipeline in which a load waits for the creation of a table."""
    lock, source, sink, last = Task(create_table, **options), Task(extract), Task(load), Task(report)
    if kind == "flow":
        return Flow("order").branch(lock, source).merge(sink.after(lock)).add(last)
    source >> sink.after(lock) >> last
    return DAG("order", tasks=[lock, last])


kinds = pytest.mark.parametrize("kind", ["dag", "flow"])


def record(box):
    return box.state().runs()[0]


def states(box):
    return {name: item.state for name, item in record(box).tasks.items()}


def test_order_edge_between_stages_of_flow_with_every_executor(box, executor):
    lock, source, sink, last = Task(create_table), Task(extract), Task(load), Task(report)
    flow = Flow("order").add(lock).add(source.after(lock)).add(sink.after(lock)).add(last)
    assert flow.run(executor, params=box.params) == RESULTS


@kinds
def test_order_edge_run_is_recorded(box, executor, kind):
    assert pipeline(kind).run(executor, state=box.db, params=box.params) == RESULTS
    assert set(states(box).values()) == {"succeeded"}
    assert record(box).status == "succeeded"
    assert sorted(box.ran) == sorted(RESULTS)


@kinds
@pytest.mark.parametrize("broken", ["extract", "load", "report"])
def test_order_edge_run_is_resumed_after_failed_task(box, executor, kind, broken):
    box.inject(broken, "fail")
    with pytest.raises(ValueError, match="is broken"):
        pipeline(kind).run("serial", state=box.db, params=box.params)
    done = list(box.ran)
    done.remove(broken)
    box.repair(broken)
    results = pipeline(kind).run(executor, state=box.db, params=box.params, resume=True)
    assert results == RESULTS
    assert set(done) <= set(results.resumed)
    assert box.ran.count(broken) == 2
    assert all(box.ran.count(name) == 1 for name in RESULTS if name != broken)


@kinds
def test_order_edge_run_is_resumed_after_failure_of_order_upstream(box, kind):
    box.inject("create_table", "fail")
    results = pipeline(kind).run("serial", state=box.db, params=box.params, raise_on_failure=False, fail_fast=False)
    assert results.states["load"] == "upstream_failed"
    assert states(box) == {
        "create_table": "failed",
        "extract": "succeeded",
        "load": "upstream_failed",
        "report": "upstream_failed",
    }
    box.repair("create_table")
    results = pipeline(kind).run("serial", state=box.db, params=box.params, resume=True)
    assert results == RESULTS
    assert results.resumed == ("extract",)


@kinds
def test_order_edge_to_skipped_task_is_resumed(box, kind):
    def skipping():
        return pipeline(kind, when=lambda: False)

    box.inject("load", "fail")
    with pytest.raises(ValueError, match="is broken"):
        skipping().run("serial", state=box.db, params=box.params)
    box.repair("load")
    results = skipping().run("serial", state=box.db, params=box.params, resume=True)
    assert results == {name: value for name, value in RESULTS.items() if name != "create_table"}
    assert results.states["create_table"] == "skipped"
    assert "create_table" not in box.ran


@pytest.mark.parametrize("first", ["no edge", "order", "data"])
@pytest.mark.parametrize("second", ["no edge", "order", "data"])
def test_order_edge_that_changed_raises_or_gives_results_of_new_pipeline(box, first, second):
    def wired(edge):
        lock, source, sink = Task(create_table), Task(extract), Task(load_by_name, name="load")
        source >> sink
        if edge == "order":
            sink.after(lock)
        if edge == "data":
            lock >> sink
        return DAG("order", tasks=[lock, sink])

    box.inject("load", "fail")
    with pytest.raises(ValueError, match="is broken"):
        wired(first).run("serial", state=box.db, params=box.params)
    box.repair("load")
    expected = f"7 rows in {'orders' if second != 'data' else None}"
    try:
        results = wired(second).run("serial", state=box.db, params=box.params, resume=True)
    except ResumeError:
        assert first != second
    else:
        assert results["load"] == expected
    assert wired(second).run("serial", state=box.db, params=box.params)["load"] == expected
