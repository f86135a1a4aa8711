"""Log records of worker processes."""

from __future__ import annotations

import logging
from textwrap import dedent

import faulty_tasks as faults
import pytest
from process_checks import RecordingHandler, outcome, run
from script_sources import WITH_A_THREAD
from subprocess_harness import guarded

from flowkit_core import (
    Task,
)

pytestmark = pytest.mark.slow


@guarded
def test_signal_handler_that_logs_while_a_worker_sends_does_not_deadlock(executor):
    logger = logging.getLogger("flowkit")
    logger.addHandler(handler := RecordingHandler())
    try:
        error = outcome(executor, Task(faults.log_while_sending))
    finally:
        logger.removeHandler(handler)
    assert type(error) is ValueError


@pytest.mark.parametrize("name", ["", "flowkit", "app", "app.part"])
@guarded
def test_log_record_of_a_task_is_handled_once_at_the_level_of_the_caller(executor, name):
    logger = logging.getLogger(name or None)
    logger.addHandler(handler := RecordingHandler())
    old = logger.level
    logger.setLevel(logging.INFO)
    spoken = "app.part" if name.startswith("app") else name
    try:
        tasks = [Task(faults.speak, name=f"speak_{number}") for number in range(3)]
        run(executor, *tasks, params={"name": spoken, "level": logging.INFO, "text": "hello"})
        run(executor, *tasks, params={"name": spoken, "level": logging.DEBUG, "text": "quiet"})
    finally:
        logger.setLevel(old)
        logger.removeHandler(handler)
    assert handler.texts.count("hello") == 3
    assert handler.texts.count("quiet") == 0


@guarded
def test_log_handler_that_raises_warns(executor):
    logger = logging.getLogger("app")
    logger.addHandler(handler := RecordingHandler())
    handler.emit = lambda record: 1 / 0
    try:
        with pytest.warns(RuntimeWarning, match="a log handler failed: ZeroDivisionError"):
            assert outcome(
                executor, Task(faults.speak), params={"name": "app", "level": logging.ERROR, "text": "hello"}
            )
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("place", ["pickling", "unpickling"])
@guarded
def test_log_record_with_an_unpicklable_attribute(executor, place):
    logger = logging.getLogger("app")
    logger.addHandler(handler := RecordingHandler())
    try:
        for fault in ("raise", "exit", "mute"):
            assert outcome(executor, Task(faults.speak_of_a_trap), params={"place": place, "fault": fault}) == "spoke"
    finally:
        logger.removeHandler(handler)
    assert handler.texts == (["hello"] * 3 if place == "pickling" else [])


@pytest.mark.parametrize("own", ["", "log.addHandler(logging.StreamHandler(sys.stdout))\nlog.propagate = False\n"])
def test_log_records_of_a_script_are_handled_once(script, tmp_path, own):
    """Also those written to a log file that each worker opens again."""
    source = """
    import logging, sys
    from flowkit_core import DAG, task
    logging.basicConfig(format="%(name)s %(message)s", stream=sys.stdout)
    logging.getLogger().addHandler(logging.FileHandler("log"))
    log = logging.getLogger(__name__)
    log.setLevel(logging.DEBUG)
    OWN
    log.warning("before the run")
    @task
    def one():
        log.debug("in the task")
    DAG("logs", tasks=[one]).run("process")
    """
    lines = ["before the run", "in the task"]
    output = script(dedent(source).replace("OWN", own) + WITH_A_THREAD, cwd=tmp_path).wait()
    assert output.splitlines() == lines if own else [f"__main__ {line}" for line in lines]
    assert (tmp_path / "log").read_text().splitlines() == ([] if own else lines)
