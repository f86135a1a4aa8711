"""Checks of exceptions, of what a failure stops, and of interrupts."""

from __future__ import annotations

from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.pipelines.task import Task

from . import tasks
from .trial import check, expect, expect_true, notes_of

if TYPE_CHECKING:
    from .trial import Trial


@check()
def exception_of_the_task_is_raised(trial: Trial) -> None:
    """``run()`` raises the exception of the task, or an equal one, with its notes and those of the run."""
    one, bad, below = Task(tasks.one), Task(tasks.fail), Task(tasks.add_one, name="below")
    one >> bad >> below
    error = trial.raised(tasks.OwnError, below)
    expect("arguments and attribute of the exception", (error.args, error.code), ((7, "boom"), 7))
    for note in ("a note of the task", "task 'fail' of 'check' failed on its only attempt"):
        expect_true("notes of the exception", note in notes_of(error), repr(note), notes_of(error))
    expect("results of the run", error.flowkit_results, {"one": 1})
    states = {"one": "succeeded", "fail": "failed", "below": "upstream_failed"}
    expect("states", error.flowkit_results.states, states)


@check("local")
def exception_is_the_object_that_the_task_raised(trial: Trial) -> None:
    """Where calls see the objects of this process, the very exception of the task is raised."""
    own = ValueError("own")

    def fail() -> None:
        raise own

    error = trial.raised(ValueError, Task(fail))
    expect_true("exception", error is own, "the object that the task raised", "another object")


@check()
def falsy_exception_is_raised(trial: Trial) -> None:
    """An exception with a length of 0 is a failure like others."""
    trial.raised(tasks.FalsyError, Task(tasks.fail_with_falsy_error))


@check()
def exception_that_cannot_be_unpickled_fails_its_task(trial: Trial) -> None:
    """An exception whose pickle is broken is a failure of its task, and the executor runs again."""
    error = trial.raised(Exception, Task(tasks.fail_partially))
    expect_true("exception", "partial" in str(error), "the text 'partial'", str(error))
    expect("states", error.flowkit_results.states, {"fail_partially": "failed"})
    expect("results of the next run", trial.run(Task(tasks.one)), {"one": 1})


@check()
def failure_stops_what_has_not_started(trial: Trial) -> None:
    """After a failure, tasks that are ready or become ready later do not start."""
    bad, gate = Task(tasks.fail), Task(tasks.collect, name="gate", trigger="all_done")
    counting = [Task(partial(tasks.counted, trial.path), name=f"counting_{number}") for number in range(10)]
    bad >> gate >> counting
    results = trial.raised(tasks.OwnError, *counting).flowkit_results
    expect("number of calls after the failure", trial.calls(), 0)
    expect("states", {results.states[task.name] for task in counting}, {"cancelled"})


@check()
def other_branches_continue_without_fail_fast(trial: Trial) -> None:
    """With ``fail_fast=False``, independent tasks run, and an ExceptionGroup has every failure."""
    bad, worse = Task(tasks.fail, name="bad"), Task(tasks.fail, name="worse")
    below, one, two = Task(tasks.add_one, name="below"), Task(tasks.one), Task(tasks.add_one)
    bad >> below
    one >> two
    error = trial.raised(ExceptionGroup, worse, below, two, fail_fast=False)
    expect("types of the failures", [type(each).__name__ for each in error.exceptions], ["OwnError", "OwnError"])
    expect("results", error.flowkit_results, {"one": 1, "add_one": 2})


@check()
def failures_are_returned_without_raise_on_failure(trial: Trial) -> None:
    """With ``raise_on_failure=False``, the results have the exceptions."""
    results = trial.run(Task(tasks.fail), raise_on_failure=False)
    expect("states", results.states, {"fail": "failed"})
    expect("type of the failure", type(results.failed["fail"]).__name__, "OwnError")


@check()
def exceptions_of_common_types_are_raised(trial: Trial) -> None:
    """Exceptions that executors themselves may use, such as OSError or TimeoutError, are failures of the task."""
    for kind in ("OSError", "TimeoutError", "StopIteration"):
        bad = Task(partial(tasks.raise_kind, trial.path, kind), name="bad")
        error = trial.raised(tasks.KINDS[kind], bad)
        expect("type of the exception", type(error).__name__, kind)
        expect("states", error.flowkit_results.states, {"bad": "failed"})


@check()
def interrupt_ends_the_run(trial: Trial) -> None:
    """KeyboardInterrupt raised by a task is not retried and ends the run, also with ``raise_on_failure=False``."""
    bad = Task(partial(tasks.raise_kind, trial.path, "KeyboardInterrupt"), name="bad", retries=3, delay=0)
    below, clean = Task(tasks.add_one, name="below"), Task(tasks.collect, name="clean", trigger="all_done")
    bad >> [below, clean]
    states = trial.raised(KeyboardInterrupt, below, clean, raise_on_failure=False).flowkit_results.states
    expect("number of calls", trial.calls(), 1)
    expect("state of the task that raises", states["bad"], "failed")
    expect("state of the clean-up task", states["clean"], "cancelled")
    expect("results of the next run", trial.run(Task(tasks.one)), {"one": 1})


@check()
def exit_ends_the_run_after_clean_up_tasks(trial: Trial) -> None:
    """SystemExit raised by a task is not retried; clean-up tasks run, and it is raised."""
    bad = Task(partial(tasks.raise_kind, trial.path, "SystemExit"), name="bad", retries=3, delay=0)
    below, clean = Task(tasks.add_one, name="below"), Task(tasks.collect, name="clean", trigger="all_done")
    bad >> [below, clean]
    states = trial.raised(SystemExit, below, clean).flowkit_results.states
    expect("number of calls", trial.calls(), 1)
    expect("states", states, {"bad": "failed", "below": "upstream_failed", "clean": "succeeded"})


@check()
def executor_runs_again_after_a_failure(trial: Trial) -> None:
    """The run after a failed one is not affected."""
    for _ in range(3):
        trial.raised(tasks.OwnError, Task(tasks.fail))
        expect("results of the next run", trial.run(Task(tasks.one)), {"one": 1})
