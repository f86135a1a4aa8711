"""Linked runs: `run(rerun=..., of=...)` starts a new run from a recorded one, which stays as it is."""

from __future__ import annotations

import pytest
from durable_tasks import RESULTS, diamond, step
from element_tasks import named, numbers

from flowkit import DAG, BindingError, StateManager, StateOptionError, Task, UnknownRunError, current


def pipeline(box, constant=0, name="etl"):
    folder = box.folder

    def extract(day):
        return step(folder, "extract", f"rows of {day}")

    def clean(rows, limit):
        return step(folder, "clean", (rows, limit))

    def load(rows):
        return step(folder, "load", (rows, constant))

    tasks = [Task(each) for each in (extract, clean, load)]
    tasks[0] >> tasks[1] >> tasks[2]
    return DAG(name, tasks=tasks)


PARAMS = {"day": "monday", "limit": 3}


def ran(box, call):
    before = len(box.ran)
    result = call()
    return result, box.ran[before:]


def test_rerun_in_each_executor(box, executor):
    first = diamond().run(executor, state=box.db, params=box.params)
    second, names = ran(box, lambda: diamond().run(executor, state=box.db, rerun={"double"}, of=first.run_id))
    assert (second, sorted(names)) == (RESULTS, ["double", "report"])
    assert set(second.resumed) == {"extract", "count"}


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_tasks_from_rerun_on_run_again_in_a_linked_run(box, executor):
    first = pipeline(box).run(executor, state=box.db, params=PARAMS)
    before = repr(box.records())
    second, names = ran(box, lambda: pipeline(box).run(executor, state=box.db, rerun={"clean"}, of=first.run_id))
    assert names == ["clean", "load"]
    assert second == first
    assert second.resumed == ("extract",)
    assert second.outdated == {"clean": "run(rerun=...) asks for it", "load": "it depends on 'clean'"}
    records = box.records()
    assert repr(records[1:]) == before
    record = records[0]
    assert (record.run_id, record.parent, record.params, record.status) == (
        second.run_id,
        first.run_id,
        PARAMS,
        "succeeded",
    )
    extract = record.tasks["extract"]
    assert (extract.state, extract.source, extract.attempts) == ("succeeded", "resume", ())
    assert extract.why == f"taken over from run {first.run_id}"
    assert extract.result() == "rows of monday"


def test_changed_params_replace_those_of_the_run_and_run_what_takes_them(box):
    first = pipeline(box).run("serial", state=box.db, params=PARAMS)
    second, names = ran(
        box, lambda: pipeline(box).run("serial", state=box.db, rerun="load", of=first.run_id, params={"limit": 4})
    )
    assert names == ["clean", "load"]
    assert second["load"] == (("rows of monday", 4), 0)
    assert box.records()[0].params == {"day": "monday", "limit": 4}
    _, names = ran(box, lambda: pipeline(box).run("serial", state=box.db, rerun="load", params={"clean.limit": 5}))
    assert names == ["clean", "load"]
    _, names = ran(box, lambda: pipeline(box).run("serial", state=box.db, rerun="load", params={"day": "monday"}))
    assert names == ["load"]


def test_rerun_without_of_starts_from_the_last_run(box):
    pipeline(box).run("serial", state=box.db, params=PARAMS)
    last = pipeline(box).run("serial", state=box.db, params=PARAMS | {"limit": 5})
    again = pipeline(box).run("serial", state=box.db, rerun=["load"])
    assert again["load"] == last["load"]
    assert box.records()[0].parent == last.run_id


def test_failed_and_changed_tasks_of_the_run_run_as_well(box):
    box.inject("clean", "fail")
    first = pipeline(box).run("serial", state=box.db, params=PARAMS, raise_on_failure=False)
    box.repair("clean")
    second, names = ran(box, lambda: pipeline(box, 1).run("serial", state=box.db, rerun={"load"}, of=first.run_id))
    assert names == ["clean", "load"]
    assert box.records()[1].status == "failed"
    _, names = ran(box, lambda: pipeline(box, 2).run("serial", state=box.db, rerun={"clean"}, of=second.run_id))
    assert names == ["clean", "load"]


