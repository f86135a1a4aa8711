"""Log records of a run: levels, messages and attributes."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest

from flowkit_core import DAG, Task

SYSTEM, SUCCESS = 22, 25


@pytest.fixture
def log_records(caplog):
    """Return a function that runs tasks and returns the records, down to DEBUG."""
    caplog.set_level(logging.DEBUG, logger="flowkit")

    def run(*tasks):
        results = DAG("etl", tasks=tasks).run("serial", raise_on_failure=False)
        assert {(record.name, record.run_id, record.pipeline) for record in caplog.records} == {
            ("flowkit", results.run_id, "etl")
        }
        return caplog.records

    return run


def flaky(times, **options):
    """Return a task that fails a number of times."""
    tries = []

    def attempt():
        tries.append(1)
        if len(tries) <= times:
            raise ValueError("boom")
        return len(tries)

    return Task(attempt, name="extract", **options)


def summary_of(record):
    """Return level, event and message of a record, with its seconds replaced."""
    return record.levelno, record.event, re.sub(r"\d+\.\d\d s", "0.00 s", record.getMessage())


def test_log_of_successful_run(log_records):
    one, two = Task(lambda: 1, name="one"), Task(lambda one: 2, name="two")
    one >> two
    assert [summary_of(record) for record in log_records(two)] == [
        (SYSTEM, "run_started", 'Run "etl" started: 2 tasks, executor serial.'),
        (logging.INFO, "task_started", 'Starting task "one"...'),
        (SUCCESS, "task_succeeded", 'Task "one" completed successfully in 0.00 s.'),
        (logging.INFO, "task_started", 'Starting task "two"...'),
        (SUCCESS, "task_succeeded", 'Task "two" completed successfully in 0.00 s.'),
        (SYSTEM, "run_finished", 'Run "etl" finished in 0.00 s: 2 succeeded.'),
    ]


def test_log_of_task_with_retries_that_fails(log_records):
    """Each retry is a warning with reason, attempt and delay; the failure is an error."""
    records = log_records(flaky(9, retries=2, delay=0))
    assert [summary_of(record) for record in records[1:-1]] == [
        (logging.INFO, "task_started", 'Starting task "extract"...'),
        (logging.WARNING, "task_retrying", 'Task "extract" failed (ValueError: boom); retry 1 of 2 in 0.00 s.'),
        (logging.INFO, "task_started", 'Starting task "extract"...'),
        (logging.WARNING, "task_retrying", 'Task "extract" failed (ValueError: boom); retry 2 of 2 in 0.00 s.'),
        (logging.INFO, "task_started", 'Starting task "extract"...'),
        (logging.ERROR, "task_failed", 'Task "extract" failed after 3 attempts: ValueError: boom'),
    ]
    assert summary_of(records[-1])[2] == 'Run "etl" finished in 0.00 s: 1 failed.'


def test_log_of_tasks_that_did_not_run(log_records):
    """Skipped, upstream_failed and cancelled, each with its reason."""
    skipped = Task(lambda: 1, name="skipped", when=lambda: False)
    broken, load = Task(lambda: 1 / 0, name="extract"), Task(lambda x: x, name="load")
    late = Task(lambda: 1, name="late")
    broken >> load
    records = {record.event: summary_of(record) for record in log_records(skipped, load, late)}
    assert records["task_skipped"] == (logging.INFO, "task_skipped", 'Task "skipped" skipped: its condition was false.')
    assert records["task_failed"][2] == 'Task "extract" failed after 1 attempt: ZeroDivisionError: division by zero'
    assert records["task_upstream_failed"] == (
        logging.DEBUG,
        "task_upstream_failed",
        'Task "load" did not run: upstream "extract" failed.',
    )
    assert records["task_cancelled"][:2] == (logging.DEBUG, "task_cancelled")
    assert 'Task "late" did not run: ' in records["task_cancelled"][2]
    assert (
        records["run_finished"][2]
        == 'Run "etl" finished in 0.00 s: 1 failed, 1 skipped, 1 upstream failed, 1 cancelled.'
    )


def test_log_of_empty_run(log_records):
    """A warning."""
    (warning,) = [record for record in log_records() if record.event == "empty_run"]
    assert warning.levelno == logging.WARNING
    assert 'Run "etl" found no tasks' in warning.getMessage()


def test_log_records_have_facts_as_attributes(log_records):
    """So handlers need not parse messages."""
    records = {record.event: record for record in log_records(flaky(1, retries=3, delay=0))}
    started, retrying, succeeded, finished = (
        records[f"{name}"] for name in ("task_started", "task_retrying", "task_succeeded", "run_finished")
    )
    assert (started.task, started.attempt, started.max_attempts) == ("extract", 2, 4)
    assert (retrying.task, retrying.attempt, retrying.max_attempts, retrying.delay, retrying.error) == (
        "extract",
        1,
        4,
        0,
        "ValueError: boom",
    )
    assert (succeeded.task, succeeded.attempt) == ("extract", 2)
    assert isinstance(succeeded.duration, float)
    assert finished.counts == {"succeeded": 1}
    assert isinstance(finished.duration, float)


def test_log_records_of_failure_have_facts_as_attributes(log_records):
    """Attempt, duration and error; the reason of tasks that did not run."""
    broken, load = flaky(1), Task(lambda x: x, name="load")
    broken >> load
    records = {record.event: record for record in log_records(load)}
    failed = records["task_failed"]
    assert (failed.task, failed.attempt, failed.error) == ("extract", 1, "ValueError: boom")
    assert isinstance(failed.duration, float)
    assert "extract" in records["task_upstream_failed"].reason


@pytest.mark.parametrize(
    ("level", "events"),
    [
        (
            logging.DEBUG,
            {"run_started", "task_started", "task_failed", "task_upstream_failed", "task_skipped", "run_finished"},
        ),
        (logging.INFO, {"run_started", "task_started", "task_failed", "task_skipped", "run_finished"}),
        (SYSTEM, {"run_started", "task_failed", "run_finished"}),
        (logging.WARNING, {"task_failed"}),
        (logging.CRITICAL, set()),
    ],
)
def test_log_level_selects_events(caplog, level, events):
    """Records below the level are not created."""
    caplog.set_level(level, logger="flowkit")
    skipped, broken, load = (
        Task(lambda: 1, name="skipped", when=lambda: False),
        flaky(1),
        Task(lambda x: x, name="load"),
    )
    broken >> load
    DAG("etl", tasks=[skipped, load]).run("serial", raise_on_failure=False)
    assert {record.event for record in caplog.records} == events


@pytest.mark.parametrize("name", ["100%s", "{name}", "%(task)s", 'say "hi"', "a\nb"])
def test_log_of_name_with_percent_signs(log_records, name):
    """Names are never format strings."""
    records = log_records(Task(lambda: 1 / 0, name=name))
    escaped = name.replace("\n", "\\n")
    assert any(record.event == "task_failed" and escaped in record.getMessage() for record in records)
    assert all(getattr(record, "task", name) == name for record in records)


def test_log_of_exception_whose_str_raises(log_records):
    """The record has its type."""

    class Unprintable(Exception):
        def __str__(self):
            raise ZeroDivisionError

    def fail():
        raise Unprintable

    (failed,) = [record for record in log_records(Task(fail)) if record.event == "task_failed"]
    assert "Unprintable" in failed.getMessage()


def test_log_handler_that_raises_does_not_fail_run(monkeypatch):
    """There is a warning."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise OSError("disk full")

    monkeypatch.setattr(logging.getLogger("flowkit"), "handlers", [Broken(logging.ERROR)])
    with pytest.warns(RuntimeWarning, match="disk full"):
        results = DAG("etl", tasks=[Task(lambda: 1 / 0, name="one")]).run("serial", raise_on_failure=False)
    assert results.states == {"one": "failed"}


def run_python(*lines):
    """Run lines in a new Python, and return its standard output and error."""
    source = "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize("prelude", ["", "import logging", "import logging; logging.getLogger('mine')"])
def test_log_prints_nothing_without_configuration(prelude):
    """Not even by the handler of last resort."""
    printed = run_python(
        prelude,
        "from flowkit_core import DAG, Task",
        "DAG('empty', tasks=[]).run('serial')",
        "DAG('x', tasks=[Task(lambda: 1 / 0, name='a')]).run('serial', raise_on_failure=False)",
    )
    assert printed == ("", "")


def test_log_appears_with_basic_config():
    """Records propagate to the root logger, which is not changed."""
    out, err = run_python(
        "import logging",
        "logging.basicConfig(level='INFO', format='%(levelname)s %(message)s')",
        "from flowkit_core import DAG, Task",
        "DAG('x', tasks=[Task(lambda: 1, name='a')]).run('serial')",
    )
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == 'SYSTEM Run "x" started: 1 task, executor serial.'
    assert lines[1] == 'INFO Starting task "a"...'
    assert lines[2].startswith('SUCCESS Task "a" completed successfully in ')
    assert lines[3].startswith('SYSTEM Run "x" finished in ')
