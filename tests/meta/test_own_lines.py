"""What tasks log themselves says which task it is from, whatever executor runs them."""

from __future__ import annotations

import logging

import pytest
from speaking import logger, pipeline


class Keep(logging.Handler):
    """Keeps the records that tasks have made."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        if not hasattr(record, "event"):
            self.records.append(record)

    def facts(self):
        """Return what each record says of the run and the task, by message."""
        return {
            record.getMessage(): [getattr(record, name, None) for name in ("run_id", "pipeline", "task")]
            for record in self.records
        }


@pytest.fixture
def kept():
    """A handler at the logger of flowkit, where all is heard."""
    handler, tree = Keep(), logging.getLogger("flowkit")
    tree.addHandler(handler)
    level = tree.level
    tree.setLevel(logging.INFO)
    yield handler
    tree.removeHandler(handler)
    tree.setLevel(level)


@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_a_line_of_a_task_says_where_it_is_from(kept, executor):
    """Its run, its pipeline and its task: the innermost; what the caller says of it goes before."""
    results = pipeline().run(executor)
    outer = [results.run_id, "outer"]
    assert kept.facts() == {
        "first": [*outer, "speaks"],
        "named": [*outer, "mine"],
        "second": [*outer, "awaited"],
        "elsewhere": [None, None, None] if executor != "process" else [*outer, "runs"],
        "inside": [results["runs"], "inner", "inner"],
    }
    assert kept.records[0].rows == 3


def test_a_line_outside_of_tasks_says_nothing_of_them(kept):
    """Also after a run."""
    pipeline().run("serial")
    kept.records.clear()
    logger.info("outside")
    assert kept.facts() == {"outside": [None, None, None]}
