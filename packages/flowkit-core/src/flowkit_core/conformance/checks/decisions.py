"""Checks of conditions, triggers and retries: what the run decides, and the executor carries out."""

from __future__ import annotations

import time
from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.events import TaskRetrying, TaskStarted
from flowkit_core.pipelines.task import Task

from . import tasks
from .trial import check, expect, expect_true, notes_of

if TYPE_CHECKING:
    from flowkit_core._typing import Any

    from .trial import Trial

DELAY = 0.15
"""Delay of a retry in seconds, long enough to be measured."""


@check()
def false_condition_skips_the_task(trial: Trial) -> None:
    """A task whose condition is false is not called, and its downstreams run without its result."""
    one = Task(tasks.one)
    large = Task(tasks.add_one, name="large", when=tasks.is_large)
    small = Task(tasks.add_one, name="small", when=tasks.is_small)
    end = Task(tasks.collect)
    one >> [large, small] >> end
    results = trial.run(end)
    expect("results", results, {"one": 1, "small": 2, "collect": (2,)})
    expect("skipped tasks", dict(results.skipped), {"large": "its condition was false"})


@check()
def condition_is_evaluated_once(trial: Trial) -> None:
    """The condition of a task with retries is evaluated before its first attempt only."""
    flaky = Task(
        partial(tasks.flaky, trial.path + "-attempts", 2),
        name="flaky",
        when=partial(tasks.counted_condition, trial.path),
        retries=2,
        delay=0,
    )
    expect("results", trial.run(flaky), {"flaky": 3})
    expect("number of evaluations of the condition", trial.calls(), 1)


@check()
def exception_of_a_condition_fails_the_task(trial: Trial) -> None:
    """A condition that raises fails its task, without a call and without retries."""
    bad = Task(partial(tasks.counted, trial.path), name="bad", when=tasks.fail_condition, retries=3, delay=0)
    error = trial.raised(tasks.OwnError, bad)
    expect("arguments of the exception", error.args, (9, "condition"))
    expect("first note", notes_of(error).split("\n")[0], "flowkit: the condition (when=) of task 'bad' raised this")
    expect("number of calls", trial.calls(), 0)
    expect("states", error.flowkit_results.states, {"bad": "failed"})


@check()
def condition_without_a_truth_value_fails_the_task(trial: Trial) -> None:
    """A condition whose result has no truth value, such as an array, fails its task; clean-up tasks run."""
    bad = Task(partial(tasks.counted, trial.path), name="bad", when=tasks.unfriendly)
    clean = Task(tasks.one, name="clean", trigger="all_done").after(bad)
    results = trial.run(clean, raise_on_failure=False)
    expect("failures", {name: type(error) for name, error in results.failed.items()}, {"bad": ValueError})
    expect("number of calls", trial.calls(), 0)
    expect("results", results, {"clean": 1})


@check()
def skip_in_a_task_skips_it(trial: Trial) -> None:
    """A task that raises Skip or a subclass is skipped and not retried, and so is one whose condition does."""
    kinds = ("plain", "subclass", "odd", "group")
    skipping = [Task(partial(tasks.skip, trial.path, kind), name=kind, retries=2, delay=0) for kind in kinds]
    conditional = Task(tasks.one, name="conditional", when=partial(tasks.skip, trial.path, "plain"))
    end, below = Task(tasks.collect, name="end"), Task(tasks.add_one, name="below")
    one = Task(tasks.one)
    [*skipping, conditional, one] >> end
    skipping[0] >> below
    results = trial.run(end, below)
    expect("results", results, {"one": 1, "end": (1,)})
    below_reason = "its parameter 'x' has no default, and upstream \"plain\" ended as skipped"
    expected = dict.fromkeys((*kinds, "conditional"), "no new files") | {"below": below_reason}
    expect("skipped tasks", dict(results.skipped), expected)
    expect("number of calls", trial.calls(), len(kinds) + 1)


@check()
def skip_that_is_returned_is_an_error(trial: Trial) -> None:
    """A task that returns a Skip fails, and no task takes it; so does one whose condition does."""
    returning = Task(partial(tasks.returned_skip, "plain"), name="returning")
    other = Task(partial(tasks.returned_skip, "subclass"), name="other")
    conditional = Task(tasks.one, name="conditional", when=partial(tasks.returned_skip, "plain"))
    below = Task(partial(tasks.counted_values, trial.path), name="below")
    [returning, other] >> below
    results = trial.run(below, conditional, fail_fast=False, raise_on_failure=False)
    expect("results", results, {})
    expect("failed tasks", sorted(results.failed), ["conditional", "other", "returning"])
    for name, error in results.failed.items():
        text = f"task {name!r} returned {'NoFiles' if name == 'other' else 'Skip'}('no new files')"
        expect_true("error", text in str(error), text, error)
    expect("number of calls", trial.calls(), 0)


