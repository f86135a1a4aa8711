"""Runs that record the elements of mapped tasks, with a store in memory."""

from __future__ import annotations

import logging

import pytest
from element_store import ElementStore

from flowkit_core import DAG, Skip, Task, current
from flowkit_core.testing import VirtualTimeExecutor

ROWS = 5


@pytest.fixture
def calls():
    return []


@pytest.fixture
def broken():
    """Elements that fail."""
    return {3}


@pytest.fixture
def dag(calls, broken):
    """Rows 0 to 4, through two mapped tasks; row 1 is skipped, and those in `broken` fail in the first."""

    def parse(row):
        calls.append(f"parse {row}")
        if row == 1:
            raise Skip("odd")
        if row in broken:
            raise ValueError("no")
        return row * 10

    def load(parsed):
        calls.append(f"load {parsed}")
        return parsed + 1

    rows = Task(lambda: list(range(ROWS)), name="rows")
    last = rows >> Task(parse).map(label=str) >> Task(load).map()
    return DAG("etl", tasks=[last])


def run(dag, store, **options):
    return dag.run("serial", state=store, fail_fast=False, raise_on_failure=False, **options)


def test_elements_are_recorded_as_they_end(dag):
    store = ElementStore()
    run(dag, store)
    (recorded,) = store.runs
    assert recorded.status == "failed"
    states = {0: "succeeded", 1: "skipped", 2: "succeeded", 4: "succeeded"}
    assert recorded.states("parse") == states | {3: "failed"}
    assert recorded.states("load") == states
    _, outcome, _ = recorded.elements["parse", 3]
    assert (outcome.attempts, outcome.label, str(outcome.error)) == (1, "3", "no")
    assert recorded.elements["parse", 1][1].reason == "odd"
    assert recorded.elements["load", 2][1].seconds >= 0


def test_resumed_run_calls_the_missing_elements_only(dag, calls, broken):
    store = ElementStore()
    run(dag, store)
    calls.clear()
    broken.clear()
    results = run(dag, store, resume=True)
    assert calls == ["parse 3", "load 30"]
    assert results["load"] == [1, 21, 31, 41]
    assert results.elements["parse"].resumed == [0, 1, 2, 4]
    assert results.elements["load"].resumed == [0, 1, 2, 4]
    assert list(results.elements["parse"].attempts) == [0, 0, 0, 1, 0]
    assert store.runs[0].status == "succeeded"


def test_elements_that_end_on_resume_are_taken_over_by_the_next(dag, calls, broken):
    broken.add(4)
    store = ElementStore()
    run(dag, store)
    broken.remove(3)
    run(dag, store, resume=True)
    broken.clear()
    calls.clear()
    assert run(dag, store, resume=True)["load"] == [1, 21, 31, 41]
    assert calls == ["parse 4", "load 40"]


@pytest.mark.parametrize("stop_at", range(9))
def test_run_that_stops_anywhere_is_completed(dag, calls, broken, stop_at):
    """The run ends when the results of 0 to 8 calls are recorded; at most the last of these is made again."""
    broken.clear()
    store = ElementStore()

    def stop(operation, subject):
        if operation == "prepare" and len(calls) == stop_at:
            raise KeyboardInterrupt

    store.fails = stop
    with pytest.raises(KeyboardInterrupt):
        run(dag, store)
    store.fails = lambda _operation, _subject: None
    store.runs[-1].status = "interrupted"
    assert run(dag, store, resume=True)["load"] == [1, 21, 31, 41]
    assert len(calls) <= 9 + 1


def test_lazy_input_is_made_again_and_compared(calls, broken):
    numbers = [0, 1, 2, 3, 4]

    def rows():
        yield from numbers

    def parse(row):
        calls.append(row)
        if row in broken:
            raise ValueError("no")
        return row * 10

    each = Task(rows) >> Task(parse).map()
    dag, store = DAG("lazy", tasks=[each]), ElementStore()
    run(dag, store)
    assert store.runs[0].sizes == {"parse": 5}
    calls.clear()
    broken.clear()
    numbers[0] = 7
    assert run(dag, store, resume=True)["parse"] == [70, 10, 20, 30, 40]
    assert calls == [7, 3]


def test_task_with_all_elements_is_taken_over_as_a_whole(calls):
    fails = [True]

    def double(row):
        calls.append(row)
        if row == 1:
            raise Skip("odd")
        return row * 2

    def total(double):
        if fails:
            raise ValueError("no")
        return sum(double)

    last = Task(lambda: [0, 1, 2], name="rows") >> Task(double).map() >> Task(total)
    dag, store = DAG("whole", tasks=[last]), ElementStore()
    run(dag, store)
    fails.clear()
    results = run(dag, store, resume=True)
    assert (results["total"], calls) == (4, [0, 1, 2])
    assert results.resumed == ("rows", "double")
    assert results.elements["double"].resumed == [0, 1, 2]
    assert results.elements["double"].skipped == {1: "odd"}


