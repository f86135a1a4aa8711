"""Faults of every kind at every place where a worker process can have one, on new and on warm workers.

Each fault hits the task that has it and no other, the next run works, and nothing is left: no process, no descriptor,
no thread, no file.
"""

from __future__ import annotations

import inspect
import itertools
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import faulty_tasks as faults
import pytest
import tasks_with_faults as places
from process_checks import child_pids, count_descriptors_after_gc, has_ended, run
from subprocess_harness import guarded, until

from flowkit_core import ExecutorError, SerializationError, Task, WorkerDiedError
from flowkit_exec import ProcessExecutor

pytestmark = [pytest.mark.slow, pytest.mark.sampled(5)]

HAS_TRANSPORTS = "transport" in inspect.signature(ProcessExecutor).parameters
TRANSPORTS = (
    {"posix": {"transport": "posix"}, "portable": {"transport": "portable"}} if HAS_TRANSPORTS else {"only": {}}
)
DEATHS = ["0", "3", "SIGKILL", "SIGSEGV", "SIGABRT"]
EXCEPTIONS = ["raise", "mute", "exit"]
PLACES = {
    "import of the function": [*DEATHS, *EXCEPTIONS, "interrupt"],
    "unpickling the argument": [*DEATHS, *EXCEPTIONS, "interrupt"],
    "call": [*DEATHS, "raise", "mute"],  # SystemExit and KeyboardInterrupt end the run
    "pickling the result": [*DEATHS, *EXCEPTIONS, "interrupt"],
    "unpickling the result": EXCEPTIONS,  # in this process
}
matrix = pytest.mark.parametrize("transport", TRANSPORTS)
states = pytest.mark.parametrize("state", ["new", "warm"])
modules = itertools.count()
prepared = set()


@contextmanager
def checked_executor(folder, transport, state, **options):
    """An executor whose workers are new or warm; checks at the end that it has left nothing."""
    if transport not in prepared:  # some files are kept as long as this process lives
        prepared.add(transport)
        with ProcessExecutor(1, **TRANSPORTS[transport]) as executor:
            run(executor, Task(faults.ok))
    temporary, tempfile.tempdir = tempfile.tempdir, str(folder / "temporary")
    Path(tempfile.tempdir).mkdir()
    before = child_pids(), count_descriptors_after_gc(), threading.active_count()
    env = {"IN_WORKER": "1", "TMPDIR": tempfile.tempdir}
    try:
        with ProcessExecutor(2, env=env, **TRANSPORTS[transport], **options) as executor:
            if state == "warm":
                warm_up(executor, folder)
            yield executor
        assert (child_pids(), count_descriptors_after_gc(), threading.active_count()) == before
        assert list(Path(tempfile.tempdir).iterdir()) == []
    finally:
        tempfile.tempdir = temporary


def warm_up(executor, folder):
    """Have both workers run a task at the same time."""
    path = str(folder / "met")
    run(executor, *[Task(faults.meet, name=f"meet_{number}") for number in range(2)], params={"path": path})


def task_with_fault(place, fault, name, folder):
    """Return a task with a fault at a place, and the values of its parameters."""
    if place == "import of the function":
        module = f"{next(modules)}"
        places.write_deadly(folder, module, fault)
        return Task(places.import_deadly(module), name=name), {}
    if place == "unpickling the argument":
        return Task(faults.take, name=name), {f"{name}.value": faults.Trap("unpickling", fault)}
    if place == "call":
        return Task(faults.run_into, name=name), {f"{name}.fault": fault}
    kind = "pickling" if place == "pickling the result" else "unpickling"
    return Task(faults.make_trap, name=name), {f"{name}.place": kind, f"{name}.fault": fault}


def described(error):
    """Return the facts of the error of a task with a fault."""
    if type(error) is WorkerDiedError:
        return error.signal or str(error.exitcode)
    return type(error).__name__


def expected_of(place, fault):
    """Return what :func:`described` returns of a fault at a place."""
    if fault in DEATHS:
        return fault
    return {"raise": "RuntimeError", "mute": "NoText"}[fault] if place == "call" else SerializationError.__name__


