"""Building a flow: `add`, `branch` and `merge`, and their errors."""

from __future__ import annotations

import pytest
from flow_tasks import edges, make_empty_tasks, make_tasks

from flowkit_core import DAG, DuplicateTaskError, FlowkitError, Task, task
from flowkit_flow import Flow


def test_flow_of_readme():
    @task()
    def fetch_user():
        return {"id": 1, "name": "Alice"}

    @task()
    def fetch_orders():
        return ["order1", "order2"]

    @task()
    def fetch_recommendations():
        return ["item1", "item2"]

    @task()
    def combine(fetch_user, fetch_orders, fetch_recommendations):
        return {"user": fetch_user, "orders": fetch_orders, "recommendations": fetch_recommendations}

    pipeline = (
        Flow("user_pipeline", max_workers=5).add(fetch_user).branch(fetch_orders, fetch_recommendations).merge(combine)
    )
    results = pipeline.run()
    assert results["combine"] == {
        "user": {"id": 1, "name": "Alice"},
        "orders": ["order1", "order2"],
        "recommendations": ["item1", "item2"],
    }
    assert list(results) == ["fetch_user", "fetch_orders", "fetch_recommendations", "combine"]
    assert edges(pipeline) == {
        ("fetch_user", "fetch_orders"),
        ("fetch_user", "fetch_recommendations"),
        ("fetch_orders", "combine"),
        ("fetch_recommendations", "combine"),
    }


def test_add_branch_and_merge_return_flow():
    a, b, c, d = make_empty_tasks("a", "b", "c", "d")
    flow = Flow("chain")
    assert flow.add(a) is flow
    assert flow.branch(b, c) is flow
    assert flow.merge(d) is flow


def test_add_depends_on_previous_task():
    a, b, c = make_empty_tasks("a", "b", "c")
    assert edges(Flow().add(a).add(b).add(c)) == {("a", "b"), ("b", "c")}


def test_branch_depends_on_previous_task():
    a, b, c, d = make_empty_tasks("a", "b", "c", "d")
    assert edges(Flow().add(a).branch(b, c, d)) == {("a", "b"), ("a", "c"), ("a", "d")}


def test_branch_first_has_no_upstream():
    a, b, c = make_empty_tasks("a", "b", "c")
    assert edges(Flow().branch(a, b).merge(c)) == {("a", "c"), ("b", "c")}


@pytest.mark.parametrize("method", ["add", "merge"])
def test_add_and_merge_depend_on_all_open_branches(method):
    a, b, c, d, e = make_empty_tasks("a", "b", "c", "d", "e")
    flow = getattr(Flow().add(a).branch(b, c, d), method)(e)
    assert edges(flow) == {("a", "b"), ("a", "c"), ("a", "d"), ("b", "e"), ("c", "e"), ("d", "e")}


def test_second_branch_depends_on_all_open_branches():
    a, b, c, d = make_empty_tasks("a", "b", "c", "d")
    assert edges(Flow().branch(a, b).branch(c, d)) == {("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")}


def test_add_after_merge_depends_on_merge_only():
    a, b, c, d = make_empty_tasks("a", "b", "c", "d")
    assert edges(Flow().branch(a, b).merge(c).add(d)) == {("a", "c"), ("b", "c"), ("c", "d")}


def test_add_after_run_extends_next_run():
    a, b = make_empty_tasks("a", "b")
    flow = Flow("growing").add(a)
    assert flow.run() == {"a": None}
    flow.add(b)
    assert flow.run() == {"a": None, "b": None}


def test_empty_flow_runs_and_warns(caplog):
    caplog.set_level("WARNING", logger="flowkit")
    assert Flow("empty").run() == {}
    assert Flow("empty").visualize()
    assert [(record.levelname, record.event, record.pipeline) for record in caplog.records] == [
        ("WARNING", "empty_run", "empty")
    ]


def test_defaults_of_flow():
    assert Flow().name == "flow"
    assert Flow("n", 3).max_workers == 3


