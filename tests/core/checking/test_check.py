"""`Pipeline.check`: all problems of a DAG at once, and nothing else."""

from __future__ import annotations

import pickle
import warnings

import pytest

from flowkit_core import (
    DAG,
    BindingError,
    DAGCycleError,
    DuplicateTaskError,
    ExecutorError,
    Pipeline,
    Task,
    UnknownExecutorError,
    WiringError,
)
from flowkit_core.checking import Problem


def found(dag, *args, **options):
    """Return the kinds and the tasks of the problems of a DAG."""
    return [(problem.kind, problem.task) for problem in dag.check(*args, **options)]


def only(dag, *args, **options):
    """Return the only problem of a DAG."""
    (problem,) = dag.check(*args, **options)
    return problem


def named(name, func=lambda: 1, **options):
    return Task(func, name=name, **options)


def test_fine_pipeline_has_no_problem_and_does_not_run():
    ran = []
    extract = named("extract", lambda: ran.append(1) or [1])
    load = named("load", lambda extract, limit=10: ran.append(extract), when=lambda extract: ran.append(1))
    extract >> load
    dag = DAG("etl", tasks=[load])
    assert dag.check() == dag.check("serial") == dag.check(params={}) == dag.check(params={"limit": 1}) == []
    assert ran == []


# Problems


def test_all_problems_are_found_at_once():
    """One of each kind that a DAG can have, in an order that does not depend on chance."""
    a, b = named("a", lambda b: b), named("b", lambda a: a)
    a >> b >> a
    many = named("many", lambda x: x)
    [named("one"), named("two"), named("three")] >> many
    dag = DAG(
        "wrong",
        tasks=[
            a,
            many,
            named("same"),
            named("same"),
            named("when", lambda x: x, when=lambda x, y: True),
            named("alert", trigger="all_failed"),
            named("first", trigger="all_success"),
            named("placed", executor="gpu"),
        ],
    )
    problems = dag.check({"default": "serial"}, params={"unknown": 1})
    assert [(problem.kind, problem.task) for problem in problems] == [
        ("name", "same"),
        ("cycle", "a"),
        ("condition", "when"),
        ("binding", "many"),
        ("parameter", None),
        ("parameter", "when"),
        ("executor", "placed"),
        ("option", "first"),
        ("trigger", "alert"),
    ]
    assert dag.check({"default": "serial"}, params={"unknown": 1}) == problems


def test_every_duplicate_name_is_found_with_its_place():
    tasks = [Task(lambda: 1, name="a"), Task(lambda: 1, name="b"), Task(lambda: 2, name="a")]
    tasks += [Task(lambda: 3, name="b"), Task(lambda: 4, name="a"), Task(lambda: 5, name="c")]
    problems = DAG("names", tasks=tasks).check()
    assert [problem.task for problem in problems] == ["a", "b", "a"]
    assert [problem.location for problem in problems] == [tasks[2].location, tasks[3].location, tasks[4].location]
    assert all(isinstance(problem.error, DuplicateTaskError) for problem in problems)


def test_duplicate_name_does_not_add_other_problems():
    same, also = named("same"), named("same")
    sinks = [named("one", lambda x, y: 1), named("two", lambda x: 1), named("three", lambda same, other: 1)]
    for sink in sinks:
        [same, also] >> sink
    assert found(DAG("names", tasks=sinks)) == [("name", "same")]


@pytest.mark.parametrize(
    ("edges", "cycles"),
    [
        (["ab", "ba"], [("a", "b", "a")]),
        (["ab", "ba", "cd", "dc"], [("a", "b", "a"), ("c", "d", "c")]),
        (["ab", "bc", "ca", "xy"], [("a", "b", "c", "a")]),
        (["aa", "bb"], [("a", "a"), ("b", "b")]),
    ],
)
def test_every_cycle_is_found_once(edges, cycles):
    tasks = {name: named(name, lambda *args: args) for name in sorted({*"".join(edges)})}
    for upstream, downstream in edges:
        tasks[downstream].after(tasks[upstream])
    problems = DAG("cycles", tasks=list(tasks.values())).check()
    assert [problem.kind for problem in problems] == ["cycle"] * len(cycles)
    assert sorted(problem.error.cycle for problem in problems) == sorted(cycles)
    assert all(isinstance(problem.error, DAGCycleError) for problem in problems)


