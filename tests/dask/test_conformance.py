"""The checks of `check_executor`, on a scheduler with two worker processes."""

from __future__ import annotations

import pytest

from flowkit_core.testing import check_executor, executor_checks
from flowkit_dask import DaskExecutor
from flowkit_state import StateManager

NEED_LOCAL = {
    "context_changes_of_a_task_stay_inside",
    "context_variables_of_the_caller_are_visible",
    "exception_is_the_object_that_the_task_raised",
    "task_with_a_timeout_leaves_the_calling_thread_free",
}


@pytest.mark.parametrize("name", sorted(set(executor_checks()) - NEED_LOCAL))
def test_executor_passes_check(client, name):
    with StateManager() as state:
        assert check_executor(lambda: DaskExecutor(client), only=[name], state=state, timeout=280) == (name,)