@check()
def skip_after_a_failed_attempt_skips_the_task(trial: Trial) -> None:
    """A retry that raises Skip ends its task as skipped."""
    task = Task(partial(tasks.fail_then_skip, trial.path), name="flaky", retries=5, delay=0)
    expect("skipped tasks", dict(trial.run(task).skipped), {"flaky": "no new files"})
    expect("number of calls", trial.calls(), 2)


@check()
def triggers_decide_what_runs_after_skips(trial: Trial) -> None:
    """The triggers none_failed, all_success, all_done and one_failed, after a task that was skipped."""
    one, skipped = Task(tasks.one), Task(tasks.add_one, name="skipped", when=tasks.is_large)
    ends = [
        Task(tasks.collect, name="none_failed", trigger="none_failed"),
        Task(tasks.collect, name="all_success", trigger="all_success"),
        Task(tasks.collect, name="all_done", trigger="all_done"),
        Task(tasks.collect, name="one_failed", trigger="one_failed"),
    ]
    one >> skipped
    for end in ends:
        [one, skipped] >> end
    results = trial.run(*ends)
    expect("results", results, {"one": 1, "none_failed": (1,), "all_done": (1,)})
    expect("skipped tasks", set(results.skipped), {"skipped", "all_success", "one_failed"})


@check()
def triggers_decide_what_runs_after_failures(trial: Trial) -> None:
    """After a failure, clean-up tasks run and no others; what depends on a failed task is upstream_failed."""
    one, bad, below = Task(tasks.one), Task(tasks.fail), Task(tasks.add_one, name="below")
    clean = Task(tasks.collect, name="clean", trigger="all_done")
    alert = Task(tasks.collect, name="alert", trigger="one_failed")
    late = Task(tasks.collect, name="late")
    one >> bad >> [below, clean, alert]
    clean >> late
    results = trial.raised(tasks.OwnError, below, alert, late).flowkit_results
    expect("results", results, {"one": 1, "clean": (), "alert": ()})
    expect(
        "states",
        results.states,
        {
            "one": "succeeded",
            "fail": "failed",
            "below": "upstream_failed",
            "clean": "succeeded",
            "alert": "succeeded",
            "late": "cancelled",
        },
    )


@check()
def trigger_one_success_fires_at_the_first_success(trial: Trial) -> None:
    """A task with the trigger one_success runs before its other upstreams have ended, without their results."""
    waiting = Task(partial(tasks.fail_until_counted, trial.path), name="waiting", retries=10_000, delay=0.01, backoff=1)
    one, first = Task(tasks.one), Task(partial(tasks.counted_values, trial.path), name="first", trigger="one_success")
    end = Task(tasks.collect, name="end")
    [waiting, one] >> first
    [waiting, first] >> end
    expected = {"waiting": "counted", "one": 1, "first": (1,), "end": ("counted", (1,))}
    expect("results", trial.run(end), expected)
    expect("number of calls", trial.calls(), 1)


@check()
def trigger_one_failed_fires_at_the_first_failure(trial: Trial) -> None:
    """A task with the trigger one_failed runs before its other upstreams have ended."""
    waiting = Task(partial(tasks.fail_until_counted, trial.path), name="waiting", retries=10_000, delay=0.01, backoff=1)
    bad, alert = Task(tasks.fail), Task(partial(tasks.counted_values, trial.path), name="alert", trigger="one_failed")
    worse = Task(tasks.fail, name="worse")
    [waiting, bad, worse] >> alert
    results = trial.run(alert, fail_fast=False, raise_on_failure=False)
    expect("results", results, {"waiting": "counted", "alert": ()})
    expect("number of calls", trial.calls(), 1)


@check()
def trigger_all_failed_needs_all_failures(trial: Trial) -> None:
    """A task with the trigger all_failed runs if every upstream has failed, also when a failure has stopped the run."""
    bad, one = Task(tasks.fail), Task(tasks.one)
    below = Task(tasks.add_one, name="below")
    bad >> below
    alone = Task(tasks.collect, name="alone", trigger="all_failed")
    both = Task(tasks.collect, name="both", trigger="all_failed")
    mixed = Task(tasks.collect, name="mixed", trigger="all_failed")
    bad >> alone
    [bad, below] >> both
    [bad, one] >> mixed
    results = trial.run(alone, both, mixed, fail_fast=False, raise_on_failure=False)
    expect("results", results, {"one": 1, "alone": (), "both": ()})
    expect("skipped tasks", dict(results.skipped), {"mixed": 'upstream "one" did not fail'})
    expect("results of a run that stops", trial.raised(tasks.OwnError, both).flowkit_results, {"both": ()})


