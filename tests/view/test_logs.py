"""`flowkit logs`: what a recorded run has logged."""

from __future__ import annotations

import json

import pytest

from flowkit_state import StateManager

JOBS = """
import logging
from flowkit_core import DAG, task

logger = logging.getLogger("jobs")

@task
def extract():
    logger.warning("3 rows\\x1b[31m\\nin 2 files")
    return [1, 2]

@task
def double(row):
    logger.error("row %d", row)

@task
def quiet():
    return 1

extract >> double.map() >> quiet
dag = DAG("jobs", tasks=[quiet])
"""


@pytest.fixture
def logged(folder, flowkit):
    (folder / "jobs.py").write_text(JOBS)
    assert flowkit("run", "jobs:dag", "-q", "-e", "serial", "--state", "runs.db").code == 0
    return "runs.db"


def test_lines_are_printed_with_task_and_element(logged, flowkit):
    lines = flowkit("logs", logged).out.splitlines()
    assert [line.partition("  ")[2] for line in lines if not line.startswith(" ")] == [
        "[WARNING] extract: 3 rows\\x1b[31m",
        "[ERROR] double[0]: row 1",
        "[ERROR] double[1]: row 2",
    ]
    assert lines[1] == "    in 2 files"


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["last"], 3),
        (["last", "extract"], 1),
        (["--level", "error"], 2),
        (["--level", "35"], 2),
        (["last", "extract", "--level", "ERROR"], 0),
        (["last", "double[1]"], 1),
        (["last", "double[1]", "--follow"], 1),
        (["--pipeline", "jobs"], 3),
        (["--follow"], 3),
    ],
)
def test_lines_are_selected(logged, flowkit, arguments, count):
    answer = flowkit("logs", logged, *arguments, "--json")
    assert answer.code == 0
    if "--follow" in arguments:
        assert len([*map(json.loads, answer.out.splitlines())]) == count
    else:
        assert len(answer.json) == count


def test_line_as_json(logged, flowkit):
    line = flowkit("logs", logged, "last", "double", "--json").json[1]
    assert line["time"].endswith("+00:00")
    del line["time"]
    assert line == {
        "number": 3,
        "execution": 1,
        "level": "ERROR",
        "levelno": 40,
        "logger": "jobs",
        "task": "double",
        "element": 1,
        "attempt": 1,
        "message": "row 2",
    }


def test_task_without_lines_says_so(logged, flowkit):
    answer = flowkit("logs", logged, "last", "quiet")
    assert answer.code == 0
    assert answer.out.startswith("no log lines of task 'quiet' of run ")


def test_task_without_lines_of_a_level_says_so(logged, flowkit):
    answer = flowkit("logs", logged, "last", "extract", "--level", "error")
    assert answer.code == 0
    assert answer.out.startswith("no log lines of task 'extract' of run ")
    assert answer.out.endswith(" have the level error or a higher one; without --level there are some\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["last", "quite"], "has no task 'quite' (did you mean 'quiet'?)"),
        (["quite", "last"], "has no task 'quite' (did you mean 'quiet'?)"),
        (["--level", "loud"], "--level 'loud' is none of debug, info, warning, error, critical, and no number"),
        (["first"], "there is no run 'first'"),
    ],
)
def test_wrong_arguments_exit_2(logged, flowkit, arguments, message):
    answer = flowkit("logs", logged, *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_follow_prints_lines_until_the_run_ends(logged, folder, flowkit, monkeypatch):
    """Between two polls, the run logs a line and ends."""
    from types import SimpleNamespace

    from flowkit_core.persistence import LogLine

    task = SimpleNamespace(name="a", func=list, when=None, trigger="none_failed")
    with StateManager(logged) as state:
        journal = state.open_run("b", "jobs", [task], [()], {}, False)
        journal.log([LogLine(1.0, "INFO", 20, "jobs", "first")])
        polls = []

        def sleep(_seconds):
            polls.append(len(polls))
            journal.log([LogLine(2.0, "INFO", 20, "jobs", f"poll {len(polls)}")])
            if len(polls) == 2:
                journal.close("succeeded", [], None)

        monkeypatch.setattr("flowkit_view.command_line.log_commands.time.sleep", sleep)
        answer = flowkit("logs", logged, "b", "--follow")
    assert answer.code == 0
    assert [line.rpartition("] ")[2] for line in answer.out.splitlines()] == ["first", "poll 1", "poll 2"]
