"""The recorded elements of mapped tasks: what is written, shown, and taken over by a run that is resumed."""

from __future__ import annotations

import logging
import pickle
import sqlite3
import time
from pathlib import Path

import pytest
from recorded_runs import LARGE, TASKS, UPSTREAM, Money, begin, element, open_map, other, outcome, planned, record

from flowkit_state import StateFileError, StateManager, UnsupportedValueError


def clocked(row):
    return row, time.time()


@pytest.fixture
def failed_run(state):
    """A run whose map over three rows has a result, a failed and a skipped element."""
    journal = begin(state)
    record(journal, 0, [1, 2, 3])
    rows = open_map(journal)
    journal.record_elements(
        [
            element(rows, 0, 1, [10], label="first", ended=1000.0),
            element(rows, 1, 2, None, "failed", error=ValueError("no"), attempts=3),
        ]
    )
    journal.record_elements([element(rows, 2, 3, None, "skipped", reason="odd", seconds=None, attempts=0)])
    record(journal, 1, None, "failed", error=ValueError("no"))
    journal.close("failed", [], ValueError("no"))
    return state


def elements_of(state, task="transform"):
    return state.run("a").tasks[task].elements


def test_elements_are_shown_with_their_facts(failed_run):
    found = elements_of(failed_run)
    assert found.size == len(found) == 3
    assert found.counts == {"succeeded": 1, "failed": 1, "skipped": 1}
    assert found.states == {0: "succeeded", 1: "failed", 2: "skipped"}
    assert found.skipped == {2: "odd"}
    assert found.labels == {0: "first"}
    assert found.durations == {0: 0.25, 1: 0.25}
    assert found.attempts == {0: 1, 1: 3}
    assert found.executions == {0: 1, 1: 1, 2: 1}
    assert found.ended[0] == 1000.0
    assert str(found.failed[1]) == "ValueError: no"
    assert repr(found) == "<ElementsRecord: 1 failed, 1 skipped, 1 succeeded>"
    assert elements_of(failed_run, "extract") is None


def test_result_of_element_is_restored_at_each_call(failed_run):
    found = elements_of(failed_run)
    assert found.result(0) == [10]
    assert found.result(0) is not found.result(0)
    for number, why in ((1, "is failed"), (2, "is skipped"), (3, "has not ended")):
        with pytest.raises(LookupError, match=rf"'transform\[{number}\]' has no result: it {why}"):
            found.result(number)


def test_pickled_record_has_facts_without_results(failed_run):
    found = pickle.loads(pickle.dumps(elements_of(failed_run)))
    assert found.states == {0: "succeeded", 1: "failed", 2: "skipped"}
    assert found.counts["failed"] == 1
    with pytest.raises(LookupError, match="not part of a pickled record"):
        found.result(0)


def test_elements_that_have_not_ended_are_pending(state):
    journal = begin(state)
    rows = open_map(journal, 4)
    journal.record_elements([element(rows, 2, 3, 30)])
    assert elements_of(state).counts == {"succeeded": 1, "pending": 3}


def test_size_of_lazy_input_is_noted_at_its_end(state):
    journal = begin(state)
    rows = open_map(journal, None)
    journal.record_elements([element(rows, 0, 1, 10)])
    assert (elements_of(state).size, elements_of(state).counts) == (None, {"succeeded": 1})
    rows.note_size(2)
    assert (elements_of(state).size, elements_of(state).counts) == (2, {"succeeded": 1, "pending": 1})


def test_results_that_are_not_recorded_have_no_value(state):
    journal = begin(state)
    rows = open_map(journal, 1, has_values=False)
    journal.record_elements([element(rows, 0, 1, object())])
    with pytest.raises(LookupError, match=r"result of element 'transform\[0\]' was not recorded"):
        elements_of(state).result(0)


def test_unsupported_result_is_refused_with_name_of_element(state):
    rows = open_map(begin(state))
    with pytest.raises(UnsupportedValueError, match=r'the result of task "transform\[2\]"'):
        element(rows, 2, 3, print)


def test_resumed_run_takes_over_elements_of_same_input_by_number(failed_run):
    journal = begin(failed_run, "b", resume=True)
    rows = open_map(journal)
    assert rows.has_recorded
    found = rows.find(0, "not compared", is_same=True)
    assert (found.state, found.value, found.row) == ("succeeded", [10], None)
    assert rows.find(1, 2, is_same=True) is None  # a failed element is called again
    found = rows.find(2, 3, is_same=True)
    assert (found.state, found.value, found.reason) == ("skipped", None, "odd")
    assert not rows.has_recorded
    journal.record_elements([element(rows, 1, 2, [20], attempts=1)])
    assert elements_of(failed_run).executions == {0: 1, 1: 2, 2: 1}
    assert elements_of(failed_run).counts == {"succeeded": 2, "skipped": 1}


