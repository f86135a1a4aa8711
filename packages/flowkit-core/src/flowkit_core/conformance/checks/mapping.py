"""Checks of mapped tasks: one call for each element."""

from __future__ import annotations

from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.events import TaskFailed, TaskStarted, TaskSucceeded
from flowkit_core.graphs.map_errors import MapLengthError, MappingTypeError
from flowkit_core.pipelines.task import Task

from . import map_tasks, tasks
from .trial import check, expect, expect_true, notes_of

if TYPE_CHECKING:
    from typing import Any

    from .trial import Trial


@check()
def mapped_task_is_called_for_each_element(trial: Trial) -> None:
    """A mapped task is called for each element, and its result is the list of results in the order of the input."""
    rows, end = Task(map_tasks.rows), Task(tasks.collect, name="end")
    each = Task(tasks.add_one, name="each")
    rows >> each.map() >> end
    results = trial.run(end)
    expect("results", results, {"rows": [3, 1, 2], "each": [4, 2, 3], "end": ([4, 2, 3],)})
    expect("counts of elements", results.elements["each"].counts, {"succeeded": 3})


@check()
def chain_of_mapped_tasks_is_element_wise(trial: Trial) -> None:
    """Each element goes through a chain of mapped tasks; the tasks that are not mapped take the lists."""
    rows, first, second = Task(map_tasks.many), Task(tasks.add_one, name="first"), Task(tasks.add_one, name="second")
    total, both = Task(map_tasks.total, name="total"), Task(tasks.collect, name="both")
    rows >> first.map() >> second.map() >> total
    [first, second] >> both
    results = trial.run(total, both)
    expect("first", results["first"], list(range(1, 301)))
    expect("second", results["second"], list(range(2, 302)))
    expect("total", results["total"], sum(range(2, 302)))
    expect("both", results["both"], (results["first"], results["second"]))


@check()
def other_inputs_of_a_mapped_task_are_whole(trial: Trial) -> None:
    """Only the named parameters are mapped; two of them are paired by index; defaults and open parameters stay."""
    rows, words = Task(map_tasks.rows), Task(map_tasks.words)
    scaled, paired = Task(map_tasks.scaled), Task(map_tasks.paired)
    [rows, words] >> scaled.map("row")
    [rows, words] >> paired.map()
    results = trial.run(scaled, paired, params={"factor": 10})
    expect("scaled", results["scaled"], [(30, ["a", "b", "c"]), (10, ["a", "b", "c"]), (20, ["a", "b", "c"])])
    expect("paired", results["paired"], [(3, "a", None), (1, "b", None), (2, "c", None)])


@check()
def open_parameter_can_be_mapped(trial: Trial) -> None:
    """A mapped parameter that no upstream fills takes the elements of what ``run(params=...)`` has."""
    scaled = Task(map_tasks.scaled)
    results = trial.run(scaled.map("row"), params={"row": [1, 2], "factor": 2, "words": "x"})
    expect("results", results, {"scaled": [(2, "x"), (4, "x")]})


@check()
def empty_input_gives_an_empty_list(trial: Trial) -> None:
    """A task that is mapped over nothing succeeds with an empty list, and what follows runs."""
    rows, each, more = Task(map_tasks.nothing), Task(tasks.add_one, name="each"), Task(tasks.add_one, name="more")
    end = Task(tasks.collect, name="end")
    rows >> each.map() >> more.map() >> end
    expect("results", trial.run(end), {"nothing": [], "each": [], "more": [], "end": ([],)})


@check()
def elements_have_context_variables_of_their_own(trial: Trial) -> None:
    """A context variable that an element sets is unchanged for other elements, and in the next task of a chain."""
    rows, first = Task(map_tasks.many), Task(tasks.change_setting, name="first")
    second = Task(tasks.change_setting, name="second")
    rows >> first.map() >> second.map()
    results = trial.run(second)
    expect("values before each change", set(results["first"] + results["second"]), {"unset"})


@check()
def elements_are_skipped_one_by_one(trial: Trial) -> None:
    """Conditions and Skip leave elements out, and their numbers stay; later tasks skip them, too."""
    rows = Task(map_tasks.many)
    even, picky = Task(tasks.add_one, name="even", when=map_tasks.is_even), Task(map_tasks.skip_multiples_of_four)
    third = Task(map_tasks.default_or_value, name="third")
    rows >> even.map() >> third.map()
    rows >> picky.map()
    results = trial.run(third, picky)
    expect("even", results["even"], list(range(1, 300, 2)))
    expect("third", results["third"], [each if each % 2 else "default" for each in range(1, 301)])
    expect("picky", results["skip_multiples_of_four"], [each for each in range(300) if each % 4])
    expect("counts", results.elements["even"].counts, {"succeeded": 150, "skipped": 150})
    expect("reason", results.elements["even"].skipped[1], "its condition was false")
    expect("states", set(results.states.values()), {"succeeded"})


