"""Flow: pipelines that are chained like layers, and how their parameters find their results."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from flowkit_core import DAG, BindingError, DuplicateTaskError, FlowkitError, Task, task
from flowkit_flow import Flow


def make(*names):
    """Return one task for each name, which returns its name and takes nothing."""
    return [Task(lambda name=name: name, name=name) for name in names]


def silent(*names):
    """Return one task for each name, without any parameter."""
    return [Task(lambda: None, name=name) for name in names]


def edges(flow):
    """Return the edges of a flow, as pairs of names."""
    graph = flow.graph()
    return {(graph.names[index], node.name) for node in graph for index in node.upstream}


def after(func, *upstream, params=None):
    """Return what a function is called with, when it is added after these tasks, one after the other."""
    flow = Flow("after")
    for one in make(*upstream):
        flow.add(one)
    return flow.add(Task(func, name="sink")).run("serial", params=params)["sink"]


# Chaining


def test_the_pipeline_of_the_promise():
    """add, branch, merge; parameters are named like tasks, near and far."""

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


@pytest.mark.parametrize("names", [("extract", "transform"), ("rows", "data"), ("data", "anything")])
def test_a_chain_works_whatever_the_parameters_are_called(names):
    """Named like the task before, or not."""
    extract = Task(lambda: [1, 2], name="extract")
    transform = Task(eval(f"lambda {names[0]}: [10 * x for x in {names[0]}]"), name="transform")
    load = Task(eval(f"lambda {names[1]}: len({names[1]})"), name="load")
    assert Flow("etl").add(extract).add(transform).add(load).run() == {
        "extract": [1, 2],
        "transform": [10, 20],
        "load": 2,
    }


def test_each_method_returns_the_flow():
    """That is what chaining is."""
    a, b, c, d = silent("a", "b", "c", "d")
    flow = Flow("chain")
    assert flow.add(a) is flow
    assert flow.branch(b, c) is flow
    assert flow.merge(d) is flow


def test_add_follows_what_came_before():
    """A chain."""
    a, b, c = silent("a", "b", "c")
    assert edges(Flow().add(a).add(b).add(c)) == {("a", "b"), ("b", "c")}


def test_branch_follows_what_came_before():
    """A fork."""
    a, b, c, d = silent("a", "b", "c", "d")
    assert edges(Flow().add(a).branch(b, c, d)) == {("a", "b"), ("a", "c"), ("a", "d")}


def test_branch_may_come_first():
    """Several starts."""
    a, b, c = silent("a", "b", "c")
    assert edges(Flow().branch(a, b).merge(c)) == {("a", "c"), ("b", "c")}


@pytest.mark.parametrize("method", ["add", "merge"])
def test_after_an_unmerged_branch_every_open_branch_is_followed(method):
    """add after branch waits for all of it, as merge does."""
    a, b, c, d, e = silent("a", "b", "c", "d", "e")
    flow = getattr(Flow().add(a).branch(b, c, d), method)(e)
    assert edges(flow) == {("a", "b"), ("a", "c"), ("a", "d"), ("b", "e"), ("c", "e"), ("d", "e")}


def test_a_second_branch_follows_every_open_branch():
    """Each of the new ones waits for each of the old ones."""
    a, b, c, d = silent("a", "b", "c", "d")
    assert edges(Flow().branch(a, b).branch(c, d)) == {("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")}


def test_a_merged_branch_is_closed():
    """What is added after a merge follows the merge alone."""
    a, b, c, d = silent("a", "b", "c", "d")
    assert edges(Flow().branch(a, b).merge(c).add(d)) == {("a", "c"), ("b", "c"), ("c", "d")}


def test_a_flow_can_go_on_growing():
    """Each run runs what has been added so far, as in a notebook."""
    a, b = silent("a", "b")
    flow = Flow("growing").add(a)
    assert flow.run() == {"a": None}
    flow.add(b)
    assert flow.run() == {"a": None, "b": None}


def test_an_empty_flow_is_an_empty_run(caplog):
    """No tasks, no results, a picture, and a warning in the log."""
    caplog.set_level("WARNING", logger="flowkit")
    assert Flow("empty").run() == {}
    assert Flow("empty").visualize()
    assert [(record.levelname, record.event, record.pipeline) for record in caplog.records] == [
        ("WARNING", "empty_run", "empty")
    ]


def test_the_defaults_are_those_of_the_promise():
    """Flow() alone has a name."""
    assert Flow().name == "flow"
    assert Flow("n", 3).max_workers == 3


def test_a_flow_leaves_the_wiring_of_its_tasks_alone():
    """A task may stand in a flow, in another flow and in a DAG."""
    a, b, c = silent("a", "b", "c")
    c >> b
    assert edges(Flow().add(a).add(b)) == {("a", "b")}
    assert edges(Flow().add(b).add(a)) == {("b", "a")}
    assert DAG("wired", tasks=[b]).graph().names == ("c", "b")


def test_results_are_in_order_of_declaration():
    """In topological order, and as written among equals."""
    a, b, c, d = make("d", "b", "a", "c")
    assert list(Flow().add(a).branch(b, c, d).run()) == ["d", "b", "a", "c"]


# Binding, rule 1: a parameter named like any earlier task gets that task's result


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
def test_a_parameter_named_like_any_earlier_task_gets_its_result(func, expected):
    """An ancestor, not only a parent; also a parameter with a default."""
    assert after(func, "a", "b", "c") == expected


def test_a_task_of_another_branch_is_not_earlier():
    """What runs beside is no ancestor, so its name binds nothing."""
    a, b = make("a", "b")
    beside = Task(lambda b: b, name="beside")
    results = Flow().add(a).branch(b, beside).run()
    assert results["beside"] == "a"
    with pytest.raises(BindingError, match="'b'"):
        Flow().branch(b, beside).run()


def test_a_later_task_is_not_earlier():
    """A name that comes later binds nothing."""
    a, b = make("a", "b")
    with pytest.raises(BindingError, match="'b'"):
        Flow().add(Task(lambda b: b, name="first")).add(a).add(b).run()


# Binding, rule 2: one required parameter and one direct upstream that are left over belong together


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
def test_what_is_left_over_one_to_one_belongs_together(func, expected):
    """Whatever the parameter is called."""
    assert after(func, "a", "b", "c") == expected


def test_one_branch_that_nobody_names_belongs_to_the_one_parameter_left():
    """merge(combine) with one name that is not a task's."""
    a, b = make("a", "b")
    combine = Task(lambda a, other: (a, other), name="combine")
    assert Flow().branch(a, b).merge(combine).run()["combine"] == ("a", "b")


