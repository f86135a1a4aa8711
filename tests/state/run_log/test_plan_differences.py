"""Resuming a run after the pipeline has changed."""

from __future__ import annotations

import pytest
from recorded_runs import TASKS, UPSTREAM, Money, begin, extract, other, planned, record, transform

from flowkit_state import (
    ResumeError,
)


@pytest.mark.parametrize(
    ("tasks", "upstream", "facts"),
    [
        ([*TASKS, planned("load", extract)], [(), (0,), (1,)], {"added": ("load",)}),
        (TASKS[:1], [()], {"removed": ("transform",)}),
        (TASKS, [(), ()], {"rewired": ("transform",)}),
        ([TASKS[0], planned("transform", transform, "all_done")], UPSTREAM, {"rewired": ("transform",)}),
        ([TASKS[0], planned("transform", other)], UPSTREAM, {"changed": ("transform",)}),
    ],
    ids=["added", "removed", "rewired", "another trigger", "changed"],
)
def test_changed_pipeline_is_refused_unless_forced(state, tasks, upstream, facts):
    journal = begin(state)
    record(journal, 0, [3])
    journal.close("interrupted", [], None)
    with pytest.raises(ResumeError) as caught:
        begin(state, "b", tasks=tasks, upstream=upstream, resume=True)
    error = caught.value
    differences = {name: tuple(getattr(error, name)) for name in ("added", "removed", "rewired", "changed")}
    assert differences == {"added": (), "removed": (), "rewired": (), "changed": ()} | facts
    assert (error.run_id, error.keeps, error.recorded) == ("a", 1, 1)
    assert 'resume="force"' in str(error)
    again = begin(state, "b", resume=True)  # the unchanged pipeline
    assert again.done[0].value == [3]
    again.close("interrupted", [], None)
    forced = begin(state, "b", tasks=tasks, upstream=upstream, resume="force")
    assert {place: done.value for place, done in forced.done.items()} == {0: [3]}


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
        begin(state, "c", tasks=tasks(3, {"fail": None}), resume=True)
    assert {name: [why.partition(" of ")[0] for why in whys] for name, whys in caught.value.changed.items()} == {
        "first": ["closure settings"],
        "second": ["closure limit"],
    }


def test_results_downstream_of_changed_task_are_not_reused(state):
    journal = begin(state)
    record(journal, 0, [3])
    record(journal, 1, [3])
    journal.close("failed", [], None)
    tasks = [planned("extract", other), TASKS[1]]
    assert dict(begin(state, "b", tasks=tasks, resume="force").done) == {}


def test_changed_run_parameter_is_refused(state):
    journal = begin(state, params={"limit": 3, "log": print})
    record(journal, 0, [3])
    journal.close("failed", [], None)
    with pytest.raises(ResumeError, match="'limit'") as caught:
        begin(state, "b", params={"limit": 4, "log": len}, resume=True)
    assert caught.value.params == ("limit",)
    assert begin(state, "b", params={"limit": 3, "log": len}, resume=True).run_id == "a"


def test_order_of_declaration_is_no_difference(state):
    tasks = [planned("a", extract), planned("b", transform)]
    journal = begin(state, tasks=tasks, upstream=[(), ()])
    record(journal, 0, "of a")
    journal.close("failed", [], None)
    again = begin(state, "b", tasks=tasks[::-1], upstream=[(), ()], resume=True)
    assert {place: done.value for place, done in again.done.items()} == {1: "of a"}
    again.close("failed", [], None)
    assert state.run("a").tasks["a"].result() == "of a"
