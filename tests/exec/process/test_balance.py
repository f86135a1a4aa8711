"""How calls are distributed over worker processes."""

from __future__ import annotations

import io
import logging
from functools import partial

import faulty_tasks as faults
import pytest
from process_checks import run
from subprocess_harness import guarded

from flowkit_core import (
    Task,
)

pytestmark = pytest.mark.slow


@guarded
def test_calls_behind_a_running_task_move_to_an_idle_worker(executor, tmp_path):
    path = str(tmp_path / "tallies")
    pace = [Task(faults.ok, name=f"pace_{number}") for number in range(100)]
    last = Task(faults.wait_for_others)
    others = [Task(faults.tally, name=f"tally_{number}") for number in range(60)]
    pace >> last
    for other in others:
        pace >> other
    results = run(executor, last, *others, params={"tallies": path, "others": 60})
    assert results["wait_for_others"] == "last"


@guarded
def test_tasks_run_in_parallel_after_many_cheap_tasks(executor, tmp_path):
    last = Task(faults.ok, name="start")
    for layer in range(12):
        before, last = last, Task(faults.ok, name=f"end_{layer}")
        for number in range(30):
            before >> Task(faults.ok, name=f"trivial_{layer}_{number}") >> last
    meeting = [Task(faults.meet, name=f"meet_{number}") for number in range(2)]
    last >> meeting
    assert run(executor, *meeting, params={"path": str(tmp_path / "met")})["meet_1"] is None


@guarded
def test_longest_critical_path_starts_first(executor, tmp_path):
    path = tmp_path / "met"
    tasks = [Task(partial(faults.meet, mark="s"), name=f"short_{number}") for number in range(20)]
    for number in (6, 13):
        tasks[number] = Task(partial(faults.meet, mark="L"), name=f"long_{number}")
        tasks[number] >> Task(faults.ok, name=f"end_{number}")
    run(executor, *tasks, *(after for task in tasks for after in task.downstream), params={"path": str(path)})
    assert path.read_text()[:2] == "LL"


@guarded
def test_calls_behind_a_task_that_logs_continuously_move_to_an_idle_worker(executor, tmp_path):
    path = str(tmp_path / "tally")
    first = Task(faults.ok, name="first")
    chatty = Task(faults.log_until, name="chatty")
    quick = [Task(faults.tally, name=f"quick_{number}") for number in range(40)]
    first >> [chatty, *quick]
    logger = logging.getLogger("faulty_tasks")
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    logger.setLevel(logging.INFO)
    results = run(executor, chatty, *quick, params={"path": path, "tallies": path, "size": 40})
    assert results["chatty"] == "heard"
