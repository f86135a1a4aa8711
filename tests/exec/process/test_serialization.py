"""Faults while functions, arguments and results are pickled and unpickled."""

from __future__ import annotations

import os

import faulty_tasks as faults
import pytest
from process_checks import outcome, run
from subprocess_harness import guarded

from flowkit_core import (
    SerializationError,
    Task,
    WorkerDiedError,
)
from flowkit_exec import ProcessExecutor

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fault", ["raise", "exit", "interrupt", "mute", "SIGKILL", "0"])
@guarded
def test_fault_while_arguments_are_unpickled_fails_the_task(executor, fault):
    error = outcome(executor, Task(faults.take), params={"value": faults.Trap("unpickling", fault)})
    if fault in ("SIGKILL", "0"):
        assert type(error) is WorkerDiedError
    else:
        assert type(error) is SerializationError
        assert (error.task, error.what) == ("take", "argument")


# "mute" raises an exception whose str() raises
SPRUNG = {"raise": "RuntimeError: sprung", "exit": "SystemExit: sprung", "mute": "NoText: <unprintable>"}


@pytest.mark.parametrize("fault", SPRUNG)
@guarded
def test_fault_while_arguments_are_pickled_fails_the_task(executor, fault):
    error = outcome(executor, Task(faults.take), params={"value": faults.Trap("pickling", fault)})
    assert type(error) is SerializationError
    assert (error.task, error.what) == ("take", "argument")
    assert "'value' is a Trap" in str(error)
    assert SPRUNG[fault] in str(error)


@pytest.mark.parametrize("fault", ["raise", "exit", "interrupt", "SIGKILL", "0"])
@guarded
def test_exit_or_interrupt_raised_by_a_task_ends_the_run(executor, fault):
    kinds = {"raise": RuntimeError, "exit": SystemExit, "interrupt": KeyboardInterrupt}
    try:
        run(executor, Task(faults.run_into), params={"fault": fault})
    except BaseException as error:
        assert type(error) is kinds.get(fault, WorkerDiedError)
        assert error.flowkit_results.states == {"run_into": "failed"}
    else:
        pytest.fail("nothing was raised")
    assert run(executor, Task(faults.ok)) == {"ok": "ok"}


@pytest.mark.parametrize("fault", ["raise", "exit", "interrupt", "mute", "SIGKILL", "0"])
@guarded
def test_fault_while_a_result_is_pickled_fails_the_task(executor, fault):
    error = outcome(executor, Task(faults.make_trap), params={"place": "pickling", "fault": fault})
    if fault in ("SIGKILL", "0"):
        assert type(error) is WorkerDiedError
    else:
        assert type(error) is SerializationError
        assert (error.task, error.what) == ("make_trap", "result")
        assert "is a Trap" in str(error)


@pytest.mark.parametrize("fault", SPRUNG)
@guarded
def test_fault_while_a_result_is_unpickled_fails_the_task(executor, fault):
    start = Task(faults.make_trap)
    below = Task(faults.take)
    start >> below
    error = outcome(executor, start, params={"place": "unpickling", "fault": fault})
    assert type(error) is SerializationError
    assert (error.task, error.what) == ("make_trap", "result")
    assert SPRUNG[fault] in str(error)
    results = run(executor, below, raise_on_failure=False, params={"place": "unpickling", "fault": fault})
    assert results.states == {"make_trap": "failed", "take": "upstream_failed"}


@guarded
def test_unpicklable_value_whose_type_has_no_name_is_described(executor):
    error = outcome(executor, Task(faults.take), params={"value": faults.Nameless()})
    assert "'value' is a <unprintable>, which cannot be pickled (NoText: <unprintable>)" in str(error)
    error = outcome(executor, Task(faults.make_nameless))
    assert "is a <unprintable>, which cannot be pickled (NoText: <unprintable>)" in str(error)


@guarded
def test_chain_behind_a_result_that_cannot_be_unpickled_is_killed(executor):
    bad, endless = Task(faults.hand_over_trap), Task(faults.endless)
    bad >> endless
    results = run(executor, endless, fail_fast=False, raise_on_failure=False)
    assert results.states == {"hand_over_trap": "failed", "endless": "upstream_failed"}
    assert outcome(executor, Task(faults.pid)) != os.getpid()


@guarded
def test_result_that_cannot_be_unpickled_does_not_affect_other_chains(tmp_path):
    path = tmp_path / "tallies"
    ends = []
    for number in range(20):
        start, middle, end = (Task(faults.tally, name=f"{place}_{number}") for place in ("start", "middle", "end"))
        if number % 5 == 0:
            start = Task(faults.make_trap, name=f"start_{number}")
        start >> middle >> end
        ends.append(end)
    with ProcessExecutor(max_workers=1) as executor:
        params = {"place": "unpickling", "fault": "raise", "tallies": str(path)}
        results = run(executor, *ends, fail_fast=False, raise_on_failure=False, params=params)
    assert sorted(results.failed) == ["start_0", "start_10", "start_15", "start_5"]
    assert len(results) == 16 * 3
    assert path.stat().st_size >= 16 * 3
    assert max(value for name, value in results.items()) == path.stat().st_size
