"""``after()`` between the tasks of a flow: order on top of the stages, and never an argument."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, BindingError, DAGCycleError, Group, Task
from flowkit_flow import Flow


def value(name, result=None, **options):
    """Return a task without parameters that returns a value, by default its own name."""
    return Task(lambda: name if result is None else result, name=name, **options)


def failing(name):
    """Return a task that raises a ValueError."""

    def fail():
        raise ValueError(name)

    return Task(fail, name=name)


def edges(flow):
    """Return the edges of a flow as pairs of names, and those of them that are order-only."""
    graph = flow.graph()
    every = {(graph.names[index], node.name) for node in graph for index in node.upstream}
    return every, {(graph.names[index], node.name) for node in graph for index in node.waits}


def test_after_between_tasks_of_one_stage_orders_them():
    """Branches are side by side, unless one waits for another."""
    ran = []
    first, second = (Task(lambda name=name: ran.append(name), name=name) for name in ("first", "second"))
    flow = Flow("f").branch(first.after(second), second)
    assert edges(flow) == ({("second", "first")}, {("second", "first")})
    assert list(flow.run("serial")) == ["second", "first"]
    assert ran == ["second", "first"]


def test_after_between_tasks_of_one_stage_passes_nothing():
    """Each takes the result of the stage before."""
    start = value("start")
    first, second = (Task(lambda x, y=name: (x, y), name=name) for name in ("first", "second"))
    second.after(first)
    results = Flow("f").add(start).branch(first, second).run("serial")
    assert results == {"start": "start", "first": ("start", "first"), "second": ("start", "second")}


def test_after_task_of_same_name_in_same_stage_leaves_parameter_open():
    """A task of the same stage is not earlier, also where it runs before."""
    first, second = value("first"), Task(lambda first: first, name="second")
    flow = Flow("f").branch(first, second.after(first))
    with pytest.raises(BindingError, match="'first'"):
        flow.run("serial")
    assert flow.run("serial", params={"first": 1}) == {"first": "first", "second": 1}


def test_after_task_of_stage_before_takes_no_part_in_binding():
    """Of two branches, the one that is waited for is not the one whose result is left over."""
    extract, create_table = value("extract"), Task(lambda: None, name="create_table")
    load = Task(lambda rows, db="prod.db": (rows, db), name="load")
    flow = Flow("f").branch(create_table, extract).merge(load.after(create_table))
    assert flow.run("serial")["load"] == ("extract", "prod.db")
    assert edges(flow)[1] == {("create_table", "load")}


@pytest.mark.parametrize(
    ("func", "expected"),
    [(lambda *args: args, ("extract",)), (lambda **kwargs: kwargs, {"extract": "extract"}), (lambda: "ran", "ran")],
    ids=["*args", "**kwargs", "nothing"],
)
def test_after_task_of_stage_before_is_in_no_rest(func, expected):
    """Neither in *args nor in **kwargs."""
    load = Task(func, name="load")
    load.after(lock := value("lock"))
    assert Flow("f").branch(lock, value("extract")).merge(load).run("serial")["load"] == expected


def test_after_task_of_distant_stage_applies():
    """An ancestor it was anyway; now the edge is drawn."""
    lock, start = value("lock"), value("start")
    middle, end = Task(lambda lock: lock, name="middle"), Task(lambda middle: middle, name="end")
    flow = Flow("f").add(lock).add(middle).add(end.after(lock))
    assert edges(flow)[1] == {("lock", "end")}
    assert flow.run("serial") == {"lock": "lock", "middle": "lock", "end": "lock"}
    assert start.downstream == ()


def test_after_task_that_is_not_in_flow_is_ignored():
    """It applies between tasks of the flow."""
    lock, load = value("lock"), value("load")
    assert Flow("f").add(load.after(lock)).run("serial") == {"load": "load"}


def test_after_added_later_applies_in_next_run():
    """Before or after the tasks were added."""
    lock, load = value("lock"), value("load")
    flow = Flow("f").branch(load, lock)
    assert list(flow.run("serial")) == ["load", "lock"]
    load.after(lock)
    assert list(flow.run("serial")) == ["lock", "load"]


def test_after_group_in_flow():
    """Each of the group waits."""
    lock, one, two = value("lock"), value("one"), value("two")
    Group([one, two]).after(lock)
    assert edges(Flow("f").branch(one, two, lock))[1] == {("lock", "one"), ("lock", "two")}


def test_after_later_task_raises_cycle_error():
    """A stage cannot wait for one that comes after it."""
    first, second = value("first"), Task(lambda first: first, name="second")
    first.after(second)
    with pytest.raises(DAGCycleError) as caught:
        Flow("f").add(first).add(second).run("serial")
    assert sorted(caught.value.cycle[1:]) == ["first", "second"]


def test_after_failed_task_in_same_stage_is_upstream_failed():
    """Failure counts."""
    lock, load = failing("lock"), value("load")
    results = Flow("f").branch(load.after(lock), lock).run("serial", raise_on_failure=False, fail_fast=False)
    assert results.states == {"lock": "failed", "load": "upstream_failed"}


@pytest.mark.parametrize("stages", ["same", "different"])
def test_after_skipped_task_runs(stages):
    """A skip does not."""
    migrate, load = value("migrate", when=lambda: False), value("load")
    load.after(migrate)
    flow = Flow("f").branch(migrate, load) if stages == "same" else Flow("f").add(migrate).add(load)
    assert flow.run("serial") == {"load": "load"}


def test_after_is_drawn_dashed():
    """In every format."""
    lock, load = value("lock"), value("load")
    flow = Flow("f").branch(load.after(lock), lock)
    assert "dashed: order only" in flow.visualize()
    assert "-.->" in flow.visualize("mermaid")
    assert "[style=dashed]" in flow.visualize("dot")


def test_data_edge_of_wiring_plays_no_part_in_flow():
    """Only after() applies; '>>' belongs to DAGs."""
    first, second = value("first"), value("second")
    second >> first
    flow = Flow("f").branch(first, second)
    assert edges(flow) == (set(), set())
    assert list(DAG("d", tasks=[first]).run("serial")) == ["second", "first"]


def test_after_in_block_is_not_seen_by_flow():
    """An edge that is made in a block is seen by no other pipeline."""
    lock, load = value("lock"), value("load")
    with DAG("block") as block:
        load.after(lock)
    assert edges(Flow("f").branch(load, lock)) == (set(), set())
    assert list(block.run("serial")) == ["lock", "load"]


def test_graph_of_flow_is_built_again_only_after_a_change():
    """A task elsewhere is none; a new stage, and a new edge between its tasks, are."""
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