@pytest.mark.parametrize(
    ("func", "expected"), [(lambda: "nothing", "nothing"), (lambda x=1: x, 1), (lambda x=1, *, y=2: (x, y), (1, 2))]
)
def test_a_task_that_asks_for_nothing_gets_nothing(func, expected):
    """A parameter with a default is not required, so no stranger's result lands in it."""
    assert after(func, "a", "b") == expected


def test_star_args_take_the_branches_that_nobody_names():
    """merge(collect) with *parts collects, in order of declaration."""
    a, b, c = make("a", "b", "c")
    assert Flow().branch(c, a, b).merge(Task(lambda *parts: parts, name="all")).run()["all"] == ("c", "a", "b")
    rest = Task(lambda a, *parts: (a, parts), name="rest")
    assert Flow().branch(c, a, b).merge(rest).run()["rest"] == ("a", ("c", "b"))


# Params, defaults, errors


def test_open_parameters_take_params_then_their_default():
    """As in a DAG."""
    assert after(lambda a, day: (a, day), "a", params={"day": 3}) == ("a", 3)
    assert after(lambda a, day=1: (a, day), "a", params={"day": 3}) == ("a", 3)
    assert after(lambda a, day=1: (a, day), "a") == ("a", 1)
    assert after(lambda day: day, params={"day": 3}) == 3


@pytest.mark.parametrize(
    ("func", "upstream", "words"),
    [
        (lambda x, y: 0, ["a"], ["'x'", "(x, y)", "a"]),
        (lambda x: 0, [], ["'x'", "(x)"]),
        (lambda a, x, y: 0, ["a", "b"], ["'x'", "(a, x, y)", "b"]),
        (lambda a, x: 0, ["a"], ["'x'", "(a, x)"]),
    ],
)
def test_what_does_not_fit_is_an_error_before_anything_runs(func, upstream, words):
    """It names the task and the parameter, and shows the signature and the upstreams."""
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


def test_two_branches_for_one_parameter_are_an_error():
    """Nobody can say which of the two is meant."""
    a, b = make("fetch_users", "fetch_orders")
    with pytest.raises(BindingError) as caught:
        Flow().branch(a, b).merge(Task(lambda data: 0, name="combine")).run()
    text = str(caught.value)
    assert "'combine'" in text
    assert "'data'" in text
    assert "fetch_users, fetch_orders" in text


