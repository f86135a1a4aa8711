"""Worker processes that die: by a signal, an exit or a crash."""

from __future__ import annotations

import gc
import logging
import os
import signal
from pathlib import Path

import faulty_tasks as faults
import pytest
from process_checks import RecordingHandler, has_ended, outcome, run
from script_sources import FORKS
from subprocess_harness import guarded, until

from flowkit_core import (
    DAG,
    Task,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSucceeded,
    WorkerDiedError,
)
from flowkit_exec import ProcessExecutor

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM", "0", "3"])
@guarded
def test_worker_death_fails_only_the_running_task(executor, how):
    error = outcome(executor, Task(faults.victim), params={"how": how})
    assert type(error) is WorkerDiedError
    number = getattr(signal, how) if how.startswith("SIG") else None
    assert (error.task, error.signal, error.exitcode) == (
        "victim",
        how if number else None,
        -number if number else int(how),
    )
    assert error.pid != os.getpid()
    assert "'victim'" in str(error)
    assert (how if number else f"code {how}") in str(error)
    assert outcome(executor, Task(faults.pid)) != error.pid


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="platform: no real-time signals")
@guarded
def test_worker_death_by_a_signal_without_a_name(executor):
    number = signal.SIGRTMIN + 6
    error = outcome(executor, Task(faults.victim), params={"how": f"SIG{number}"})
    assert (error.signal, error.exitcode) == (f"signal {number}", -number)
    assert f"was killed by signal {number} while it ran" in str(error)


@guarded
def test_attempt_of_a_worker_that_dies_lasts_until_its_death():
    task = Task(faults.slow_victim)
    with ProcessExecutor(max_workers=1) as executor:
        run(executor, Task(faults.ok))  # a worker is ready, so that its start does not count
        results = run(executor, task, params={"how": "3"}, raise_on_failure=False)
        assert 0.2 <= results.durations["slow_victim"] < 60
        run(executor, Task(faults.ok))
        results = run(executor, task.map("how"), params={"how": ["3"]}, raise_on_failure=False)
        assert 0.2 <= results.elements["slow_victim"].durations[0] < 60


@guarded
def test_results_sent_before_worker_death_are_kept():
    before = [Task(faults.ok, name=f"before_{number}") for number in range(50)]
    large = Task(faults.buffer, name="large")
    after = [Task(faults.ok, name=f"after_{number}") for number in range(50)]
    tasks = [*before, large, Task(faults.victim), *after]
    with ProcessExecutor(max_workers=1) as executor:
        results = run(executor, *tasks, fail_fast=False, raise_on_failure=False, params={"how": "SIGKILL"})
    assert list(results.failed) == ["victim"]
    assert len(results) == 101


@guarded
def test_calls_queued_behind_a_worker_death_run_once(executor, tmp_path):
    path = str(tmp_path / "tallies")
    tasks = [Task(faults.tally, name=f"task_{number}") for number in range(40)]
    deaths = [Task(faults.victim, name=f"victim_{number}") for number in range(3)]
    tasks[10:10], tasks[20:20], tasks[30:30] = deaths[:1], deaths[1:2], deaths[2:]
    results = run(executor, *tasks, fail_fast=False, raise_on_failure=False, params={"how": "SIGKILL", "tallies": path})
    assert set(results.failed) == {"victim_0", "victim_1", "victim_2"}
    assert len(results) == 40
    assert Path(path).stat().st_size == 40


@guarded
def test_idle_worker_death_is_logged_and_the_worker_replaced(executor):
    logger = logging.getLogger("flowkit")
    logger.addHandler(handler := RecordingHandler())
    logger.setLevel(logging.INFO)
    try:
        for _ in range(3):
            handler.texts.clear()
            os.kill(worker := run(executor, Task(faults.pid))["pid"], signal.SIGKILL)
            assert run(executor, Task(faults.ok)) == {"ok": "ok"}
            text = f"Idle worker process {worker} was killed by SIGKILL; it is replaced when needed."
            assert handler.texts.count(text) == 1
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "0", "3"])
@pytest.mark.parametrize("place", ["result", "argument", "passed on", "exception"])
@guarded
def test_worker_that_dies_between_two_tasks_fails_none(place, how):
    first = Task(faults.raise_lethal if place == "exception" else faults.lethal, name="first")
    takers = []
    if place == "argument":
        takers = [Task(faults.take_lethal, name=f"take_{number}") for number in range(3)]
        first >> takers
    elif place == "passed on":
        takers = [Task(faults.take_lethal, name="take"), Task(faults.ok, name="after")]
        first >> takers[0] >> takers[1]
    others = [Task(faults.ok, name=f"other_{number}") for number in range(5)]
    with ProcessExecutor(max_workers=1) as executor:
        for _ in range(3):
            results = run(
                executor,
                *[*others[:2], first, *takers, *others[2:]],
                fail_fast=False,
                raise_on_failure=False,
                params={"how": how},
            )
            assert list(results.failed) == (["first"] if place == "exception" else [])
            assert set(results.attempts.values()) == {1}
            if place == "exception":
                assert type(results.failed["first"]) is ValueError


@guarded
def test_exception_that_its_function_kept_is_freed_before_the_next_task():
    with ProcessExecutor(max_workers=1, initializer=gc.disable) as executor:
        before = run(executor, Task(faults.pid))["pid"]
        first = Task(faults.raise_lethal, name="first")
        results = run(executor, first, raise_on_failure=False, params={"how": "3"})
        assert type(results.failed["first"]) is ValueError
        assert run(executor, Task(faults.pid))["pid"] != before