CONDITIONS = {"loop": {}, "when": {"when": lambda row: row != 2}, "timeout": {"timeout": 60.0}}


@pytest.mark.parametrize("options", CONDITIONS.values(), ids=CONDITIONS)
def test_failed_attempts_and_conditions_are_recorded(calls, options):
    """Also by workers that cannot call the function in a loop."""

    def parse(row):
        calls.append(row)
        if calls.count(row) <= row % 2:
            raise ValueError("no")
        return row

    each = Task(parse, retries=1, delay=0, **options).map()
    Task(lambda: [0, 1, 2], name="rows") >> each
    store = ElementStore()
    run(DAG("retries", tasks=[each]), store)
    skipped = "when" in options
    assert store.runs[0].states("parse") == {0: "succeeded", 1: "succeeded", 2: "skipped" if skipped else "succeeded"}
    assert store.runs[0].elements["parse", 1][1].attempts == 2


@pytest.mark.parametrize(("state_errors", "stops"), [("raise", True), (None, False), ("warn", False)])
def test_element_that_cannot_be_stored(dag, calls, broken, state_errors, stops):
    broken.clear()
    store = ElementStore(fails=lambda _, subject: refuse(subject, "parse[2]", TypeError))
    if stops:
        with pytest.raises(TypeError, match=r"parse\[2\]") as caught:
            dag.run("serial", state=store, state_errors=state_errors)
        assert "task 'parse' of 'etl' could not be recorded, so the run was stopped" in caught.value.__notes__[0]
        return
    with pytest.warns(RuntimeWarning, match="task 'parse' of 'etl' could not be recorded, and runs again on resume"):
        run(dag, store, state_errors=state_errors)
    assert store.runs[0].states("load") == dict.fromkeys([0, 2, 3, 4], "succeeded") | {1: "skipped"}
    assert 2 not in store.runs[0].states("parse")


@pytest.mark.parametrize("operation", ["open_map", "record_elements", "note_size"])
def test_store_that_fails_stops_the_run(operation):
    each = Task(abs, name="each").map()
    Task(lambda: iter(range(5)), name="rows") >> each
    store = ElementStore(fails=lambda name, _: refuse(name, operation, OSError))
    with pytest.raises(OSError, match=operation):
        DAG("etl", tasks=[each]).run("serial", state=store)


def refuse(found, refused, kind):
    if found == refused:
        raise kind(refused)


def test_notes_and_log_lines_of_elements_are_recorded(calls):
    def parse(row):
        page = current().notes.get("page", 0)
        calls.append((row, page))
        current().remember("page", page + 1)
        logging.getLogger("etl").warning("row %d", row)
        if row == 1 and page == 0:
            raise ValueError("no")
        return row

    each = Task(parse).map("row")
    dag, store = DAG("notes", tasks=[each]), ElementStore()
    run(dag, store, params={"row": [0, 1]})
    run(dag, store, params={"row": [0, 1]}, resume=True)
    assert calls == [(0, 0), (1, 0), (1, 1)]
    assert store.runs[0].notes == {("parse", 0): {"page": 1}, ("parse", 1): {"page": 2}}
    lines = [line for line in store.runs[0].lines if line[3].startswith("row")]
    assert lines == [("parse", number, "WARNING", f"row {number}") for number in (0, 1, 1)]
    assert store.runs[0].origin[0] == "serial"


def test_log_that_cannot_be_recorded_is_a_warning():
    def parse(row):
        logging.getLogger("etl").warning("row %d", row)
        return row

    store = ElementStore(fails=lambda name, _: refuse(name, "log", OSError))
    with pytest.warns(RuntimeWarning, match="log lines of 'notes' could not be recorded, and no more will be"):
        results = run(DAG("notes", tasks=[Task(parse).map("row")]), store, params={"row": [0, 1]})
    assert results["parse"] == [0, 1]


def test_threads_that_pull_an_input_are_recorded(calls):
    """The input is pulled by a thread of its own, for an executor whose workers are threads."""
    each = Task(abs, name="each").map()
    Task(lambda: iter(range(-50, 0)), name="rows") >> each
    store = ElementStore()
    DAG("etl", tasks=[each]).run(VirtualTimeExecutor(), state=store)
    assert store.runs[0].states("each") == dict.fromkeys(range(50), "succeeded")
