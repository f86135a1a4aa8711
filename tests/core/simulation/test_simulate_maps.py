"""`simulate` with mapped and async tasks: what users see."""

from __future__ import annotations

import asyncio

import pytest
from random_maps import random_maps

from flowkit_core import DAG, Skip, Task, TaskTimeoutError, current
from flowkit_core.testing import (
    Crash,
    Fail,
    Slow,
    Timeout,
    VirtualTimeExecutor,
    simulate,
    simulate_many,
)


async def nap(seconds):
    await asyncio.sleep(seconds)
    return seconds


def started(simulation, task):
    """Return the time of the start of each attempt at an element: (element, attempt) -> seconds."""
    records = [each for each in simulation.history if each.what == "started" and each.task == task]
    return {(each.element, each.attempt): each.time for each in records}


def mapped(function=lambda row: 2 * row, rows=(1, 2, 3), *, map_options=None, **options):
    source, task = Task(lambda: list(rows), name="rows"), Task(function, name="each", **options)
    source >> task.map(**(map_options or {}))
    return DAG("maps", tasks=[task])


def test_elements_run_at_the_same_time_on_the_workers():
    options = {"durations": {"rows": 0, "each": 10}}
    simulation = simulate(mapped(), **options)
    assert simulation.results["each"] == [2, 4, 6]
    assert simulation.seconds == 10
    assert simulate(mapped(), workers=1, **options).seconds == 30
    assert simulate(mapped(map_options={"limit": 2}), **options).seconds == 20
    assert "each[1]" in simulation.timeline()
    assert any(repr(record).startswith("<0.000 s started each[1] on default-") for record in simulation.history)


def test_chain_goes_on_with_each_element():
    first, second = Task(lambda row: row, name="first"), Task(lambda row: -row, name="second")
    first.map("row") >> second.map()
    simulation = simulate(
        DAG("chain", tasks=[second]),
        params={"row": [1, 5]},
        durations=lambda task, attempt: 1,
        faults=[Slow("first", element=0, seconds=9)],
        workers=4,
    )
    assert started(simulation, "second") == {(1, 1): 1, (0, 1): 10}
    assert simulation.results["second"] == [-1, -5]


def test_fault_of_one_element():
    dag = mapped(retries=1, delay=5, jitter=0)
    simulation = simulate(dag, durations=1, faults=[Fail("each", element=1)])
    assert repr(simulation.faults) == "(Fail(task='each', attempt=1, element=1, error=None),)"
    assert simulation.results.elements["each"].attempts.tolist() == [1, 2, 1]
    assert started(simulation, "each") == {(0, 1): 1, (1, 1): 1, (2, 1): 1, (1, 2): 7}
    assert len(simulate(dag, faults=[Fail("each")]).faults) == 3


@pytest.mark.parametrize("fault", [Fail, Crash, Timeout])
def test_failed_elements_are_dropped(fault):
    simulation = simulate(mapped(map_options={"errors": "drop"}), faults=[fault("each", element=1)])
    simulation.check(pure=True)
    assert simulation.results["each"] == [2, 6]
    assert list(simulation.results.elements["each"].failed) == [1]


def test_async_tasks_take_the_virtual_time_that_they_wait():
    simulation = simulate(mapped(nap, rows=[3600, 60]), durations=0)
    assert simulation.seconds == 3600
    assert simulate(mapped(nap, rows=[3600] * 20), durations=0, workers={"async": 5}).seconds == 4 * 3600
    assert simulate(mapped(nap, rows=[10, 20]), durations=5).seconds == 30


def test_virtual_time_does_not_depend_on_earlier_simulations():
    for seconds in (1 / 3, 1e9 / 7, 0.1, 1e6 / 9, 0.7):
        assert simulate(mapped(nap, rows=[seconds]), durations=0).seconds == seconds


def test_timeout_cancels_a_coroutine():
    ended = []

    async def slow(row):
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append(row)

    simulation = simulate(mapped(slow, timeout=60, retries=1, delay=0), durations=0, fail_fast=False)
    simulation.check()
    assert sorted(ended) == [1, 1, 2, 2, 3, 3]
    assert simulation.seconds == 120
    assert {type(error) for error in simulation.error.exceptions} == {TaskTimeoutError}


def test_function_that_returns_a_coroutine_is_in_virtual_time():
    simulation = simulate(mapped(lambda row: nap(row)), durations=0)
    assert simulation.seconds == 3
    assert simulation.results["each"] == [1, 2, 3]


def test_sync_stand_in_of_an_async_task():
    simulation = simulate(mapped(nap, rows=[1, 2]), durations=0, functions={"each": lambda seconds: -seconds})
    assert (simulation.results["each"], simulation.seconds) == ([-1, -2], 0)


def generate():
    yield from (1, 2, 3)


