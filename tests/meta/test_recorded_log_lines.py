"""Log lines of recorded runs: what tasks log is kept with the run, whatever executes them."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from flowkit import DAG, RunFinished, RunStarted, StateManager, Task, current, get_logger

logger = logging.getLogger("etl")


def extract():
    logger.warning("%d rows", 3)
    if current().attempt == 1:
        raise ConnectionError("no route")
    return [1, 2]


def double(row):
    current().logger.warning("row %d", row)
    return 2 * row


def load(rows):
    try:
        return rows[9]
    except IndexError:
        logger.exception("too few")


def test_lines_of_tasks_are_kept(box, executor):
    last = Task(load)
    Task(extract, retries=1, delay=0) >> Task(double).map() >> last
    results = DAG("etl", tasks=[last]).run(executor, state=box.db)
    with StateManager(box.db) as state:
        lines = state.logs(results.run_id)
    facts = [
        (line.task, line.element, line.attempt, line.level, line.message) for line in lines if line.logger != "flowkit"
    ]
    assert facts[:2] == [
        ("extract", None, 1, "WARNING", "3 rows"),
        ("extract", None, 2, "WARNING", "3 rows"),
    ]
    assert sorted(facts[2:4]) == [("double", 0, 1, "WARNING", "row 1"), ("double", 1, 1, "WARNING", "row 2")]
    (last,) = facts[4:]
    assert last[:4] == ("load", None, 1, "ERROR")
    assert last[4].startswith("too few\nTraceback (most recent call last):")
    assert last[4].endswith("IndexError: list index out of range")


def download():
    get_logger().warning("downloaded", rows=28, path="/a b")
    get_logger().bind(day="monday").warning("%d pages", 2)


@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_context_of_lines_is_kept(box, executor):
    results = DAG("etl", tasks=[Task(download)]).run(executor, state=box.db)
    with StateManager(box.db) as state:
        lines = [line.message for line in state.logs(results.run_id)]
    assert lines == ["downloaded  rows=28 path=/a b", "2 pages  day=monday"]


def test_events_of_flowkit_are_kept_from_warnings_on(box, caplog):
    caplog.set_level(logging.INFO, "flowkit")
    box.inject("a", "fail")
    results = DAG("etl", tasks=[box.task("a")]).run("serial", state=box.db, raise_on_failure=False)
    assert 'Starting task "a"' in caplog.text
    with StateManager(box.db) as state:
        (line,) = state.logs(results.run_id)
    assert (line.level, line.task) == ("ERROR", "a")
    assert line.message.startswith('Task "a" failed after 1 attempt: ValueError')


SCRIPT = """
from flowkit import DAG, StateManager, Task

def parse(row):
    return int(row)

each = Task(parse, retries=1, delay=0).map("row", errors="drop")
results = DAG("etl", tasks=[each]).run("serial", params={"row": ["1", "two"]}, state="runs.db")
with StateManager("runs.db") as state:
    for line in state.logs(results.run_id):
        print(line.level, line.task, line.element, line.message)
"""


def test_warnings_of_flowkit_are_kept_without_configured_logging(tmp_path):
    """The first element that is left out is printed as well."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=True)
    retried, left_out = done.stdout.splitlines()
    assert retried.startswith('WARNING parse 1 Element "parse[1]" failed (ValueError')
    assert left_out.startswith(
        'WARNING parse 1 Element "parse[1]" failed after 2 attempts, and is left out: ValueError'
    )
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith('flowkit: Element "parse[1]" failed after 2 attempts, and is left out: ValueError')


def test_levels_of_loggers_decide(box, caplog):
    logger = logging.getLogger("etl.quiet")

    def work():
        logger.debug("one")
        logger.error("two")

    caplog.set_level(logging.WARNING, "etl.quiet")
    results = DAG("etl", tasks=[Task(work)]).run("serial", state=box.db)
    with StateManager(box.db) as state:
        assert [line.message for line in state.logs(results.run_id)] == ["two"]


def test_lines_of_nested_run_are_not_those_of_the_outer_one(box):
    inner = DAG("inner", tasks=[Task(lambda: current().logger.warning("inside"), name="leaf")])

    def work():
        current().logger.warning("before")
        inner.run("serial")
        current().logger.warning("after")

    results = DAG("outer", tasks=[Task(work)]).run("serial", state=box.db)
    with StateManager(box.db) as state:
        assert [line.message for line in state.logs(results.run_id)] == ["before", "after"]


def test_line_outside_of_tasks_is_not_kept(box):
    def observe(_event):
        logging.getLogger("observer").warning("about nothing")

    observe.events = (RunStarted, RunFinished)
    results = DAG("etl", tasks=[Task(list, name="a")]).run("serial", state=box.db, observers=[observe])
    with StateManager(box.db) as state:
        assert state.logs(results.run_id) == []


@pytest.mark.parametrize("arguments", [("%d", "text"), ("%d %d", 1)])
def test_line_that_cannot_be_formatted_is_kept(box, arguments, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    task = Task(lambda: logging.getLogger("etl").warning(*arguments), name="a")
    results = DAG("etl", tasks=[task]).run("serial", state=box.db)
    with StateManager(box.db) as state:
        (line,) = state.logs(results.run_id)
    assert line.message.startswith(f"{arguments[0]} (its arguments do not fit: TypeError: ")


def test_number_and_length_of_lines_are_bounded(box):
    def work():
        logger = logging.getLogger("etl")
        logger.warning("x" * 10_000)
        for number in range(10_000):
            logger.warning("%d", number)

    results = DAG("etl", tasks=[Task(work)]).run("serial", state=box.db)
    with StateManager(box.db) as state:
        lines = state.logs(results.run_id)
    assert len(lines[0].message) == 8_001
    assert len(lines) == 10_001
    assert lines[-1].message == "the record keeps 10,000 log lines of an execution: further ones are left out"


def test_lines_are_committed_while_the_task_runs(box):
    seen = []

    def work():
        logging.getLogger("etl").warning("before")
        with StateManager(box.db) as state:
            seen.extend(state.logs(current().run_id))

    DAG("etl", tasks=[Task(work)]).run("serial", state=box.db)
    assert [line.message for line in seen] == ["before"]


def test_lines_of_open_batch_are_kept_later(box):
    with StateManager(box.db) as state:

        def work():
            with state.batch():
                logging.getLogger("etl").warning("inside")

        results = DAG("etl", tasks=[Task(work)]).run("serial", state=state)
        assert [line.message for line in state.logs(results.run_id)] == ["inside"]


def test_run_goes_on_if_lines_cannot_be_stored(box, monkeypatch):
    def work():
        logging.getLogger("etl").warning("one")

    def log(_journal, _lines):
        raise OSError("the disk is full")

    monkeypatch.setattr("flowkit_state.run_log.journal.RunJournal.log", log)
    with pytest.warns(RuntimeWarning, match="log lines of 'etl' could not be recorded, .* OSError: the disk is full"):
        results = DAG("etl", tasks=[Task(work)]).run("serial", state=box.db)
    assert results.states == {"work": "succeeded"}
