"""The record of the elements of mapped tasks."""

from __future__ import annotations

import pickle
import sqlite3
from contextlib import closing
from functools import partial

import pytest
from element_tasks import (
    check_that_all_are_recorded,
    check_that_it_is_recorded,
    is_any,
    numbers,
    return_worker,
)

from flowkit import DAG, Skip, StateFileError, StateManager, Task


@pytest.fixture
def state(tmp_path):
    with StateManager(tmp_path / "runs.db") as state:
        yield state


def test_record_of_the_elements(elements, state):
    def each(row):
        if row == 2:
            raise Skip("not today")
        if row == 1:
            raise ValueError("no \udc80 good")
        return row

    dag = DAG("view", tasks=[Task(each).map("row", errors="drop", label="row {}".format)])
    results = dag.run("serial", state=state, params={"row": [0, 1, 2, 3]})
    record = state.run(results.run_id)
    view = record.tasks["each"].elements
    assert (len(view), view.size, bool(view)) == (4, 4, True)
    assert view.counts == {"succeeded": 2, "failed": 1, "skipped": 1}
    assert view.states == {0: "succeeded", 1: "failed", 2: "skipped", 3: "succeeded"}
    assert list(view.failed) == [1]
    assert view.failed[1].type == "ValueError"
    assert "ValueError" in view.failed[1].traceback
    assert view.skipped == {2: "not today"}
    assert view.labels == {number: f"row {number}" for number in range(4)}
    assert list(view.durations) == [0, 1, 3]
    assert view.attempts == {0: 1, 1: 1, 3: 1}
    assert view.executions == dict.fromkeys(range(4), 1)
    assert repr(view) == "<ElementsRecord: 1 failed, 1 skipped, 2 succeeded>"
    copy = pickle.loads(pickle.dumps(record)).tasks["each"].elements
    assert (copy.counts, copy.labels, copy.failed[1].message) == (view.counts, view.labels, view.failed[1].message)
    assert record.tasks["each"].result() == [0, 3]


def test_record_of_a_task_that_is_not_mapped_has_no_elements(state):
    results = DAG("plain", tasks=[Task(lambda: 1, name="one")]).run("serial", state=state)
    assert state.run(results.run_id).tasks["one"].elements is None


def test_missing_elements_are_pending_in_the_record(elements, state):
    rows, each = numbers(6), elements.task("each")
    rows >> each.map()
    elements.inject("each-2", "fail")
    DAG("part", tasks=[each]).run("serial", state=state, raise_on_failure=False)
    (record,) = state.runs("part")
    assert record.tasks["each"].elements.counts == {"failed": 1, "succeeded": 2, "pending": 3}
    with pytest.raises(LookupError, match="failed"):
        record.tasks["each"].result()


def test_returned_exceptions_are_not_part_of_the_recorded_result(elements, state):
    elements.inject("each-1", "fail")
    dag = DAG("returned", tasks=[elements.task("each").map("row", errors="return")])
    results = dag.run("serial", state=state, params={"row": [0, 1, 2]})
    with pytest.raises(LookupError, match="1 of its elements were returned as exceptions"):
        state.run(results.run_id).tasks["each"].result()


def test_exceptions_that_an_earlier_version_has_returned_are_not_part_of_the_recorded_result(elements, state):
    elements.inject("each-1", "fail")
    dag = DAG("returned", tasks=[elements.task("each").map("row", errors="return")])
    results = dag.run("serial", state=state, params={"row": [0, 1, 2]})
    with closing(sqlite3.connect(state.path)) as database:
        database.execute("UPDATE plans SET content = json_remove(content, '$.returning')")
        database.commit()
    with pytest.raises(LookupError, match="1 of its elements were returned as exceptions"):
        state.run(results.run_id).tasks["each"].result()


def test_state_errors_raise_stops_at_an_element_that_cannot_be_recorded(state):
    task = Task(lambda row: object(), name="each")
    with pytest.raises(TypeError, match=r'the result of task "each\[0\]"'):
        DAG("odd", tasks=[task.map("row")]).run("serial", state=state, params={"row": [1, 2]}, state_errors="raise")


