"""Pipelines that are used as tasks, in recorded runs: resume, rerun, plan, cache, replay."""

from __future__ import annotations

import pytest
from durable_tasks import step

from flowkit import DAG, StateManager, Task

NAMES = ["start", "clean.when", "clean.extract", "clean.drop", "last"]


def pipeline(box, constant=0, *, fails=False, when=lambda start: start == 1, cache=False):
    folder = box.folder

    def start():
        return step(folder, "start", 1)

    def extract(start):
        return step(folder, "extract", start + 1)

    def drop(extract):
        step(folder, "drop", None)
        if fails:
            raise OSError("no space")
        return extract + constant

    def last(clean):
        return step(folder, "last", clean + 1)

    begin, one, two, end = Task(start), Task(extract, cache=cache), Task(drop), Task(last)
    one >> two
    clean = DAG("inner", tasks=[two]).as_task(name="clean", when=when)
    begin >> clean >> end
    return DAG("outer", tasks=[end])


def ran(box, call):
    before = len(box.ran)
    result = call()
    return result, box.ran[before:]


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_failed_run_goes_on_where_it_failed(box, executor):
    with pytest.raises(OSError, match="no space"):
        pipeline(box, fails=True).run(executor, state=box.db)
    results, names = ran(box, lambda: pipeline(box).run(executor, state=box.db, resume=True))
    assert names == ["drop", "last"]
    assert results == {"start": 1, "clean.when": True, "clean.extract": 2, "clean.drop": 2, "clean": 2, "last": 3}
    assert results.resumed == ("start", "clean.when", "clean.extract")


def test_finished_run_is_taken_over_with_its_output(box):
    first = pipeline(box).run("serial", state=box.db)
    again, names = ran(box, lambda: pipeline(box).run("serial", state=box.db, rerun={"last"}))
    assert (names, again["clean"], again.resumed) == (["last"], first["clean"], tuple(NAMES[:4]))


@pytest.mark.parametrize(
    ("rerun", "expected"),
    [({"clean.extract"}, ["extract", "drop", "last"]), ({"clean.drop"}, ["drop", "last"]), ({"clean"}, None)],
)
def test_rerun_of_a_task_inside_and_of_the_whole_pipeline(box, rerun, expected):
    pipeline(box).run("serial", state=box.db)
    results, names = ran(box, lambda: pipeline(box).run("serial", state=box.db, rerun=rerun))
    assert names == (expected or ["extract", "drop", "last"])
    assert set(results.outdated) >= ({"clean.when", "clean.extract", "clean.drop"} if rerun == {"clean"} else rerun)
    with pytest.raises(ValueError, match=r"did you mean 'clean'"):
        pipeline(box).run("serial", state=box.db, rerun={"claen"})


def test_changed_code_inside_runs_again(box):
    with pytest.raises(OSError, match="no space"):
        pipeline(box, fails=True).run("serial", state=box.db)
    results, names = ran(box, lambda: pipeline(box, constant=5).run("serial", state=box.db, resume=True))
    assert (names, results["clean"]) == (["drop", "last"], 7)


def test_changed_condition_runs_all_of_it_again(box):
    with pytest.raises(OSError, match="no space"):
        pipeline(box, fails=True).run("serial", state=box.db)
    _, names = ran(box, lambda: pipeline(box, when=lambda start: True).run("serial", state=box.db, resume=True))
    assert names == ["extract", "drop", "last"]


def test_plan_and_record_have_the_names_of_the_tasks_inside(box):
    with pytest.raises(OSError, match="no space"):
        pipeline(box, fails=True).run("serial", state=box.db)
    plan = pipeline(box, fails=True).plan(state=box.db)
    assert (plan.resumed, plan.runs) == (tuple(NAMES[:3]), tuple(NAMES[3:]))
    with StateManager(box.db) as state:
        record = state.runs()[0]
        assert {name: each.state for name, each in record.tasks.items()} == dict(
            zip(NAMES, ["succeeded", "succeeded", "succeeded", "failed", "upstream_failed"], strict=True)
        )


def test_skipped_pipeline_is_taken_over_as_skipped(box):
    when = {"when": lambda start: False}
    pipeline(box, **when).run("serial", state=box.db)
    again, names = ran(box, lambda: pipeline(box, **when).run("serial", state=box.db, rerun={"last"}))
    assert names == []
    assert set(again.skipped) == {"clean.when", "clean.extract", "clean.drop", "last"}


def test_tasks_inside_are_cached_and_refreshed_by_either_name(box):
    first, _ = ran(box, lambda: pipeline(box, cache=True).run("serial", state=box.db))
    again, names = ran(box, lambda: pipeline(box, cache=True).run("serial", state=box.db))
    assert (again, again.cached, names) == (first, ("clean.extract",), ["start", "drop", "last"])
    for refresh in (["clean"], ["clean.extract"]):
        _, names = ran(
            box, lambda refresh=refresh: pipeline(box, cache=True).run("serial", state=box.db, refresh=refresh)
        )
        assert names == ["start", "extract", "drop", "last"]


def test_parameter_of_the_pipeline_that_changes_in_a_linked_run(box):
    def inner():
        return DAG("inner", tasks=[Task(lambda day: day, name="extract")]).as_task(name="clean")

    def outer():
        return DAG("outer", tasks=[inner()])

    outer().run("serial", state=box.db, params={"clean.day": "monday"})
    changed = outer().run("serial", state=box.db, params={"clean.day": "tuesday"}, rerun={"clean"})
    assert changed["clean"] == "tuesday"