def test_failed_linked_run_is_resumed(box):
    first = pipeline(box).run("serial", state=box.db, params=PARAMS)
    box.inject("load", "fail")
    second = pipeline(box).run("serial", state=box.db, rerun={"clean"}, of=first.run_id, raise_on_failure=False)
    box.repair("load")
    third, names = ran(box, lambda: pipeline(box).run("serial", state=box.db, params=PARAMS, resume=True))
    assert (third.run_id, names) == (second.run_id, ["load"])


def test_large_results_are_shared_with_the_run(box):
    large = Task(lambda: b"x" * 1_000_000, name="large")
    small = Task(len, name="small")
    large >> small
    dag = DAG("etl", tasks=[small])
    first = dag.run("serial", state=box.db)
    second = dag.run("serial", state=box.db, rerun={"small"})
    with StateManager(box.db) as state:
        state.forget(first.run_id)
        assert state.gc().files == 0
        assert len(state.run(second.run_id).tasks["large"].result()) == 1_000_000


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rerun": {"load"}, "state": None}, ValueError, r"rerun=.*requires a record"),
        ({"of": "x"}, ValueError, r"run\(of='x'\) names a recorded run, but not the tasks to run again"),
        ({"rerun": {"lod"}}, ValueError, "names 'lod', but 'etl' has no such task .did you mean 'load'"),
        ({"rerun": {7}}, TypeError, "has 7, but its items must be names of tasks"),
        ({"rerun": 7}, TypeError, "must be the name of a task, or a list of names"),
        ({"rerun": ()}, ValueError, "is empty"),
        ({"rerun": {"load"}, "resume": True}, ValueError, "excludes resume"),
        ({"rerun": {"load"}, "params": 7}, TypeError, "must map parameter names to values"),
        ({"rerun": {"load"}, "of": "no-such-run"}, UnknownRunError, "no run 'no-such-run'"),
        ({"rerun": {"load"}, "of": 7}, TypeError, "of is 7"),
        ({"rerun": {"load"}, "params": {"limit": 1, "x": 2}}, BindingError, "has 'x'"),
    ],
)
def test_invalid_options_raise_before_anything_runs(box, options, error, message):
    pipeline(box).run("serial", state=box.db, params=PARAMS)
    before = len(box.ran)
    with pytest.raises(error, match=message):
        pipeline(box).run("serial", **{"state": box.db, **options})
    assert len(box.ran) == before
    assert len(box.records()) == 1


def test_run_of_another_pipeline_raises(box):
    other = pipeline(box, name="other").run("serial", state=box.db, params=PARAMS)
    with pytest.raises(StateOptionError, match=r"must be a run of 'etl'; this is a run of 'other'"):
        pipeline(box).run("serial", state=box.db, rerun={"load"}, of=other.run_id)
    with pytest.raises(StateOptionError, match="no run of 'etl' is recorded"):
        pipeline(box).run("serial", state=box.db, rerun={"load"})


def test_parameter_without_recorded_value_must_be_given(box):
    connection = object()
    dag = DAG("etl", tasks=[Task(lambda connection: 1, name="a")])
    dag.run("serial", state=box.db, params={"connection": connection})
    with pytest.raises(StateOptionError, match="values for 'connection' as well"):
        dag.run("serial", state=box.db, rerun={"a"})
    assert dag.run("serial", state=box.db, rerun={"a"}, params={"connection": connection}) == {"a": 1}


@pytest.fixture
def state(tmp_path):
    with StateManager(tmp_path / "runs.db") as state:
        yield state


def test_linked_run_takes_over_elements(elements, state):
    rows, each, count = Task(lambda: [0, 1, 2], name="rows"), elements.task("each"), Task(len, name="count")
    rows >> each.map() >> count
    dag = DAG("linked", tasks=[count])
    old = dag.run("serial", state=state)
    new = dag.run("serial", state=state, rerun={"count"}, of=old.run_id)
    assert new.resumed == ("rows", "each")
    assert elements.calls("each") == [0, 1, 2]
    assert state.run(new.run_id).tasks["each"].result() == old["each"]
    new = dag.run("serial", state=state, rerun={"each"}, of=old.run_id)
    assert elements.calls("each") == [0, 1, 2]
    assert new == old