def test_cycle_does_not_hide_problems_elsewhere_or_add_others():
    a, b, c = named("a", lambda b: b), named("b", lambda a: a), named("c", lambda b, x: b)
    a >> b >> [a, c]
    assert found(DAG("d", tasks=[c, named("alert", trigger="one_failed")])) == [("cycle", "a"), ("trigger", "alert")]
    assert found(DAG("d", tasks=[c]), params={"x": 1}) == [("cycle", "a")]


def test_contradictory_edges_are_found_for_every_pair():
    extract, left, right = named("extract"), named("left", lambda x: x), named("right", lambda x: x)
    for each in (left, right):
        extract >> each.after(extract)
        assert isinstance(only(DAG("one", tasks=[each])).error, WiringError)
    assert found(DAG("both", tasks=[left, right])) == [("wiring", "left"), ("wiring", "right")]


@pytest.mark.parametrize("func", [lambda x: x, lambda x, y: x, lambda one, *, y: one])
def test_too_many_results_are_found_for_every_task(func):
    one, two, three = named("one"), named("two"), named("three")
    sinks = [named("s1", func), named("s2", func), named("s3", lambda *args: args)]
    for sink in sinks:
        [one, two, three] >> sink
    dag = DAG("many", tasks=sinks)
    assert found(dag) == [("binding", "s1"), ("binding", "s2")]
    assert all(isinstance(problem.error, BindingError) for problem in dag.check())


@pytest.mark.parametrize("when", [lambda a, b: 1, lambda x, y, z: 1, lambda *, x, other: 1])
def test_condition_that_cannot_be_bound(when):
    problem = only(DAG("conditions", tasks=[named("load", lambda x=1: x, when=when)]))
    assert (problem.kind, problem.task) == ("condition", "load")
    assert "condition (when=) of task 'load'" in problem.message


def test_condition_and_binding_of_one_task_are_both_found():
    load = named("load", lambda x: x, when=lambda a, b: 1)
    [named("one"), named("two")] >> load
    assert found(DAG("both", tasks=[load])) == [("binding", "load"), ("condition", "load")]


@pytest.mark.parametrize("trigger", ["one_success", "one_failed", "all_failed"])
def test_every_required_parameter_that_may_be_missing_is_found(trigger):
    load = named("load", lambda a, b: 1, trigger=trigger)
    [named("a"), named("b")] >> load
    assert [problem.error.parameter for problem in DAG("d", tasks=[load]).check()] == ["a", "b"]


def test_tasks_that_cannot_be_discovered():
    def build():
        named("extract")
        return lambda: DAG("lost")

    problem = only(build()())
    assert (problem.kind, problem.task, problem.location) == ("discovery", None, None)
    assert "name the tasks, DAG('lost', tasks=[...])" in problem.message


# Warnings of a run are problems


def test_problem_instead_of_warning():
    """The warnings that building a graph gives are problems; they are not issued, also if warnings are errors."""
    nothing = named("nothing", eval("lambda: None"))
    nothing.func.__annotations__["return"] = None
    load = named("load", lambda rows: rows)
    nothing >> load
    dag = DAG("warned", tasks=[load])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem = only(dag)
    assert (problem.kind, problem.task, problem.error) == ("binding", "load", None)
    assert "load.after(nothing)" in problem.message
    with pytest.warns(RuntimeWarning, match="annotated '-> None'"):
        dag.run("serial")


def test_empty_pipeline_is_a_problem_of_discovery_each_time():
    dag = DAG("nothing")
    assert found(dag) == found(dag) == [("discovery", None)]
    with pytest.warns(RuntimeWarning, match="has no tasks"):
        dag.run("serial")
    assert DAG("nothing", tasks=[]).check() == []