@matrix
@states
@pytest.mark.parametrize("place", PLACES)
@guarded
def test_fault_fails_only_the_task_that_has_it(place, state, transport, tmp_path):
    sys.path.insert(0, str(tmp_path))
    tasks, params = [], {}
    for number, fault in enumerate(PLACES[place]):
        task, values = task_with_fault(place, fault, f"fault_{number}", tmp_path)
        one, other = Task(faults.ok, name=f"ok_{number}"), Task(faults.ok, name=f"also_{number}")
        one >> other
        tasks += [one, task, other]
        params |= values
    try:
        with checked_executor(tmp_path, transport, state) as executor:
            results = run(executor, *tasks, fail_fast=False, raise_on_failure=False, params=params)
            failed = {name: described(error) for name, error in results.failed.items()}
            expected = [expected_of(place, fault) for fault in PLACES[place]]
            assert failed == {f"fault_{number}": fact for number, fact in enumerate(expected)}
            assert set(results.attempts.values()) == {1}
            assert all(error.task == name for name, error in results.failed.items() if hasattr(error, "task"))
            assert run(executor, Task(faults.ok)) == {"ok": "ok"}
    finally:
        sys.path.remove(str(tmp_path))


@matrix
@states
@pytest.mark.parametrize("place", [place for place in PLACES if place != "unpickling the result"])
@guarded
def test_task_that_hangs_is_ended_after_the_grace_period(place, state, transport, tmp_path):
    sys.path.insert(0, str(tmp_path))
    started = str(tmp_path / "started")
    task, params = task_with_fault(place, f"hang:{started}", "hangs", tmp_path)
    bad = Task(faults.fail_when, name="bad")
    try:
        with checked_executor(tmp_path, transport, state) as executor:
            with pytest.raises(ValueError, match="failed") as caught:
                run(executor, task, bad, params={**params, "started": started}, grace=0.05)
            assert caught.value.flowkit_results.states == {"hangs": "cancelled", "bad": "failed"}
            assert run(executor, Task(faults.ok)) == {"ok": "ok"}
    finally:
        sys.path.remove(str(tmp_path))


@matrix
@states
@pytest.mark.parametrize("fault", [*DEATHS, *EXCEPTIONS])
@guarded
def test_fault_while_workers_end_fails_no_task(fault, state, transport, tmp_path):
    with checked_executor(tmp_path, transport, state) as executor:
        pid = run(executor, Task(places.end_with_fault), params={"fault": fault})["end_with_fault"]
    assert has_ended(pid)


@matrix
@pytest.mark.parametrize("fault", DEATHS)
@guarded
def test_fault_of_an_idle_worker_fails_no_task(fault, transport, tmp_path):
    path = tmp_path / "released"
    with checked_executor(tmp_path, transport, "new") as executor:
        pid = run(executor, Task(places.crash_when), params={"path": str(path), "how": fault})["crash_when"]
        path.write_text("released")
        until(lambda: has_ended(pid))
        results = run(executor, *[Task(faults.pid, name=f"pid_{number}") for number in range(4)])
        assert len(results) == 4
        assert pid not in results.values()


@matrix
@pytest.mark.parametrize("fault", ["0", "3", "SIGSEGV", "SIGABRT", *EXCEPTIONS])
@guarded
def test_fault_in_the_initializer_is_one_error(fault, transport, tmp_path):
    with checked_executor(tmp_path, transport, "new", initializer=faults.spring, initargs=(fault,)) as executor:
        for _ in range(2):
            with pytest.raises(ExecutorError) as caught:
                run(executor, *[Task(faults.ok, name=f"ok_{number}") for number in range(4)])
            assert set(caught.value.flowkit_results.states.values()) == {"cancelled"}


@matrix
@guarded
def test_new_worker_that_is_killed_is_replaced(transport, tmp_path):
    path = str(tmp_path / "tries")
    options = {"initializer": faults.mortal, "initargs": (path, 2)}
    with checked_executor(tmp_path, transport, "new", **options) as executor:
        assert len(run(executor, *[Task(faults.ok, name=f"ok_{number}") for number in range(4)])) == 4
