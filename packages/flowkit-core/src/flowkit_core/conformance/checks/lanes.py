"""Checks of `lane()`: alone, and beside other lanes in one run."""

from __future__ import annotations

import random
import time
from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.events import RunStopping, TaskFailed
from flowkit_core.executors.executor import SerialExecutor
from flowkit_core.pipelines.dag import DAG
from flowkit_core.pipelines.task import Task
from flowkit_core.runs.run import Run
from flowkit_core.runs.serial_lane import SerialLane
from flowkit_core.runs.session import Session

from . import tasks
from .trial import MismatchError, check, expect, expect_true, run_on

if TYPE_CHECKING:
    from flowkit_core._typing import Any

    from .trial import Trial

GRACE = 0.1
"""Seconds that running calls have to end."""


def beside(trial: Trial) -> dict[str, Any]:
    """Return the argument ``executor`` of a run with two lanes: of the executor, and a serial one named "here"."""
    return {"default": trial.executor, "here": SerialExecutor()}


class _Elsewhere:
    """Runs its tasks one after the other, beside another lane that needs the calling thread."""

    name = "elsewhere"

    def execute(self, run: Run) -> None:
        """Run all nodes."""
        Session(run, [self.lane()]).drive()

    def lane(self) -> SerialLane:
        """Return the lane of one run."""
        return SerialLane()

    def close(self) -> None:
        """Do nothing."""


@check("lane")
def lane_has_its_attributes(trial: Trial) -> None:
    """A lane has the attributes of the protocol ``Lane``."""
    lane = trial.executor.lane()  # type: ignore[attr-defined]
    expect("type of name", type(lane.name).__name__, "str")
    for name in ("has_loop", "needs_calling_thread", "may_fork", "makes_handles"):
        expect(f"type of {name}", type(getattr(lane, name, None)).__name__, "bool")
    fate = getattr(lane, "fate_of_unfinished", None)
    expect_true("fate_of_unfinished", fate in ("abandoned", "ended"), "'abandoned' or 'ended'", fate)


@check("lane")
def lane_drives_a_run_alone(trial: Trial) -> None:
    """A session with this lane only drives a run to its end."""
    one, end = Task(tasks.one), Task(tasks.add_one)
    one >> end
    run = Run(DAG("check", tasks=[end]).graph())
    Session(run, [trial.executor.lane()]).drive()  # type: ignore[attr-defined]
    expect("results", run.state.succeeded(), {"one": 1, "add_one": 2})


@check("lane")
def two_lanes_have_the_results_of_a_serial_run(trial: Trial) -> None:
    """Graphs whose tasks are on this lane and on a serial one have the results of a serial run."""
    for seed in range(6):
        choose = random.Random(seed)
        made: list[Task[..., Any]] = []
        for number in range((4, 12, 40)[seed % 3]):
            place = choose.choice((None, "here"))
            node: Task[..., Any] = Task(partial(tasks.collect, number), name=f"task_{number}", executor=place)
            for upstream in choose.sample(made, min(len(made), choose.randrange(3))):
                upstream >> node
            made.append(node)
        expected = run_on("serial", *made)
        expect(f"results of the graph of seed {seed}", run_on(beside(trial), *made), expected)
        swapped = {"default": "serial", "here": trial.executor}
        expect(f"results of the graph of seed {seed}, swapped", run_on(swapped, *made), expected)


@check("lane")
def lane_without_nodes_lets_the_run_end(trial: Trial) -> None:
    """A run ends although no task of this lane becomes ready."""
    skipped = Task(tasks.add_one, name="skipped", when=tasks.is_large)
    one, end = Task(tasks.one, executor="here"), Task(tasks.collect, executor="here", trigger="none_failed")
    one >> skipped >> end
    expect("results", run_on(beside(trial), end), {"one": 1})


@check("lane")
def retries_run_beside_another_lane(trial: Trial) -> None:
    """A failed attempt is retried on this lane while another lane waits, also with a delay."""
    flaky = Task(partial(tasks.flaky, trial.path, 2), name="flaky", retries=2, delay=0.02)
    one, end = Task(tasks.one, executor="here"), Task(tasks.collect, executor="here")
    flaky >> end
    one >> end
    expect("results", run_on(beside(trial), end), {"one": 1, "flaky": 3, "collect": (3, 1)})


@check("lane")
def failure_stops_all_lanes(trial: Trial) -> None:
    """A failure on one lane stops tasks of the other; clean-up tasks of both run."""
    for place, other in ((None, "here"), ("here", None)):
        bad = Task(tasks.fail, executor=place)
        below = Task(tasks.add_one, name="below", executor=other)
        clean = [
            Task(tasks.collect, name="clean", trigger="all_done", executor=other),
            Task(tasks.collect, name="clean_too", trigger="all_done", executor=place),
        ]
        late = Task(tasks.collect, name="late", executor=other)
        bad >> [below, *clean]
        clean >> late
        try:
            run_on(beside(trial), below, late)
        except tasks.OwnError as error:
            states = error.flowkit_results.states  # type: ignore[attr-defined]
        else:
            raise MismatchError("run() raises", "OwnError", "nothing")
        expected = {"fail": "failed", "below": "upstream_failed", "late": "cancelled"}
        expect("states", states, {**expected, "clean": "succeeded", "clean_too": "succeeded"})