def test_a_near_miss_gets_a_suggestion():
    """A misspelled task name is answered by the right one."""
    a, b = make("fetch_users", "fetch_orders")
    with pytest.raises(BindingError) as caught:
        Flow().branch(a, b).merge(Task(lambda fetch_user, fetch_ordres: 0, name="combine")).run()
    assert "did you mean 'fetch_users'" in str(caught.value)


# The same task twice


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
def test_the_same_task_twice_is_an_error_that_points_at_with_options(build):
    """It names the task and the way out."""
    step, other = silent("step", "other")
    with pytest.raises(FlowkitError) as caught:
        build(step, other).graph()
    assert "'step'" in str(caught.value)
    assert "with_options(name=" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_the_way_out_works():
    """One function twice, under two names."""

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


def test_two_tasks_of_one_name_are_an_error_that_names_both_places():
    """As in a DAG."""
    one, two = make("step")[0], make("step")[0]
    with pytest.raises(DuplicateTaskError) as caught:
        Flow("etl").add(one).add(two).graph()
    assert str(caught.value).count("test_flow.py:") == 2
    assert "with_options(name=" in str(caught.value)


def test_a_refused_task_is_not_part_of_the_flow():
    """After the error the flow is what it was before."""
    a, b = silent("a", "b")
    flow = Flow().add(a).add(b)
    with pytest.raises(FlowkitError):
        flow.add(a)
    assert flow.run() == {"a": None, "b": None}


# Arguments that are not tasks


@pytest.mark.parametrize("method", ["add", "branch", "merge"])
@pytest.mark.parametrize(
    "wrong", [len, "extract", None, 3, lambda: 1], ids=["builtin", "str", "None", "int", "function"]
)
def test_what_is_no_task_is_refused_at_once(method, wrong):
    """The error shows what was given and says what to do."""
    flow = Flow("etl").add(*make("start"))
    with pytest.raises(TypeError) as caught:
        getattr(flow, method)(wrong)
    assert type(wrong).__name__ in str(caught.value)
    assert "@task" in str(caught.value)


def test_a_list_of_branches_is_answered_by_the_right_spelling():
    """branch([a, b]) lacks a star."""
    a, b = silent("a", "b")
    with pytest.raises(TypeError, match=r"branch\("):
        Flow().branch([a, b])


def test_flow_add_result_of_a_task_is_type_error_with_advice():
    with pytest.raises(TypeError, match=r"got \[1, 2\], of type list, .* write its name without parentheses"):
        Flow().add(Task(lambda: [1, 2])())
    rows = Task(lambda: [1, 2], name="rows")
    with pytest.raises(TypeError, match=r"'rows' was called: write Flow\(\)\.add\(rows\), not Flow"):
        Flow().add(rows())


def test_a_branch_without_tasks_is_refused():
    """It would mean nothing."""
    with pytest.raises((TypeError, ValueError), match="branch"):
        Flow().branch()


def test_a_merge_of_nothing_is_refused():
    """There must be something to merge."""
    with pytest.raises(ValueError, match="nothing to merge"):
        Flow("etl").merge(*make("combine"))


@pytest.mark.parametrize(
    ("workers", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)]
)
def test_max_workers_is_checked(workers, kind):
    """Where it is written, with the value and what is allowed."""
    with pytest.raises(kind) as caught:
        Flow("etl", max_workers=workers)
    assert repr(workers) in str(caught.value)
    assert "at least 1" in str(caught.value)


# The same engine


def test_retries_and_conditions_work_as_in_a_dag():
    """A flow is another way to write a graph, and nothing else."""
    tries = []

    @task(retries=2, delay=0)
    def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise ValueError
        return 5

    large = Task(lambda x: "large", name="large", when=lambda x: x > 10)
    small = Task(lambda x: "small", name="small", when=lambda x: x <= 10)
    report = Task(lambda flaky, large=None, small=None: (flaky, large, small), name="report")
    results = Flow().add(flaky).branch(large, small).merge(report).run("serial")
    assert results == {"flaky": 5, "small": "small", "report": (5, None, "small")}
    assert results.states["large"] == "skipped"
    assert len(tries) == 3


def test_a_distant_source_that_was_skipped_counts_like_a_near_one():
    """No default, no run; a default, its value."""
    a = Task(lambda: 1, name="a", when=lambda: False)
    b = Task(lambda: 2, name="b", trigger="all_done")
    needs, does_not = Task(lambda a, b: 0, name="needs"), Task(lambda b, a="default": (a, b), name="does_not")
    results = Flow().add(a).add(b).branch(needs, does_not).run("serial")
    assert results == {"b": 2, "does_not": ("default", 2)}
    assert '"a"' in results.skipped["needs"]


