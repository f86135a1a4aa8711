"""Checks of the record of a run, and of what it is used for. They need a store with the methods of `StateManager`."""

from __future__ import annotations

from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.pipelines.dag import DAG
from flowkit_core.pipelines.task import Task

from . import context_tasks, map_tasks, tasks
from .trial import check, expect, expect_true

if TYPE_CHECKING:
    from flowkit_core._typing import Any

    from .trial import Trial


@check("history")
def each_attempt_is_recorded(trial: Trial) -> None:
    """The record has each attempt of a task, with its error, its times, and the worker that made the call."""
    flaky = Task(partial(tasks.flaky, trial.path, 2), name="flaky", retries=2, delay=0)
    results = trial.run(flaky, state=trial.state)
    expect("results", results, {"flaky": 3})
    attempts = trial.state.run(results.run_id).tasks["flaky"].attempts
    expect("outcomes", [each.outcome for each in attempts], ["failed", "failed", "succeeded"])
    expect("numbers", [each.number for each in attempts], [1, 2, 3])
    expect("whether there is an error", [each.error is not None for each in attempts], [True, True, False])
    for each in attempts:
        expect_true("worker", each.worker, "the name of a thread or a worker", each.worker)
        expect_true("process", each.process, "the id of a process", each.process)
        expect_true("times", each.started <= each.ended, "started <= ended", (each.started, each.ended))
        expect_true("duration", each.duration >= 0, "0 or more", each.duration)


@check("history")
def each_execution_is_recorded(trial: Trial) -> None:
    """The record has the failed execution of a run and the one that resumed it, and the run can be found."""
    flaky, last = Task(partial(tasks.flaky, trial.path, 1), name="flaky"), Task(tasks.add_one, name="last")
    flaky >> last
    error = trial.raised(tasks.OwnError, last, state=trial.state)
    run_id = error.flowkit_results.run_id
    results = trial.run(last, state=trial.state, resume=True)
    expect("run", results.run_id, run_id)
    run = trial.state.run(run_id)
    expect("outcomes", [each.outcome for each in run.executions], ["failed", "succeeded"])
    expect_true("error", "OwnError" in (run.executions[0].error or ""), "the traceback", run.executions[0].error)
    expect("executions of the attempts", [each.execution for each in run.tasks["flaky"].attempts], [1, 2])
    found = [each.run_id for each in trial.state.runs("check", status="succeeded")]
    expect_true("runs(status='succeeded')", run_id in found, f"{run_id} is one of them", found)


@check("history")
def plan_shows_what_a_resumed_run_calls(trial: Trial) -> None:
    """The method plan() of the pipeline names the tasks that a resumed run calls, without calling any."""
    first = Task(partial(tasks.counted_condition, trial.path), name="first")
    lost = Task(tasks.one, name="lost", record=False)
    flaky = Task(partial(tasks.flaky, trial.path + "-attempts", 1), name="flaky")
    [first, lost] >> flaky
    trial.raised(tasks.OwnError, flaky, state=trial.state)
    plan = DAG("check", tasks=[flaky]).plan(state=trial.state)
    expect("tasks to run", plan.runs, ("lost", "flaky"))
    expect("tasks to take over", plan.resumed, ("first",))
    expect("number of calls", trial.calls(), 1)
    results = trial.run(flaky, state=trial.state, resume=True)
    expect("tasks that ran", tuple(results.durations), plan.runs)
    expect("number of calls", trial.calls(), 1)


@check("history")
def rerun_starts_a_linked_run(trial: Trial) -> None:
    """``run(rerun=..., of=...)`` takes over what is upstream, and leaves the record of the old run as it is."""
    first = Task(partial(tasks.counted_condition, trial.path), name="first")
    middle, last = Task(tasks.add_one, name="middle"), Task(tasks.add_one, name="last")
    first >> middle >> last
    old = trial.run(last, state=trial.state)
    before = _facts(trial.state.run(old.run_id))
    new = trial.run(last, state=trial.state, rerun={"middle"}, of=old.run_id)
    expect("results", new, old)
    expect("tasks taken over", new.resumed, ("first",))
    expect("number of calls of the first task", trial.calls(), 1)
    expect_true("run", new.run_id != old.run_id, "a new run", new.run_id)
    expect("parent", trial.state.run(new.run_id).parent, old.run_id)
    expect("record of the old run", _facts(trial.state.run(old.run_id)), before)
    difference = trial.state.run(old.run_id).diff(trial.state.run(new.run_id))
    expect("difference", str(difference), "no difference")