def test_generator_that_two_tasks_take():
    def rows():
        yield 1

    source = Task(rows)
    source >> [named("a", lambda rows: 1), named("b", lambda rows: 1)]
    problem = only(DAG("generator"))
    assert (problem.kind, problem.task, problem.location) == ("binding", "rows", source.location)


# Parameters


def test_open_parameter_is_a_problem_only_with_params():
    load = named("load", lambda day, limit, *, lang="en": 1)
    other = named("other", lambda day: 1)
    dag = DAG("params", tasks=[load, other])
    assert dag.check() == []
    assert found(dag, params={"day": 1, "limit": 1}) == []
    assert found(dag, params={"day": 1, "load.limit": 1, "lang": "de"}) == []
    assert found(dag, params={}) == [("parameter", "load"), ("parameter", "load"), ("parameter", "other")]
    assert found(dag, params={"limit": 1}) == [("parameter", "load"), ("parameter", "other")]


@pytest.mark.parametrize("name", ["dya", "load.dya", "nothing.day"])
def test_every_unknown_name_in_params_is_a_problem(name):
    dag = DAG("params", tasks=[named("load", lambda day: 1)])
    assert found(dag, params={"day": 1, name: 2, "xyz": 3}) == [("parameter", None)] * 2
    assert repr(name) in dag.check(params={"day": 1, name: 2})[0].message


def test_param_that_an_upstream_fills_is_a_problem():
    extract, load = named("extract"), named("load", lambda rows: rows)
    extract >> load
    problem = only(DAG("params", tasks=[load]), params={"rows": 1})
    assert (problem.kind, problem.task, problem.location) == ("parameter", "load", load.location)


# Executors


def test_every_task_whose_executor_does_not_exist_is_found():
    tasks = [named("a", executor="gpu"), named("b", executor="gpu"), named("c", executor="cpu"), named("d")]
    dag = DAG("placed", tasks=tasks)
    with pytest.raises(UnknownExecutorError):
        dag.run({"default": None})
    assert found(dag, {"default": None}) == [("executor", name) for name in "abc"]
    assert found(dag, {"gpu": "serial"}) == [("executor", "c")]
    assert found(dag, {"gpu": "serial", "cpu": "srial"}) == [("executor", "c")]
    assert found(dag, {"gpu": "serial", "cpu": "serial"}) == []
    assert found(dag, "serial") == []  # which runs every task


def test_executor_that_no_task_names():
    dag = DAG("placed", tasks=[named("a", executor="gpu")])
    assert found(dag, {"gpu": "serial", "gpus": "serial"}) == [("executor", None)]
    assert found(dag, {"gpu": "serial", "other": "serial"}) == [("executor", None)]


class Minimal:
    """An executor without a lane, which cannot run some tasks."""

    name = "minimal"

    def __init__(self, refused=()):
        self.refused = refused

    def execute(self, run):
        raise AssertionError("check() runs nothing")

    def close(self):
        raise AssertionError("check() does not close executors of others")

    def check_nodes(self, nodes):
        return [
            BindingError(f"task {node.name!r} is refused", node.name) for node in nodes if node.name in self.refused
        ]


def test_executor_is_asked_about_its_nodes():
    tasks = [named("a"), named("b"), named("c")]
    assert found(DAG("asked", tasks=tasks), Minimal("ac")) == [("executor", "a"), ("executor", "c")]
    assert found(DAG("asked", tasks=tasks), Minimal()) == []


def test_executor_without_lane_cannot_share_a_run():
    dag = DAG("shared", tasks=[named("a"), named("b", executor="other")])
    problem = only(dag, {"default": "serial", "other": Minimal("a")})
    assert (problem.kind, problem.task, type(problem.error)) == ("executor", None, ExecutorError)
    assert found(dag, {"default": "serial", "other": Minimal("b")}) == [("executor", None), ("executor", "b")]


