"""Records that tasks log carry the run, the pipeline and the task, with every executor."""

from __future__ import annotations

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from nested_logging_tasks import attributes_of_own_record, logger, pipeline

from flowkit import DAG, FuturesExecutor, Task

ATTRIBUTES = ("run_id", "pipeline", "task", "element", "attempt")


class RecordList(logging.Handler):
    """Keeps the records of tasks, without those of the run."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        if not hasattr(record, "event") and record.name.startswith(("flowkit", "some")):
            self.records.append(record)

    def context(self):
        """Return the attributes of each record, by message."""
        return {record.getMessage(): [getattr(record, name, "none") for name in ATTRIBUTES] for record in self.records}


@pytest.fixture
def handler():
    handler, root = RecordList(), logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize("executor", ["serial", "thread", "process", "pool"])
def test_record_of_task_has_innermost_run_pipeline_task_element_and_attempt(handler, executor):
    """Whatever the logger is; context of the caller takes precedence."""
    if executor == "pool":
        with ThreadPoolExecutor(2) as pool:
            results = pipeline().run(FuturesExecutor(pool))
    else:
        results = pipeline().run(executor)

    def of(task, attempt=1):
        return [results.run_id, "outer", task, None, attempt]

    inside = [results["nesting"], "inner", "inner", None, 1]
    context = handler.context()
    assert context.pop("other thread") == (["none"] * 5 if executor != "process" else of("nesting"))
    assert context == {
        "first": of("synchronous"),
        "named": of("mine"),
        "library": of("synchronous"),
        "library with extra": of("mine"),
        "second": of("asynchronous"),
        "library in a thread": of("asynchronous"),
        "library in a coroutine": of("asynchronous"),
        "nested": inside,
        "library in the nested run": inside,
        "library after the nested run": of("nesting"),
        "attempt 1": of("retried"),
        "attempt 2": of("retried", 2),
    }
    assert handler.records[0].rows == handler.records[3].rows == 3


def test_records_in_processes_of_a_pool_have_context():
    """Such a pool forwards nothing: its workers have handlers of their own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = DAG("pool", tasks=[Task(attributes_of_own_record)]).run(FuturesExecutor(pool))
    assert results["attributes_of_own_record"] == [results.run_id, "pool", "attributes_of_own_record", None, 1]


def test_factory_of_the_user_makes_the_records(handler):
    before = logging.getLogRecordFactory()

    def factory(*args, **kwargs):
        record = before(*args, **kwargs)
        record.made_by = "user"
        return record

    logging.setLogRecordFactory(factory)
    try:
        results = pipeline().run("serial")
    finally:
        logging.setLogRecordFactory(before)
    assert {record.made_by for record in handler.records} == {"user"}
    assert handler.context()["library with extra"] == [results.run_id, "outer", "mine", None, 1]


def test_record_outside_of_tasks_has_no_context(handler):
    pipeline().run("serial")
    handler.records.clear()
    logger.info("outside")
    logging.getLogger("some").info("library", extra={"task": "mine"})
    logging.getLogger("some").handle(logging.makeLogRecord({"name": "some", "msg": "made", "levelno": logging.INFO}))
    none = ["none"] * 5
    assert handler.context() == {"outside": none, "library": [*none[:2], "mine", *none[3:]], "made": none}


def test_record_that_was_made_elsewhere_stays_as_it_is(handler):
    def handle():
        record = logging.makeLogRecord({"name": "some", "msg": "made", "levelno": logging.INFO})
        logging.getLogger("some").handle(record)

    DAG("elsewhere", tasks=[Task(handle)]).run("serial")
    assert handler.context() == {"made": ["none"] * 5}
