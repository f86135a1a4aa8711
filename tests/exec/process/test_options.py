"""Options of workers: interpreter, environment, initializer, number of tasks, idle time."""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from itertools import pairwise
from pathlib import Path

import faulty_tasks as faults
import pytest
from process_checks import count_descriptors_after_gc, has_ended, run
from script_sources import FORKS
from subprocess_harness import guarded, until

from flowkit_core import DAG, ExecutorError, Task, TaskStarted
from flowkit_exec import ProcessExecutor

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("option", "value", "kind", "words"),
    [
        ("python", 3, TypeError, "python is 3, but must be the path of an interpreter"),
        ("python", b"/bin/python", TypeError, "python is b'/bin/python', but must be the path"),
        ("python", "/nowhere/python", ValueError, "python is '/nowhere/python', but there is no such program"),
        ("env", ["A=b"], TypeError, r"env is \['A=b'\], but must be a mapping"),
        ("env", {"A": 1}, TypeError, "env has 'A': 1, but names and values must be str"),
        ("env", {"A=": "b"}, ValueError, "env has 'A=', which cannot be set"),
        ("env", {"": "b"}, ValueError, "env has '', which cannot be set"),
        ("env", {"A": "\0"}, ValueError, "env has 'A', which cannot be set"),
        ("initializer", "setup", TypeError, "initializer is 'setup', but must be callable"),
        ("initargs", "abc", TypeError, "initargs is 'abc', but must be a tuple"),
        ("initargs", 5, TypeError, "initargs is 5, but must be a tuple"),
        ("initargs", (1,), ValueError, "initargs is given without initializer"),
        ("max_tasks_per_worker", 0, ValueError, "max_tasks_per_worker is 0, but must be an integer of at least 1"),
        ("max_tasks_per_worker", -1, ValueError, "max_tasks_per_worker is -1"),
        ("max_tasks_per_worker", 1.0, TypeError, "max_tasks_per_worker is 1.0"),
        ("max_tasks_per_worker", True, TypeError, "max_tasks_per_worker is True"),
        ("idle_timeout", 0, ValueError, "idle_timeout is 0, but must be a positive number of seconds"),
        ("idle_timeout", -1.5, ValueError, "idle_timeout is -1.5"),
        ("idle_timeout", float("nan"), ValueError, "idle_timeout is nan"),
        ("idle_timeout", float("inf"), ValueError, "idle_timeout is inf"),
        ("idle_timeout", "5", TypeError, "idle_timeout is '5'"),
    ],
)
def test_option_that_is_not_allowed_is_an_error(option, value, kind, words):
    options = {option: value}
    if option == "initargs" and kind is TypeError:
        options["initializer"] = print
    with pytest.raises(kind, match=words):
        ProcessExecutor(1, **options)


@guarded
def test_interpreter_of_the_same_version_runs_workers():
    for python in (sys.executable, Path(sys.executable)):
        with ProcessExecutor(1, python=python) as executor:
            assert run(executor, Task(faults.interpreter)) == {"interpreter": sys.executable}


@guarded
def test_environment_variables_are_set_in_workers_only():
    environment = {"FLOWKIT_TEST_OWN": "ö", "PATH": "/nowhere"}
    with ProcessExecutor(1, env=environment) as executor:
        for _ in range(2):
            _, found, _, _ = run(executor, Task(faults.surroundings))["surroundings"]
            assert {name: found[name] for name in environment} == environment
            os.environ["FLOWKIT_TEST_OTHER"] = "other"
    assert found["FLOWKIT_TEST_OTHER"] == "other"
    assert "FLOWKIT_WORKER_START" not in found
    assert "FLOWKIT_TEST_OWN" not in os.environ
    del os.environ["FLOWKIT_TEST_OTHER"]


def test_environment_variables_are_set_before_the_script_is_executed(script):
    source = """
    import os
    from flowkit_core import DAG, Task
    from flowkit_exec import ProcessExecutor
    threads = os.environ.get("OMP_NUM_THREADS")
    def show():
        return threads
    with ProcessExecutor(1, env={"OMP_NUM_THREADS": "7"}) as executor:
        print(threads, DAG("threads", tasks=[Task(show)]).run(executor))
    """
    assert script(source).wait() == "None {'show': '7'}\n"


def test_time_zone_of_the_caller_is_in_force_in_warm_workers(script):
    source = """
    import os, time
    from flowkit_core import DAG, Task
    from flowkit_exec import ProcessExecutor
    def zone():
        return time.localtime(0).tm_hour
    with ProcessExecutor(1) as executor:
        for name in ("UTC", "Asia/Tokyo", "UTC", "XYZ+5", None):
            os.environ.pop("TZ", None)
            if name: os.environ["TZ"] = name
            print(DAG("zone", tasks=[Task(zone)]).run(executor)["zone"])
    time.tzset()
    print(zone())
    """
    *hours, unset, own = script(source).wait().split()
    assert (hours, unset) == (["0", "9", "0", "19"], own)


@guarded
def test_initializer_is_called_once_in_each_worker_before_its_first_task(tmp_path):
    path = tmp_path / "calls"
    with ProcessExecutor(2, initializer=faults.count, initargs=(str(path),)) as executor:
        for _ in range(3):
            run(executor, *[Task(partial(faults.meet, path=str(tmp_path / "meet")), name=name) for name in "ab"])
        assert path.stat().st_size == 2
        os.kill(run(executor, Task(faults.pid))["pid"], 9)
        run(executor, *[Task(faults.nap, name=name) for name in "ab"])
        assert path.stat().st_size == 3


