"""Chains of mapped tasks whose tasks run on several executors: each element goes through the chain on its own."""

from __future__ import annotations

import asyncio
import threading

import map_functions
import pytest

from flowkit_core import DAG, Skip, Task
from flowkit_exec import ProcessExecutor, ThreadExecutor

pytestmark = pytest.mark.filterwarnings("ignore:.*no task of the pipeline names it:RuntimeWarning")
SECONDS = 20
PAIRS = [(a, b) for a in ("thread", "process", "async") for b in ("thread", "process", "async", "serial") if a != b]


@pytest.fixture(scope="module")
def executors():
    with ProcessExecutor(2) as processes, ThreadExecutor(2) as threads:
        yield {"default": threads, "workers": processes, "main": "serial"}


def task_on(kind, name, function, coroutine_function, **options):
    """Return a task on an executor of `executors`."""
    if kind == "async":
        return Task(coroutine_function, name=name, **options)
    executor = {"process": "workers", "serial": "main"}.get(kind)
    return Task(function, name=name, executor=executor, **options)


async def add_one(x):
    await asyncio.sleep(0)
    return x + 1


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_element_ends_in_the_chain_before_the_next_is_pulled(executors, first, second):
    ended = [threading.Event() for _ in range(4)]

    def numbers():
        for number in range(4):
            if number:
                assert ended[number - 1].wait(SECONDS), f"element {number - 1} has not gone on"
            yield number

    def note(x):
        ended[x - 2].set()
        return x

    rows = Task(map_functions.registered, name="rows")
    map_functions.source = numbers
    a = task_on(first, "a", map_functions.add_one, add_one)
    b = task_on(second, "b", map_functions.add_one, add_one)
    last = Task(note)
    rows >> a.map() >> b.map() >> last.map()
    results = DAG("chain", tasks=[last]).run(executors, keep=["a", "b", "note"], timeout=3 * SECONDS)
    assert results == {"a": [1, 2, 3, 4], "b": [2, 3, 4, 5], "note": [2, 3, 4, 5]}


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_skipped_and_dropped_elements_keep_their_numbers(executors, first, second):
    async def skip_on_hundreds(x):
        if x % 100 == 99:
            raise Skip("a hundred")
        return x

    async def fail_on_hundreds(x):
        if x % 100 == 99:
            raise ValueError(x)
        return x

    rows = Task(lambda: list(range(90, 210, 3)), name="rows")
    a = task_on(first, "a", map_functions.skip_on_hundreds, skip_on_hundreds)
    b = task_on(second, "b", map_functions.fail_on_hundreds, fail_on_hundreds)
    c = Task(lambda x: x + 1, name="c")
    rows >> a.map() >> c.map() >> b.map(errors="drop")
    results = DAG("chain", tasks=[rows, b]).run(executors)
    numbers = list(range(90, 210, 3))
    kept = [x for x in numbers if x % 100 != 99]
    assert results["a"] == kept
    assert results["b"] == [x + 1 for x in kept if (x + 1) % 100 != 99]
    failed = {place for place, x in enumerate(numbers) if (x + 1) % 100 == 99}
    assert set(results.elements["b"].failed) == failed
    assert set(results.elements["a"].skipped) == {place for place, x in enumerate(numbers) if x % 100 == 99}


def test_window_of_the_widest_lane_bounds_the_chain():
    """Coroutines of the second task wait together, although the lane of the first takes one element at a time."""
    inside, all_inside = [], asyncio.Event()

    async def wait(x):
        inside.append(x)
        if len(inside) == 50:
            all_inside.set()
        await asyncio.wait_for(all_inside.wait(), SECONDS)
        return x

    rows = Task(lambda: list(range(50)), name="rows")
    first, second = Task(lambda x: x, name="first"), Task(wait, name="second")
    rows >> first.map() >> second.map()
    with ThreadExecutor(1) as threads:
        assert DAG("wide", tasks=[second]).run(threads)["second"] == list(range(50))


@pytest.mark.parametrize("fail_fast", [True, False])
def test_failed_element_ends_the_chain_as_on_one_executor(fail_fast):
    async def fail_on_three(x):
        if x == 3:
            raise ValueError("three")
        return x

    def run(executor, function):
        rows = Task(lambda: list(range(6)), name="rows")
        first, second, last = Task(lambda x: x, name="first"), Task(function, name="second"), Task(len, name="last")
        rows >> first.map() >> second.map() >> last
        dag = DAG("failing", tasks=[last])
        return dag.run(executor, fail_fast=fail_fast, raise_on_failure=False)

    def fail_at_once(x):
        if x == 3:
            raise ValueError("three")
        return x

    mixed, plain = run("thread", fail_on_three), run("serial", fail_at_once)
    assert list(mixed.failed) == list(plain.failed) == ["second", "second[3]"]
    assert mixed.states["second"] == plain.states["second"] == "failed"
    assert mixed.states["last"] == plain.states["last"]
    assert (mixed.states["first"] == plain.states["first"]) or fail_fast
