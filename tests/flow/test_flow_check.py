"""`Flow.check` and `Flow.parameters`."""

from __future__ import annotations

import pytest
from flow_tasks import make_tasks

from flowkit_core import Task, UnknownExecutorError
from flowkit_flow import Flow


def found(flow, *args, **options):
    return [(problem.kind, problem.task) for problem in flow.check(*args, **options)]


def named(name, func=lambda: 1, **options):
    return Task(func, name=name, **options)


def test_fine_flow_has_no_problem_and_does_not_run():
    ran = []
    flow = Flow("fine").add(named("a", lambda: ran.append(1))).add(named("b", lambda a: ran.append(a)))
    assert flow.check() == flow.check("serial") == flow.check(params={}) == []
    assert Flow("empty").check() == []
    assert ran == []


def test_all_problems_are_found_at_once():
    def rows() -> int: ...

    def load(rows: str, day): ...

    flow = (
        Flow("wrong")
        .branch(Task(rows), named("alert", trigger="one_failed"), named("placed", executor="gpu"))
        .merge(Task(load, when=lambda a, b, c: True))
    )
    assert found(flow, {"default": "serial"}, params={"dya": 1}) == [
        ("condition", "load"),
        ("parameter", None),
        ("parameter", "load"),
        ("executor", "placed"),
        ("annotation", "load"),
        ("trigger", "alert"),
    ]
    assert flow.check(params={"dya": 1})[-1].location is not None


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_order_that_contradicts_the_stages_is_a_cycle(stages):
    first, *others = make_tasks(*"abcd"[: stages + 1])
    flow = Flow("cycle").add(first)
    for other in others:
        flow.add(other)
    first.after(others[-1])
    (problem,) = flow.check()
    assert (problem.kind, problem.task) == ("cycle", "a")


@pytest.mark.parametrize("trigger", ["one_failed", "all_failed"])
def test_tasks_after_one_that_never_runs(trigger):
    flow = Flow("never").add(named("alert", trigger=trigger)).add(named("needs", lambda alert: 1))
    assert found(flow.add(named("last", lambda alert: 1))) == [
        (("trigger"), name) for name in ("alert", "needs", "last")
    ]


def test_parameter_that_nothing_earlier_fills():
    flow = Flow("params").add(named("load", lambda transform: 1)).add(named("transform", lambda load: 1))
    assert flow.check() == []
    (problem,) = flow.check(params={})
    assert (problem.kind, problem.task) == ("parameter", "load")
    assert "add(transform) before it" in problem.message
    assert list(flow.parameters) == ["transform"]


def test_annotations_of_earlier_tasks():
    def first() -> int: ...

    def middle() -> None: ...

    def last(first: str) -> None: ...

    flow = Flow("annotations").add(Task(first)).add(Task(middle)).add(Task(last))
    assert found(flow) == [("annotation", "last")]


def test_executors():
    flow = Flow("placed").add(named("a", executor="gpu"))
    assert found(flow, {"gpus": "serial"}) == [("executor", "a"), ("executor", None)]
    assert found(flow, {"gpu": "serial"}) == []
    with pytest.raises(UnknownExecutorError):
        flow.check("threds")


def test_parameters():
    def load(day: str, limit: int = 3): ...

    flow = Flow("etl").add(Task(load)).add(named("report", lambda load, day: 1))
    assert [str(parameter) for parameter in flow.parameters.values()] == [
        "day: str, required by load, report",
        "limit: int = 3, taken by load",
    ]


def test_check_does_not_change_later_runs():
    first, second = make_tasks("a", "b")
    flow = Flow("later").add(first).add(second)
    graph = flow.graph()
    assert flow.check() == []
    assert flow.graph() is graph
