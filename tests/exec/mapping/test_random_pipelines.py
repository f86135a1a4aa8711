"""Random pipelines of mapped, async and plain tasks have the same results, states and skips on every executor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_tasks import facts, plans

from flowkit_core import ElementStarted, ElementSucceeded
from flowkit_core.testing import VirtualTimeExecutor, simulate
from flowkit_exec import FuturesExecutor, ProcessExecutor, ThreadExecutor

pytestmark = pytest.mark.filterwarnings("ignore:.*needs the result of:RuntimeWarning")  # random triggers
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def ignore(event):
    """Observer of elements: with it, workers do not pull elements in a loop."""


ignore.events = (ElementStarted, ElementSucceeded)


def run(plan, executor, *, observed=False):
    options = {"fail_fast": False, "raise_on_failure": False, "params": plan.params}
    return facts(plan.pipeline().run(executor, observers=[ignore] if observed else [], **options))


def simulated(plan, seed, **options):
    simulation = simulate(plan.pipeline(), seed=seed, fail_fast=False, params=plan.params, **options)
    simulation.check()
    return facts(simulation.results)


@pytest.fixture(scope="module")
def executors():
    with (
        ThreadPoolExecutor(3) as pool,
        ThreadExecutor(1) as one,
        ThreadExecutor(4) as several,
        FuturesExecutor(pool) as futures,
    ):
        yield [one, several, futures, VirtualTimeExecutor()]


@pytest.fixture(scope="module")
def processes():
    with ProcessExecutor(2) as executor:
        yield executor


@settings(max_examples=30, suppress_health_check=CHECKS)
@given(plan=plans(), observed=st.booleans(), seed=st.integers(0, 99))
def test_results_are_the_same_in_threads_and_in_simulations(executors, plan, observed, seed):
    expected = run(plan, "serial")
    for executor in executors:
        assert run(plan, executor, observed=observed) == expected, executor
    assert simulated(plan, seed) == expected
    assert simulated(plan, seed, workers=1, remote=["default"]) == expected


@settings(max_examples=15, suppress_health_check=CHECKS)
@given(plan=plans(sizes=(0, 1, 3, 40, 200)), observed=st.booleans())
def test_results_are_the_same_in_processes(processes, plan, observed):
    assert run(plan, processes, observed=observed) == run(plan, "serial")
