"""What a run reports at the failure that stops it: the tasks that are still running."""

from __future__ import annotations

import logging
import sys
import threading

import pytest

from flowkit_core import DAG, RunStopping, Task
from flowkit_core.runs.serial_lane import SerialLane
from flowkit_core.runs.session import Session


class SecondExecutor:
    """Runs its tasks one after the other, in a thread of its own."""

    name = "second"

    def execute(self, run):
        Session(run, [self.lane()]).drive()

    def lane(self):
        return SerialLane()

    def close(self):
        pass


class Observer:
    """Keeps the events, and ends the tasks that wait for the first."""

    events = (RunStopping,)

    def __init__(self):
        self.started = threading.Event()
        self.released = threading.Event()
        self.seen = []

    def __call__(self, event):
        self.seen.append(event)
        self.released.set()

    def run(self, name="running", **options):
        """Run a task on one executor that fails while a task on another one is running; return the results."""

        def wait():
            self.started.set()
            return self.released.wait(20)

        def fail():
            assert self.started.wait(20)
            raise ValueError("boom")

        dag = DAG("etl", tasks=[Task(wait, name=name), Task(fail, name="bad", executor="second")])
        executors = {"default": "serial", "second": SecondExecutor()}
        return dag.run(executors, observers=[self], raise_on_failure=False, **options)


@pytest.fixture
def observer():
    return Observer()


@pytest.fixture
def run_with_handlers(observer):
    """Return a function that runs the tasks while the logger of flowkit has no handlers but the given ones."""

    def run(*handlers, level=logging.NOTSET, **options):
        logger = logging.getLogger("flowkit")
        before = logger.propagate, logger.level, list(logger.handlers)
        logger.propagate, logger.handlers[:] = False, handlers
        logger.setLevel(level)
        try:
            return observer.run(**options)
        finally:
            logger.propagate, logger.handlers[:] = before[::2]
            logger.setLevel(before[1])

    return run


def test_running_task_is_named_in_an_event(observer):
    results = observer.run()
    (event,) = observer.seen
    assert (event.failed, event.running, event.pipeline) == ("bad", ("running",), "etl")
    assert event.error is results.failed["bad"]
    assert results == {"running": True}


def test_no_event_if_nothing_is_running():
    observer = Observer()
    one, bad = Task(lambda: 1, name="one"), Task(lambda one: 1 / 0, name="bad")
    one >> bad
    DAG("etl", tasks=[bad]).run("serial", observers=[observer], raise_on_failure=False)
    assert observer.seen == []


def test_no_event_if_the_run_continues(observer):
    observer.released.set()
    observer.run(fail_fast=False)
    assert observer.seen == []


def test_failure_and_running_tasks_are_logged_as_an_error(observer, caplog):
    observer.run()
    (record,) = [record for record in caplog.records if getattr(record, "event", "") == "run_stopping"]
    assert record.getMessage() == (
        'Run "etl" is stopping, because task "bad" failed (ValueError: boom). '
        'Running tasks are waited for: "running". Ctrl-C ends the wait.'
    )
    assert (record.levelno, record.failed, record.running) == (logging.ERROR, "bad", ["running"])


def test_failure_is_printed_where_no_handler_takes_it(run_with_handlers, capsys):
    run_with_handlers()
    assert capsys.readouterr().err == (
        'flowkit: Run "etl" is stopping, because task "bad" failed (ValueError: boom). '
        'Running tasks are waited for: "running". Ctrl-C ends the wait.\n'
    )


@pytest.mark.parametrize(("logger_level", "handler_level"), [(logging.CRITICAL, 0), (0, logging.CRITICAL)])
def test_failure_is_printed_where_a_level_excludes_errors(run_with_handlers, capsys, logger_level, handler_level):
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(handler_level)
    run_with_handlers(handler, level=logger_level)
    out, err = capsys.readouterr()
    assert (out.count("is stopping"), err.count("is stopping")) == (0, 1)


def test_failure_is_not_printed_where_a_handler_takes_it(run_with_handlers, capsys):
    run_with_handlers(logging.NullHandler(), logging.StreamHandler(sys.stdout))
    out, err = capsys.readouterr()
    assert (out.count("is stopping"), err) == (1, "")


@pytest.mark.parametrize("stream", [None, "closed"])
def test_missing_standard_error_is_ignored(run_with_handlers, monkeypatch, tmp_path, stream):
    with (tmp_path / "closed").open("w") as file:
        pass
    monkeypatch.setattr(sys, "stderr", file if stream else None)
    assert run_with_handlers() == {"running": True}


def test_control_characters_of_names_are_escaped(run_with_handlers, capsys):
    run_with_handlers(name="run\nning\x1b[2J")
    assert 'waited for: "run\\nning\\x1b[2J".' in capsys.readouterr().err


def test_many_running_tasks_are_counted():
    from flowkit_core.logging_observer import _run_stopping

    event = RunStopping("id", "etl", failed=None, error=OSError("full"), running=tuple("abcdefgh"))
    assert _run_stopping(event)[1] == (
        'Run "etl" is stopping, because it could not be recorded (OSError: full). '
        'Running tasks are waited for: "a", "b", "c", "d", "e" and 3 more. Ctrl-C ends the wait.'
    )
