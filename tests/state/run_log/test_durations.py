"""`StateManager.run_ids` and `durations`, and the edges in records of tasks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from recorded_runs import TASKS, UPSTREAM, record

from flowkit_state import StateOptionError, StateOptionTypeError


def run(state, run_id, *seconds, pipeline="etl", second="succeeded", **facts):
    journal = state.open_run(run_id, pipeline, TASKS, UPSTREAM, {}, resume=False)
    record(journal, 0, [1], seconds=seconds[0])
    record(journal, 1, [1], second, seconds=seconds[-1], **facts)
    journal.close("succeeded", [], None)


def test_run_ids_are_listed_newest_first(state):
    for run_id in ("one", "two", "three"):
        run(state, run_id, 0.5)
    run(state, "four", 0.5, pipeline="other")
    assert state.run_ids("etl") == ["three", "two", "one"]
    assert state.run_ids("etl", limit=1) == ["three"]
    assert state.run_ids("etl", before="three", limit=1) == ["two"]
    assert state.run_ids("etl", before="one") == []
    assert state.run_ids("unknown") == []


def test_durations_are_those_of_successes_oldest_first(state):
    run(state, "one", 0.5, 1.0, attempts=2)
    run(state, "two", 0.25, 2.0, second="failed")
    run(state, "three", 0.75, 3.0)
    assert state.durations("etl") == {"extract": (0.5, 0.25, 0.75), "transform": (1.0, 3.0)}
    assert state.durations("etl", before="three", limit=1) == {"extract": (0.25,)}
    assert state.durations("etl", limit=0) == {}


def test_cached_results_have_no_duration(state):
    run(state, "one", 0.5, 1.0, source="cache")
    assert state.durations("etl") == {"extract": (0.5,)}


def test_task_record_has_upstream_tasks(state):
    run(state, "one", 0.5)
    assert [task.upstream for task in state.run("one").tasks.values()] == [(), ("extract",)]


def test_task_record_says_whether_pools_or_a_limit_limit_it(state):
    options = {"plain": {}, "pooled": {"pool": "db"}, "free": {"pool": None, "limit": None}, "mapped": {"limit": 2}}
    plain = {"func": len, "when": None, "trigger": "none_failed"}
    tasks = [SimpleNamespace(name=name, **plain, **given) for name, given in options.items()]
    state.open_run("one", "etl", tasks, [()] * 4, {}, resume=False).close("succeeded", [], None)
    assert [name for name, task in state.run("one").tasks.items() if task.limited] == ["pooled", "mapped"]


@pytest.mark.parametrize("method", ["run_ids", "durations"])
def test_wrong_arguments_are_refused(state, method):
    with pytest.raises(StateOptionTypeError):
        getattr(state, method)(1)
    with pytest.raises(StateOptionTypeError):
        getattr(state, method)("etl", before=1)
    with pytest.raises(StateOptionError):
        getattr(state, method)("etl", limit=-1)
