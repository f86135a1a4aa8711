"""Resuming a run after the pipeline has changed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from recorded_runs import TASKS, UPSTREAM, Money, begin, extract, fail_statement, other, planned, record, transform

from flowkit_state import ResumeError, StateFileError, StateManager


@pytest.mark.parametrize(
    ("tasks", "upstream", "facts", "outdated"),
    [
        ([*TASKS, planned("load", extract)], [(), (0,), (1,)], {"added": ("load",)}, {}),
        (TASKS[:1], [()], {"removed": ("transform",)}, {}),
        (TASKS, [(), ()], {"rewired": ("transform",)}, {1: "it no longer has the upstream 'extract'"}),
        (
            [TASKS[0], planned("transform", transform, "all_done")],
            UPSTREAM,
            {"rewired": ("transform",)},
            {1: "its trigger is 'all_done', was 'none_failed'"},
        ),
        (
            [TASKS[0], planned("transform", other)],
            UPSTREAM,
            {"changed": ("transform",)},
            {1: "function recorded_runs.other is new, function recorded_runs.transform is gone"},
        ),
        (
            [planned("extract", other), TASKS[1]],
            UPSTREAM,
            {"changed": ("extract",)},
            {
                0: "function recorded_runs.other is new, function recorded_runs.extract is gone",
                1: "it depends on 'extract'",
            },
        ),
    ],
    ids=["added", "removed", "rewired", "another trigger", "changed", "upstream changed"],
)
def test_recorded_tasks_of_changed_pipeline_are_outdated(state, tasks, upstream, facts, outdated):
    """`"strict"` refuses them, `"force"` uses them."""
    journal = begin(state)
    record(journal, 0, [3])
    record(journal, 1, [4])
    journal.close("interrupted", [], None)
    with pytest.raises(ResumeError) as caught:
        begin(state, "b", tasks=tasks, upstream=upstream, resume="strict")
    error = caught.value
    differences = {name: tuple(getattr(error, name)) for name in ("added", "removed", "rewired", "changed")}
    assert differences == {"added": (), "removed": (), "rewired": (), "changed": ()} | facts
    assert (error.run_id, error.recorded) == ("a", 2)
    assert error.keeps == 2 - len(outdated) - len(error.removed)
    assert "run(resume=True)" in str(error)
    again = begin(state, "b", resume="strict")  # the unchanged pipeline
    assert ({place: done.value for place, done in again.done.items()}, again.outdated) == ({0: [3], 1: [4]}, {})
    again.close("interrupted", [], None)
    forced = begin(state, "b", tasks=tasks, upstream=upstream, resume="force")
    values = {0: [3], 1: [4]} if len(tasks) > 1 else {0: [3]}
    assert ({place: done.value for place, done in forced.done.items()}, forced.outdated) == (values, {})


@pytest.mark.parametrize("changed", ["extract", "transform"])
def test_outdated_task_runs_again_and_is_recorded_as_pending(state, changed):
    journal = begin(state)
    record(journal, 0, [3])
    record(journal, 1, [4])
    journal.close("failed", [], None)
    tasks = [planned(task.name, other) if task.name == changed else task for task in TASKS]
    again = begin(state, "b", tasks=tasks, resume=True)
    assert {place: done.value for place, done in again.done.items()} == ({} if changed == "extract" else {0: [3]})
    assert list(again.outdated) == ([0, 1] if changed == "extract" else [1])
    assert state.run("a").counts == ({"pending": 2} if changed == "extract" else {"succeeded": 1, "pending": 1})


def test_resume_of_changed_pipeline_that_fails_loses_no_recorded_result(path, monkeypatch):
    """The n-th statement fails, for every n: what is up to date is used by the next resume, and nothing else."""
    tasks = [TASKS[0], planned("transform", other), planned("load", extract)]
    for limit in range(1, 100):
        place = path.with_name(f"{limit}.db")
        with StateManager(place) as state:
            journal = begin(state)
            record(journal, 0, [3])
            record(journal, 1, [4])
            journal.close("failed", [], None)
        with monkeypatch.context() as patch, suppress(StateFileError):
            calls = fail_statement(patch, limit)
            with StateManager(place) as state:
                again = begin(state, "b", tasks=tasks, upstream=[(), (0,), (1,)], resume=True)
                again = None  # releases the run, as the death of the process would
        with StateManager(place) as state:
            again = begin(state, "c", tasks=tasks, upstream=[(), (0,), (1,)], resume=True)
            assert again.run_id == "a"
            assert {place: done.value for place, done in again.done.items()} == {0: [3]}
        if len(calls) < limit:
            return
    pytest.fail("more than 100 statements")


def test_values_that_program_changes_are_no_difference(state):
    """They are objects that the program modifies, and constants of tasks that are not recorded."""
    settings, money = {"fail": True}, Money(1)

    def tasks(limit, settings=settings):
        def first():
            return settings["fail"], money.cents

        def second(rows):
            return rows, limit

        return [planned("first", first), planned("second", second)]

    journal = begin(state, tasks=tasks(1))
    record(journal, 0, 1)
    journal.close("failed", [], None)
    settings["fail"], money.cents = False, 2
    again = begin(state, "b", tasks=tasks(2), resume=True)
    assert again.done[0].value == 1
    record(again, 1, 2)
    again.close("failed", [], None)
    with pytest.raises(ResumeError) as caught:
        begin(state, "c", tasks=tasks(3, {"fail": None}), resume="strict")
    assert {name: [why.partition(" of ")[0] for why in whys] for name, whys in caught.value.changed.items()} == {
        "first": ["closure settings"],
        "second": ["closure limit"],
    }


def test_run_with_other_parameters_is_not_resumed(state):
    """A function is compared by its code."""
    journal = begin(state, params={"limit": 3, "log": print})
    record(journal, 0, [3])
    journal.close("failed", [], None)
    for run_id, params in (
        ("b", {"limit": 4, "log": print}),
        ("c", {"limit": 3, "log": len}),
        ("d", {"limit": 3}),
        ("e", {"limit": 3, "log": print, "more": None}),
    ):
        other_run = begin(state, run_id, params=params, resume=True)
        assert (other_run.run_id, other_run.done) == (run_id, {})
        other_run.close("failed", [], None)
    assert begin(state, "f", params={"log": print, "limit": 3}, resume=True).run_id == "a"


def test_order_of_declaration_is_no_difference(state):
    tasks = [planned("a", extract), planned("b", transform)]
    journal = begin(state, tasks=tasks, upstream=[(), ()])
    record(journal, 0, "of a")
    journal.close("failed", [], None)
    again = begin(state, "b", tasks=tasks[::-1], upstream=[(), ()], resume=True)
    assert {place: done.value for place, done in again.done.items()} == {1: "of a"}
    again.close("failed", [], None)
    assert state.run("a").tasks["a"].result() == "of a"
