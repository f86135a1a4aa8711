"""Random chains of mapped tasks have the results of loops: with skips, failures, retries, limits and blocks."""

from __future__ import annotations

import random
from functools import partial

import map_functions
import pytest

from flowkit_core import DAG, Task
from flowkit_exec import ProcessExecutor, ThreadExecutor

ACTIONS = ("skip", "fail", "fail once")


def numbers(size):
    return list(range(size))


def lazy_numbers(size):
    yield from range(size)


def run_random_chain(seed, executor):
    choose = random.Random(seed)
    size = choose.choice([0, 1, 5, 50, 400, 2000])
    last = Task(partial(choose.choice([numbers, lazy_numbers]), size), name="numbers")
    expected = {number: number for number in range(size)}
    mode = choose.choice(["drop", "raise"])
    has_failed = False
    for number in range(choose.randint(1, 3)):
        usual, retries = choose.choice([10, 100, 3000]), choose.choice([0, 1])
        actions = [choose.choice(["return"] * usual + [*ACTIONS]) for _ in range(size)]
        after = Task(partial(map_functions.act, actions), name=f"stage_{number}", retries=retries, delay=0)
        limit, chunk = choose.choice([None, None, 1, 3]), choose.choice([None, None, 10])
        last >> after.map(errors=mode, limit=limit, chunk=chunk)
        fails = {"fail"} if retries else {"fail", "fail once"}
        has_failed |= any(actions[each] in fails for each in expected)
        expected = {
            each: value + 1
            for each, value in expected.items()
            if actions[each] != "skip" and actions[each] not in fails
        }
        last = after
    dag = DAG("random", tasks=[last])
    results = dag.run(executor, fail_fast=choose.random() < 0.5, raise_on_failure=False)
    if has_failed and mode == "raise":
        assert "failed" in results.states.values()
        assert last.name not in results
    else:
        assert results[last.name] == [expected[each] for each in sorted(expected)]
        assert sum(results.elements[last.name].counts.values()) == size


@pytest.mark.parametrize("seed", range(20))
def test_threads(seed):
    with ThreadExecutor(4) as executor:
        run_random_chain(seed, executor)


@pytest.fixture(scope="module")
def processes():
    with ProcessExecutor(2) as executor:
        yield executor


@pytest.mark.parametrize("seed", range(100, 112))
def test_processes(seed, processes):
    run_random_chain(seed, processes)