@check()
def elements_are_retried_one_by_one(trial: Trial) -> None:
    """Each element has its own retries."""
    rows = Task(map_tasks.rows)
    flaky = Task(partial(map_tasks.flaky_element, trial.path, 1), name="flaky", retries=2, delay=0)
    after = Task(tasks.add_one, name="after")
    rows >> flaky.map() >> after.map()
    results = trial.run(after)
    expect("results", results["after"], [31, 11, 21])
    expect("attempts", list(results.elements["flaky"].attempts), [2, 2, 2])
    expect("attempts at the next task", list(results.elements["after"].attempts), [1, 1, 1])


@check()
def failed_element_fails_the_task(trial: Trial) -> None:
    """An element that fails stops the run; the exception is its own, and the notes name the element.

    The tasks after it have a failed upstream.
    """
    rows = Task(map_tasks.many)
    picky, after = Task(map_tasks.fail_at_five, name="picky"), Task(tasks.add_one, name="after")
    end, alert = Task(tasks.collect, name="end"), Task(tasks.collect, name="alert", trigger="one_failed")
    rows >> picky.map(label=map_tasks.label_of) >> after.map() >> end
    error = trial.raised(tasks.OwnError, end, alert.after(after))
    notes = notes_of(error)
    expect("arguments of the exception", error.args, (9, "five"))
    expect_true("notes", "picky[5]" in notes and "(row 5)" in notes, "they name picky[5] and its label", notes)
    results = error.flowkit_results
    states = {name: results.states[name] for name in ("picky", "after", "end", "alert")}
    expected = {"picky": "failed", "after": "upstream_failed", "end": "upstream_failed", "alert": "succeeded"}
    expect("states", states, expected)
    expect_true("failed", "picky[5]" in results.failed, "it has picky[5]", list(results.failed))


@check()
def independent_elements_go_on_without_fail_fast(trial: Trial) -> None:
    """With ``fail_fast=False``, the other elements run, and the error is a group of all failures."""
    rows = Task(map_tasks.small)
    picky, after = Task(map_tasks.fail_odd, name="picky"), Task(tasks.add_one, name="after")
    end = Task(tasks.collect, name="end")
    rows >> picky.map() >> after.map() >> end
    group = trial.raised(ExceptionGroup, end, fail_fast=False)
    expect("number of failures", len(group.exceptions), 3)
    results = group.flowkit_results
    counts = {name: results.elements[name].counts for name in ("picky", "after")}
    expected = {"picky": {"succeeded": 3, "failed": 3}, "after": {"succeeded": 3, "upstream_failed": 3}}
    expect("counts", counts, expected)
    states = {"small": "succeeded", "picky": "failed", "after": "upstream_failed", "end": "upstream_failed"}
    expect("states", results.states, states)


@check()
def failed_elements_are_dropped_or_returned(trial: Trial) -> None:
    """``errors="drop"`` leaves failed elements out, ``errors="return"`` puts the exception in their place."""
    rows = Task(map_tasks.small)
    dropped, returned = Task(map_tasks.fail_odd, name="dropped"), Task(map_tasks.fail_odd, name="returned")
    after, kinds = Task(tasks.add_one, name="after"), Task(map_tasks.type_names, name="kinds")
    rows >> dropped.map(errors="drop") >> after.map()
    rows >> returned.map(errors="return") >> kinds
    results = trial.run(after, kinds)
    expect("dropped", results["dropped"], [0, 2, 4])
    expect("after", results["after"], [1, 3, 5])
    expect("kinds", results["kinds"], ["int", "OwnError", "int", "OwnError", "int", "OwnError"])
    failed = sorted(results.elements["dropped"].failed)
    expect("failed elements", failed, [1, 3, 5])
    expect("skipped elements of the next task", sorted(results.elements["after"].skipped), [1, 3, 5])


@check()
def generator_is_pulled_element_by_element(trial: Trial) -> None:
    """A generator runs in the process of the run; the results say that it was consumed."""
    rows, each, more = Task(map_tasks.generated), Task(tasks.add_one, name="each"), Task(tasks.add_one, name="more")
    rows >> each.map() >> more.map()
    results = trial.run(more)
    expect("results", results, {"each": list(range(1, 301)), "more": list(range(2, 302))})
    expect("state of the generator's task", results.states["generated"], "succeeded")


@check()
def failed_generator_fails_its_task(trial: Trial) -> None:
    """An exception in a generator fails the task that returned it."""
    rows, each = Task(map_tasks.failing_generator, name="rows"), Task(tasks.add_one, name="each")
    rows >> each.map()
    error = trial.raised(tasks.OwnError, each)
    expect("states", error.flowkit_results.states, {"rows": "failed", "each": "upstream_failed"})


@check()
def inputs_that_cannot_be_mapped_are_errors(trial: Trial) -> None:
    """A text, a set or a mapping cannot be mapped, nor can inputs of different lengths."""
    for func, kind in ((map_tasks.a_text, "str"), (map_tasks.a_set, "set"), (map_tasks.a_mapping, "dict")):
        source, each = Task(func, name="source"), Task(tasks.value_of, name="each")
        source >> each.map()
        error = trial.raised(MappingTypeError, each)
        expect("type", (error.task, error.parameter, error.type_name), ("each", "value", kind))
    rows, pair, paired = Task(map_tasks.rows), Task(map_tasks.small), Task(map_tasks.paired)
    [rows, pair] >> paired.map()
    expect("lengths", trial.raised(MapLengthError, paired).lengths, {"row": 3, "word": 6})


