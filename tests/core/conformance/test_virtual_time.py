"""`VirtualTimeExecutor` passes the checks of executors, except those of real time and of lanes."""

from __future__ import annotations

import pytest

from flowkit_core.conformance.checks.trial import CHECKS
from flowkit_core.testing import VirtualTimeExecutor, check_executor, executor_checks

IN_REAL_TIME = {
    "rate_and_pool_apply_together",
    "rate_limits_starts",
    "retry_waits_for_its_delay",
}
ON_LANES = {  # it has none, and runs every task of a run
    "async_tasks_of_all_runs_share_one_event_loop",
    "async_tasks_wait_at_once",
    "context_variables_of_coroutines_are_copies",
    "elements_of_async_tasks_wait_at_once",
    "grace_cancels_coroutines_after_a_failure",
    "grace_ends_running_calls",
    "grace_ends_running_calls_after_system_exit",
    "lane_drives_a_run_alone",
    "lane_has_its_attributes",
    "lane_stops_a_run_that_takes_too_long",
    "max_async_limits_coroutines",
    "running_tasks_of_a_lane_are_named_at_a_failure",
}
IN_THE_LOOP_OF_THE_CALLER = {"arun_has_the_results_of_run", "cancelled_arun_stops_the_run"}
OTHERS = IN_REAL_TIME | ON_LANES | IN_THE_LOOP_OF_THE_CALLER
NEED_STORE = {name for name, check in CHECKS.items() if check.needs in ("state", "history")}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", sorted(set(executor_checks()) - NEED_STORE - OTHERS))
def test_virtual_time_executor_passes_check(name):
    assert check_executor(VirtualTimeExecutor, only=[name]) == (name,)


def test_checks_that_do_not_apply_exist():
    assert set(executor_checks()) >= OTHERS
