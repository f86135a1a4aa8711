"""Outcomes are committed in groups, and before another worker starts what depends on them."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from grouped_tasks import independent, layers, mapped, run_inside, short_or_long_coroutine

from flowkit import DAG, FuturesExecutor, ProcessExecutor, SerialExecutor, StateManager, Task, ThreadExecutor

EXECUTORS = {
    "serial": SerialExecutor,
    "thread": lambda: ThreadExecutor(3),
    "process": lambda: ProcessExecutor(2),
}


@pytest.mark.parametrize("name", EXECUTORS)
def test_result_is_recorded_before_another_worker_takes_it(tmp_path, name):
    path = str(tmp_path / "runs.db")
    with EXECUTORS[name]() as executor:
        results = layers(path).run(executor, state=path)
    assert [value[2] for value in results.values()] == [[]] * 36


def test_result_is_recorded_before_another_executor_takes_it(tmp_path):
    path = str(tmp_path / "runs.db")
    results = layers(path, executor="process").run({"default": "thread", "process": "process"}, state=path)
    assert [value[2] for value in results.values()] == [[]] * 36


@pytest.mark.parametrize("name", EXECUTORS)
def test_result_is_recorded_before_elements_of_another_worker_take_it(tmp_path, name):
    path = str(tmp_path / "runs.db")
    with EXECUTORS[name]() as executor:
        results = mapped(path).run(executor, state=path)
    assert [value[2] for value in (results["first"], *results["rows"], *results["each"])] == [[]] * 81


def test_result_is_recorded_before_a_pool_takes_it(tmp_path):
    path = str(tmp_path / "runs.db")
    with ThreadPoolExecutor(3) as pool:
        results = layers(path).run(FuturesExecutor(pool), state=path)
    assert [value[2] for value in results.values()] == [[]] * 36


def test_result_in_run_inside_a_task_is_recorded_before_another_worker_takes_it(tmp_path):
    path = str(tmp_path / "runs.db")
    found = DAG("outer", tasks=[Task(run_inside)]).run("thread", params={"path": path})["run_inside"]
    assert [value[2] for value in found] == [[]] * 16


@pytest.mark.parametrize("name", ["thread", "process", "pool"])
def test_short_calls_are_recorded_while_a_long_one_of_the_same_function_runs(tmp_path, name):
    """The long calls end only when the record has the short ones before them."""
    path = str(tmp_path / "runs.db")
    with ThreadPoolExecutor(1) as pool:
        make = {"thread": lambda: ThreadExecutor(2), "process": lambda: ProcessExecutor(1)}
        make["pool"] = lambda: FuturesExecutor(pool)
        with make[name]() as executor:
            results = independent(path, long=name == "thread").run(executor, state=path)
    assert results["t39"] == 39


def test_short_coroutines_are_recorded_while_a_long_one_of_the_same_function_runs(tmp_path):
    path = str(tmp_path / "runs.db")
    assert independent(path, short_or_long_coroutine).run(max_async=1, state=path, timeout=60)["t39"] == 39


class Counting:
    """A store that counts the groups of one run."""

    def __init__(self, state):
        self._state, self.groups = state, []

    def open_run(self, *facts):
        self._journal = self._state.open_run(*facts)
        self.run_id, self.done, self.outdated = self._journal.run_id, self._journal.done, self._journal.outdated
        self.prepare, self.close = self._journal.prepare, self._journal.close
        return self

    def record(self, outcomes):
        self.groups.append(len(outcomes))
        self._journal.record(outcomes)


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_short_calls_of_one_worker_are_committed_together(executor):
    tasks = [Task(lambda *inputs: len(inputs), name=f"t{number}") for number in range(200)]
    for before, after in itertools.pairwise(tasks):
        before >> after
    with StateManager() as state:
        store = Counting(state)
        DAG("chain", tasks=tasks).run(executor, state=store)
        assert sum(store.groups) == 200
        assert len(store.groups) < 200
        assert state.runs()[0].counts == {"succeeded": 200}


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_element_that_takes_longer_than_a_group_is_recorded_before_the_next_one(tmp_path, executor):
    """Also in the loop of one worker: at most 5 ms of finished work are lost if the process dies."""

    def each(row):
        until = time.perf_counter() + 0.01
        with StateManager(path) as other:
            elements = other.runs()[0].tasks["each"].elements
            found = 0 if elements is None else elements.counts.get("succeeded", 0)
        while time.perf_counter() < until:
            pass
        return found

    path = tmp_path / "runs.db"
    dag = DAG("long", max_workers=1, tasks=[Task(each, name="each").map("row")])
    assert dag.run(executor, state=path, params={"row": range(4)})["each"] == [0, 1, 2, 3]
