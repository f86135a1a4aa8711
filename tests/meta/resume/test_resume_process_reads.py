"""Resuming runs of tasks that read environment variables, the command line or the clock."""

from __future__ import annotations

import logging
import time

import pytest
from durable_tasks import step

from flowkit import DAG, ResumeError, Task

SCRIPT = """
import os
import sys
from flowkit import DAG, ResumeError, task


@task
def extract():
    return os.environ["DAY"]


@task
def limit():
    return os.getenv("LIMIT", "1")


@task
def clean(extract, limit):
    return f"{extract} {limit} {sys.argv[2]}"


@task
def load(clean):
    if os.environ.get("FAIL"):
        raise ConnectionError("no route")
    return clean


[extract, limit] >> clean >> load
mode = sys.argv[1]
try:
    results = DAG("etl", tasks=[load]).run("serial", state="runs.db", resume=mode if mode != "yes" else True)
    print(results["load"], results.outdated)
except ConnectionError as error:
    print(error)
except ResumeError as error:
    print(error.changed)
"""


def test_changed_environment_variable_and_argument_are_noticed(script, tmp_path, monkeypatch):
    """Of a task that is not recorded they do not count."""
    monkeypatch.chdir(tmp_path)
    assert script(SCRIPT, "yes", "a", DAY="secret-monday", FAIL="1") == "no route\n"
    assert script(SCRIPT, "strict", "a", DAY="tuesday") == ("{'extract': ('environment variable DAY has changed',)}\n")
    assert script(SCRIPT, "strict", "b", DAY="secret-monday", LIMIT="1") == (
        "{'limit': ('environment variable LIMIT has changed',), 'clean': ('sys.argv[2] has changed',)}\n"
    )
    assert script(SCRIPT, "yes", "a", DAY="tuesday", FAIL="2") == "no route\n"
    assert script(SCRIPT, "yes", "b", DAY="tuesday") == ("tuesday 1 b {'clean': 'sys.argv[2] has changed'}\n")
    content = b"".join(path.read_bytes() for path in tmp_path.glob("runs.db*"))
    assert b"environment variable DAY" in content
    assert b"FAIL" in content
    tables = content.count(b"secret-monday")
    assert tables <= 2, "the results of extract and clean only"


def test_variables_of_changed_code_are_not_compared(box, load_module, monkeypatch):
    source = """
import os
from flowkit import DAG, task
from durable_tasks import step


@task
def extract(folder):
    return step(folder, "extract", os.getenv("OLD"))


@task
def load(extract, folder):
    return step(folder, "load", extract)


extract >> load
etl = DAG("etl", tasks=[load])
"""
    monkeypatch.setenv("NEW", "1")
    box.inject("load", "fail")
    box.failing_run(load_module(source).etl, params=box.params)
    results = box.failing_run(load_module(source.replace("OLD", "NEW")).etl, params=box.params, resume=True)
    assert set(results.outdated) == {"extract"}
    assert "function etl.extract has changed" in results.outdated["extract"]
    monkeypatch.setenv("OLD", "2")
    results = box.failing_run(load_module(source.replace("OLD", "NEW")).etl, params=box.params, resume=True)
    assert results.resumed == ("extract",)


def test_environment_as_a_whole_is_logged_once(box, caplog):
    import os

    def extract():
        return step(box.folder, "extract", len({**os.environ}) > 0)

    def load(extract):
        return step(box.folder, "load", extract)

    tasks = [Task(extract), Task(load)]
    tasks[0] >> tasks[1]
    pipeline = DAG("etl", tasks=tasks[1:])
    box.inject("load", "fail")
    box.failing_run(pipeline)
    for expected in (1, 0):
        caplog.clear()
        results = box.failing_run(pipeline, resume=True)
        assert results.resumed == ("extract",)
        assert sum("os.environ as a whole" in record.getMessage() for record in caplog.records) == expected


def clock_pipeline(folder):
    from datetime import date

    def today():
        return step(folder, "today", str(date.today()))  # noqa: DTZ011 - the local day is a common input

    def rows():
        return step(folder, "rows", 1)

    def clean(today, rows):
        return step(folder, "clean", f"{today} {rows}")

    def load(clean):
        return step(folder, "load", clean)

    tasks = [Task(today), Task(rows), Task(clean), Task(load)]
    tasks[:2] >> tasks[2] >> tasks[3]
    return DAG("etl", tasks=tasks[3:])


@pytest.fixture
def hours_later(monkeypatch):
    """Return a function that sets the clock forward."""

    def later(hours):
        now = time.time()
        monkeypatch.setattr(
            "flowkit_state.run_log.resume.time", type("Clock", (), {"time": lambda: now + hours * 3600})
        )

    return later


@pytest.mark.parametrize(
    ("hours", "options", "expired"),
    [
        (11.9, {}, False),
        (12.1, {}, True),
        (2, {"resume_max_age": 3600}, True),
        (0.5, {"resume_max_age": 3600}, False),
        (1000, {"resume_max_age": None}, False),
        (1000, {"resume": "force"}, False),
        (-5, {}, False),
    ],
    ids=["young", "old", "limit", "below limit", "no limit", "force", "clock was set back"],
)
def test_result_that_depends_on_clock_expires(box, hours_later, hours, options, expired):
    pipeline = clock_pipeline(box.folder)
    box.inject("load", "fail")
    box.failing_run(pipeline)
    box.repair("load")
    hours_later(hours)
    results = pipeline.run("serial", state=box.db, **{"resume": True} | options)
    if expired:
        assert results.outdated == {
            "today": f"it reads the clock (date.today()), and its result is {hours:.1f} hours old",
            "clean": "it depends on 'today'",
        }
        assert results.resumed == ("rows",)
    else:
        assert (results.outdated, results.resumed) == ({}, ("today", "rows", "clean"))


def test_strict_resume_refuses_expired_result(box, hours_later, caplog):
    pipeline = clock_pipeline(box.folder)
    box.inject("load", "fail")
    box.failing_run(pipeline)
    hours_later(24)
    with pytest.raises(ResumeError, match=r"task 'today': it reads the clock \(date.today\(\)\)") as caught:
        pipeline.run("serial", state=box.db, resume="strict")
    assert set(caught.value.changed) == {"today"}
    with caplog.at_level(logging.INFO, "flowkit.state"):
        box.failing_run(pipeline, resume=True)
    assert any("24.0 hours old" in record.getMessage() for record in caplog.records)