def test_element_runs_again_if_its_value_is_another_one(failed_run):
    journal = begin(failed_run, "b", resume=True)
    rows = open_map(journal)
    found = rows.find(0, "changed", is_same=False)
    assert (found.state, found.value, found.reason) == ("outdated", None, "its input has changed")
    journal.record_elements([found.row])
    journal.close("interrupted", [], None)
    assert 0 not in elements_of(failed_run).states
    assert elements_of(failed_run).counts == {"failed": 1, "skipped": 1, "pending": 1}
    with pytest.raises(LookupError, match="it is outdated"):
        elements_of(failed_run).result(0)
    rows = open_map(begin(failed_run, "c", resume=True))
    assert rows.find(0, 1, is_same=True) is None


@pytest.fixture
def run_with_unrecorded_input(state):
    """A run whose mapped input has no recorded result, so that each execution makes it again."""
    journal = begin(state)
    rows = open_map(journal)
    journal.record_elements([element(rows, 0, 1, [10]), element(rows, 1, 2, LARGE)])
    journal.close("interrupted", [], None)
    return state


def test_elements_of_input_made_again_are_found_by_number_and_value(run_with_unrecorded_input):
    state = run_with_unrecorded_input
    journal = begin(state, "b", resume=True)
    rows = open_map(journal)
    assert rows.find(0, 2, is_same=True) is None
    found = rows.find(1, 2, is_same=True)
    assert (found.state, found.value) == ("succeeded", LARGE)
    journal.record_elements([element(rows, 0, 2, [20]), found.row])
    assert elements_of(state).counts == {"succeeded": 2, "pending": 1}
    assert elements_of(state).executions == {0: 2, 1: 2}
    assert elements_of(state).result(0) == [20]
    assert elements_of(state).result(1) == LARGE
    journal.close("interrupted", [], None)
    rows = open_map(begin(state, "c", resume=True))
    assert rows.find(0, 2, is_same=True).value == [20]
    assert rows.find(1, 2, is_same=True).value == LARGE  # of the map of the first execution


def test_elements_are_shown_until_they_are_compared_with_input_made_again(run_with_unrecorded_input):
    """Also if the process dies before that: nothing is lost."""
    state = run_with_unrecorded_input
    journal = begin(state, "b", resume=True)
    rows = open_map(journal)
    assert elements_of(state).states == {0: "succeeded", 1: "succeeded"}
    assert elements_of(state).result(0) == [10]
    journal.close("interrupted", [], None)
    preview = state.plan_run("etl", TASKS, UPSTREAM, {})
    assert preview.reasons[1] == "it is not recorded in run a; 2 of 3 elements are recorded"
    journal = begin(state, "c", resume=True)
    rows = open_map(journal)
    journal.record_elements([rows.find(0, 1, is_same=True).row, element(rows, 2, 3, [30])])
    assert elements_of(state).states == {0: "succeeded", 1: "succeeded", 2: "succeeded"}
    assert elements_of(state).counts == {"succeeded": 3}
    assert [elements_of(state).result(number) for number in (0, 2)] == [[10], [30]]
    journal.close("interrupted", [], None)
    journal = begin(state, "d", resume=True)
    rows = open_map(journal, 0)
    assert elements_of(state).states == {}  # the input is empty now
    rows = open_map(journal, 1, common=[2])
    journal.record_elements([element(rows, 0, 3, [30])])
    assert elements_of(state).states == {0: "succeeded"}


def test_elements_are_not_taken_over_if_other_arguments_differ(run_with_unrecorded_input):
    rows = open_map(begin(run_with_unrecorded_input, "b", resume=True), common=[2])
    assert not rows.has_recorded


def test_values_that_cannot_be_compared_run_again(state):
    journal = begin(state)
    rows = open_map(journal)
    assert rows.fingerprint(print) is None
    journal.record_elements([element(rows, 0, print, [10])])
    journal.close("interrupted", [], None)
    rows = open_map(begin(state, "b", resume=True))
    assert rows.find(0, print, is_same=True) is None


@pytest.mark.parametrize(("resume", "taken_over"), [(True, False), ("force", True)])
def test_elements_of_changed_task_are_taken_over_by_force_only(failed_run, resume, taken_over):
    tasks = [TASKS[0], planned("transform", other)]
    rows = open_map(begin(failed_run, "b", tasks=tasks, resume=resume))
    assert rows.has_recorded is taken_over
    found = rows.find(0, 1, is_same=True)
    assert (found is not None and found.value) == ([10] if taken_over else False)


