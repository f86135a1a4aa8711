"""The checks of `check_executor`, on every executor and on pools of `concurrent.futures`."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from executor_fixtures import EVERY

from flowkit_core.conformance.checks.trial import CHECKS
from flowkit_core.testing import check_executor, executor_checks
from flowkit_exec import FuturesExecutor

POOLS = {
    "pool-thread-1": lambda: ThreadPoolExecutor(1),
    "pool-thread-3": lambda: ThreadPoolExecutor(3),
    "pool-process": lambda: ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")),
}
if hasattr(concurrent.futures, "InterpreterPoolExecutor"):
    POOLS["pool-interpreter"] = lambda: concurrent.futures.InterpreterPoolExecutor(2)
if importlib.util.find_spec("loky"):
    POOLS["pool-loky"] = lambda: importlib.import_module("loky").ProcessPoolExecutor(2)

NEED_STORE = {name for name, check in CHECKS.items() if check.needs in ("state", "history")}
NEED_LOCAL = {
    "context_variables_of_the_caller_are_visible",
    "exception_is_the_object_that_the_task_raised",
    "task_with_a_timeout_leaves_the_calling_thread_free",
}


class Kept:
    """An executor that `close()` does not close, so that all checks use the same worker processes."""

    def __init__(self, executor):
        self.name, self.execute, self.lane = executor.name, executor.execute, executor.lane

    def close(self):
        pass


@pytest.fixture(scope="module", params=[*EVERY, *POOLS])
def factory(request):
    """Return an executor, kept for all checks: starting worker processes takes long."""
    name = request.param
    if name in EVERY:
        with EVERY[name]() as executor:
            yield lambda: Kept(executor)
    else:
        with POOLS[name]() as pool:
            yield lambda: FuturesExecutor(pool)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", sorted(set(executor_checks()) - NEED_STORE))
def test_executor_passes_check(factory, name):
    passed = check_executor(factory, only=[name])
    assert passed == (name,) or name in NEED_LOCAL


@pytest.mark.parametrize("name", EVERY)
def test_new_executor_passes_checks_of_closing(name):
    names = ("close_may_be_called_twice", "executor_has_a_name", "several_runs_share_the_executor")
    assert set(check_executor(EVERY[name], only=names)) == set(names)