@check()
def limit_bounds_the_elements_that_run_at_once(trial: Trial) -> None:
    """With ``limit=1``, elements run one after the other."""
    rows = Task(map_tasks.rows)
    alone = Task(partial(map_tasks.alone, trial.path), name="alone")
    rows >> alone.map(limit=1)
    expect("results", trial.run(alone)["alone"], [3, 1, 2])


@check()
def mapped_elements_have_contexts(trial: Trial) -> None:
    """``current()`` in an element has the name of the task, the number of the element and a key of its own."""
    rows, where = Task(map_tasks.rows), Task(map_tasks.where)
    rows >> where.map()
    found = trial.run(where)["where"]
    expect("contexts", [each[:2] for each in found], [("where", 0), ("where", 1), ("where", 2)])
    expect("distinct idempotency keys", len({each[2] for each in found}), 3)


@check()
def mapped_task_has_one_event_of_each_kind(trial: Trial) -> None:
    """Observers get one start and one end of a mapped task, with the number of its elements."""
    seen: list[Any] = []
    rows, each, bad = Task(map_tasks.small), Task(tasks.add_one, name="each"), Task(map_tasks.fail_odd, name="bad")
    rows >> [each.map(), bad.map()]
    trial.run(each, bad, observers=[seen.append], fail_fast=False, raise_on_failure=False)
    own = [event for event in seen if getattr(event, "task", "small") != "small"]
    started = sorted((event.task, event.elements) for event in own if isinstance(event, TaskStarted))
    expect("starts", started, [("bad", 6), ("each", 6)])
    ends = {event.task: event.elements for event in own if isinstance(event, (TaskSucceeded, TaskFailed))}
    expect("ends", ends, {"each": {"succeeded": 6}, "bad": {"succeeded": 3, "failed": 3}})
    expect("number of events", len(own), 4)


@check()
def hooks_of_mapped_task_get_events_of_elements(trial: Trial) -> None:
    """The hooks of a mapped task are called for each element, and then for the task."""
    seen: list[Any] = []
    hooks: Any = dict.fromkeys(("on_success", "on_failure", "on_retry", "on_skip"), seen.append)
    rows = Task(map_tasks.small)
    flaky = Task(partial(map_tasks.flaky_element, trial.path, 1), name="flaky", retries=1, delay=0, **hooks)
    bad = Task(map_tasks.fail_odd, name="bad", when=map_tasks.is_not_two, **hooks)
    rows >> flaky.map()
    rows >> bad.map("row", errors="drop")
    trial.run(flaky, bad)
    story: dict[Any, list[str]] = {}
    for event in seen:
        story.setdefault((event.task, event.element), []).append(type(event).__name__)
    expected: dict[Any, list[str]] = {("flaky", number): ["ElementRetrying", "ElementSucceeded"] for number in range(6)}
    expected |= {("bad", number): ["ElementFailed"] for number in (1, 3, 5)}
    expected |= {("bad", number): ["ElementSucceeded"] for number in (0, 4)}
    expected |= {("bad", 2): ["ElementNotRun"], ("bad", None): ["TaskSucceeded"], ("flaky", None): ["TaskSucceeded"]}
    expect("events", story, expected)
    for name in ("flaky", "bad"):
        expect(f"last event of {name!r}", [event.element for event in seen if event.task == name][-1], None)


@check()
def elements_of_skipped_sources_keep_their_partners(trial: Trial) -> None:
    """Two mapped tasks are paired by the original number, whatever was skipped or dropped in one of them."""
    rows = Task(map_tasks.small)
    left, right = Task(map_tasks.fail_odd, name="left"), Task(tasks.value_of, name="right", when=map_tasks.is_not_two)
    both = Task(map_tasks.pair_of, name="both")
    rows >> [left.map(errors="drop"), right.map()] >> both.map()
    results = trial.run(both)
    expect("pairs", results["both"], [(0, 0), (4, 4)])
    expect("skipped", sorted(results.elements["both"].skipped), [1, 2, 3, 5])


@check("state")
def mapped_task_is_recorded_and_resumed(trial: Trial) -> None:
    """The result of a mapped task is taken over on resume; after a failure, it runs again."""
    rows, each = Task(map_tasks.rows), Task(partial(map_tasks.counted_element, trial.path), name="each")
    flaky = Task(partial(tasks.flaky, trial.path + "-attempts", 1), name="flaky")
    end = Task(tasks.collect, name="end")
    rows >> each.map() >> end
    flaky.after(end)
    trial.raised(Exception, flaky, state=trial.state)
    expect("number of calls", trial.calls(), 3)
    results = trial.run(flaky, state=trial.state, resume=True)
    expect("results", {name: results[name] for name in ("each", "end")}, {"each": [3, 1, 2], "end": ([3, 1, 2],)})
    expect("number of calls after resume", trial.calls(), 3)
