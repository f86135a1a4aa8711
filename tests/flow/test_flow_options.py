"""A flow's keywords, parameters, methods and copies, as far as they differ from those of a DAG."""

from __future__ import annotations

import copy
import warnings

import pytest

from flowkit_core import BindingError, Task, task
from flowkit_flow import Flow


def value(name, result=None):
    """Return a task without parameters that returns a value, by default its own name."""
    return Task(lambda: name if result is None else result, name=name)


def refused(call):
    """Return the text of the TypeError that a call raises."""
    with pytest.raises(TypeError) as caught:
        call()
    return str(caught.value)


# Keywords


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
def test_flow_unknown_keyword_is_type_error_with_advice(keyword, advice):
    """As for a DAG."""
    text = refused(lambda: Flow("etl", **{keyword: 4}))
    assert "Flow('etl')" in text
    assert repr(keyword) in text
    assert advice in text


@pytest.mark.parametrize("keyword", ["task", "tasks"])
def test_flow_tasks_keyword_says_add(keyword):
    """A flow has no option of that name, and is built by add()."""
    assert "add(" in refused(lambda: Flow("etl", **{keyword: [value("a")]}))


@pytest.mark.parametrize("keyword", ["workers", "logical_day"])
def test_flow_run_unknown_keyword_is_type_error_with_advice(keyword):
    """run() is that of every pipeline."""
    assert repr(keyword) in refused(lambda: Flow("etl").add(value("a")).run("serial", **{keyword: 4}))


def test_flow_run_switch_that_is_no_bool_is_type_error():
    """fail_fast="no"."""
    assert "True or False" in refused(lambda: Flow("etl").add(value("a")).run("serial", fail_fast="no"))


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
def test_flow_tasks_by_position_is_type_error_with_add(given, example):
    assert refused(lambda: Flow(*given(value("a"), value("b")))).endswith(example)


# Parameters


def test_flow_param_of_one_task_wins_over_plain_name():
    """As in a DAG."""
    one, two = (Task(lambda table: table, name=name) for name in ("etl.one", "etl.two"))
    results = Flow("f").branch(one, two).run("serial", params={"table": 0, "etl.two.table": 1})
    assert results == {"etl.one": 0, "etl.two": 1}


def test_flow_param_that_earlier_task_fills_names_it():
    """By name and by order."""
    flow = Flow("f").add(value("extract")).add(Task(lambda rows: rows, name="load"))
    for key in ("rows", "load.rows"):
        with pytest.raises(BindingError, match="filled by its upstream 'extract'"):
            flow.run("serial", params={key: 1})


def test_flow_param_that_earlier_task_fills_advises_in_terms_of_flow():
    """No '>>' in the error of a flow."""
    flow = Flow("f").add(value("extract")).add(Task(lambda rows: rows, name="load"))
    with pytest.raises(BindingError) as caught:
        flow.run("serial", params={"rows": 1})
    assert ">>" not in str(caught.value)


def test_flow_missing_parameter_error_mentions_earlier_tasks():
    """In terms of the flow."""
    flow = Flow("f").add(value("users")).add(Task(lambda users, orders: 0, name="report"))
    with pytest.raises(BindingError, match="earlier task") as caught:
        flow.run("serial")
    assert ">>" not in str(caught.value)


def test_flow_missing_parameter_names_task_that_exists_and_was_not_added():
    """'A task of that name that exists but is not wired' is, in a flow, one that was not added."""
    orders = value("orders")
    flow = Flow("f").add(value("users")).add(Task(lambda users, orders: 0, name="report"))
    with pytest.raises(BindingError, match="a task named 'orders' exists"):
        flow.run("serial")
    assert orders.downstream == ()


def test_flow_missing_parameter_named_like_task_of_same_stage():
    """The task is in the flow, and not earlier."""
    flow = Flow("f").branch(value("orders"), Task(lambda orders: 0, name="report"))
    with pytest.raises(BindingError, match="'orders'"):
        flow.run("serial")


