"""Log lines of runs: `RunJournal.log` and `StateManager.logs`."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace

import pytest
from recorded_runs import begin

from flowkit_state import StateFileError, StateManager, StateOptionError, StateOptionTypeError, UnknownRunError


def line(message, *, level="INFO", levelno=20, task=None, **facts):
    facts = {"time": 1796000000.5, "logger": "etl", "element": None, "attempt": None} | facts
    return SimpleNamespace(message=message, level=level, levelno=levelno, task=task, **facts)


def test_lines_are_numbered_over_executions(state):
    journal = begin(state)
    assert journal.log([line("one"), line("two", task="extract", element=3, attempt=2)])
    journal.close("failed", [], None)
    journal = begin(state, "b", resume=True)
    assert journal.log([line("three")])
    found = state.logs("a")
    assert [(each.number, each.execution, each.message) for each in found] == [
        (1, 1, "one"),
        (2, 1, "two"),
        (3, 2, "three"),
    ]
    second = found[1]
    assert (second.task, second.element, second.attempt, second.logger) == ("extract", 3, 2, "etl")
    assert second.time.timestamp() == 1796000000.5


def test_lines_are_selected(state):
    journal = begin(state)
    journal.log([line("a", task="extract"), line("b", level="ERROR", levelno=40, task="transform"), line("c")])
    assert [each.message for each in state.logs("a", "transform")] == ["b"]
    assert [each.message for each in state.logs("a", level=30)] == ["b"]
    assert [each.message for each in state.logs("a", after=1)] == ["b", "c"]
    assert state.logs("a", "other") == []


def test_lone_surrogates_are_kept_readable(state):
    journal = begin(state)
    journal.log([line("caf\udce9", task="t\udce9")])
    assert [(each.message, each.task) for each in state.logs("a")] == [("caf\\udce9", "t\udce9")]


def test_lines_are_refused_inside_a_batch(path):
    with StateManager(path) as state:
        journal = begin(state)
        with state.batch():
            assert not journal.log([line("one")])
        assert state.logs("a") == []
        assert journal.log([line("one")])


def test_forget_deletes_lines(path):
    with StateManager(path) as state:
        journal = begin(state)
        journal.log([line("one")])
        journal.close("succeeded", [], None)
        state.forget("a")
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM logs").fetchone() == (0,)
    database.close()


def test_arguments_are_checked(state):
    begin(state)
    with pytest.raises(UnknownRunError):
        state.logs("b")
    with pytest.raises(StateOptionTypeError, match="level"):
        state.logs("a", level="info")
    with pytest.raises(StateOptionError, match="after"):
        state.logs("a", after=-1)


def test_damaged_line_is_an_error(path):
    with StateManager(path) as state:
        begin(state).log([line("one")])
        with sqlite3.connect(path) as database:
            database.execute("UPDATE logs SET time = 'noon'")
        database.close()
        with pytest.raises(StateFileError, match="the log of run 'a'"):
            state.logs("a")


def test_description_of_execution(state):
    journal = begin(state)
    journal.describe("thread, process", "jobs.etl:dag", "/srv")
    assert state.run("a").executions[0].cpu is None
    journal.close("succeeded", [], None)
    (execution,) = state.run("a").executions
    assert (execution.executor, execution.target, execution.folder) == ("thread, process", "jobs.etl:dag", "/srv")
    assert execution.python.count(".") == 2
    assert execution.cpu >= 0
