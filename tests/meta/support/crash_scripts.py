"""Helpers of tests in which the process of a run, or its database, fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

from durable_tasks import RESULTS, TIMEOUT, diamond


def start_script(path, *arguments):
    """Start a script in a new session."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, str(path), *map(str, arguments)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_exit(process):
    """Wait for a process, and return its exit code, its output and its error output."""
    out, errors = process.communicate(timeout=2 * TIMEOUT)
    return process.returncode, out, errors


def last_run(state):
    """Return the record of the last run, or None, and the results of its tasks that succeeded."""
    runs = state.runs()
    if not runs:
        return None, {}
    return runs[0], {name: task.result() for name, task in runs[0].tasks.items() if task.state == "succeeded"}


def assert_resumed(box, state=None):
    """Resume a run of ``diamond()`` that failed in its last task, and check that only that task runs again."""
    results = diamond().run("serial", state=state or box.db, params=box.params, resume=True)
    assert results == RESULTS
    assert set(results.resumed) == {"extract", "double", "count"}
    assert Counter(box.ran) == {"extract": 1, "double": 1, "count": 1, "report": 2}