def test_a_failure_is_raised_as_it_is():
    """With a note that names the flow."""
    error = ValueError("boom")

    @task
    def broken():
        raise error

    (below,) = silent("below")
    with pytest.raises(ValueError) as caught:
        Flow("etl").add(broken).add(below).run()
    assert caught.value is error
    assert "task 'broken' of 'etl'" in "\n".join(error.__notes__)
    assert error.flowkit_results.states == {"broken": "failed", "below": "upstream_failed"}


def test_a_flow_draws_itself():
    """As text, as Mermaid, as dot, and in a notebook."""
    a, b, c, d = silent("alpha", "beta", "gamma", "delta")
    flow = Flow("picture").add(a).branch(b, c).merge(d)
    for format in ("text", "mermaid", "dot"):
        assert all(name in flow.visualize(format=format) for name in ("alpha", "beta", "gamma", "delta"))
    assert "alpha" in flow._repr_html_()
    assert "picture" in repr(flow)
    with pytest.raises(ValueError, match=r"text.*mermaid.*dot"):
        flow.visualize("png")


def test_a_flow_and_a_dag_of_one_shape_draw_alike():
    """Nothing downstream of the graph knows who built it."""
    a, b, c, d = silent("a", "b", "c", "d")
    a >> [b, c] >> d
    assert Flow("same").add(a).branch(b, c).merge(d).visualize() == DAG("same", tasks=[d]).visualize()


@pytest.mark.parametrize("func", [lambda x: x + 1, lambda x, y=0: x + 1], ids=["one parameter", "a default too"])
def test_a_deep_flow_is_linear_and_does_not_recurse(func):
    """20 000 tasks, one after the other."""
    flow = Flow("deep").add(Task(lambda: 0, name="start"))
    for number in range(20_000):
        flow.add(Task(func, name=f"task_{number}"))
    assert flow.run("serial")["task_19999"] == 20_000


@pytest.mark.parametrize("name", ["\x1b[2J", "two\nlines", "\r", "\a\0", "\u202e"], ids=ascii)
def test_a_name_cannot_drive_a_terminal_or_forge_a_line(name):
    """Of a flow, or of a task in it: not in errors, not in pictures, not in what it calls itself."""
    one, two = Task(lambda: 1, name=name), Task(lambda x, y: x, name=f"{name}2")
    flow = Flow(name).add(one)
    words = [repr(flow), *flow.visualize().splitlines()]
    for act, kind in (
        (lambda: flow.add(one), DuplicateTaskError),
        (lambda: Flow(name).add(one).add(two).run(), BindingError),
        (lambda: flow.add([one]), TypeError),
        (lambda: flow.branch(), ValueError),
        (lambda: Flow(name).merge(one), ValueError),
    ):
        with pytest.raises(kind) as caught:
            act()
        words.append(str(caught.value))
    assert [text for text in words if not text.isprintable()] == []


# The package itself


def test_importing_it_is_cheap_and_silent():
    """It costs what the core costs: the same modules, and its own."""
    code = (
        "import _thread, sys, flowkit_core\n"
        "before = set(sys.modules)\n"
        "import flowkit_flow\n"
        "print(sorted(set(sys.modules) - before), _thread._count())"
    )
    # -S: the site packages of a test environment import modules themselves.
    command = [sys.executable, "-S", "-W", "error", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("['flowkit_flow', 'flowkit_flow._flow'] 0\n", "")


# Size


def counted(act):
    """Return how many calls of functions an act makes; a comparison of names is one, where names are `Counted`."""
    calls = 0

    def count(frame, event, function):
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.collect()  # that of others would count
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(before)
    return calls


class Counted(str):
    """A name that is seen to be compared."""

    __slots__ = ()

    def __eq__(self, other):
        return str.__eq__(self, other)

    def __hash__(self):
        return str.__hash__(self)


def test_branches_and_a_merge_are_linear():
    """Ten times as many branches take ten times as many steps: none of them looks at each of the others."""

    def steps(branches):
        one = Task(lambda: 1, name="one")
        tasks = [Task(lambda one: one, name=Counted(f"task {number}")) for number in range(branches)]
        merge = Task(lambda *args: len(args), name="merge")
        results = {}
        steps = counted(lambda: results.update(Flow().add(one).branch(*tasks).merge(merge).run("serial")))
        assert results["merge"] == branches
        return steps

    assert steps(10_000) < 11 * steps(1_000)
