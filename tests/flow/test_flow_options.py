"""Options, parameters, methods and copies of a flow."""

from __future__ import annotations

import copy
import warnings

import pytest
from flow_tasks import value

from flowkit_core import BindingError, Task, task
from flowkit_flow import Flow


def type_error_of(call):
    """Return the message of the TypeError that a call raises."""
    with pytest.raises(TypeError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    ("keyword", "advice"),
    [
        ("workers", "'max_workers'"),
        ("n_jobs", "'max_workers'"),
        ("flow_name", "Flow('etl')"),
        ("schedule", "run() from cron"),
        ("tags", "no tags"),
        ("executor", "run(executor=...)"),
        ("retries", "@task(retries=3)"),
        ("max_worker", "did you mean 'max_workers'"),
        ("frobnicate", "there are: name, max_workers"),
    ],
)
def test_unknown_keyword_of_flow_raises_with_advice(keyword, advice):
    text = type_error_of(lambda: Flow("etl", **{keyword: 4}))
    assert "Flow('etl')" in text
    assert repr(keyword) in text
    assert advice in text


@pytest.mark.parametrize("keyword", ["task", "tasks"])
def test_tasks_keyword_of_flow_raises_and_suggests_add(keyword):
    assert "add(" in type_error_of(lambda: Flow("etl", **{keyword: [value("a")]}))


@pytest.mark.parametrize("keyword", ["workers", "logical_day"])
def test_unknown_keyword_of_run_raises_with_advice(keyword):
    assert repr(keyword) in type_error_of(lambda: Flow("etl").add(value("a")).run("serial", **{keyword: 4}))


def test_flag_of_run_that_is_no_bool_raises():
    assert "True or False" in type_error_of(lambda: Flow("etl").add(value("a")).run("serial", fail_fast="no"))


@pytest.mark.parametrize(
    ("given", "example"),
    [
        (lambda a, b: (a,), "write Flow('name').add(a)"),
        (lambda a, b: ([a, b],), "write Flow('name').add(a).add(b)"),
        (lambda a, b: ("etl", a), "write Flow('etl').add(a)"),
        (lambda a, b: ("etl", [a]), "write Flow('etl').add(a)"),
        (lambda a, b: ("etl", a, b), "write Flow('etl').add(a).add(b)"),
        (lambda a, b: ("etl", 4, [a, b]), "write Flow('etl').add(a).add(b)"),
    ],
    ids=["task", "list", "name and task", "name and list", "name and tasks", "workers and list"],
)
def test_tasks_by_position_raise_and_suggest_add(given, example):
    assert type_error_of(lambda: Flow(*given(value("a"), value("b")))).endswith(example)


def test_param_of_single_task_takes_precedence():
    one, two = (Task(lambda table: table, name=name) for name in ("etl.one", "etl.two"))
    results = Flow("f").branch(one, two).run("serial", params={"table": 0, "etl.two.table": 1})
    assert results == {"etl.one": 0, "etl.two": 1}


def test_param_filled_by_upstream_raises_and_names_upstream():
    flow = Flow("f").add(value("extract")).add(Task(lambda rows: rows, name="load"))
    for key in ("rows", "load.rows"):
        with pytest.raises(BindingError, match="filled by its upstream 'extract'"):
            flow.run("serial", params={key: 1})


def test_param_filled_by_upstream_raises_without_mention_of_dag_operators():
    flow = Flow("f").add(value("extract")).add(Task(lambda rows: rows, name="load"))
    with pytest.raises(BindingError) as caught:
        flow.run("serial", params={"rows": 1})
    assert ">>" not in str(caught.value)


def test_missing_parameter_raises_and_mentions_earlier_tasks():
    flow = Flow("f").add(value("users")).add(Task(lambda users, orders: 0, name="report"))
    with pytest.raises(BindingError, match="earlier task") as caught:
        flow.run("serial")
    assert ">>" not in str(caught.value)


