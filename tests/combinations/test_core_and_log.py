"""Lines of runs and of tasks, with each executor that is installed."""

from __future__ import annotations

import io
import logging

import logging_tasks
import pytest

from flowkit_core import DAG, Task
from flowkit_log import configure_logging


@pytest.fixture
def stream():
    """The stream that lines are written to."""
    root = logging.getLogger("flowkit")
    before = root.handlers[:], root.level, root.propagate
    stream = io.StringIO()
    configure_logging("DEBUG", stream=stream)
    yield stream
    root.handlers[:], root.propagate = before[0], before[2]
    root.setLevel(before[1])


def test_lines_of_runs_and_tasks_are_written_with_any_executor(executor, stream):
    DAG("etl", tasks=[Task(logging_tasks.extract)]).run(executor)
    lines = stream.getvalue()
    assert 'Starting task "extract"' in lines
    assert "Received 3 records." in lines
    assert 'Run "etl" finished' in lines
