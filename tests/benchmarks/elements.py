"""Mapped elements of a trivial function, with flowkit, with the ``map()`` of Python and its pools, and with joblib."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from multiprocessing import Pool
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from flowkit_core import DAG, Task
from flowkit_exec import ProcessExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

INPUTS = ("list", "generator", "chain of 3")
BY_HAND = {"serial": "`map()`", "thread": "`ThreadPoolExecutor(2).map()`", "process": "`Pool(2).map()`"}
"""Executor -> what a program without a library uses instead."""


def add(number: int) -> int:
    """Return one more."""
    return number + 1


def add_often(number: int, times: int) -> int:
    """Return what a chain of `add` returns."""
    for _ in range(times):
        number = add(number)
    return number


def same(number: int) -> int:
    """Return the argument, so that results take no memory."""
    return number


def pipeline(kind: str, count: int, function: Callable[[int], int] = add) -> tuple[DAG, str]:
    """Return a pipeline with mapped tasks, built, and the name of the last task."""

    def generate() -> Iterator[int]:
        yield from range(count)

    last: Task[..., Any] = Task(generate if kind == "generator" else list, name="source")
    for number in range(3 if kind == "chain of 3" else 1):
        each = Task(function, name=f"each_{number}")
        last >> each.map()
        last = each
    dag = DAG("elements", tasks=[last])
    dag.graph()
    return dag, last.name


@contextmanager
def elements(executor: str, kind: str, size: str) -> Iterator[Callable[[], dict[str, float]]]:
    """Run mapped elements in turns with what is written by hand.

    CPU time and bytes in this process; with two processes wall time, in turns with joblib as well.
    """
    count = int(size)
    stages = 3 if kind == "chain of 3" else 1
    numbers = list(range(count))
    expected = [number + stages for number in numbers]

    def timed(run: Callable[[], Any], clock: Callable[[], float]) -> float:
        began = clock()
        values = run()
        seconds = clock() - began
        if values != expected:
            raise AssertionError("an element returned something else")
        return seconds / count / stages

    def inputs() -> Iterable[int]:
        return (number for number in range(count)) if kind == "generator" else numbers

    function = add if stages == 1 else partial(add_often, times=stages)
    params = {} if kind == "generator" else {"iterable": numbers}
    if executor != "process":
        threads = ThreadPoolExecutor(2) if executor == "thread" else nullcontext()

        def turn() -> dict[str, float]:
            dag, name = pipeline(kind, count)
            seconds = timed(lambda: dag.run(executor, params=params)[name], process_time)
            own = timed(lambda: by_hand(pool, inputs()), process_time)
            dag, name = pipeline(kind, count, same)
            tracemalloc.start()
            results = dag.run(executor, params=params)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            if len(results[name]) != count:
                raise AssertionError("elements were lost")
            return {"flowkit": seconds, "by hand": own, "bytes": peak / count / stages}

        def by_hand(pool: ThreadPoolExecutor | None, values: Iterable[int]) -> list[int]:
            if pool is not None:
                return list(pool.map(function, values))
            for _ in range(stages):
                values = map(add, values)
            return list(values)

        with threads as pool:
            yield turn
        return
    library = import_module("joblib")
    with (
        Pool(2) as processes,  # first, because it forks
        ProcessExecutor(2) as executor_of_processes,
        library.Parallel(n_jobs=2, backend="loky") as parallel,
    ):

        def turn_of_processes() -> dict[str, float]:
            dag, name = pipeline(kind, count)
            calls = (library.delayed(function)(number) for number in inputs())
            return {
                "flowkit": timed(lambda: dag.run(executor_of_processes, params=params)[name], perf_counter),
                "by hand": timed(lambda: processes.map(function, inputs()), perf_counter),
                "joblib": timed(lambda: parallel(calls), perf_counter),
            }

        yield turn_of_processes