@pytest.mark.parametrize("max_age", [None, 3600.0])
def test_old_elements_of_task_that_reads_clock_run_again(state, max_age):
    tasks = [TASKS[0], planned("transform", clocked)]
    journal = begin(state, tasks=tasks)
    record(journal, 0, [1, 2])
    rows = open_map(journal, 2)
    journal.record_elements([element(rows, 0, 1, "old", ended=time.time() - 7200), element(rows, 1, 2, "new")])
    journal.close("interrupted", [], None)
    rows = open_map(state.open_run("b", "etl", tasks, UPSTREAM, {}, True, max_age), 2)
    assert (rows.find(0, 1, is_same=True) is not None) is (max_age is None)
    assert rows.find(1, 2, is_same=True).value == "new"


def test_task_with_all_elements_is_taken_over_as_a_whole(state):
    journal = begin(state)
    record(journal, 0, [1, 2])
    rows = open_map(journal, 2)
    journal.record_elements([element(rows, 0, 1, [10]), element(rows, 1, 2, None, "skipped", reason="odd")])
    journal.record([outcome(1, "succeeded", seconds=0.5)])
    journal.close("interrupted", [], None)
    done = begin(state, "b", resume=True).done[1]
    assert (done.state, done.value) == ("succeeded", [[10]])
    assert (done.elements.states, done.elements.values) == (["succeeded", "skipped"], {0: [10]})
    assert done.elements.reasons == {1: "odd"}


def test_task_runs_again_if_elements_were_dropped(state):
    journal = begin(state)
    record(journal, 0, [1, 2])
    rows = open_map(journal, 2)
    failed = element(rows, 1, 2, None, "failed", error=ValueError("no"))
    journal.record_elements([element(rows, 0, 1, [10]), failed])
    journal.record([outcome(1, "succeeded", seconds=0.5)])
    journal.close("interrupted", [], None)
    again = begin(state, "b", resume=True)
    assert (list(again.done), dict(again.outdated)) == ([0], {1: "1 of its elements failed"})
    assert open_map(again, 2).find(0, 1, is_same=True).value == [10]


def test_plan_says_how_many_elements_are_recorded(failed_run):
    preview = failed_run.plan_run("etl", TASKS, UPSTREAM, {})
    assert (preview.run_id, list(preview.done)) == ("a", [0])
    assert preview.reasons == {1: "it failed: ValueError: no; 2 of 3 elements are recorded"}


def test_missing_blob_file_of_element_is_logged_and_element_runs_again(path, caplog):
    with StateManager(path) as state:
        journal = begin(state)
        record(journal, 0, [1, 2])
        rows = open_map(journal, 2)
        journal.record_elements([element(rows, 0, 1, LARGE), element(rows, 1, 2, [20])])
        journal.close("interrupted", [], None)
        assert state.gc().files == 0
        assert elements_of(state).result(0) == LARGE
        (blob,) = (each for each in Path(f"{path}.files").rglob("*") if each.is_file())
        blob.unlink()
        rows = open_map(begin(state, "b", resume=True), 2)
        with caplog.at_level(logging.WARNING, "flowkit.state"):
            assert rows.find(0, 1, is_same=True) is None
        assert "transform'[0] cannot be restored" in caplog.text
        assert rows.find(1, 2, is_same=True).value == [20]


def test_forget_deletes_elements(path):
    with StateManager(path) as state:
        journal = begin(state)
        journal.record_elements([element(open_map(journal), 0, 1, LARGE)])
        journal.close("failed", [], None)
        state.forget("a")
        assert state.gc().files == 1
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM elements").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM maps").fetchone() == (0,)
    database.close()


@pytest.mark.parametrize(
    "change", ["maps SET size = 'many'", "elements SET attempts = 'two'", "elements SET value = 1.5"]
)
def test_damaged_rows_are_refused(path, change):
    with StateManager(path) as state:
        journal = begin(state)
        journal.record_elements([element(open_map(journal), 0, 1, [10])])
        journal.close("interrupted", [], None)
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE {change}")
    database.close()
    with StateManager(path) as state, pytest.raises(StateFileError, match=r"the record of .*forget\(\) deletes"):
        elements_of(state).result(0)


def test_elements_are_refused_inside_batch(path):
    with StateManager(path) as state:
        journal = begin(state)
        rows = open_map(journal)
        with state.batch(), pytest.raises(StateFileError, match="left a batch"):
            journal.record_elements([element(rows, 0, 1, [10])])
        assert elements_of(state).states == {}


def test_pickled_elements_are_compared_without_identity_of_parts(path):
    """Equal values have one fingerprint, whether their parts are the same object or only equal ones."""
    with StateManager(path, serializer="pickle") as state:
        journal = begin(state)
        rows = open_map(journal)
        part = Money(7)
        journal.record_elements([element(rows, 0, [part, part], Money(14)), element(rows, 1, bytes(2**21), Money(1))])
        journal.close("interrupted", [], None)
        rows = open_map(begin(state, "b", resume=True))
        assert rows.find(0, [Money(7), Money(7)], is_same=False).value == Money(14)
        assert rows.find(1, bytes(2**21), is_same=False).value == Money(1)  # too large for that
