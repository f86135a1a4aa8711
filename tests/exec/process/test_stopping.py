"""Failed runs on worker processes."""

from __future__ import annotations

import itertools
from pathlib import Path

import faulty_tasks as faults
import pytest
import tasks_with_faults as places
from process_checks import has_ended, run
from subprocess_harness import guarded

from flowkit_core import DAG, RunStopping, Task
from flowkit_exec import ProcessExecutor

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


@guarded
def test_timeout_and_grace_of_years_do_not_overflow(executor):
    tasks = [Task(faults.ok), Task(faults.fail)]
    with pytest.raises(ValueError, match="failed"):
        run(executor, *tasks, timeout=1e300, grace=1e300)


def test_run_right_after_a_failed_run_starts_no_call_twice(executor):
    chain = [Task(faults.ok, name=f"ok_{number}") for number in range(4)]
    for one, after in itertools.pairwise(chain):
        one >> after
    last = Task(faults.fail)
    chain[-1] >> last
    dag, states = DAG("chain", tasks=[last]), {task.name: "succeeded" for task in chain} | {"fail": "failed"}
    for _ in range(300):
        assert dag.run(executor, raise_on_failure=False).states == states


class Released:
    """An observer that writes a file when the run reports the tasks that it waits for."""

    events = (RunStopping,)

    def __init__(self, path):
        self.path = path
        self.running = []

    def __call__(self, event):
        self.running.append(event.running)
        Path(self.path).write_text("released")


@pytest.mark.parametrize("how", ["0", "3", "SIGKILL", "SIGSEGV"])
@guarded
def test_running_task_that_dies_after_the_failure_of_another_fails_alone(executor, tmp_path, how):
    started, released = str(tmp_path / "started"), str(tmp_path / "released")
    observer = Released(released)
    params = {"path": started, "started": started, "released": released, "how": how}
    dying = Task(places.die_when, retries=3, delay=0)
    below = Task(faults.ok, name="below")
    dying >> below
    with pytest.raises(ValueError, match="failed") as caught:
        run(executor, below, Task(faults.fail_when), params=params, observers=[observer])
    results = caught.value.flowkit_results
    assert observer.running == [("die_when",)]
    assert results.states == {"die_when": "failed", "fail_when": "failed", "below": "upstream_failed"}
    assert results.attempts["die_when"] == 1
    assert run(executor, Task(faults.ok)) == {"ok": "ok"}


@pytest.mark.parametrize("how", ["blocks signals", "holds the GIL", "is suspended", "leaves a child", "catches all"])
@guarded
def test_running_task_that_ignores_the_end_of_its_grace_is_killed(executor, tmp_path, how):
    started = str(tmp_path / "started")
    params = {"path": started, "started": started, "how": how}
    with pytest.raises(ValueError, match="failed") as caught:
        run(executor, Task(places.resist), Task(faults.fail_when), params=params, grace=0.05)
    assert caught.value.flowkit_results.states == {"resist": "cancelled", "fail_when": "failed"}
    assert has_ended(int(Path(f"{started}.pid").read_text()))
    assert run(executor, Task(faults.ok)) == {"ok": "ok"}


@guarded
def test_several_running_tasks_end_after_the_failure_of_another(tmp_path):
    started, released = str(tmp_path / "started"), str(tmp_path / "released")
    tasks = [Task(faults.end_when_released, name=f"running_{number}") for number in range(3)]
    waiting = [Task(faults.ok, name=f"waiting_{number}") for number in range(20)]
    observer = Released(released)
    params = {"started": started, "released": released, "size": 3}
    with ProcessExecutor(max_workers=4) as executor, pytest.raises(ValueError, match="failed") as caught:
        run(executor, *tasks, Task(faults.fail_when), *waiting, params=params, observers=[observer])
    results = caught.value.flowkit_results
    names = [task.name for task in tasks]
    assert [results[name] for name in names] == ["ended"] * 3
    assert observer.running == [tuple(names)]
    assert Path(f"{started}.finally").stat().st_size == 3


def test_interrupt_ends_the_wait_for_running_tasks(script, tmp_path):
    source = """
    import os, signal, sys
    import faulty_tasks as faults
    from flowkit_core import DAG, RunStopping, Task
    def interrupt(event):
        os.kill(os.getpid(), signal.SIGINT)
    interrupt.events = (RunStopping,)
    dag = DAG("stop", max_workers=2, tasks=[Task(faults.sleep_endlessly), Task(faults.fail_when)])
    try:
        dag.run("process", params={"started": "started"}, observers=[interrupt])
    except KeyboardInterrupt as error:
        print(error.flowkit_results.states)
    """
    output = script(source, cwd=tmp_path).wait()
    assert output.splitlines()[-1] == "{'sleep_endlessly': 'cancelled', 'fail_when': 'failed'}"
    assert has_ended(int((tmp_path / "started.pid").read_text()))