def test_linked_run_of_a_failed_run_calls_the_missing_elements(elements, state):
    rows, each, count = Task(lambda: [0, 1, 2], name="rows"), elements.task("each"), Task(len, name="count")
    rows >> each.map() >> count
    dag = DAG("linked", tasks=[count])
    elements.inject("each-1", "fail")
    failed = dag.run("serial", state=state, raise_on_failure=False)
    elements.inject("each-1", None)
    elements.calls("each")
    results = dag.run("serial", state=state, rerun={"count"}, of=failed.run_id)
    assert results["count"] == 3
    assert elements.calls("each") == [1, 2]


def after_failed_element(elements, errors, count):
    """Return a pipeline in which an element of `each` fails, and `count` takes the list."""
    rows, each, send = numbers(3), elements.task("each"), Task(str, name="send")
    rows >> each.map(errors=errors) >> Task(count, name="count") >> send
    elements.inject("each-1", "fail")
    return DAG("linked", tasks=[send])


def test_linked_run_does_not_call_dropped_elements_upstream(elements, state, executor):
    dag = after_failed_element(elements, "drop", len)
    old = dag.run(executor, state=state)
    elements.calls("each")
    new = dag.run(executor, state=state, rerun={"send"}, of=old.run_id)
    assert elements.calls("each") == []
    assert new.resumed == ("rows", "each", "count")
    assert new == old
    assert new.elements["each"].states == ["succeeded", "failed", "succeeded"]
    recorded = state.run(new.run_id).tasks["each"]
    assert recorded.result() == old["each"]
    assert list(recorded.elements.failed) == [1]


def test_mapped_task_that_runs_again_skips_dropped_elements(elements, state):
    rows, each, after = numbers(3), elements.task("each"), elements.task("after")
    rows >> each.map(errors="drop") >> after.map()
    dag = DAG("linked", tasks=[after])
    elements.inject("each-1", "fail")
    old = dag.run("serial", state=state)
    elements.calls("each")
    new = dag.run("serial", state=state, rerun={"after"}, of=old.run_id)
    assert elements.calls("each") == []
    assert new == old
    assert list(new.elements["after"].skipped) == [1]


def test_linked_run_calls_elements_that_returned_exceptions(elements, state):
    dag = after_failed_element(elements, "return", len)
    old = dag.run("serial", state=state)
    elements.calls("each")
    elements.inject("each-1", None)
    new = dag.run("serial", state=state, rerun={"send"}, of=old.run_id)
    assert elements.calls("each") == [1]
    assert new["each"] == named("each", 3)


def rows_of_the_day():
    return [f"{current().params['day']} {number}" for number in range(2)]


def stamped(number):
    return current().params["day"], number


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_task_that_reads_changed_parameters_in_its_context_runs_again(tmp_path, executor):
    extract, constant = Task(rows_of_the_day, name="extract"), Task(lambda: [1, 2], name="constant")
    each, load = Task(stamped, name="each"), Task(lambda extract, each, day: [extract, each], name="load")
    constant >> each.map()
    [extract, each] >> load
    dag = DAG("days", tasks=[load])
    first = dag.run(executor, state=tmp_path / "runs.db", params={"day": "mon"})

    def again(**params):
        return dag.run(executor, state=tmp_path / "runs.db", rerun={"load"}, of=first.run_id, params=params)

    assert again(day="mon").resumed == ("extract", "constant", "each")
    tuesday = again(day="tue")
    assert tuesday.resumed == ("constant",)
    assert tuesday["load"] == [["tue 0", "tue 1"], [("tue", 1), ("tue", 2)]]
    assert tuesday.outdated["extract"].startswith("its code calls flowkit.current(), and the parameters")
