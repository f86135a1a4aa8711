"""The checks of `check_executor` that need a store, on every executor and on pools of `concurrent.futures`."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from flowkit import FuturesExecutor, ProcessExecutor, SerialExecutor, StateManager, ThreadExecutor
from flowkit.testing import VirtualTimeExecutor, check_executor
from flowkit_core.conformance.checks.trial import CHECKS

NEED_STORE = {name for name, check in CHECKS.items() if check.needs in ("state", "history")}
EXECUTORS = {
    "serial": SerialExecutor,
    "thread": lambda: ThreadExecutor(2),
    "process": lambda: ProcessExecutor(2),
    "portable": lambda: ProcessExecutor(2, transport="portable"),
    "virtual": VirtualTimeExecutor,
}
POOLS = {
    "pool of threads": lambda: ThreadPoolExecutor(2),
    "pool of processes": lambda: ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")),
}


class Kept:
    """An executor that `close()` does not close: starting worker processes takes long."""

    def __init__(self, executor):
        self.name, self.execute, self.lane = executor.name, executor.execute, executor.lane

    def close(self):
        pass


@pytest.mark.parametrize("name", EXECUTORS)
def test_executor_passes_checks_with_store(tmp_path, name):
    with EXECUTORS[name]() as executor, StateManager(tmp_path / "runs.db") as state:
        assert {*check_executor(lambda: Kept(executor), only=NEED_STORE, state=state)} == NEED_STORE


@pytest.mark.parametrize("name", POOLS)
def test_pool_passes_checks_with_store(tmp_path, name):
    with POOLS[name]() as pool, StateManager(tmp_path / "runs.db") as state:
        assert {*check_executor(lambda: FuturesExecutor(pool), only=NEED_STORE, state=state)} == NEED_STORE
