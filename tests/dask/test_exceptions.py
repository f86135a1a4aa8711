"""Exceptions of tasks on workers: in the calling process they have class, attributes, notes, causes and members."""

from __future__ import annotations

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
