"""Records that tasks log carry the run, the pipeline and the task, with every executor."""

from __future__ import annotations

import logging

import pytest
from nested_logging_tasks import logger, pipeline


class RecordList(logging.Handler):
    """Keeps the records of tasks, without those of the run."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        if not hasattr(record, "event"):
            self.records.append(record)

    def context(self):
        """Return run, pipeline and task of each record, by message."""
        return {
            record.getMessage(): [getattr(record, name, None) for name in ("run_id", "pipeline", "task")]
            for record in self.records
        }


@pytest.fixture
def handler():
    handler, root = RecordList(), logging.getLogger("flowkit")
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_record_of_task_has_innermost_run_pipeline_and_task(handler, executor):
    """Context of the caller takes precedence."""
    results = pipeline().run(executor)
    outer = [results.run_id, "outer"]
    assert handler.context() == {
        "first": [*outer, "synchronous"],
        "named": [*outer, "mine"],
        "second": [*outer, "asynchronous"],
        "other thread": [None, None, None] if executor != "process" else [*outer, "nesting"],
        "nested": [results["nesting"], "inner", "inner"],
    }
    assert handler.records[0].rows == 3


def test_record_outside_of_tasks_has_no_context(handler):
    pipeline().run("serial")
    handler.records.clear()
    logger.info("outside")
    assert handler.context() == {"outside": [None, None, None]}
