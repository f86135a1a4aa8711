"""Ends of workers: they leave no descriptor, thread or process."""

from __future__ import annotations

import gc
import threading
from functools import partial
from textwrap import dedent

import faulty_tasks as faults
import pytest
from process_checks import child_pids, count_descriptors, has_ended, outcome, run
from script_sources import RESULTS, TASKS
from subprocess_harness import guarded, until

from flowkit_core import (
    Task,
)
from flowkit_exec import ProcessExecutor

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fault", ["crash", "hang"])
@guarded
def test_close_does_not_wait_for_finalizers_and_threads_of_tasks(fault):
    with ProcessExecutor(max_workers=1) as executor:
        assert run(executor, Task(faults.leave_relic), params={"fault": fault}) == {"leave_relic": fault}
        worker = run(executor, Task(faults.pid))["pid"]
    assert has_ended(worker)


@pytest.mark.parametrize("how", ["live", "SIGKILL", "0"])
@guarded
def test_process_started_by_a_task_ends_with_its_worker(tmp_path, how):
    path = tmp_path / "pid"
    with ProcessExecutor(max_workers=1) as executor:
        outcome(executor, Task(faults.leave_child), params={"path": str(path), "how": how})
    pid = int(path.read_text())
    until(lambda: has_ended(pid))


@guarded
def test_runs_leave_no_descriptor_thread_or_process():
    before = None
    gc.collect()  # objects of other tests may hold descriptors
    for number in range(50):
        source = Task(faults.buffer)
        ends = [Task(faults.total), Task(partial(faults.end_with, deadly=number % 5 == 4), name="end")]
        source >> ends
        with ProcessExecutor(max_workers=1) as executor:
            results = run(executor, *ends, raise_on_failure=False, params={"large": faults.Counted()})
            assert list(results.failed) == (["end"] if number % 5 == 4 else [])
            del results
        if before is None:
            before = count_descriptors(), threading.active_count(), child_pids()
    assert (count_descriptors(), threading.active_count(), child_pids()) == before


def test_workers_end_with_a_program_that_does_not_close_the_executor(script):
    source = """
    from flowkit_exec import ProcessExecutor
    executor = ProcessExecutor(2)
    print(dag.run(executor))
    """
    program = script(TASKS + dedent(source))
    assert program.wait() == RESULTS
    assert program.descendants() == []
