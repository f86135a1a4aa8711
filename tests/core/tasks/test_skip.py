"""``raise Skip(...)`` in a task: reasons, direct calls, mixed groups, events, simulation."""

from __future__ import annotations

import asyncio
import gc
import pickle
import weakref

import pytest

from flowkit_core import DAG, Skip, Task, TaskNotRun, task
from flowkit_core.testing import simulate, simulate_many


@task(retries=3, delay=0)
def load():
    calls.append(1)
    raise Skip("no new files")


calls = []


@pytest.fixture(autouse=True)
def _no_calls():
    calls.clear()


def test_direct_call_raises_it_without_retries():
    with pytest.raises(Skip, match="no new files"):
        load()
    assert len(calls) == 1


class NoFiles(Skip):
    """A subclass."""


@pytest.mark.parametrize("timeout", [None, 60])
@pytest.mark.parametrize("made", [Skip("no files"), NoFiles("no files"), Skip()])
def test_skip_that_is_returned_is_a_type_error_of_direct_calls_and_runs(made, timeout):
    async def waits():
        return made

    plain, awaited = Task(lambda: made, name="plain", timeout=timeout), Task(waits, timeout=timeout)
    with pytest.raises(
        TypeError, match=r"task 'plain' returned .*Skip|NoFiles\(.*\), which skips nothing: write raise"
    ):
        plain()
    with pytest.raises(TypeError, match="task 'waits' returned"):
        asyncio.run(awaited())
    results = DAG("returns", tasks=[plain, awaited]).run("serial", fail_fast=False, raise_on_failure=False)
    assert (results, [type(error) for error in results.failed.values()]) == ({}, [TypeError, TypeError])


def test_skip_without_reason_has_one():
    def bare():
        raise Skip

    assert DAG("bare", tasks=[Task(bare)]).run("serial").skipped == {"bare": "it raised Skip"}


def test_reason_is_one_line():
    def lines():
        raise Skip("one\ntwo")

    assert DAG("lines", tasks=[Task(lines)]).run("serial").skipped == {"lines": "one\\ntwo"}


def test_reason_whose_text_fails_is_replaced():
    class Odd(Skip):
        def __str__(self):
            raise ValueError("no text")

    def odd():
        raise Odd

    assert DAG("odd", tasks=[Task(odd)]).run("serial").skipped == {"odd": "it raised Skip"}


def test_group_with_another_exception_is_a_failure():
    def mixed():
        raise ExceptionGroup("two", [Skip("no new files"), ValueError("bad")])

    with pytest.raises(ExceptionGroup):
        DAG("mixed", tasks=[Task(mixed)]).run("serial")


def test_exception_caused_by_skip_is_a_failure():
    def wrapped():
        raise ValueError("bad") from Skip("no new files")

    with pytest.raises(ValueError, match="bad"):
        DAG("wrapped", tasks=[Task(wrapped)]).run("serial")


def test_event_has_the_reason():
    seen = []
    DAG("events", tasks=[load]).run("serial", observers=[seen.append])
    (event,) = [event for event in seen if isinstance(event, TaskNotRun)]
    assert (event.task, event.state, event.reason, event.started) == ("load", "skipped", "no new files", False)


def test_run_does_not_stop():
    other = Task(lambda: 1, name="other")
    assert DAG("two", tasks=[load, other]).run("serial") == {"other": 1}


def test_task_with_default_runs_without_it():
    @task
    def report(load=0):
        return load

    load >> report
    assert DAG("default", tasks=[report]).run("serial") == {"report": 0}


def test_it_can_be_pickled():
    skip = pickle.loads(pickle.dumps(Skip("no new files")))
    assert (type(skip), str(skip)) == (Skip, "no new files")


def test_simulation_has_a_skipped_task():
    simulation = simulate(DAG("simulated", tasks=[load]))
    assert simulation.results.skipped == {"load": "no new files"}
    simulation.check()


def test_simulation_of_many_orders_finds_no_problem():
    @task(retries=2, delay=1)
    def sometimes(x=0):
        raise (Skip if len(calls) % 2 else ValueError)("either")

    last = Task(lambda *args: len(args), name="last", trigger="all_done")
    [load, sometimes] >> last
    simulate_many(DAG("many", tasks=[last]), seeds=range(100), fault_rate=0.3)


def test_subclass_that_a_function_defines_is_not_kept():
    def define():
        class Local(Skip):
            pass

        return weakref.ref(Local)

    reference = define()
    gc.collect()
    assert reference() is None