def test_flow_upstream_annotated_none_warns_when_built():
    """What is left over one to one is filled by order."""

    def create() -> None:
        pass

    flow = Flow("f").add(Task(create)).add(Task(lambda rows: rows, name="load"))
    with pytest.warns(RuntimeWarning, match=r"load\.after\(create\)") as caught:
        flow.run("serial")
    flow.run("serial")
    assert len(caught) == 1


def test_flow_upstream_annotated_none_that_is_named_does_not_warn():
    """Nor one that nothing takes."""

    def create() -> None:
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Flow("f").add(Task(create)).add(Task(lambda create: create, name="load")).run("serial")
        Flow("f").add(Task(create)).add(Task(lambda db="x": db, name="load")).run("serial")


def test_flow_default_is_not_filled_by_order():
    """A flow fills one required parameter, so None never replaces a default."""
    flow = Flow("f").add(Task(lambda: None, name="create")).add(Task(lambda db="prod.db": db, name="load"))
    assert flow.run("serial")["load"] == "prod.db"


def test_flow_condition_is_bound_by_name():
    """As in a DAG."""
    load = Task(lambda rows, dry_run=False: rows, name="load", when=lambda dry_run: not dry_run)
    flow = Flow("f").add(value("extract")).add(load)
    assert flow.run("serial", params={"dry_run": True}).states["load"] == "skipped"
    assert flow.run("serial")["load"] == "extract"


def test_flow_iterator_with_retries_warns():
    """As in a DAG."""
    flow = Flow("f").add(Task(lambda: iter([1, 2]), name="rows")).add(Task(sum, name="total", retries=1, delay=0))
    with pytest.warns(RuntimeWarning, match="iterator"):
        assert flow.run("serial")["total"] == 3


# Methods


class Orders:
    """A class with a method that is a task."""

    @task(retries=1, delay=0)
    def load(self, rows=()):
        return list(rows)


@pytest.mark.parametrize("method", [Orders.load, Orders().load], ids=["class", "object"])
@pytest.mark.parametrize("verb", ["add", "branch", "merge"])
def test_flow_method_says_how_to_make_a_task(method, verb):
    """A method is no task."""
    flow = Flow("f").add(value("a"))
    assert "Task(obj.load)" in refused(lambda: getattr(flow, verb)(method))
    assert flow.run("serial") == {"a": "a"}


def test_flow_task_of_bound_method_runs():
    """With the options of the method."""
    made = Task(Orders().load)
    assert Flow("f").add(value("rows", "ab")).add(made).run("serial")["load"] == ["a", "b"]
    assert made.retries == 1


# Copies

both = pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])


@both
def test_copy_of_flow_runs_and_draws_alike(duplicate):
    """The same tasks."""
    flow = Flow("f", max_workers=3).add(value("a")).add(Task(lambda a: a * 2, name="b"))
    again = duplicate(flow)
    assert type(again) is Flow
    assert (again.name, again.max_workers, again.tasks) == ("f", 3, flow.tasks)
    assert again.visualize() == flow.visualize()
    assert again.run("serial") == flow.run("serial") == {"a": "a", "b": "aa"}


@both
def test_copy_of_flow_that_grows_leaves_original_alone(duplicate):
    """And the original that grows leaves the copy alone: a common start, and two ends."""
    flow = Flow("f").add(value("a"))
    again = duplicate(flow)
    again.add(value("b"))
    flow.add(value("c"))
    assert flow.run("serial") == {"a": "a", "c": "c"}
    assert again.run("serial") == {"a": "a", "b": "b"}


@both
def test_copy_of_flow_that_has_run_and_is_renamed(duplicate):
    """The graph that was built does no harm."""
    flow = Flow("f").add(value("a"))
    flow.run("serial")
    again = duplicate(flow)
    again.name = "other"
    assert "other" in again.visualize()
    assert "other" not in flow.visualize()
