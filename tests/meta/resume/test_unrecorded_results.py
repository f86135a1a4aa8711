"""`@task(record=False)`, and results that cannot be recorded."""

from __future__ import annotations

import pickle
import sqlite3
import warnings
from collections.abc import Iterator

import pytest

from flowkit import (
    DAG,
    MissingResultError,
    Results,
    StateFileError,
    StateManager,
    Task,
    TaskOptionTypeError,
    UnsupportedValueError,
    task,
)
from flowkit_state.storage import syscalls


class Pipeline:
    """extract (record=False) -> clean -> load, of which `failing` fails."""

    def __init__(self, path):
        self.path = path
        self.ran = []
        self.failing = "load"
        self.value = object()
        extract = Task(self.extract, record=False)
        clean, load, after = Task(self.clean), Task(self.load), Task(self.report)
        extract >> clean >> load
        after.after(extract)
        self.dag = DAG("etl", tasks=[load, after])

    def _run(self, name):
        self.ran.append(name)
        if name == self.failing:
            raise ConnectionError(name)

    def extract(self):
        self._run("extract")
        return self.value  # which cannot be stored

    def clean(self, rows):
        self._run("clean")
        assert rows is self.value
        return 2

    def load(self, rows):
        self._run("load")
        return rows + 1

    def report(self):
        self._run("report")
        return "sent"

    def fail(self, name):
        self.failing = name
        with pytest.raises(ConnectionError):
            self.dag.run("serial", state=self.path, fail_fast=True)

    def resume(self):
        self.failing, self.ran = "", []
        return self.dag.run("serial", state=self.path, resume=True)


@pytest.fixture
def pipeline(tmp_path):
    return Pipeline(tmp_path / "runs.db")


def test_unrecorded_task_runs_again_if_its_result_is_needed(pipeline):
    pipeline.fail("clean")
    results = pipeline.resume()
    assert [name for name in pipeline.ran if name != "report"] == ["extract", "clean", "load"]
    assert results["load"] == 3
    assert results["extract"] is pipeline.value


def test_unrecorded_task_does_not_run_again_if_its_result_is_not_needed(pipeline):
    pipeline.fail("load")
    results = pipeline.resume()
    assert "extract" not in pipeline.ran
    assert "clean" not in pipeline.ran
    assert results["load"] == 3
    assert results.states["extract"] == "succeeded"
    assert "extract" not in results
    with pytest.raises(MissingResultError, match="it succeeded, but its value was not recorded"):
        results["extract"]


def test_task_that_only_waits_does_not_need_result(tmp_path):
    ran = []

    def lock():
        ran.append("lock")
        return object()

    def work():
        ran.append("work")
        if ran.count("work") == 1:
            raise ConnectionError

    first, second = Task(lock, record=False), Task(work)
    second.after(first)
    dag = DAG("order", tasks=[second])
    with pytest.raises(ConnectionError):
        dag.run("serial", state=tmp_path / "runs.db")
    dag.run("serial", state=tmp_path / "runs.db", resume=True)
    assert ran == ["lock", "work", "work"]


def test_unrecorded_tasks_in_chain_run_again(tmp_path):
    ran = []

    def step(number, fails=False):
        def run(*values):
            ran.append(number)
            if fails and ran.count(number) == 1:
                raise ConnectionError
            return number

        return run

    first = Task(step(1), name="first", record=False)
    second = Task(step(2), name="second", record=False)
    last = Task(step(3, fails=True), name="last")
    first >> second >> last
    dag = DAG("chain", tasks=[last])
    with pytest.raises(ConnectionError):
        dag.run("serial", state=tmp_path / "runs.db")
    dag.run("serial", state=tmp_path / "runs.db", resume=True)
    assert ran == [1, 2, 3, 1, 2, 3]


def test_record_of_unrecorded_task_has_no_result(pipeline):
    pipeline.fail("load")
    with StateManager(pipeline.path) as state:
        record = state.runs()[0].tasks["extract"]
        assert record.state == "succeeded"
        with pytest.raises(LookupError, match="was not recorded: it has record=False"):
            record.result()


def test_record_option_is_checked_and_copied():
    with pytest.raises(TaskOptionTypeError, match="record"):
        Task(print, record="no")

    @task(record=False)
    def work():
        pass

    assert work.record is False
    assert work.with_options(name="other").record is False
    assert work.with_options(record=True).record is True
    assert Task(print).record is True


def make(annotation, value, ran):
    def late(first):
        ran.append("late")
        return value

    def first():
        ran.append("first")
        return 1

    if annotation is not None:
        late.__annotations__["return"] = annotation
    one, two, three = Task(first), Task(late), Task(lambda value: 3, name="last")
    one >> two >> three
    return DAG("etl", tasks=[three])


