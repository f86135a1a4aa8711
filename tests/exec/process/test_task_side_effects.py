"""What a task changes in its worker process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import faulty_tasks as faults
import pytest
from process_checks import has_ended, outcome, run
from subprocess_harness import guarded

from flowkit_core import (
    ExecutorError,
    Task,
    WorkerDiedError,
)
from flowkit_exec import ProcessExecutor

pytestmark = pytest.mark.slow


@guarded
def test_task_may_close_standard_streams(executor):
    assert outcome(executor, Task(faults.close_streams)) == "closed"


@guarded
def test_task_that_closes_all_descriptors_is_a_worker_death(executor):
    assert type(outcome(executor, Task(faults.close_descriptors))) is WorkerDiedError
    assert run(executor, Task(faults.ok)) == {"ok": "ok"}


@guarded
def test_folder_environment_and_handlers_of_a_task_stay_in_its_worker(tmp_path):
    here = Path.cwd()
    with ProcessExecutor(max_workers=1) as executor:
        worker = outcome(executor, Task(faults.move), params={"folder": str(tmp_path)})
    assert has_ended(worker)
    assert Path.cwd() == here
    assert "FLOWKIT_TEST_MOVED" not in os.environ
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@guarded
def test_warm_worker_gets_the_surroundings_of_the_caller_for_each_run(tmp_path):
    first, second = Task(faults.move_away), Task(faults.is_moved)
    first >> second
    here = Path.cwd()
    with ProcessExecutor(max_workers=1) as executor:
        before = run(executor, Task(faults.surroundings))["surroundings"]
        results = run(executor, second, params={"path": str(tmp_path / "gone")})
        assert results["is_moved"] == "1"
        assert run(executor, Task(faults.surroundings))["surroundings"] == before
        assert before == (str(here), {**os.environ, "FLOWKIT_DEPTH": "1"}, sys.path, sys.argv)
        try:
            os.chdir(tmp_path)
            os.environ["FLOWKIT_TEST_HERE"] = "1"
            sys.argv.append("more")
            found = run(executor, Task(faults.surroundings))["surroundings"]
            assert found == (str(Path.cwd()), {**os.environ, "FLOWKIT_DEPTH": "1"}, sys.path, sys.argv)
        finally:
            os.chdir(here)
            del os.environ["FLOWKIT_TEST_HERE"], sys.argv[-1]
        assert run(executor, Task(faults.pid))["pid"] == results["move_away"]


@guarded
def test_folder_that_a_worker_cannot_enter_is_an_error(tmp_path):
    here, ran = Path.cwd(), tmp_path / "ran"
    params = {"tallies": str(ran)}
    with ProcessExecutor(max_workers=1) as executor:
        run(executor, Task(faults.ok))
        try:
            os.chdir(tmp_path)
            while len(str(Path.cwd())) <= os.pathconf("/", "PC_PATH_MAX"):
                Path("x" * 200).mkdir()
                os.chdir("x" * 200)
            with pytest.raises(ExecutorError, match="cannot enter the current folder"):
                run(executor, Task(faults.tally), params=params)
            assert not ran.exists()
        finally:
            os.chdir(here)
        assert run(executor, Task(faults.ok)) == {"ok": "ok"}


@guarded
def test_removed_current_folder_is_an_error(executor, tmp_path):
    here, folder, ran = Path.cwd(), tmp_path / "folder", tmp_path / "ran"
    folder.mkdir()
    run(executor, Task(faults.ok))
    try:
        os.chdir(folder)
        folder.rmdir()
        with pytest.raises(ExecutorError, match="folder of this process was removed"):
            run(executor, Task(faults.tally), params={"tallies": str(ran)})
        assert not ran.exists()
    finally:
        os.chdir(here)


@guarded
def test_task_may_print_megabytes():
    sys.stdout.flush()
    keep = [os.dup(1), os.dup(2)]
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            with ProcessExecutor(max_workers=2) as fresh:
                assert outcome(fresh, Task(faults.shout)) == "shouted"
        finally:
            os.dup2(keep[0], 1)
            os.dup2(keep[1], 2)


@guarded
def test_endless_recursion_raises_recursion_error(executor):
    assert type(outcome(executor, Task(faults.recurse))) is RecursionError


@pytest.mark.parametrize(("task", "code"), [(faults.fork_and_return, 0), (faults.fork_and_exit, 3)])
@guarded
def test_child_forked_by_a_task_reports_nothing(executor, task, code):
    assert outcome(executor, Task(task)) == code


@pytest.mark.parametrize("method", ["fork", "spawn"])
@guarded
def test_task_may_use_a_multiprocessing_pool(executor, method):
    assert outcome(executor, Task(faults.pool), params={"method": method}) == [1, 2]


@guarded
def test_nested_runs_have_workers_up_to_a_depth(executor):
    pids = outcome(executor, Task(faults.nested), params={"levels": 2})
    assert len(set(pids)) == 3
    os.environ["FLOWKIT_DEPTH"] = "8"
    try:
        with ProcessExecutor(max_workers=1) as deep, pytest.raises(ExecutorError, match="10 deep"):
            run(deep, Task(faults.nested), params={"levels": 2})
    finally:
        del os.environ["FLOWKIT_DEPTH"]