def _facts(run: Any) -> Any:
    attempts = {name: [(each.outcome, each.ended) for each in task.attempts] for name, task in run.tasks.items()}
    return run.status, run.ended, len(run.executions), attempts


@check("history")
def task_is_called_again_with_its_recorded_inputs(trial: Trial) -> None:
    """The method replay() of the store calls a failed task in this process, with the inputs that it had."""
    first = Task(tasks.one, name="first")
    flaky = Task(partial(tasks.flaky, trial.path, 1), name="flaky")
    first >> flaky
    error = trial.raised(tasks.OwnError, flaky, state=trial.state)
    value = trial.state.replay(error.flowkit_results.run_id, "flaky", pipeline=DAG("check", tasks=[flaky]))
    expect("result", value, 2)
    expect("state", trial.state.run(error.flowkit_results.run_id).tasks["flaky"].state, "failed")


@check("history")
def note_is_kept_for_the_run_that_resumes(trial: Trial) -> None:
    """What a task remembers is there in its next attempts, also of the run that resumes it."""
    remembering = Task(partial(context_tasks.remember_attempts, trial.path, 3), name="remembering", retries=1, delay=0)
    trial.raised(tasks.OwnError, remembering, state=trial.state)
    results = trial.run(remembering, state=trial.state, resume=True)
    expect("the attempts that it remembers", results["remembering"], [1, 2, 1, 2])


@check("history")
def resumed_run_calls_the_elements_that_are_missing(trial: Trial) -> None:
    """Elements of mapped tasks are recorded as they end, and a resumed run calls the tasks for the others only."""
    rows, first = Task(map_tasks.small), Task(partial(map_tasks.fail_at_three, trial.path), name="first")
    second = Task(partial(map_tasks.counted_element, trial.path), name="second")
    rows >> first.map() >> second.map()
    failed = trial.run(second, state=trial.state, fail_fast=False, raise_on_failure=False)
    expect("number of calls", trial.calls(), 6 + 5)
    elements = trial.state.run(failed.run_id).tasks["first"].elements
    expect("recorded elements", elements.counts, {"failed": 1, "succeeded": 5})
    expect("recorded failures", list(elements.failed), [3])
    tasks.write(f"{trial.path}-repaired", "")
    results = trial.run(second, state=trial.state, resume=True)
    expect("results", (results["first"], results["second"]), (list(range(6)), list(range(6))))
    expect("number of calls", trial.calls(), 6 + 5 + 1 + 1)
    expect("elements taken over", results.elements["second"].resumed, [0, 1, 2, 4, 5])
    expect("attempts in this run", list(results.elements["first"].attempts), [0, 0, 0, 1, 0, 0])


@check("history")
def elements_of_a_generator_are_compared(trial: Trial) -> None:
    """A resumed run pulls a generator again, and calls the mapped task for the elements that are missing."""
    rows, each = Task(map_tasks.generated), Task(partial(map_tasks.fail_at_three, trial.path), name="each")
    rows >> each.map()
    trial.run(each, state=trial.state, fail_fast=False, raise_on_failure=False)
    tasks.write(f"{trial.path}-repaired", "")
    results = trial.run(each, state=trial.state, resume=True)
    expect("result", results["each"], list(range(300)))
    expect("number of calls", trial.calls(), 301)
    expect("size in the record", trial.state.run(results.run_id).tasks["each"].elements.size, 300)


@check("history")
def elements_are_in_the_record(trial: Trial) -> None:
    """The record has failed and skipped elements, and their labels; the recorded result is the list of the others."""
    rows, each = Task(map_tasks.small), Task(map_tasks.skip_or_fail, name="each")
    rows >> each.map(errors="drop", label=map_tasks.label_of)
    results = trial.run(each, state=trial.state)
    record = trial.state.run(results.run_id).tasks["each"]
    expect("counts", record.elements.counts, {"failed": 1, "skipped": 1, "succeeded": 4})
    expect("skipped", record.elements.skipped, {1: "one"})
    expect("label", record.elements.labels[2], "row 2")
    expect_true("error", record.elements.failed[2].type.endswith("OwnError"), "OwnError", record.elements.failed[2])
    expect("result", record.result(), [0, 3, 4, 5])
