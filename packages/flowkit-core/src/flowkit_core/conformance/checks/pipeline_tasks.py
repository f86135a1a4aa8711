"""Checks of pipelines that are used as tasks: ``pipeline.as_task()``."""

from __future__ import annotations

from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.pipelines.dag import DAG
from flowkit_core.pipelines.task import Task

from . import tasks
from .trial import check, expect

if TYPE_CHECKING:
    from flowkit_core._typing import Any

    from .trial import Trial


def _increments() -> DAG:
    """Return a pipeline that takes ``x``, and returns ``x + 2`` as ``second``."""
    first, second = Task(tasks.add_one, name="first"), Task(tasks.add_one, name="second")
    first >> second
    return DAG("increments", tasks=[second])


@check()
def pipeline_is_a_task_of_another(trial: Trial) -> None:
    """Tasks of a pipeline that is used as a task take results of its upstreams, and its output is passed on."""
    start, inner, last = Task(tasks.one, name="start"), _increments().as_task(name="inner"), Task(tasks.add_one)
    start >> inner >> last
    expected = {"start": 1, "inner.first": 2, "inner.second": 3, "inner": 3, "add_one": 4}
    expect("results", trial.run(last), expected)


@check()
def pipeline_is_used_several_times_and_levels_deep(trial: Trial) -> None:
    """One pipeline may be used twice, and a pipeline that uses others as tasks may itself be used as one."""
    left, right = _increments().as_task(name="left"), _increments().as_task(name="right")
    left >> right
    middle = DAG("middle", tasks=[right]).as_task()
    results = trial.run(middle, params={"middle.left.x": 10}, keep=["middle", "middle.left"])
    expect("results", results, {"middle.left": 12, "middle": 14})


@check()
def condition_skips_a_whole_pipeline(trial: Trial) -> None:
    """A false condition of a pipeline task skips all of its tasks, also those that always run otherwise."""
    first, clean_up = Task(tasks.add_one, name="first"), Task(partial(tasks.count, trial.path), trigger="all_done")
    clean_up.after(first)
    inner = DAG("inner", tasks=[clean_up]).as_task("first", when=tasks.is_large)
    start, last = Task(tasks.one), Task(tasks.collect)
    start >> [inner, last]
    inner >> last
    results = trial.run(last)
    expect("results", results, {"one": 1, "collect": (1,)})
    expect("skipped tasks", sorted(results.skipped), ["inner.count", "inner.first", "inner.when"])
    expect("calls", trial.calls(), 0)


@check()
def pipeline_of_a_failed_upstream_does_not_start(trial: Trial) -> None:
    """If an upstream of a pipeline task fails, none of its tasks runs, also not those that always run otherwise."""
    start, always = Task(tasks.fail, name="start"), Task(partial(tasks.count, trial.path), name="always")
    inner = DAG("inner", tasks=[always.with_options(trigger="all_done")]).as_task()
    start >> inner
    results = trial.run(inner, raise_on_failure=False, fail_fast=False)
    expect("states", results.states, {"start": "failed", "inner.always": "upstream_failed"})
    expect("calls", trial.calls(), 0)


@check()
def task_after_a_pipeline_waits_for_all_its_ends(trial: Trial) -> None:
    """A task downstream of a pipeline task does not run if a task of it fails that is not the output."""
    output, other = Task(tasks.one, name="output"), Task(tasks.fail, name="other")
    inner = DAG("inner", tasks=[output, other]).as_task("output")
    last: Task[..., Any] = Task(tasks.add_one, name="last")
    inner >> last
    results = trial.run(last, raise_on_failure=False, fail_fast=False)
    expect("states", results.states, {"inner.output": "succeeded", "inner.other": "failed", "last": "upstream_failed"})