@pytest.mark.parametrize("kind", ["raise", "exit", "interrupt", "mute"])
@guarded
def test_initializer_that_raises_is_one_error(kind, tmp_path):
    events = []
    with ProcessExecutor(2, initializer=faults.run_into, initargs=(kind,)) as executor:
        for _ in range(2):
            tasks = [Task(faults.ok, name=f"task_{number}", retries=3) for number in range(5)]
            with pytest.raises(ExecutorError, match=r"the initializer of worker process \d+ raised ") as caught:
                run(executor, *tasks, observers=[events.append])
            assert ("sprung" in str(caught.value)) == (kind in ("raise", "exit"))
            assert caught.value.__cause__ is not None
    assert not [event for event in events if isinstance(event, TaskStarted)]


@pytest.mark.parametrize("how", ["3", "SIGSEGV"])
@guarded
def test_initializer_that_ends_the_worker_is_an_error(how):
    with (
        ProcessExecutor(1, initializer=faults.crash, initargs=(how,)) as executor,
        pytest.raises(ExecutorError, match="3 worker processes in a row failed to start"),
    ):
        run(executor, Task(faults.ok, retries=5))


@guarded
def test_initializer_or_argument_that_cannot_be_pickled_is_an_error():
    with (
        ProcessExecutor(1, initializer=faults.ok, initargs=(threading.Lock(),)) as executor,
        pytest.raises(ExecutorError, match=r"the initializer, or one of initargs, cannot be pickled .*lock"),
    ):
        run(executor, Task(faults.ok))
    cloudpickle = sys.modules.get("cloudpickle")
    sys.modules["cloudpickle"] = None
    try:
        with (
            ProcessExecutor(1, initializer=lambda: None) as executor,
            pytest.raises(
                ExecutorError, match="the initializer cannot be transferred to workers, because it is a lambda"
            ),
        ):
            run(executor, Task(faults.ok))
    finally:
        del sys.modules["cloudpickle"]
        if cloudpickle is not None:
            sys.modules["cloudpickle"] = cloudpickle


@FORKS
def test_initializer_in_forked_workers(script):
    source = """
    import sys, threading
    from flowkit_core import DAG, ExecutorError, Task
    from flowkit_exec import ProcessExecutor
    sys.modules["cloudpickle"] = None
    kept = []
    tasks = [Task(lambda: len(kept), name=f"task_{number}") for number in range(4)]
    lock = threading.Lock()
    with ProcessExecutor(1, initializer=lambda lock: kept.append(lock), initargs=(lock,)) as executor:
        print(DAG("forks", tasks=tasks).run(executor))
    with ProcessExecutor(1, initializer=lambda: 1 / 0) as executor:
        try:
            DAG("forks", tasks=tasks).run(executor)
        except ExecutorError as error:
            print(type(error.__cause__).__name__)
    """
    assert script(source).wait() == "{'task_0': 1, 'task_1': 1, 'task_2': 1, 'task_3': 1}\nZeroDivisionError\n"


@pytest.mark.sampled(3)
@pytest.mark.parametrize("most", [1, 2, 5])
@guarded
def test_worker_is_replaced_after_its_tasks(most):
    for workers in (1, 2):
        before = None
        with ProcessExecutor(workers, max_tasks_per_worker=most) as executor:
            for _ in range(2):
                chain = [Task(faults.pid, name=f"chain_{number}") for number in range(7)]
                for first, second in pairwise(chain):
                    first >> second
                others = [Task(faults.pid, name=f"other_{number}") for number in range(8)]
                pids = list(run(executor, *chain, *others).values())
                assert max(map(pids.count, pids)) <= most
                assert len(set(pids)) >= 15 / most
        before = count_descriptors_after_gc() if before is None else before
        assert all(map(has_ended, pids))
        assert count_descriptors_after_gc() <= before


@guarded
def test_failed_tasks_count_for_the_replacement_of_a_worker():
    tasks = [Task(faults.fail, name=f"fail_{number}") for number in range(3)]
    with ProcessExecutor(1, max_tasks_per_worker=2) as executor:
        first = run(executor, Task(faults.pid))["pid"]
        run(executor, tasks[0], raise_on_failure=False)
        assert run(executor, Task(faults.pid))["pid"] != first


@guarded
def test_idle_worker_ends_after_the_idle_timeout():
    with ProcessExecutor(1, idle_timeout=0.2) as executor:
        first = run(executor, Task(faults.pid))["pid"]
        assert run(executor, Task(faults.pid))["pid"] == first
        until(lambda: has_ended(first))
        assert run(executor, Task(faults.pid))["pid"] != first
        # a worker that waits in a run, or runs a task, is not idle
        napping = [Task(faults.end_slowly), Task(faults.pid)]
        napping[0] >> napping[1]
        assert run(executor, napping[1], params={"started": "/dev/null"})["end_slowly"] == "ended"


@guarded
def test_idle_timeout_does_not_fail_a_task_that_starts_meanwhile():
    with ProcessExecutor(2, idle_timeout=0.01) as executor:
        for number in range(30):
            threading.Event().wait(0.001 * number % 0.02)
            results = run(executor, *[Task(faults.ok, name=name) for name in "abc"])
            assert set(results.attempts.values()) == {1}


@guarded
def test_workers_of_a_nested_run_call_the_initializer_of_their_own_executor(tmp_path):
    with ProcessExecutor(1, initializer=faults.count, initargs=(str(tmp_path / "calls"),)) as executor:
        inner = Task(faults.nested, name="nested")
        assert len(DAG("outer", tasks=[inner]).run(executor, params={"levels": 1})["nested"]) == 2
    assert (tmp_path / "calls").stat().st_size == 1
