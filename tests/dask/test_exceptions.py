"""Exceptions of tasks on workers: in the calling process they have class, attributes, notes, causes and members."""

from __future__ import annotations

import subprocess
import sys
import traceback

import dask_tasks as tasks
import pytest

from flowkit_core import DAG, RemoteTaskError, Task
from flowkit_dask import DaskExecutor


@pytest.fixture
def error_of(client):
    """Returns the exception of a run of a single task."""

    def run(func):
        results = DAG("d", tasks=[Task(func, name="bad")]).run(DaskExecutor(client), raise_on_failure=False)
        return results.failed["bad"]

    return run


def test_own_class_keeps_attributes_notes_and_cause(error_of):
    error = error_of(tasks.fail_with_details)
    assert type(error) is tasks.DetailedError
    assert (error.code, error.args, str(error)) == (7, ("broken",), "broken")
    assert (type(error.__cause__), error.__cause__.__notes__) == (KeyError, ["a note of the cause"])


def test_line_of_the_user_is_in_the_traceback(error_of):
    text = "".join(traceback.format_exception(error_of(tasks.fail_with_details)))
    assert 'raise DetailedError("broken", code=7) from cause' in text
    assert "in fail_with_details" in text
    assert "flowkit_dask" not in text


def test_deep_recursion_is_a_recursion_error(error_of):
    assert type(error_of(tasks.recurse)) is RecursionError


def test_group_has_its_members(error_of):
    error = error_of(tasks.fail_in_group)
    assert type(error) is ExceptionGroup
    assert [(type(each), str(each)) for each in error.exceptions] == [(ValueError, "one"), (OSError, "two")]


def test_attribute_that_cannot_be_pickled_is_left_out(error_of):
    error = error_of(tasks.fail_with_lock)
    assert type(error) is tasks.DetailedError
    assert (error.code, error.lock) == (8, None)


def test_class_that_cannot_be_sent_is_replaced_by_an_error_with_its_text(error_of):
    error = error_of(tasks.fail_with_unpicklable_class)
    assert isinstance(error, RemoteTaskError)
    assert isinstance(error, LookupError)
    assert "not here" in str(error)


SCRIPT = """
import traceback
from flowkit_core import DAG, task
from flowkit_dask import DaskExecutor


def parse(text):
    return int(text)  # the line


@task
def fail():
    return parse("x")


try:
    with DaskExecutor({address!r}) as executor:
        DAG("script", tasks=[fail]).run(executor)
except ValueError:
    traceback.print_exc()
"""


def test_traceback_names_lines_of_the_script_and_no_frames_of_the_executor(cluster, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.replace("{address!r}", repr(cluster.address)))
    done = subprocess.run([sys.executable, path], env=cluster.env, capture_output=True, text=True, check=True)
    assert f'File "{path}", line 8, in parse\n    return int(text)  # the line\n' in done.stderr
    assert f'File "{path}", line 13, in fail\n' in done.stderr
    assert "flowkit_dask" not in done.stderr
