"""Order-only edges of ``after()`` between tasks of a flow."""

from __future__ import annotations

import pytest
from flow_tasks import edges, order_edges, value

from flowkit_core import DAG, BindingError, DAGCycleError, Group, Task
from flowkit_flow import Flow


def failing(name):
    """Return a task that raises a ValueError."""

    def fail():
        raise ValueError(name)

    return Task(fail, name=name)


def test_after_within_stage_orders_tasks():
    ran = []
    first, second = (Task(lambda name=name: ran.append(name), name=name) for name in ("first", "second"))
    flow = Flow("f").branch(first.after(second), second)
    assert edges(flow) == order_edges(flow) == {("second", "first")}
    assert list(flow.run("serial")) == ["second", "first"]
    assert ran == ["second", "first"]


def test_after_within_stage_passes_no_result():
    start = value("start")
    first, second = (Task(lambda x, y=name: (x, y), name=name) for name in ("first", "second"))
    second.after(first)
    results = Flow("f").add(start).branch(first, second).run("serial")
    assert results == {"start": "start", "first": ("start", "first"), "second": ("start", "second")}


def test_after_within_stage_does_not_bind_by_name():
    first, second = value("first"), Task(lambda first: first, name="second")
    flow = Flow("f").branch(first, second.after(first))
    with pytest.raises(BindingError, match="'first'"):
        flow.run("serial")
    assert flow.run("serial", params={"first": 1}) == {"first": "first", "second": 1}


def test_after_task_of_previous_stage_is_not_bound():
    extract, create_table = value("extract"), Task(lambda: None, name="create_table")
    load = Task(lambda rows, db="prod.db": (rows, db), name="load")
    flow = Flow("f").branch(create_table, extract).merge(load.after(create_table))
    assert flow.run("serial")["load"] == ("extract", "prod.db")
    assert order_edges(flow) == {("create_table", "load")}


@pytest.mark.parametrize(
    ("func", "expected"),
    [(lambda *args: args, ("extract",)), (lambda **kwargs: kwargs, {"extract": "extract"}), (lambda: "ran", "ran")],
    ids=["*args", "**kwargs", "nothing"],
)
def test_after_task_of_previous_stage_is_not_in_star_args(func, expected):
    load = Task(func, name="load")
    load.after(lock := value("lock"))
    assert Flow("f").branch(lock, value("extract")).merge(load).run("serial")["load"] == expected


def test_after_task_of_earlier_stage_adds_edge():
    lock, start = value("lock"), value("start")
    middle, end = Task(lambda lock: lock, name="middle"), Task(lambda middle: middle, name="end")
    flow = Flow("f").add(lock).add(middle).add(end.after(lock))
    assert order_edges(flow) == {("lock", "end")}
    assert flow.run("serial") == {"lock": "lock", "middle": "lock", "end": "lock"}
    assert start.downstream == ()


def test_after_task_outside_of_flow_is_ignored():
    lock, load = value("lock"), value("load")
    assert Flow("f").add(load.after(lock)).run("serial") == {"load": "load"}


def test_after_added_later_applies_in_next_run():
    lock, load = value("lock"), value("load")
    flow = Flow("f").branch(load, lock)
    assert list(flow.run("serial")) == ["load", "lock"]
    load.after(lock)
    assert list(flow.run("serial")) == ["lock", "load"]


def test_after_of_group_applies_to_all_members():
    lock, one, two = value("lock"), value("one"), value("two")
    Group([one, two]).after(lock)
    assert order_edges(Flow("f").branch(one, two, lock)) == {("lock", "one"), ("lock", "two")}


def test_after_later_task_raises_cycle_error():
    first, second = value("first"), Task(lambda first: first, name="second")
    first.after(second)
    with pytest.raises(DAGCycleError) as caught:
        Flow("f").add(first).add(second).run("serial")
    assert sorted(caught.value.cycle[1:]) == ["first", "second"]


def test_after_failed_task_is_upstream_failed():
    lock, load = failing("lock"), value("load")
    results = Flow("f").branch(load.after(lock), lock).run("serial", raise_on_failure=False, fail_fast=False)
    assert results.states == {"lock": "failed", "load": "upstream_failed"}


@pytest.mark.parametrize("stages", ["same", "different"])
def test_after_skipped_task_runs(stages):
    migrate, load = value("migrate", when=lambda: False), value("load")
    load.after(migrate)
    flow = Flow("f").branch(migrate, load) if stages == "same" else Flow("f").add(migrate).add(load)
    assert flow.run("serial") == {"load": "load"}


def test_after_edge_is_drawn_dashed():
    lock, load = value("lock"), value("load")
    flow = Flow("f").branch(load.after(lock), lock)
    assert "dashed: order only" in flow.visualize()
    assert "-.->" in flow.visualize("mermaid")
    assert "[style=dashed]" in flow.visualize("dot")


def test_data_edge_is_ignored_in_flow():
    first, second = value("first"), value("second")
    second >> first
    flow = Flow("f").branch(first, second)
    assert edges(flow) == set()
    assert list(DAG("d", tasks=[first]).run("serial")) == ["second", "first"]


def test_after_in_dag_block_is_ignored_in_flow():
    lock, load = value("lock"), value("load")
    with DAG("block") as block:
        load.after(lock)
    assert edges(Flow("f").branch(load, lock)) == set()
    assert list(block.run("serial")) == ["lock", "load"]


def test_graph_is_rebuilt_only_after_a_change():
    lock, load = Task(lambda: None, name="lock"), Task(lambda: 1, name="load")
    flow = Flow("f").branch(lock, load)
    graph = flow.graph()
    Task(lambda: 2, name="elsewhere")
    assert flow.graph() is graph
    load.after(lock)
    changed = flow.graph()
    assert changed is not graph
    assert [node.name for node in changed.first] == ["lock"]
    assert flow.graph() is changed
    assert len(flow.add(Task(lambda load: load, name="last")).graph()) == 3


def test_after_that_is_declared_between_two_runs_counts():
    first, second = Task(lambda: 1, name="first"), Task(lambda: 2, name="second")
    flow = Flow("f").branch(first, second)
    assert list(flow.run("serial")) == ["first", "second"]
    first.after(second)
    assert list(flow.run("serial")) == ["second", "first"]
