"""Checks of the contexts of tasks: what ``current()`` returns in every kind of call."""

from __future__ import annotations

from random import Random

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import idempotency_key
from flowkit_core.pipelines.task import Task

from . import context_tasks, tasks
from .trial import check, expect

if TYPE_CHECKING:
    from .trial import Trial


@check()
def context_has_the_facts_of_the_call(trial: Trial) -> None:
    """``current()`` returns run, pipeline, task, element, attempt, params, deadline and idempotency key."""
    first, last = Task(context_tasks.facts, name="first"), Task(context_tasks.facts, name="last")
    others = [Task(context_tasks.facts, name=f"other_{number}") for number in range(20)]
    first >> last
    first >> others
    open_task = Task(tasks.value_of)
    results = trial.run(last, *others, open_task, params={"value": 7})
    for name in ("first", "last", *(other.name for other in others)):
        key = idempotency_key(results.run_id, name)
        expected = (results.run_id, "check", name, None, 1, {"value": 7}, None, key)
        expect(f"context of task {name!r}", results[name], expected)


@check()
def context_is_that_of_the_attempt(trial: Trial) -> None:
    """In a retry, the number of the attempt is another, the key is the same, and notes of earlier attempts are kept."""
    flaky = Task(context_tasks.fail_until_third_attempt, name="flaky", retries=2, delay=0)
    expect("notes, key and attempt", trial.run(flaky), {"flaky": [[1, 2, 3], True, 3]})
    expect("notes of the next run", trial.run(flaky), {"flaky": [[1, 2, 3], True, 3]})


@check()
def context_has_repeatable_random_numbers(trial: Trial) -> None:
    """``current().random`` depends on run, task, element and attempt only, and goes on within an attempt."""
    draws = [Task(context_tasks.draw, name=f"draw_{number}") for number in range(3)]
    results = trial.run(*draws)
    for name, drawn in results.items():
        source = Random(f"{results.run_id}\n{name}\nNone\n1")
        expect(f"random numbers of {name!r}", drawn, [source.random(), source.random()])


@check()
def context_is_visible_in_coroutines(trial: Trial) -> None:
    """``current()`` works in coroutines, in tasks of their event loop, and in ``asyncio.to_thread``."""
    here = ("check", "gathered")
    expect("places", trial.run(Task(context_tasks.gathered)), {"gathered": [here, here, here]})


@check()
def context_is_the_inner_one_in_a_run_inside_a_task(trial: Trial) -> None:
    """In a run inside a task, ``current()`` returns the inner task, and the outer one again after it."""
    inner = ("inner", "inside")
    first, last = Task(context_tasks.nested), Task(context_tasks.nested_unseen)
    first.after(last)
    results = trial.run(first)
    outer = ("check", "nested")
    expect("places", results["nested"], [outer, inner, inner, inner, outer])
    expect("places without a call before", results["nested_unseen"], [inner, ("check", "nested_unseen")])


@check()
def context_goes_to_threads_with_a_copy(trial: Trial) -> None:
    """A thread that a task starts sees the context in a copy of it, and not without."""
    here = ("check", "in_threads")
    expect("places", trial.run(Task(context_tasks.in_threads)), {"in_threads": [here, here, None]})


@check()
def context_is_visible_in_conditions(trial: Trial) -> None:
    """``current()`` works in the condition of a task, and is that of the task."""
    conditional = Task(tasks.one, name="conditional", when=context_tasks.is_in_task)
    expect("results", trial.run(conditional), {"conditional": 1})
