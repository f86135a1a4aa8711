"""How the parameters of a flow's tasks are bound to results."""

from __future__ import annotations

import pytest
from flow_tasks import make_tasks

from flowkit_core import BindingError, Task
from flowkit_flow import Flow


def run_after(func, *upstream, params=None):
    """Run a function after these tasks, which are added one after the other, and return its result."""
    flow = Flow("after")
    for one in make_tasks(*upstream):
        flow.add(one)
    return flow.add(Task(func, name="sink")).run("serial", params=params)["sink"]


@pytest.mark.parametrize("names", [("extract", "transform"), ("rows", "data"), ("data", "anything")])
def test_chain_binds_parameters_of_any_name(names):
    extract = Task(lambda: [1, 2], name="extract")
    transform = Task(eval(f"lambda {names[0]}: [10 * x for x in {names[0]}]"), name="transform")
    load = Task(eval(f"lambda {names[1]}: len({names[1]})"), name="load")
    assert Flow("etl").add(extract).add(transform).add(load).run() == {
        "extract": [1, 2],
        "transform": [10, 20],
        "load": 2,
    }


@pytest.mark.parametrize(
    ("func", "expected"),
    [
        (lambda c: c, "c"),
        (lambda a: a, "a"),
        (lambda a, c: (a, c), ("a", "c")),
        (lambda c, b, a: (c, b, a), ("c", "b", "a")),
        (lambda a="default": a, "a"),
        (lambda *, b, a=0: (a, b), ("a", "b")),
        (lambda b, /: b, "b"),
    ],
)
def test_parameter_named_like_earlier_task_gets_its_result(func, expected):
    assert run_after(func, "a", "b", "c") == expected


def test_task_of_same_stage_is_not_bound_by_name():
    a, b = make_tasks("a", "b")
    beside = Task(lambda b: b, name="beside")
    results = Flow().add(a).branch(b, beside).run()
    assert results["beside"] == "a"
    with pytest.raises(BindingError, match="'b'"):
        Flow().branch(b, beside).run()


def test_later_task_is_not_bound_by_name():
    a, b = make_tasks("a", "b")
    with pytest.raises(BindingError, match="'b'"):
        Flow().add(Task(lambda b: b, name="first")).add(a).add(b).run()


@pytest.mark.parametrize(
    ("func", "expected"),
    [
        (lambda x: x, "c"),
        (lambda x, limit=5: (x, limit), ("c", 5)),
        (lambda a, x: (a, x), ("a", "c")),
        (lambda x, a, b: (x, a, b), ("c", "a", "b")),
        (lambda *, x: x, "c"),
        (lambda x, /: x, "c"),
    ],
)
def test_single_remaining_parameter_gets_single_remaining_upstream(func, expected):
    assert run_after(func, "a", "b", "c") == expected


def test_single_remaining_parameter_gets_single_remaining_branch():
    a, b = make_tasks("a", "b")
    combine = Task(lambda a, other: (a, other), name="combine")
    assert Flow().branch(a, b).merge(combine).run()["combine"] == ("a", "b")


@pytest.mark.parametrize(
    ("func", "expected"), [(lambda: "nothing", "nothing"), (lambda x=1: x, 1), (lambda x=1, *, y=2: (x, y), (1, 2))]
)
def test_default_is_not_replaced_by_upstream_of_other_name(func, expected):
    assert run_after(func, "a", "b") == expected


def test_star_args_get_remaining_branches_in_order():
    a, b, c = make_tasks("a", "b", "c")
    assert Flow().branch(c, a, b).merge(Task(lambda *parts: parts, name="all")).run()["all"] == ("c", "a", "b")
    rest = Task(lambda a, *parts: (a, parts), name="rest")
    assert Flow().branch(c, a, b).merge(rest).run()["rest"] == ("a", ("c", "b"))


def test_unbound_parameter_gets_param_or_default():
    assert run_after(lambda a, day: (a, day), "a", params={"day": 3}) == ("a", 3)
    assert run_after(lambda a, day=1: (a, day), "a", params={"day": 3}) == ("a", 3)
    assert run_after(lambda a, day=1: (a, day), "a") == ("a", 1)
    assert run_after(lambda day: day, params={"day": 3}) == 3


@pytest.mark.parametrize(
    ("func", "upstream", "words"),
    [
        (lambda x, y: 0, ["a"], ["'x'", "(x, y)", "a"]),
        (lambda x: 0, [], ["'x'", "(x)"]),
        (lambda a, x, y: 0, ["a", "b"], ["'x'", "(a, x, y)", "b"]),
        (lambda a, x: 0, ["a"], ["'x'", "(a, x)"]),
    ],
)
def test_missing_parameter_raises_before_any_task_runs(func, upstream, words):
    ran = []
    flow = Flow("etl")
    for name in upstream:
        flow.add(Task(lambda: ran.append(1), name=name))
    flow.add(Task(func, name="sink"))
    with pytest.raises(BindingError) as caught:
        flow.run()
    assert all(word in str(caught.value) for word in ["'sink'", *words])
    assert caught.value.task == "sink"
    assert ran == []


def test_two_branches_for_one_parameter_raise():
    a, b = make_tasks("fetch_users", "fetch_orders")
    with pytest.raises(BindingError) as caught:
        Flow().branch(a, b).merge(Task(lambda data: 0, name="combine")).run()
    text = str(caught.value)
    assert "'combine'" in text
    assert "'data'" in text
    assert "fetch_users, fetch_orders" in text


def test_misspelled_parameter_gets_suggestion():
    a, b = make_tasks("fetch_users", "fetch_orders")
    with pytest.raises(BindingError) as caught:
        Flow().branch(a, b).merge(Task(lambda fetch_user, fetch_ordres: 0, name="combine")).run()
    assert "did you mean 'fetch_users'" in str(caught.value)


def test_name_of_earlier_task_after_another_of_its_stage():
    """The order of the nodes is then another than that of the tasks."""
    a, b, c, d = make_tasks("a", "b", "c", "d")
    b.after(c)
    flow = Flow("order").add(a).branch(b, c).add(d).add(Task(lambda c, b, a, d: (c, b, a, d), name="sink"))
    assert flow.graph().names == ("a", "c", "b", "d", "sink")
    assert flow.run("serial")["sink"] == ("c", "b", "a", "d")