# Wrong arguments


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"executor": "threds"}, UnknownExecutorError),
        ({"executor": 3}, TypeError),
        ({"executor": {"default": 3}}, TypeError),
        ({"executor": {1: "serial"}}, TypeError),
        ({"params": [1]}, BindingError),
        ({"params": {1: 2}}, BindingError),
        ({"parms": {}}, TypeError),
    ],
)
def test_wrong_argument_raises(arguments, error):
    """Also if the pipeline is wrong, or has no tasks."""
    wrong = DAG("wrong", tasks=[named("a"), named("a")])
    for dag in (DAG("fine", tasks=[named("a")]), wrong, DAG("none", tasks=[])):
        with pytest.raises(error):
            dag.check(**arguments)


# No effect on runs


def test_check_does_not_change_later_runs():
    a, b = named("a"), named("b", lambda a: a)
    a >> b
    dag = DAG("later", tasks=[b])
    graph = dag.graph()
    assert dag.check() == []
    assert dag.graph() is graph
    b >> a
    assert found(dag) == [("cycle", "a")]
    with pytest.raises(DAGCycleError):
        dag.run("serial")


def test_check_in_a_task_does_not_affect_its_run():
    def inner():
        return [problem.kind for problem in DAG("inner", tasks=[named("x"), named("x")]).check()]

    assert DAG("outer", tasks=[Task(inner)]).run("serial") == {"inner": ["name"]}
    with pytest.raises(DuplicateTaskError):
        DAG("inner", tasks=[named("x"), named("x")]).run("serial")


def test_pipeline_class_with_only_a_graph():
    class Given(Pipeline):
        def __init__(self, dag):
            super().__init__("given")
            self.dag = dag

        def graph(self):
            return self.dag.graph()

    assert Given(DAG("fine", tasks=[named("a")])).check() == []
    wrong = DAG("wrong", tasks=[named("a"), named("a", trigger="one_failed")])
    assert next(problem.kind for problem in Given(wrong).check()) == "name"


def test_hint_for_names_of_other_tools():
    with pytest.raises(AttributeError, match=r"use check\(\)"):
        DAG("d", tasks=[]).validate()


# Problems as objects


def test_problem_is_an_immutable_value():
    problem = Problem("name", "load", "task 'load': wrong", "job.py:3", BindingError("x"))
    same = Problem("name", "load", "task 'load': wrong", "job.py:3")
    assert problem == same
    assert hash(problem) == hash(same)
    assert problem != Problem("name", "load", "task 'load': wrong", "job.py:4")
    assert problem != "task 'load': wrong"
    assert str(problem) == "job.py:3: task 'load': wrong"
    assert repr(problem) == "<Problem name: job.py:3: task 'load': wrong>"
    assert str(Problem("discovery", None, "nothing")) == "nothing"
    for change in (
        lambda: setattr(problem, "task", "x"),
        lambda: delattr(problem, "task"),
        lambda: setattr(problem, "x", 1),
    ):
        with pytest.raises(AttributeError, match="immutable"):
            change()
    copy = pickle.loads(pickle.dumps(problem))
    assert copy == problem
    assert isinstance(copy.error, BindingError)


def test_str_names_task_and_place_and_is_one_line():
    tasks = [named("a\nb", trigger="one_failed"), named("c\x1b", executor="gpu"), named("d\n", lambda x: x)]
    for problem in DAG("lines", tasks=tasks).check(params={}):
        assert str(problem).isprintable()
        assert str(problem).startswith(f"{problem.location}: ")
        assert repr(problem.task) in str(problem)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("abc", "give a list, such as"),
        (5, "give a list, a generator"),
        ({1}, "sorted"),
        ({"a": 1}, "list(found.items())"),
    ],
)
def test_value_in_params_that_cannot_be_mapped_over_is_a_problem(value, advice):
    dag = DAG("sweep", tasks=[Task(lambda x: x, name="each").map("x")])
    for params in ({"x": value}, {"each.x": value}):
        (problem,) = dag.check(params=params)
        assert (problem.kind, problem.task) == ("parameter", "each")
        assert advice in problem.message
        with pytest.raises(type(problem.error)):
            dag.run("serial", params=params)
    assert dag.check(params={"x": [value]}) == []