@guarded
def test_worker_death_ends_the_timeout_of_its_task(executor):
    victim, naps = Task(faults.victim, timeout=0.1), [Task(faults.nap, name=f"nap_{number}") for number in range(3)]
    naps[0] >> naps[1] >> naps[2]
    results = run(executor, victim, naps[2], fail_fast=False, raise_on_failure=False, params={"how": "SIGKILL"})
    assert list(results.failed) == ["victim"]
    assert list(results) == ["nap_0", "nap_1", "nap_2"]


@guarded
def test_worker_death_consumes_one_attempt(executor, tmp_path):
    task = Task(faults.mortal, retries=3, delay=0)
    assert outcome(executor, task, params={"tries": str(tmp_path / "tries"), "deaths": 2}) == 3


@guarded
def test_task_that_always_kills_its_worker_fails_after_its_retries(executor, tmp_path):
    path = tmp_path / "tries"
    task = Task(faults.mortal, retries=2, delay=0, retry_on=WorkerDiedError)
    error = outcome(executor, task, params={"tries": str(path), "deaths": 99})
    assert error.exitcode == 9
    assert (error.deaths, error.worker) == (3, "")
    assert "3 workers have died while they ran this task" in str(error)
    assert "failed after 3 attempts" in error.__notes__[-1]
    assert path.stat().st_size == 3


@guarded
def test_deaths_of_an_element_are_those_of_its_own_attempts(executor):
    deadly = Task(faults.victim, retries=1, delay=0, retry_on=WorkerDiedError)
    dag = DAG("deaths", tasks=[deadly.map("how", errors="return")])
    errors = dag.run(executor, params={"how": ["SIGKILL"] * 3})["victim"]
    assert [(error.task, error.deaths) for error in errors] == [(f"victim[{number}]", 2) for number in range(3)]


@guarded
def test_events_of_worker_death_and_retry_are_in_order(executor, tmp_path):
    heard = []
    task = Task(faults.mortal, retries=1, delay=0)
    params = {"tries": str(tmp_path / "tries"), "deaths": 9}
    run(executor, task, raise_on_failure=False, params=params, observers=[heard.append])
    kinds = [
        type(event) for event in heard if isinstance(event, (TaskStarted, TaskRetrying, TaskFailed, TaskSucceeded))
    ]
    assert kinds == [TaskStarted, TaskRetrying, TaskStarted, TaskFailed]


@pytest.mark.posix
@guarded
def test_worker_death_with_sigchld_ignored_has_no_exit_code(tmp_path):
    path = tmp_path / "child"
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with ProcessExecutor(max_workers=2) as executor:
            error = outcome(executor, Task(faults.leave_child), params={"path": str(path), "how": "3"})
            assert (type(error), error.exitcode, error.signal) == (WorkerDiedError, None, None)
            assert "ended with an unknown exit status" in str(error)
            until(lambda: has_ended(int(path.read_text())))
            idle = run(executor, Task(faults.pid))["pid"]
            os.kill(idle, signal.SIGKILL)
            until(lambda: has_ended(idle))
            assert run(executor, Task(faults.ok)) == {"ok": "ok"}
    finally:
        signal.signal(signal.SIGCHLD, old)


def test_crash_prints_the_stack_once(script):
    source = """
    import ctypes, os
    os.environ.pop("PYTHONFAULTHANDLER", None)
    from flowkit_core import DAG, Task
    def crash():
        ctypes.string_at(0)
    print(DAG("crash", tasks=[Task(crash)]).run("process", raise_on_failure=False).failed["crash"].signal)
    """
    output = script(source).wait()
    assert output.count("Fatal Python error: Segmentation fault") == 1
    assert output.count(" in crash\n") == 1
    assert output.endswith("SIGSEGV\n")


def test_default_sigpipe_does_not_kill_the_caller_when_a_worker_dies(script):
    source = """
    import os, signal
    from flowkit_core import DAG, Task
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    def die(*data):
        os._exit(3)
    tasks = [Task(die, name=f"task_{number}") for number in range(4)]
    dag = DAG("pipes", max_workers=1, tasks=tasks)
    failed = dag.run("process", fail_fast=False, raise_on_failure=False).failed
    print(len(failed))
    """
    assert script(source).wait() == "4\n"


@FORKS
def test_death_of_a_forked_worker(script, tmp_path):
    source = """
    import contextlib, os, pathlib, sys, time
    from flowkit_core import DAG, Task, WorkerDiedError
    sys.modules["cloudpickle"] = None
    def die():
        with open("tries", "ab") as file:
            file.write(b".")
        os._exit(3)
    def wait():
        pathlib.Path("pid").write_text(str(os.getpid()))
        time.sleep(3600)
    def fail():
        while not pathlib.Path("pid").exists() or not pathlib.Path("pid").read_text():
            time.sleep(0.005)
        1 / 0
    others = [Task(lambda: "ok", name=f"other_{number}") for number in range(20)]
    dying = Task(lambda: die(), name="dying", retries=1, delay=0)
    dag = DAG("deaths", max_workers=2, tasks=[*others[:10], dying, *others[10:]])
    results = dag.run("process", fail_fast=False, raise_on_failure=False)
    print(len(results), results.failed["dying"].exitcode, len(open("tries").read()))
    try:
        ends = [Task(lambda: wait(), name="w"), Task(lambda: fail(), name="f")]
        DAG("stop", max_workers=2, tasks=ends).run("process", grace=0.2)
    except ZeroDivisionError as error:
        print(error.flowkit_results.states["w"])
    try:
        os.kill(int(open("pid").read()), 0)
    except ProcessLookupError:
        print("gone")
    """
    lines = script(source, cwd=tmp_path).wait().splitlines()
    assert [line for line in lines if "is stopping" not in line] == ["20 3 2", "cancelled", "gone"]
