"""Failed runs on worker processes."""

from __future__ import annotations

import itertools
from pathlib import Path

import faulty_tasks as faults
import pytest
from process_checks import has_ended, run
from subprocess_harness import guarded

from flowkit_core import (
    DAG,
    Task,
)

pytestmark = pytest.mark.slow


@guarded
def test_running_task_is_killed_when_the_grace_period_after_a_failure_ends(executor, tmp_path):
    path = str(tmp_path / "started")
    with pytest.raises(ValueError, match="failed"):
        run(executor, Task(faults.sleep_endlessly), Task(faults.fail_when), params={"started": path}, grace=0.2)
    assert has_ended(int(Path(f"{path}.pid").read_text()))
    assert run(executor, Task(faults.ok)) == {"ok": "ok"}


@guarded
def test_clean_up_task_may_take_longer_than_the_grace_period(executor, tmp_path):
    path = str(tmp_path / "started")
    pace = [Task(faults.ok, name=f"pace_{number}") for number in range(100)]
    endless, broken = Task(faults.sleep_endlessly), Task(faults.fail_when)
    clean = [Task(faults.slow_clean_up, name=f"clean_{number}", trigger="all_done") for number in range(2)]
    pace >> endless
    pace >> broken
    broken >> clean
    with pytest.raises(ValueError, match="failed") as caught:
        run(executor, endless, *clean, params={"started": path}, grace=0.2)
    states = caught.value.flowkit_results.states
    assert (states["sleep_endlessly"], states["clean_0"], states["clean_1"]) == ("cancelled", "succeeded", "succeeded")


@guarded
def test_running_task_ends_after_the_failure_of_another(executor, tmp_path):
    path = tmp_path / "started"
    with pytest.raises(ValueError, match="failed") as caught:
        run(executor, Task(faults.end_slowly), Task(faults.fail_when), params={"started": str(path)})
    assert caught.value.flowkit_results == {"end_slowly": "ended"}
    assert Path(f"{path}.finally").exists()


@guarded
def test_retry_delay_of_years_does_not_overflow(executor):
    far = Task(faults.victim, name="far", retries=1, delay=1e8, max_delay=1e9)
    broken = Task(faults.run_into, retries=1, delay=0.01)
    with pytest.raises(RuntimeError, match="sprung"):
        run(executor, far, broken, params={"how": "3", "fault": "raise"})


def test_run_right_after_a_failed_run_starts_no_call_twice(executor):
    chain = [Task(faults.ok, name=f"ok_{number}") for number in range(4)]
    for one, after in itertools.pairwise(chain):
        one >> after
    last = Task(faults.fail)
    chain[-1] >> last
    dag, states = DAG("chain", tasks=[last]), {task.name: "succeeded" for task in chain} | {"fail": "failed"}
    for _ in range(300):
        assert dag.run(executor, raise_on_failure=False).states == states
