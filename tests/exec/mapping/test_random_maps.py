"""Random chains of mapped tasks have the results of loops: with skips, failures, retries, limits and blocks."""

from __future__ import annotations

import random
from functools import partial

import map_functions
import pytest

from flowkit_core import DAG, Rate, Task
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


def run_random_lazy_chain(seed):
    """Run a chain over a generator, or over a generator and a list, with options that make elements jobs of their own.

    It may fail after some elements. Some tasks are async, have conditions, timeouts, pools, limits and retries.
    """
    choose = random.Random(seed)
    size = choose.choice([0, 1, 7, 60, 300])
    fails_after = choose.choice([None, None, size // 2])
    pulled = []

    def rows():
        for number in range(size):
            if number == fails_after:
                raise OSError("no more rows")
            pulled.append(number)
            yield number

    expected = {number: number for number in range(size)}
    last, used = Task(rows), set()
    is_paired, max_async = choose.random() < 0.3, choose.choice([None, 2])
    for number in range(choose.randint(1, 3)):
        actions = [choose.choice(["return"] * 20 + [*ACTIONS]) for _ in range(size)]
        function = partial(choose.choice([map_functions.act, map_functions.act_async]), actions)
        if number == 0 and is_paired:
            function = partial(_first_of_two, function)
        retries, options = choose.choice([0, 2]), {}
        options |= choose.choice([{}, {}, {"timeout": 60}])
        options |= choose.choice([{}, {}, {"pool": "db"}, {"pool": {"db": 2, "api": 1}}])
        options |= choose.choice([{}, {}, {"when": _is_true}])
        used |= {"db"} if options.get("pool") == "db" else set(options.get("pool", ()))
        after = Task(function, name=f"stage_{number}", retries=retries, delay=0, **options)
        view = after.map(errors="drop", limit=choose.choice([None, None, 1, 3]))
        [last, Task(partial(numbers, size), name="numbers")] >> view if number == 0 and is_paired else last >> view
        lost = {"skip", "fail"} if retries else {"skip", *ACTIONS}
        expected = {each: value + 1 for each, value in expected.items() if actions[each] not in lost}
        last = after
    with ThreadExecutor(choose.choice([1, 3])) as executor:
        chosen = choose.choice([executor, "serial"])
        pools = {"db": choose.choice([2, 3]), "api": choose.choice([1, 2, Rate(1000, per=0.01)])}
        pools = {name: pools[name] for name in sorted(used)} or None
        limits = {"pools": pools, "max_async": max_async, "timeout": choose.choice([None, 60])}
        keep = choose.choice([None, [last.name]])
        results = DAG("lazy", tasks=[last]).run(chosen, keep=keep, raise_on_failure=False, **limits)
    if fails_after is not None and size:
        assert results.states["rows"] == "failed"
        assert len(results.elements["stage_0"]) == fails_after == len(pulled)
        assert "cancelled" not in results.elements["stage_0"].counts
        assert last.name not in results
    else:
        assert results[last.name] == [expected[each] for each in sorted(expected)]
        assert sum(results.elements[last.name].counts.values()) == size == len(pulled)


def _first_of_two(function, rows, _numbers):
    return function(rows)


def _is_true(*_values):
    return True


@pytest.mark.parametrize("seed", range(200, 260))
def test_lazy_inputs(seed):
    run_random_lazy_chain(seed)
