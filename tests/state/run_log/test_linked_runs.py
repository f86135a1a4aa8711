"""Runs that take over results of another one: `link_run` and `open_linked_run`."""

from __future__ import annotations

import pytest
from recorded_runs import TASKS, UPSTREAM, begin, element, open_map, other, planned, record

from flowkit_state import StateOptionError, UnknownRunError


def begin_linked(state, *, of="a", tasks=TASKS, params=None, rerun=(), max_age=None):
    return state.open_linked_run("b", "etl", tasks, UPSTREAM, params or {}, of, rerun, max_age)


@pytest.fixture
def finished(state):
    journal = begin(state, params={"day": 1, "region": "north"})
    record(journal, 0, [1, 2])
    record(journal, 1, [3])
    journal.close("succeeded", [], None)
    return state


def test_given_parameters_replace_those_of_the_run(finished):
    expected = ("a", {"day": 2, "region": "north", "limit": 5}, frozenset({"day", "limit"}))
    assert finished.link_run("etl", "a", {"day": 2, "region": "north", "limit": 5}) == expected
    assert finished.link_run("etl", None, {"day": 1}) == ("a", {"day": 1, "region": "north"}, frozenset())


def test_parameters_that_cannot_be_compared_count_as_changed(finished):
    value = object()
    assert finished.link_run("etl", "a", {"day": value})[1:] == ({"day": value, "region": "north"}, {"day"})


def test_run_to_link_must_exist_and_be_of_the_pipeline(finished):
    with pytest.raises(UnknownRunError, match="no run 'x'"):
        finished.link_run("etl", "x", {})
    with pytest.raises(UnknownRunError, match="no run 'x'"):
        begin_linked(finished, of="x")
    with pytest.raises(StateOptionError, match="this is a run of 'etl'"):
        finished.link_run("other", "a", {})
    with pytest.raises(StateOptionError, match="no run of 'other' is recorded"):
        finished.link_run("other", None, {})


def test_parameter_without_recorded_value_must_be_given(state):
    begin(state, params={"source": object()}).close("succeeded", [], None)
    with pytest.raises(StateOptionError, match="values for 'source' as well"):
        state.link_run("etl", "a", {})
    assert state.link_run("etl", "a", {"source": 1})[1] == {"source": 1}


def test_linked_run_takes_over_results_and_names_its_parent(finished):
    journal = begin_linked(finished, params={"day": 2})
    assert journal.run_id == "b"
    assert {index: task.value for index, task in journal.done.items()} == {0: [1, 2], 1: [3]}
    journal.close("succeeded", [], None)
    found = finished.run("b")
    assert (found.parent, found.params) == ("a", {"day": 2})
    assert found.tasks["transform"].result() == [3]
    assert found.tasks["transform"].source == "resume"
    assert found.tasks["transform"].why == "taken over from run a"
    assert found.tasks["transform"].attempts == ()
    assert finished.run("a").tasks["transform"].result() == [3]


@pytest.mark.parametrize(
    ("rerun", "outdated"),
    [
        (["extract"], {0: "run(rerun=...) asks for it", 1: "it depends on 'extract'"}),
        (["transform"], {1: "run(rerun=...) asks for it"}),
    ],
)
def test_named_tasks_and_those_downstream_run_again(finished, rerun, outdated):
    journal = begin_linked(finished, rerun=rerun)
    assert dict(journal.outdated) == outdated
    assert journal.done.keys() == {0, 1} - outdated.keys()


def test_changed_tasks_of_linked_run_run_again(finished):
    journal = begin_linked(finished, tasks=[TASKS[0], planned("transform", other)])
    assert list(journal.done) == [0]
    assert journal.outdated[1].startswith("function recorded_runs.other is new")


@pytest.mark.parametrize("rerun", [[], ["transform"]])
def test_elements_are_copied_unless_their_task_is_named(state, rerun):
    journal = begin(state)
    record(journal, 0, [1, 2, 3])
    rows = open_map(journal)
    failed = element(rows, 1, 2, None, "failed", error=ValueError("no"))
    journal.record_elements([element(rows, 0, 1, [10]), failed])
    record(journal, 1, None, "failed", error=ValueError("no"))
    journal.close("failed", [], ValueError("no"))
    journal = begin_linked(state, rerun=rerun)
    assert list(journal.done) == [0]
    rows = open_map(journal)
    found = rows.find(0, 1, is_same=True)
    assert (None if found is None else found.value) == (None if rerun else [10])
    assert rows.find(1, 2, is_same=True) is None
    if found is not None and found.row is not None:
        journal.record_elements([found.row])
    state.forget("a")
    assert state.run("b").tasks["transform"].elements.counts.get("succeeded", 0) == (not rerun)
    if not rerun:
        assert state.run("b").tasks["transform"].elements.result(0) == [10]
