"""Queries of recorded runs: `runs()` by status, time and parameters, and what is different between two runs."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import subprocess
import sys

import pytest
from durable_tasks import TIMEOUT, ManualClock

from flowkit import DAG, StateManager, StateOptionError, StateOptionTypeError, Task


def load(day, region="north"):
    if day == "bad":
        raise OSError("the disk is full")
    return len(day)


def run(state, day, name="nightly", **params):
    dag = DAG(name, tasks=[Task(load)])
    return dag.run("serial", state=state, params={"day": day, **params}, raise_on_failure=False).run_id


@pytest.fixture(params=["file", "memory"])
def state(request, box):
    with StateManager(box.db if request.param == "file" else None) as state:
        yield state


def ids(records):
    return [record.run_id for record in records]


def test_runs_are_selected_by_status_and_params(state):
    good, bad = run(state, "2026-11-29"), run(state, "bad", region="south")
    other = run(state, "2026-11-29", name="hourly", region="south")
    assert ids(state.runs(status="failed")) == [bad]
    assert ids(state.runs("nightly", status=("failed", "succeeded"))) == [bad, good]
    assert state.runs(status={"interrupted", "running"}) == []
    assert ids(state.runs(params={"day": "2026-11-29"})) == [other, good]
    assert ids(state.runs("nightly", params={"day": "2026-11-29"})) == [good]
    assert ids(state.runs(params={"region": "south"}, limit=1)) == [other]
    assert ids(state.runs(params={"region": "south"}, status="failed", limit=1)) == [bad]
    assert state.runs(params={"day": "2026-11-30"}) == state.runs(params={"hour": 1}) == []


def test_params_are_selected_by_content_and_type(state):
    first = run(state, "x", region=(1, {"a": {2}}))
    second = run(state, "x", region=1)
    assert ids(state.runs(params={"region": (1, {"a": {2}})})) == [first]
    assert ids(state.runs(params={"region": 1})) == [second]
    assert state.runs(params={"region": True}) == state.runs(params={"region": 1.0}) == []


def test_runs_are_selected_by_start(state):
    first, second = run(state, "a"), run(state, "b")
    started = state.run(second).started
    assert ids(state.runs(since=started)) == [second]
    assert ids(state.runs(since=dt.timedelta(days=1))) == [second, first]
    assert ids(state.runs(since=(dt.datetime.now(dt.UTC) - dt.timedelta(days=2)).date())) == [second, first]
    local = started.astimezone().replace(tzinfo=None)
    assert ids(state.runs(since=local)) == [second]
    assert state.runs(since=started + dt.timedelta(days=2)) == []


def test_duration_before_now_is_measured_by_the_clock_of_the_state(box):
    clock = ManualClock()
    with StateManager(box.db, clock=clock) as state:
        run_id = run(state, "a")
        clock.now = state.run(run_id).started.timestamp() + 3600
        assert ids(state.runs(since=dt.timedelta(hours=2))) == [run_id]
        assert state.runs(since=dt.timedelta(minutes=30)) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"status": "done"}, StateOptionError, "status is 'done', but must be 'running' or 'succeeded'"),
        ({"status": ["failed", 7]}, StateOptionError, "status is 7"),
        ({"status": 7}, StateOptionTypeError, "status is 7"),
        ({"since": 1.5}, StateOptionTypeError, "since is 1.5, a float, but must be a datetime, a date or a timedelta"),
        ({"since": "2026-11-29"}, StateOptionTypeError, "since is '2026-11-29'"),
        ({"since": dt.date.min}, StateOptionError, "since is "),
        ({"params": {"a": object()}}, StateOptionTypeError, "because a object cannot be compared"),
        ({"pipeline": 7}, StateOptionTypeError, "pipeline is 7"),
        ({"limit": -1}, StateOptionError, "limit is -1"),
    ],
)
def test_invalid_selection_raises(state, options, error, message):
    with pytest.raises(error, match=message):
        state.runs(**options)


KILLED = """
import os, sys
from flowkit import DAG, Task
def die(): os._exit(9)
DAG("killed", tasks=[Task(die)]).run("serial", state=sys.argv[1])
"""


def test_run_of_killed_process_is_selected_as_interrupted(box):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", KILLED, box.db], env=environment, timeout=TIMEOUT, check=False)
    with StateManager(box.db) as state:
        assert [record.pipeline for record in state.runs(status="interrupted")] == ["killed"]
        assert state.runs(status="running") == []


def test_diff_names_what_is_different(box):
    def pipeline(constant, **tasks):
        a, b = Task(lambda: constant, name="a"), Task(lambda a, day: (a, day), name="b")
        a >> b
        return DAG("etl", tasks=[b, *tasks.values()])

    with StateManager(box.db) as state:

        def record(dag, day):
            results = dag.run("serial", state=state, params=day and {"day": day}, raise_on_failure=False)
            return state.run(results.run_id)

        first = record(pipeline(1, c=Task(int, name="c")), "2026-11-29")
        second = record(pipeline(2, d=Task(int, name="d")), "2026-11-30")
        diff = first.diff(second)
        assert diff.params == {"day": ("2026-11-29", "2026-11-30")}
        assert (diff.added, diff.removed, diff.results) == (("d",), ("c",), ("a", "b"))
        assert diff.changed.keys() == {"a"}
        assert diff.states == {}
        assert diff.durations.keys() == {"a", "b"}
        assert str(diff).splitlines()[:3] == [
            "parameter day: '2026-11-29' -> '2026-11-30'",
            "task d was added",
            "task c was removed",
        ]
        assert diff
        assert repr(diff).startswith("<RunDiff parameter day")
        same = second.diff(record(pipeline(2, d=Task(int, name="d")), "2026-11-30"))
        assert not same
        assert str(same) == "no difference"
        box.inject("b", "fail")
        third = record(DAG("etl", tasks=[box.task("b")]), None)
        assert second.diff(third).states == {"b": ("succeeded", "failed")}
        assert "it no longer has the upstream 'a'" in second.diff(third).changed["b"]
        with pytest.raises(LookupError, match="not part of a pickled record"):
            pickle.loads(pickle.dumps(first)).diff(second)
        with pytest.raises(TypeError, match=r"takes a RunRecord, such as StateManager\.run\(run_id\)"):
            first.diff(second.run_id)


def test_gc_counts_the_runs_of_each_pipeline(state):
    for number in range(4):
        for name in ("nightly", "hourly"):
            run(state, str(number), name=name)
    assert state.gc(keep=3).runs == 2
    assert [record.params["day"] for record in state.runs("nightly")] == ["3", "2", "1"]
    assert [record.params["day"] for record in state.runs("hourly")] == ["3", "2", "1"]
