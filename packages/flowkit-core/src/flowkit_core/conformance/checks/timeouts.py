"""Checks of timeouts, of attempts and of runs."""

from __future__ import annotations

import time
from functools import partial
from threading import get_ident

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import RunTimeoutError, TaskTimeoutError
from flowkit_core.events import TaskNotRun
from flowkit_core.pipelines.task import Task

from . import tasks
from .trial import check, expect, expect_true

if TYPE_CHECKING:
    from flowkit_core._typing import Any

    from .trial import Trial

LONG = 30.0
"""Seconds that a call waits if nothing ends it."""
ENOUGH = 600.0
"""Seconds that no call takes."""


@check()
def attempt_that_takes_too_long_fails(trial: Trial) -> None:
    """An attempt that takes longer than the timeout of its task fails with TaskTimeoutError, at once."""
    slow = Task(partial(tasks.wait_for_release, trial.path, LONG), name="slow", timeout=0.2)
    below = Task(tasks.collect, name="below")
    slow >> below
    began = time.monotonic()
    error = trial.raised(TaskTimeoutError, below)
    took = time.monotonic() - began
    tasks.release(trial.path)
    expect("task and timeout of the error", (error.task, error.timeout), ("slow", 0.2))
    expect("states", error.flowkit_results.states, {"slow": "failed", "below": "upstream_failed"})
    expect_true("duration of the run", took < LONG / 2, f"much less than {LONG} s", f"{took:.1f} s")


@check()
def timeout_is_retried_and_the_late_result_is_ignored(trial: Trial) -> None:
    """A timeout is retried like any failure; what the first attempt returns later changes nothing."""
    path = trial.path
    slow = Task(partial(tasks.first_call_waits, path, LONG), name="slow", timeout=1.0, retries=9, delay=0)
    late = Task(partial(tasks.release_and_sleep, path, 0.05), name="late")
    end = Task(tasks.collect, name="end")
    slow >> late >> end
    slow >> end
    results = trial.run(end)
    calls = results["slow"]
    expect_true("attempts", results.attempts["slow"] > 1, "more than 1", results.attempts["slow"])
    expect_true("result of the task", calls > 1, "that of a later call", calls)
    expect("results", results, {"slow": calls, "late": calls, "end": (calls, calls)})


@check()
def other_tasks_are_not_affected_by_a_timeout(trial: Trial) -> None:
    """When an attempt times out, tasks that run or wait at the same time are called once, and succeed."""
    slow = Task(partial(tasks.wait_for_release, f"{trial.path}-slow", LONG), name="slow", timeout=0.2)
    others = [Task(partial(tasks.counted_condition, trial.path), name=f"other_{number}") for number in range(40)]
    results = trial.run(slow, *others, fail_fast=False, raise_on_failure=False)
    tasks.release(f"{trial.path}-slow")
    expect("tasks that failed", list(results.failed), ["slow"])
    expect("number of results", len(results), len(others))
    expect("number of calls of the others", trial.calls(), len(others))


@check()
def coroutine_that_takes_too_long_is_cancelled(trial: Trial) -> None:
    """An ``async def`` task that takes longer than its timeout is cancelled: its ``finally`` runs."""
    trial.raised(TaskTimeoutError, Task(partial(tasks.nap, trial.path, LONG), name="nap", timeout=0.2))
    expect("calls that were cancelled", trial.calls(), 1)


@check()
def timeout_error_of_a_function_is_its_own(trial: Trial) -> None:
    """A TimeoutError that a function raises in time is no TaskTimeoutError."""
    for number, function in enumerate((tasks.raise_timeout, tasks.raise_timeout_later)):
        error = trial.raised(TimeoutError, Task(function, name=f"t{number}", timeout=ENOUGH))
        expect("type of the error", type(error).__name__, "TimeoutError")


@check()
def task_in_time_is_as_without_timeout(trial: Trial) -> None:
    """A timeout that is not reached changes nothing: arguments, results, retries, and coroutines."""
    one = Task(tasks.one, timeout=ENOUGH)
    two = Task(tasks.add_one, name="two", timeout=ENOUGH)
    flaky = Task(partial(tasks.flaky, trial.path, 1), name="flaky", retries=1, delay=0, timeout=ENOUGH)
    awaited = Task(tasks.awaited, name="awaited", timeout=ENOUGH)
    keyed = Task(tasks.three, name="keyed", timeout=ENOUGH)
    one >> two >> awaited >> keyed
    one >> flaky
    results = trial.run(keyed, flaky, params={"keyed.c": 5})
    expect("results", results, {"one": 1, "two": 2, "awaited": 3, "keyed": (3, "b", 5), "flaky": 2})


@check()
def deadline_is_in_the_context(trial: Trial) -> None:
    """``current().deadline`` is when the attempt times out, and None without a timeout."""
    before = time.time()
    timed = [Task(tasks.deadline, name="timed", timeout=ENOUGH), Task(tasks.awaited_deadline, timeout=ENOUGH)]
    results = trial.run(*timed, Task(tasks.deadline, name="untimed"))
    after = time.time()
    expect("deadline without a timeout", results.pop("untimed"), None)
    for name, value in results.items():
        in_range = value is not None and before + ENOUGH - 1 <= value <= after + ENOUGH + 1
        expect_true(f"deadline of {name}", in_range, f"between {before + ENOUGH} and {after + ENOUGH}", value)


@check("local")
def task_with_a_timeout_leaves_the_calling_thread_free(trial: Trial) -> None:
    """A task with a timeout does not run in the thread that called ``run()``: it could not be abandoned."""
    timed = [Task(get_ident, name=f"timed_{number}", timeout=ENOUGH) for number in range(5)]
    threads = set(trial.run(*timed).values())
    expect("whether a task ran in the calling thread", get_ident() in threads, False)


@check("lane")
def lane_stops_a_run_that_takes_too_long(trial: Trial) -> None:
    """After ``run(timeout=...)``, running calls get ``grace``, clean-up tasks run, and RunTimeoutError is raised."""
    slow = Task(partial(tasks.wait_for_release, trial.path, LONG), name="slow")
    below = Task(tasks.collect, name="below")
    clean = Task(tasks.collect, name="clean", trigger="all_done")
    slow >> [below, clean]

    def observe(event: Any) -> None:
        if event.task == "slow":
            tasks.release(trial.path)  # a pool may have no other worker for the clean-up task

    observe.events = (TaskNotRun,)  # type: ignore[attr-defined]
    began = time.monotonic()
    error = trial.raised(RunTimeoutError, below, clean, timeout=0.2, grace=0.1, observers=[observe])
    took = time.monotonic() - began
    expect("pipeline and timeout of the error", (error.pipeline, error.timeout), ("check", 0.2))
    states = {"slow": "cancelled", "below": "cancelled", "clean": "succeeded"}
    expect("states", error.flowkit_results.states, states)
    expect_true("duration of the run", took < LONG / 2, f"much less than {LONG} s", f"{took:.1f} s")


@check("lane")
def lane_runs_in_time_as_without_timeout(trial: Trial) -> None:
    """A run that ends before its timeout has the usual results, failures and retries."""
    one, end = Task(tasks.one), Task(tasks.add_one)
    flaky = Task(partial(tasks.flaky, trial.path, 1), name="flaky", retries=1, delay=0)
    one >> [flaky, end]
    expect("results", trial.run(flaky, end, timeout=ENOUGH), {"one": 1, "flaky": 2, "add_one": 2})
    trial.raised(tasks.OwnError, Task(tasks.fail), timeout=ENOUGH)