def test_missing_parameter_named_like_task_that_was_not_added_raises_and_names_task():
    orders = value("orders")
    flow = Flow("f").add(value("users")).add(Task(lambda users, orders: 0, name="report"))
    with pytest.raises(BindingError, match="a task named 'orders' exists"):
        flow.run("serial")
    assert orders.downstream == ()


def test_missing_parameter_named_like_task_of_same_stage_raises():
    flow = Flow("f").branch(value("orders"), Task(lambda orders: 0, name="report"))
    with pytest.raises(BindingError, match="'orders'"):
        flow.run("serial")


def test_parameter_bound_to_upstream_annotated_none_warns_once():
    def create() -> None:
        pass

    flow = Flow("f").add(Task(create)).add(Task(lambda rows: rows, name="load"))
    with pytest.warns(RuntimeWarning, match=r"load\.after\(create\)") as caught:
        flow.run("serial")
    flow.run("serial")
    assert len(caught) == 1


def test_parameter_named_like_upstream_annotated_none_does_not_warn():
    def create() -> None:
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Flow("f").add(Task(create)).add(Task(lambda create: create, name="load")).run("serial")
        Flow("f").add(Task(create)).add(Task(lambda db="x": db, name="load")).run("serial")


def test_default_is_not_bound_by_order():
    flow = Flow("f").add(Task(lambda: None, name="create")).add(Task(lambda db="prod.db": db, name="load"))
    assert flow.run("serial")["load"] == "prod.db"


def test_condition_is_bound_by_name():
    load = Task(lambda rows, dry_run=False: rows, name="load", when=lambda dry_run: not dry_run)
    flow = Flow("f").add(value("extract")).add(load)
    assert flow.run("serial", params={"dry_run": True}).states["load"] == "skipped"
    assert flow.run("serial")["load"] == "extract"


def test_iterator_input_of_task_with_retries_warns():
    flow = Flow("f").add(Task(lambda: iter([1, 2]), name="rows")).add(Task(sum, name="total", retries=1, delay=0))
    with pytest.warns(RuntimeWarning, match="iterator"):
        assert flow.run("serial")["total"] == 3


class Orders:
    """A class with a method that is a task."""

    @task(retries=1, delay=0)
    def load(self, rows=()):
        return list(rows)


@pytest.mark.parametrize("method", [Orders.load, Orders().load], ids=["class", "object"])
@pytest.mark.parametrize("verb", ["add", "branch", "merge"])
def test_method_raises_and_suggests_task(method, verb):
    flow = Flow("f").add(value("a"))
    assert "Task(obj.load)" in type_error_of(lambda: getattr(flow, verb)(method))
    assert flow.run("serial") == {"a": "a"}


def test_task_of_bound_method_runs():
    made = Task(Orders().load)
    assert Flow("f").add(value("rows", "ab")).add(made).run("serial")["load"] == ["a", "b"]
    assert made.retries == 1


copies = pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])


@copies
def test_copy_of_flow_runs_and_draws_equally(duplicate):
    flow = Flow("f", max_workers=3).add(value("a")).add(Task(lambda a: a * 2, name="b"))
    again = duplicate(flow)
    assert type(again) is Flow
    assert (again.name, again.max_workers, again.tasks) == ("f", 3, flow.tasks)
    assert again.visualize() == flow.visualize()
    assert again.run("serial") == flow.run("serial") == {"a": "a", "b": "aa"}


@copies
def test_copy_of_flow_is_independent(duplicate):
    flow = Flow("f").add(value("a"))
    again = duplicate(flow)
    again.add(value("b"))
    flow.add(value("c"))
    assert flow.run("serial") == {"a": "a", "c": "c"}
    assert again.run("serial") == {"a": "a", "b": "b"}


@copies
def test_copy_of_flow_can_be_renamed_after_run(duplicate):
    flow = Flow("f").add(value("a"))
    flow.run("serial")
    again = duplicate(flow)
    again.name = "other"
    assert "other" in again.visualize()
    assert "other" not in flow.visualize()