@pytest.mark.parametrize("source", [generate, lambda: iter((1, 2, 3))])
def test_lazy_input_is_pulled_for_the_workers(source):
    rows, each = Task(source, name="rows"), Task(lambda row: row + 1, name="each")
    rows >> each.map()
    dag = DAG("lazy", tasks=[each])
    simulate_many(dag, seeds=range(20), pure=True, workers=1)
    assert simulate(dag).results["each"] == [2, 3, 4]
    assert simulate(dag, functions={"rows": lambda: [5]}).results["each"] == [6]
    assert len(simulate(dag, call=False).results["each"]) == 3


@pytest.mark.parametrize("when", [None, lambda size: size == 3])
def test_generator_function_gets_the_values_of_results_that_stay_on_an_executor(when):
    def numbers(size):
        yield from range(size)

    size, rows, each = Task(lambda: 3, name="size"), Task(numbers, when=when), Task(lambda row: row, name="each")
    size >> rows >> each.map()
    simulation = simulate(DAG("remote", tasks=[each]), remote=["default"])
    simulation.check(pure=True)
    assert simulation.results["each"] == [0, 1, 2]


def test_elements_of_a_lazy_input_wait_at_the_same_time():
    rows, each = Task(generate, name="rows"), Task(nap, name="each")
    rows >> each.map()
    dag, executor = DAG("lazy", tasks=[each]), VirtualTimeExecutor()
    dag.run(executor)
    assert executor.seconds == simulate(dag, durations=0).seconds == 3


def test_functions_are_not_called_for_placeholders():
    def fail(*_args):
        raise AssertionError

    rows, each, total = Task(fail, name="rows"), Task(fail, name="each"), Task(fail, name="total")
    rows >> each.map() >> total
    dag = DAG("placeholders", tasks=[total])
    simulation = simulate(dag, call=False)
    simulation.check(pure=True)
    assert simulation.results["each"] == simulate(dag, call=False, seed=1).results["each"]
    assert repr(simulation.results["each"][0]) == "<result of each>"


def test_element_and_attempt_are_in_the_context():
    def each(row):
        if current().attempt == 1:
            raise Skip(str(row)) if row == 3 else ValueError(row)
        return current().task, current().element, current().attempt

    simulation = simulate(mapped(each, retries=1, delay=0))
    assert simulation.results["each"] == [("each", 0, 2), ("each", 1, 2)]
    assert simulation.results.elements["each"].skipped == {2: "3"}


@pytest.mark.filterwarnings("ignore:.*needs the result of:RuntimeWarning")  # random triggers
@pytest.mark.filterwarnings("ignore:.*is a generator function, so:RuntimeWarning")  # random options
def test_equal_seeds_have_equal_histories():
    for seed in range(20):
        histories = []
        for _ in range(2):
            pipeline, options = random_maps(seed)
            histories.append([(*each._key(), each.element) for each in simulate(pipeline, seed=7, **options).history])
        assert histories[0] == histories[1]


def test_run_inside_of_an_event_loop_is_simulated():
    async def main():
        return simulate(mapped(nap, rows=[5]), durations=0)

    assert asyncio.run(main()).seconds == 5


def test_element_that_waits_for_what_nothing_ends_is_stuck():
    async def stuck(row):
        await asyncio.get_running_loop().create_future()

    simulation = simulate(mapped(stuck))
    assert simulation.problems() == ["the run got stuck: each did not end, and nothing was running"]


def test_message_of_a_failed_check_repeats_the_simulation():
    def check(simulation):
        assert simulation.error is None

    with pytest.raises(AssertionError, match=r"simulate\(pipeline, seed=0, faults=\[Fail\(task='each', .*element=2"):
        simulate_many(mapped(), seeds=range(3), faults=[Fail("each", element=2)], check=check)


@pytest.mark.parametrize("rows", [(1, 2, 3), ()])
def test_fault_of_an_element_that_does_not_exist_raises(rows):
    with pytest.raises(
        ValueError, match=r"never occurs: task 'each' has (the elements 0 to 2|no elements) in this run"
    ):
        simulate(mapped(rows=rows), faults=[Crash("each", element=3)])


def test_fault_of_an_element_that_a_lazy_input_does_not_have_raises():
    source, task = Task(lambda: iter([1, 2]), name="rows"), Task(lambda row: row, name="each")
    source >> task.map()
    with pytest.raises(ValueError, match="task 'each' has the elements 0 to 1 in this run"):
        simulate(DAG("maps", tasks=[task]), faults=[Slow("each", element=2)])


def test_duration_of_a_task_of_a_chain_is_that_of_its_own_elements():
    rows = Task(lambda: [1, 2], name="rows")
    first, second = Task(lambda row: row, name="first"), Task(lambda row: row, name="second")
    rows >> first.map() >> second.map()
    durations = {"rows": 2, "first": 5, "second": 1}
    results = simulate(DAG("chain", tasks=[second]), durations=durations, workers=2).results
    assert results.durations == {"rows": 2.0, "first": 5.0, "second": 1.0}
    results = simulate(DAG("chain", tasks=[second]), durations=durations, workers=1).results
    assert results.durations in (
        {"rows": 2.0, "first": 11.0, "second": 7.0},
        {"rows": 2.0, "first": 10.0, "second": 2.0},
    )