def test_flow_ignores_and_keeps_wiring_of_tasks():
    a, b, c = make_empty_tasks("a", "b", "c")
    c >> b
    assert edges(Flow().add(a).add(b)) == {("a", "b")}
    assert edges(Flow().add(b).add(a)) == {("b", "a")}
    assert DAG("wired", tasks=[b]).graph().names == ("c", "b")


def test_results_are_in_order_of_addition():
    a, b, c, d = make_tasks("d", "b", "a", "c")
    assert list(Flow().add(a).branch(b, c, d).run()) == ["d", "b", "a", "c"]


@pytest.mark.parametrize(
    "build",
    [
        lambda a, b: Flow("etl").add(a).add(a),
        lambda a, b: Flow("etl").add(a).add(b).add(a),
        lambda a, b: Flow("etl").branch(a, a),
        lambda a, b: Flow("etl").add(a).branch(b, a),
        lambda a, b: Flow("etl").branch(a, b).merge(a),
    ],
    ids=["add", "add later", "branch", "branch later", "merge"],
)
def test_same_task_twice_raises_and_suggests_with_options(build):
    step, other = make_empty_tasks("step", "other")
    with pytest.raises(FlowkitError) as caught:
        build(step, other).graph()
    assert "'step'" in str(caught.value)
    assert "with_options(name=" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_same_function_under_two_names():
    @task
    def double(x=1):
        return 2 * x

    second = double.with_options(name="second")
    assert Flow().add(double).add(second).run() == {"double": 2, "second": 2}

    @task
    def increment(x):
        return x + 1

    start = Task(lambda: 1, name="start")
    flow = Flow().add(start).add(increment).add(increment.with_options(name="again"))
    assert flow.run() == {"start": 1, "increment": 2, "again": 3}


def test_two_tasks_of_same_name_raise_with_both_locations():
    one, two = Task(lambda: 1, name="step"), Task(lambda: 2, name="step")
    with pytest.raises(DuplicateTaskError) as caught:
        Flow("etl").add(one).add(two).graph()
    assert str(caught.value).count("test_flow_stages.py:") == 2
    assert "with_options(name=" in str(caught.value)


def test_flow_is_unchanged_after_error():
    a, b = make_empty_tasks("a", "b")
    flow = Flow().add(a).add(b)
    with pytest.raises(FlowkitError):
        flow.add(a)
    assert flow.run() == {"a": None, "b": None}


@pytest.mark.parametrize("method", ["add", "branch", "merge"])
@pytest.mark.parametrize(
    "wrong", [len, "extract", None, 3, lambda: 1], ids=["builtin", "str", "None", "int", "function"]
)
def test_argument_that_is_no_task_raises(method, wrong):
    flow = Flow("etl").add(*make_tasks("start"))
    with pytest.raises(TypeError) as caught:
        getattr(flow, method)(wrong)
    assert type(wrong).__name__ in str(caught.value)
    assert "@task" in str(caught.value)


def test_branch_with_list_raises_and_suggests_star():
    a, b = make_empty_tasks("a", "b")
    with pytest.raises(TypeError, match=r"branch\("):
        Flow().branch([a, b])


def test_add_with_result_of_task_raises_with_advice():
    with pytest.raises(TypeError, match=r"got \[1, 2\], of type list, .* write its name without parentheses"):
        Flow().add(Task(lambda: [1, 2])())
    rows = Task(lambda: [1, 2], name="rows")
    with pytest.raises(TypeError, match=r"'rows' was called: write Flow\(\)\.add\(rows\), not Flow"):
        Flow().add(rows())


def test_branch_without_tasks_raises():
    with pytest.raises((TypeError, ValueError), match="branch"):
        Flow().branch()


def test_merge_of_empty_flow_raises():
    with pytest.raises(ValueError, match="nothing to merge"):
        Flow("etl").merge(*make_tasks("combine"))


@pytest.mark.parametrize(
    ("workers", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)]
)
def test_invalid_max_workers_raises(workers, kind):
    with pytest.raises(kind) as caught:
        Flow("etl", max_workers=workers)
    assert repr(workers) in str(caught.value)
    assert "at least 1" in str(caught.value)