def test_reused_elements(state):
    task = Task(lambda row: row + 1, name="each", cache=True)
    dag = DAG("cached", tasks=[task.map("row")])
    dag.run("serial", state=state, params={"row": [1, 2]})
    assert state.explain() == {"each": "element 0 was called: never computed before"}
    results = dag.run("serial", state=state, params={"row": [2, 3, 1]})
    assert results["each"] == [3, 4, 2]
    assert results.elements["each"].cached == [0, 2]
    assert results.cached == ()
    assert state.explain() == {
        "each": "reused: the results of 2 of 3 elements; element 1 was called: there is no result for its inputs"
    }
    results = dag.run("serial", state=state, params={"row": [3, 2]})
    assert results.cached == ("each",)
    assert state.explain() == {"each": "reused: the results of 2 of 2 elements"}
    assert state.run(results.run_id).tasks["each"].elements.counts == {"succeeded": 2}


def test_large_results_of_elements_are_kept_until_the_run_is_forgotten(elements, state):
    def each(row):
        if row == 2 and not repaired:
            raise ValueError
        return str(row) * 400_000

    repaired = []
    dag = DAG("large", tasks=[Task(each).map("row")])
    params = {"row": [0, 1, 2]}
    dag.run("serial", state=state, params=params, raise_on_failure=False)
    assert state.gc().files == 0
    repaired.append(True)
    results = dag.run("serial", state=state, params=params, resume=True)
    assert results["each"] == [str(row) * 400_000 for row in range(3)]
    assert results.elements["each"].resumed == [0, 1]
    state.forget(results.run_id)
    assert state.gc().files == 3
    assert state.runs() == []


def test_list_is_not_stored_beside_its_elements(tmp_path, state):
    dag = DAG("once", tasks=[Task(lambda row: str(row) * 1000, name="each").map("row")])
    results = dag.run("serial", state=state, params={"row": range(1000, 1500)})
    assert state.run(results.run_id).tasks["each"].result() == results["each"]
    state.close()
    assert (tmp_path / "runs.db").stat().st_size < 1.5 * 500 * 4000


def test_retried_elements_are_recorded_with_their_attempts(state):
    attempts = []

    def each(row):
        attempts.append(row)
        if attempts.count(row) <= row:
            raise ValueError(row)
        return row

    dag = DAG("retried", tasks=[Task(each, retries=3, delay=0).map("row")])
    results = dag.run("serial", state=state, params={"row": [0, 1, 2]})
    assert state.run(results.run_id).tasks["each"].elements.attempts == {0: 1, 1: 2, 2: 3}


def test_difference_of_two_runs_shows_lists_that_differ(state):
    dag = DAG("different", tasks=[Task(lambda row: row * 2, name="each").map("row")])
    one, two, three = (dag.run("serial", state=state, params={"row": rows}) for rows in ([1, 2], [1, 2], [1, 3]))
    first = state.run(one.run_id)
    assert first.diff(state.run(two.run_id)).results == ()
    assert first.diff(state.run(three.run_id)).results == ("each",)


def test_damaged_record_of_elements_is_an_error_that_says_so(elements, state, tmp_path):
    with closing(sqlite3.connect(tmp_path / "runs.db")) as database:
        results = DAG("damaged", tasks=[elements.task("each").map("row")]).run(
            "serial", state=state, params={"row": [0, 1]}
        )
        database.execute("UPDATE elements SET ended = 'now' WHERE element = 1")
        database.commit()
    record = state.run(results.run_id)
    with pytest.raises(StateFileError, match=r"the elements of task 'each' is damaged \(its column ended is 'now'"):
        record.tasks["each"].result()


@pytest.mark.parametrize("options", [{}, {"when": is_any}], ids=["plain", "condition"])
def test_element_is_committed_before_another_worker_goes_on_with_it(state, tmp_path, executor, options):
    """The next task of a chain, and the task that takes the list, look into the file while they run."""
    path = str(tmp_path / "runs.db")
    rows, first = numbers(24), Task(return_worker, name="first", **options)
    second = Task(partial(check_that_it_is_recorded, path), name="second")
    total = Task(partial(check_that_all_are_recorded, path), name="total")
    rows >> first.map() >> second.map(limit=2 if options else None) >> total
    assert DAG("order", tasks=[total]).run(executor, state=state)["total"] == 24
