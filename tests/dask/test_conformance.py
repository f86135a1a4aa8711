"""The checks of `check_executor`, on a scheduler with two worker processes; with a store if there is one."""

from __future__ import annotations

from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec

import pytest

from flowkit_core.testing import check_executor, executor_checks
from flowkit_dask import DaskExecutor

NEED_LOCAL = {
    "context_changes_of_a_task_stay_inside",
    "context_variables_of_the_caller_are_visible",
    "exception_is_the_object_that_the_task_raised",
    "task_with_a_timeout_leaves_the_calling_thread_free",
}


@pytest.mark.parametrize("name", sorted(set(executor_checks()) - NEED_LOCAL))
def test_executor_passes_check(client, name):
    has_store = find_spec("flowkit_state") is not None
    with import_module("flowkit_state").StateManager() if has_store else nullcontext() as state:
        passed = check_executor(lambda: DaskExecutor(client), only=[name], state=state, timeout=280)
    assert passed == (name,) or not (passed or has_store)  # some checks need a store