@check("lane")
def failure_on_another_lane_ends_the_wait_for_a_retry(trial: Trial) -> None:
    """A task that waits for its retry on one lane ends at once when a task of the other fails."""
    seconds = 20.0
    for place, other in ((None, "here"), ("here", None)):
        path = f"{trial.path}-{place}"
        flaky = Task(partial(tasks.flaky, path, 1), name="flaky", retries=1, delay=seconds, executor=place)
        bad = Task(partial(tasks.fail_when_counted, path, seconds), name="bad", executor=other)
        began = time.monotonic()
        results = run_on(beside(trial), flaky, bad, raise_on_failure=False)
        took = time.monotonic() - began
        expect("states", results.states, {"flaky": "failed", "bad": "failed"})
        expect_true("duration of the run", took < seconds / 2, f"less than the delay of {seconds} s", f"{took:.1f} s")


@check("lane")
def interrupt_ends_all_lanes(trial: Trial) -> None:
    """KeyboardInterrupt in a task of one lane ends the run of all."""
    for place, other in ((None, "here"), ("here", None)):
        bad = Task(partial(tasks.raise_kind, trial.path, "KeyboardInterrupt"), name="bad", executor=place)
        below = Task(tasks.collect, name="below", trigger="all_done", executor=other)
        bad >> below
        try:
            run_on(beside(trial), below)
        except KeyboardInterrupt as error:
            states = error.flowkit_results.states  # type: ignore[attr-defined]
        else:
            raise MismatchError("run() raises", "KeyboardInterrupt", "nothing")
        expect("states", states, {"bad": "failed", "below": "cancelled"})
    expect("results of the next run", trial.run(Task(tasks.one)), {"one": 1})


@check("lane")
def argument_that_a_lane_cannot_use_fails_its_task(trial: Trial) -> None:
    """A result that another lane cannot use fails its consumer only, and the run ends."""
    bad, kind = Task(tasks.generator, executor="here"), Task(tasks.type_name)
    one, two = Task(tasks.one, executor="here"), Task(tasks.add_one)
    bad >> kind
    one >> two
    results = run_on(beside(trial), kind, two, fail_fast=False, raise_on_failure=False)
    expect("result of the other branch", results.get("add_one"), 2)
    state = results.states["type_name"]
    expect_true("state of the consumer", state in ("succeeded", "failed"), "'succeeded' or 'failed'", state)


@check("lane")
def running_tasks_of_a_lane_are_named_at_a_failure(trial: Trial) -> None:
    """At a failure, `RunStopping` names the tasks that run, at once, and no task that does not run."""
    events: list[Any] = []

    def observe(event: Any) -> None:
        events.append((event.failed, type(event.error).__name__, event.running))
        tasks.release(trial.path)

    observe.events = (RunStopping,)  # type: ignore[attr-defined]
    seconds = 20.0
    running = Task(partial(tasks.wait_for_release, trial.path, seconds), name="running")
    below = Task(tasks.collect, name="below")
    running >> below
    bad = Task(partial(tasks.fail_when_counted, trial.path, seconds), name="bad", executor="elsewhere")
    executors = {"default": trial.executor, "elsewhere": _Elsewhere()}
    results = run_on(executors, below, bad, observers=[observe], raise_on_failure=False)
    expect("events", events, [("bad", "OwnError", ("running",))])
    expect("states", results.states, {"running": "succeeded", "below": "cancelled", "bad": "failed"})


@check("lane")
def grace_ends_running_calls(trial: Trial) -> None:
    """After a failure, ``run(grace=...)`` limits how long the run waits for calls that are running.

    A call in the calling thread cannot be abandoned.
    """
    _check_grace(trial, tasks.OwnError)


@check("lane")
def grace_ends_running_calls_after_system_exit(trial: Trial) -> None:
    """After SystemExit, running calls have the grace of the run like after a failure."""
    _check_grace(trial, SystemExit)


def _check_grace(trial: Trial, kind: type[BaseException]) -> None:
    """Check that a call which runs when another task raises an exception is ended, and that a clean-up task runs."""
    seconds = 1.5
    failed_at = [0.0]
    in_calling_thread = trial.executor.lane().needs_calling_thread  # type: ignore[attr-defined]

    def observe(_: Any) -> None:
        failed_at[0] = time.monotonic()

    observe.events = (TaskFailed,)  # type: ignore[attr-defined]
    asleep = Task(partial(tasks.sleep_while_waited_for, trial.path, seconds), name="asleep")
    bad = Task(partial(tasks.fail_when_counted, trial.path, seconds, kind.__name__), name="bad", executor="here")
    clean = Task(tasks.collect, name="clean", executor="here", trigger="all_done")
    [asleep, bad] >> clean
    try:
        run_on(beside(trial), clean, grace=GRACE, observers=[observe])
    except kind as error:
        states = error.flowkit_results.states  # type: ignore[attr-defined]
    else:
        raise MismatchError("run() raises", kind.__name__, "nothing")
    took = time.monotonic() - failed_at[0]
    expect("state of the clean-up task", states["clean"], "succeeded")
    in_time = took < seconds / 2 or (in_calling_thread and states["asleep"] == "succeeded")
    expect_true(
        f"time from the failure to the end, with grace={GRACE}", in_time, f"less than {seconds / 2} s", f"{took:.1f} s"
    )