@pytest.mark.parametrize(
    ("annotation", "value"), [(Iterator[int], iter([1])), (None, object()), (None, [print]), (None, iter([1]))]
)
@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_result_that_cannot_be_recorded_is_one_warning(tmp_path, executor, annotation, value):
    ran = []
    dag = make(annotation, value, ran)
    with pytest.warns(RuntimeWarning, match=r"task 'late' of 'etl' .*be recorded.* runs again on resume") as caught:
        results = dag.run(executor, state=tmp_path / "runs.db")
    assert len(caught) == 1
    assert results["last"] == 3
    assert ran == ["first", "late"]
    with StateManager(tmp_path / "runs.db") as state:
        assert state.runs()[0].tasks["late"].state == "succeeded"
        assert "could not be recorded" in state.runs()[0].tasks["late"].reason


def test_annotation_is_error_before_run_with_state_errors_raise(tmp_path):
    ran = []
    dag = make(Iterator[int], iter([1]), ran)
    with pytest.raises(UnsupportedValueError, match="according to its annotation"):
        dag.run("serial", state=tmp_path / "runs.db", state_errors="raise")
    assert ran == []


def test_value_is_error_after_task_with_state_errors_raise(tmp_path):
    ran = []
    dag = make(None, object(), ran)
    with pytest.raises(UnsupportedValueError):
        dag.run("serial", state=tmp_path / "runs.db", state_errors="raise")
    assert ran == ["first", "late"]


def test_results_name_tasks_that_were_not_recorded(tmp_path):
    with pytest.warns(RuntimeWarning, match="runs again on resume"):
        results = make(None, object(), []).run("serial", state=tmp_path / "runs.db")
    assert results.unrecorded.keys() == {"late"}
    assert isinstance(results.unrecorded["late"], UnsupportedValueError)
    assert pickle.loads(pickle.dumps(results)).unrecorded.keys() == results.copy().unrecorded.keys() == {"late"}
    assert make(None, 1, []).run("serial", state=tmp_path / "runs.db").unrecorded == {}
    assert make(None, object(), []).run("serial").unrecorded == {}


def test_results_are_returned_without_raising_if_one_was_not_recorded(tmp_path):
    ran = []
    dag = make(None, object(), ran)
    results = dag.run("serial", state=tmp_path / "runs.db", state_errors="raise", raise_on_failure=False)
    assert (ran, results["first"], results.failed) == (["first", "late"], 1, {})
    assert results.states == {"first": "succeeded", "late": "succeeded", "last": "cancelled"}
    assert isinstance(results.unrecorded["late"], UnsupportedValueError)


def test_error_of_recording_has_results_with_itself(tmp_path):
    with pytest.raises(UnsupportedValueError) as caught:
        make(None, object(), []).run("serial", state=tmp_path / "runs.db", state_errors="raise")
    assert Results.from_error(caught.value).unrecorded == {"late": caught.value}
    assert not any(caught.value is error for error in caught.value.flowkit_results.unrecorded.values())


def full_disk(monkeypatch, path, words):
    """Create a database, and let each statement with these words fail as on a full disk."""
    StateManager(path).close()

    def failing(call):
        def execute(connection, sql, values=()):
            if words in sql:
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return call(connection, sql, values)

        return execute

    for name in ("execute", "execute_many"):
        monkeypatch.setattr(syscalls, name, failing(getattr(syscalls, name)))


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_results_of_full_disk_are_returned_without_raising(tmp_path, monkeypatch, executor):
    full_disk(monkeypatch, tmp_path / "runs.db", "INTO attempts")
    ran = []
    results = make(None, 2, ran).run(executor, state=tmp_path / "runs.db", raise_on_failure=False)
    assert results == dict.fromkeys(ran, 1) | ({"late": 2} if "late" in ran else {})
    assert results.unrecorded.keys() == {*ran}
    assert all(isinstance(error, StateFileError) for error in results.unrecorded.values())


def test_later_tasks_are_unrecorded_as_well_with_state_errors_warn(tmp_path, monkeypatch):
    full_disk(monkeypatch, tmp_path / "runs.db", "INTO attempts")
    with pytest.warns(RuntimeWarning, match="no other task of this run"):
        results = make(None, 2, []).run("serial", state=tmp_path / "runs.db", state_errors="warn")
    assert results.unrecorded.keys() == results.keys() == {"first", "late", "last"}


def test_end_that_cannot_be_recorded_is_raised(tmp_path, monkeypatch):
    full_disk(monkeypatch, tmp_path / "runs.db", "UPDATE runs SET status")
    with pytest.raises(StateFileError) as caught:
        make(None, 2, []).run("serial", state=tmp_path / "runs.db", raise_on_failure=False)
    assert Results.from_error(caught.value)["last"] == 3


def test_record_false_needs_no_warning(tmp_path):
    dag = DAG("one", tasks=[Task(lambda: object(), name="one", record=False)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dag.run("serial", state=tmp_path / "runs.db")
