"""`recorded(run)`: recorded results as stand-ins for tasks in tests."""

from __future__ import annotations

import pytest

from flowkit import DAG, Skip, StateManager, Task
from flowkit.testing import recorded, simulate


def pipeline(calls, broken=False):
    def extract(day):
        calls.append("extract")
        return {"day": day, "rows": [3, 1, 2]}

    def check(extract):
        calls.append("check")
        raise Skip("nothing to check")

    def load(extract):
        calls.append("load")
        if broken:
            raise OSError("no space")
        return len(extract["rows"])

    def report(load):
        return f"{load} rows"

    extract, check, load, report = map(Task, (extract, check, load, report))
    extract >> [check, load]
    load >> report
    return DAG("nightly", tasks=[check, report])


@pytest.fixture
def state():
    with StateManager() as store:
        yield store


def failed_run(state):
    results = pipeline([], broken=True).run("serial", state=state, params={"day": "monday"}, raise_on_failure=False)
    return state.run(results.run_id)


def test_tasks_that_succeeded_or_were_skipped_have_stand_ins(state):
    stand_ins = recorded(failed_run(state))
    assert list(stand_ins) == ["extract", "check"]
    assert stand_ins["extract"]() == stand_ins["extract"]("any", argument=1) == {"day": "monday", "rows": [3, 1, 2]}
    assert stand_ins["extract"]() is not stand_ins["extract"]()
    with pytest.raises(Skip, match="nothing to check"):
        stand_ins["check"]()


def test_failed_task_is_called_with_the_recorded_inputs(state):
    run, calls = failed_run(state), []
    simulation = simulate(pipeline(calls), params=run.params, functions=recorded(run))
    assert simulation.results == {"extract": run.tasks["extract"].result(), "load": 3, "report": "3 rows"}
    assert simulation.results.skipped == {"check": "nothing to check"}
    assert calls == ["load"]


def test_skip_and_only(state):
    run = failed_run(state)
    assert list(recorded(run, skip=["check"])) == ["extract"]
    assert list(recorded(run, only=["check"])) == ["check"]
    with pytest.raises(ValueError, match=r"only=.*'load', but it is failed in run \w+, and so has no recorded result"):
        recorded(run, only=["load"])
    with pytest.raises(ValueError, match=r"'extrat', but the run has no such task \(did you mean 'extract'\?\)"):
        recorded(run, skip=["extrat"])
    assert list(recorded(run, only="check")) == list(recorded(run, skip="extract")) == ["check"]
    with pytest.raises(TypeError, match=r"recorded\(skip=...\) is 3, but must be the name of a task"):
        recorded(run, skip=3)


def test_missing_stand_in_says_why(state):
    stand_ins = recorded(failed_run(state), skip=["check"])
    for name, reason in {"load": "it is failed", "check": "has left it out", "lod": "did you mean 'load'"}.items():
        with pytest.raises(KeyError, match=reason):
            stand_ins[name]


def test_stand_in_as_a_task_of_another_pipeline(state):
    extract = Task(recorded(failed_run(state))["extract"])
    count = Task(lambda extract: len(extract["rows"]), name="count")
    extract >> count
    assert DAG("test", tasks=[count]).run("serial")["count"] == 3


def test_object_other_than_a_record_is_refused(state):
    with pytest.raises(TypeError, match=r"write state\.run\(run_id\)"):
        recorded(pipeline([]).run("serial", params={"day": 1}))
