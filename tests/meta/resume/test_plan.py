"""`pipeline.plan()`: what a run would do, and why, without running anything."""

from __future__ import annotations

import pytest

from flowkit import DAG, BindingError, Flow, StateManager, Task


def assert_nothing_recorded(box, before):
    assert [(run.run_id, len(run.executions)) for run in box.records()] == before


def test_plan_of_new_run(box):
    a, b = box.task("a"), box.task("b")
    a >> b
    plan = DAG("etl", tasks=[b]).plan(state=box.db)
    assert (plan.pipeline, plan.run_id, plan.runs, plan.resumed, plan.cached) == ("etl", None, ("a", "b"), (), ())
    assert plan.why == {"a": "there is no recorded result", "b": "it depends on 'a'"}
    assert (box.ran, box.records()) == ([], [])
    assert Flow("etl").add(a).plan().runs == ("a",)


def test_plan_of_resumed_run_names_what_is_taken_over_and_why_others_run(box):
    def pipeline(constant, *more):
        a, b, c = box.task("a"), Task(lambda a: constant, name="b"), box.task("c")
        d = box.task("d", when=lambda *_: False)
        a >> b >> c
        return DAG("etl", tasks=[c, d, *more])

    box.inject("c", "fail")
    results = pipeline(1).run("serial", state=box.db, fail_fast=False, raise_on_failure=False)
    before, ran = [(run.run_id, len(run.executions)) for run in box.records()], box.ran
    plan = pipeline(1).plan(state=box.db)
    assert (plan.run_id, plan.runs, plan.resumed) == (results.run_id, ("c",), ("a", "d", "b"))
    assert plan.why == {
        "a": "it succeeded",
        "d": "it was skipped",
        "b": "it succeeded",
        "c": "it failed: ValueError: c is broken",
    }
    plan = pipeline(2, box.task("new")).plan(state=box.db)
    assert plan.runs == ("new", "b", "c")
    assert "'constant'" in plan.why["b"] or "constant" in plan.why["b"]
    assert plan.why["new"] == "it is new"
    assert str(plan).splitlines()[0] == f"'etl' continues run {results.run_id}:"
    assert any(line.split()[:2] == ["take", "over"] for line in repr(plan).splitlines())
    assert_nothing_recorded(box, before)
    assert box.ran == ran
    again = pipeline(2).run("serial", state=box.db, resume=True, raise_on_failure=False)
    assert (set(again.resumed), set(again.outdated)) == ({"a", "d"}, {"b"})


def test_plan_names_cached_results_as_far_as_inputs_are_known(box):
    def pipeline():
        a, b, c = box.task("a", cache=True), box.task("b", cache=True), box.task("c")
        d = box.task("d", cache=True)
        a >> b >> c >> d
        return DAG("etl", tasks=[d])

    with StateManager(box.db) as state:
        first = pipeline().plan(state=state)
        assert first.runs == ("a", "b", "c", "d")
        assert first.why["a"] == "never computed before"
        assert first.why["b"] == "its inputs are not known before the run"
        pipeline().run("serial", state=state)
        plan = pipeline().plan(state=state)
        assert (plan.run_id, plan.cached, plan.runs) == (None, ("a", "b"), ("c", "d"))
        assert plan.why["a"] == "its code and its inputs are the same"
        refreshed = pipeline().plan(state=state, refresh={"a"})
        assert (refreshed.cached, refreshed.why["a"]) == ((), "refresh was requested")
    assert len(box.ran) == 4


def test_plan_depends_on_params(box):
    def work(day):
        raise OSError(day)

    dag = DAG("etl", tasks=[Task(work)])
    run_id = dag.run("serial", state=box.db, params={"day": 1}, raise_on_failure=False).run_id
    assert dag.plan(state=box.db, params={"day": 1}).run_id == run_id
    assert dag.plan(state=box.db, params={"day": 2}).run_id is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"state": 7}, TypeError, "state is 7"),
        ({"params": {"x": 1}}, BindingError, "has 'x'"),
        ({"params": 7}, BindingError, "must map parameter names"),
        ({"refresh": 7}, TypeError, "refresh"),
        ({"refresh": "x"}, ValueError, "has no such task"),
        ({"resume_max_age": -1}, ValueError, "resume_max_age"),
    ],
)
def test_invalid_option_of_plan_raises(options, error, message):
    with pytest.raises(error, match=message):
        DAG("etl", tasks=[Task(int, name="a")]).plan(**options)
