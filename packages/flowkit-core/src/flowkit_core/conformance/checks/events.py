"""Checks of the events of a run, and of durations."""

from __future__ import annotations

import random
import time
from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.events import RunFinished, RunStarted, TaskFailed, TaskNotRun, TaskStarted, TaskSucceeded
from flowkit_core.pipelines.task import Task

from . import tasks
from .trial import check, expect, expect_true

if TYPE_CHECKING:
    from flowkit_core._typing import Any

    from .trial import Trial

ENDS = (TaskSucceeded, TaskFailed, TaskNotRun)


@check()
def events_report_each_step_of_a_run(trial: Trial) -> None:
    """Observers get the events of every attempt and of every end, between those of the run."""
    one = Task(tasks.one)
    large = Task(tasks.add_one, name="large", when=tasks.is_large)
    small = Task(tasks.add_one, name="small", when=tasks.is_small)
    flaky = Task(partial(tasks.flaky, trial.path, 1), name="flaky", retries=2, delay=0)
    bad, below = Task(tasks.fail), Task(tasks.add_one, name="below")
    clean = Task(tasks.collect, name="clean", trigger="all_done")
    one >> [large, small]
    bad >> [below, clean]
    seen: list[Any] = []
    options = {"fail_fast": False, "raise_on_failure": False, "observers": [seen.append]}
    trial.run(large, small, flaky, below, clean, **options)
    names = [type(event).__name__ for event in seen]
    expect("first and last event", (names[0], names[-1]), ("RunStarted", "RunFinished"))
    expect("number of tasks of the run", seen[0].tasks, 7)
    expect("counts", seen[-1].counts, {"succeeded": 4, "failed": 1, "skipped": 1, "upstream_failed": 1})
    story: dict[str, list[str]] = {}
    for event in seen[1:-1]:
        story.setdefault(event.task, []).append(type(event).__name__)
    normal = ["TaskStarted", "TaskSucceeded"]
    expected = {
        "one": normal,
        "large": ["TaskNotRun"],
        "small": normal,
        "flaky": ["TaskStarted", "TaskRetrying", *normal],
        "fail": ["TaskStarted", "TaskFailed"],
        "below": ["TaskNotRun"],
        "clean": normal,
    }
    for name, events in expected.items():
        expect(f"events of task {name!r}", story.get(name, []), events)


@check()
def hooks_get_their_events(trial: Trial) -> None:
    """The hooks of tasks are called once for each event that they are for, in the process that called ``run()``."""
    seen: list[Any] = []
    hooks: Any = dict.fromkeys(("on_success", "on_failure", "on_retry", "on_skip"), seen.append)
    one, two = Task(tasks.one, **hooks), Task(tasks.add_one, name="two", **hooks)
    others = [Task(tasks.add_one, name=f"other_{number}") for number in range(20)]
    large = Task(tasks.add_one, name="large", when=tasks.is_large, **hooks)
    flaky = Task(partial(tasks.flaky, trial.path, 1), name="flaky", retries=2, delay=0, **hooks)
    bad = Task(tasks.fail, **hooks)
    one >> [two, large, *others]
    trial.run(two, large, *others, flaky, bad, fail_fast=False, raise_on_failure=False)
    story: dict[str, list[str]] = {}
    for event in seen:
        story.setdefault(event.task, []).append(type(event).__name__)
    expected = {
        "one": ["TaskSucceeded"],
        "two": ["TaskSucceeded"],
        "large": ["TaskNotRun"],
        "flaky": ["TaskRetrying", "TaskSucceeded"],
        "fail": ["TaskFailed"],
    }
    expect("events", story, expected)


@check()
def nothing_starts_before_its_upstreams_have_ended(trial: Trial) -> None:
    """In graphs of all shapes, each task starts after the end of its upstreams, and ends once."""
    for seed in range(4):
        _check_history(trial, seed)


def _check_history(trial: Trial, seed: int) -> None:
    choose = random.Random(seed)
    made: list[Task[..., Any]] = []
    upstreams: dict[str, list[str]] = {}
    for number in range(40):
        kind = tasks.fail if choose.random() < 0.1 else tasks.collect
        node: Task[..., Any] = Task(kind, name=f"task_{number}", trigger=choose.choice(("none_failed", "all_done")))
        chosen = choose.sample(made, min(len(made), choose.randrange(4)))
        for upstream in chosen:
            upstream >> node
        upstreams[node.name] = [upstream.name for upstream in chosen]
        made.append(node)
    seen: list[Any] = []
    trouble: Exception | None = None
    try:
        trial.run(*made, fail_fast=False, raise_on_failure=False, observers=[seen.append])
    except Exception as error:  # probably because a task started too early: the events show which
        trouble = error
    ended: dict[str, int] = {}
    for event in seen:
        if isinstance(event, TaskStarted):
            early = [name for name in upstreams[event.task] if name not in ended]
            what = f"upstreams of task {event.task!r} that have not ended when it starts, graph of seed {seed}"
            expect(what, early, [])
        elif isinstance(event, ENDS):
            ended[event.task] = ended.get(event.task, 0) + 1
        elif not isinstance(event, (RunStarted, RunFinished)):
            expect("event", type(event).__name__, "an event of the run, a start or an end")
    if trouble is not None:
        raise trouble
    expect("number of ends of each task", ended, dict.fromkeys(upstreams, 1))


@check()
def durations_are_those_of_the_calls(trial: Trial) -> None:
    """The duration of each task is the time of its call, in seconds; a task that did not run has none."""
    seconds = 0.1
    asleep, large = Task(partial(tasks.sleep_for, seconds), name="asleep"), Task(tasks.add_one, when=tasks.is_large)
    asleep >> large
    began = time.perf_counter()
    durations = trial.run(large).durations
    took = time.perf_counter() - began
    expect("tasks with a duration", list(durations), ["asleep"])
    right = seconds * 0.9 <= durations["asleep"] <= took
    expect_true(f"duration of a call of {seconds} s in a run of {took:.3f} s", right, "between these", durations)