@check()
def failed_attempt_is_retried(trial: Trial) -> None:
    """A task with retries runs until it succeeds, and its downstream gets the result of the last attempt."""
    flaky = Task(partial(tasks.flaky, trial.path, 2), name="flaky", retries=3, delay=0)
    end = Task(tasks.add_one)
    flaky >> end
    results = trial.run(end)
    expect("results", results, {"flaky": 3, "add_one": 4})
    expect("number of attempts", results.attempts["flaky"], 3)
    expect("number of calls", trial.calls(), 3)


@check()
def failed_coroutine_is_retried(trial: Trial) -> None:
    """An async function that raises is retried like others."""
    flaky = Task(partial(tasks.flaky_coroutine, trial.path, 1), name="flaky", retries=1, delay=0)
    expect("results", trial.run(flaky), {"flaky": 2})


@check()
def last_error_is_raised_after_all_retries(trial: Trial) -> None:
    """When the retries are used up, the exception of the last attempt is raised."""
    flaky = Task(partial(tasks.flaky, trial.path, 9), name="flaky", retries=2, delay=0)
    error = trial.raised(tasks.OwnError, flaky)
    expect("arguments of the exception", error.args, (3, "failure 3"))
    expect("number of calls", trial.calls(), 3)
    expect_true("notes", "failed after 3 attempts" in notes_of(error), "'failed after 3 attempts'", notes_of(error))


@check()
def retry_on_limits_retries(trial: Trial) -> None:
    """An exception that retry_on does not cover is not retried."""
    bad = Task(partial(tasks.raise_kind, trial.path, "TimeoutError"), name="bad", retries=3, delay=0, retry_on=KeyError)
    trial.raised(TimeoutError, bad)
    expect("number of calls", trial.calls(), 1)


@check()
def retry_on_may_return_seconds(trial: Trial) -> None:
    """A number that retry_on returns, also 0, is the delay of the retry in seconds, without backoff and jitter."""
    delays: list[float] = []

    def observe(event: Any) -> None:
        delays.append(event.delay)

    observe.events = (TaskRetrying,)  # type: ignore[attr-defined]
    answers = iter([0, 0.01, 0.0, True])
    flaky = Task(
        partial(tasks.flaky, trial.path, 4), name="flaky", retries=4, delay=0, retry_on=lambda error: next(answers)
    )
    expect("results", trial.run(flaky, observers=[observe]), {"flaky": 5})
    expect("delays", delays, [0.0, 0.01, 0.0, 0.0])


@check()
def retry_waits_for_its_delay(trial: Trial) -> None:
    """Between a failed attempt and the next one, the delay of the task passes."""
    times: list[tuple[type, float]] = []

    def observe(event: Any) -> None:
        if isinstance(event, (TaskRetrying, TaskStarted)):
            times.append((type(event), time.monotonic()))

    flaky = Task(partial(tasks.flaky, trial.path, 1), name="flaky", retries=1, delay=DELAY, jitter=0)
    trial.run(flaky, observers=[observe])
    expect("events", [kind.__name__ for kind, _ in times], ["TaskStarted", "TaskRetrying", "TaskStarted"])
    waited = times[2][1] - times[1][1]
    expect_true("delay", waited >= DELAY * 0.9, f"at least {DELAY} s before the retry", f"{waited:.3f} s")


@check()
def delay_of_a_retry_does_not_hold_up_other_tasks(trial: Trial) -> None:
    """While a task waits for its retry, other tasks run; if one fails, the run ends without that wait."""
    seconds = 20.0
    flaky = Task(partial(tasks.flaky, trial.path, 1), name="flaky", retries=1, delay=seconds)
    one, bad = Task(tasks.one), Task(tasks.fail)
    one >> Task(tasks.add_one) >> bad
    began = time.monotonic()
    results = trial.raised(tasks.OwnError, flaky, bad).flowkit_results
    took = time.monotonic() - began
    expect_true("duration of the run", took < seconds / 2, f"less than the delay of {seconds:.0f} s", f"{took:.1f} s")
    expect("results", results, {"one": 1, "add_one": 2})
    state = results.states["flaky"]
    expect_true("state of the task that waits", state in ("failed", "cancelled"), "'failed' or 'cancelled'", state)
