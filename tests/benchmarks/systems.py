"""The systems that run the shapes: executors of flowkit, hand-written loops and pools, and other libraries.

Each is a context manager that takes a graph and returns a function, which runs the graph once and returns the seconds
and the values. Pools are warm and graphs are built, so only the run is timed. A library that is not installed raises
ImportError.
"""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from graphlib import TopologicalSorter
from importlib import import_module
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from shapes import add, plain

from flowkit_core import DAG, SerialExecutor, Task
from flowkit_exec import ProcessExecutor, ThreadExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from shapes import Inputs

    Turn = Callable[[], tuple[float, list[int]]]
    System = Callable[[Inputs], AbstractContextManager[Turn]]


def timed(func: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[float, Any]:
    """Call a function, and return the seconds and its result."""
    began = perf_counter()
    outcome = func(*args, **kwargs)
    return perf_counter() - began, outcome


# ---- flowkit ---------------------------------------------------------------------------------------------------------


def make_tasks(names: list[str]) -> list[Task[..., int]]:
    """Return a trivial task for each name."""
    return [Task(add, name=name) for name in names]


def wire(tasks: list[Task[..., int]], inputs: Inputs) -> None:
    """Wire tasks with the edges of a graph."""
    for task, sources in zip(tasks, inputs, strict=True):
        for source in sources:
            tasks[source] >> task


def pipeline(inputs: Inputs) -> DAG:
    """Return a pipeline of flowkit with this shape."""
    tasks = make_tasks([f"t{number}" for number in range(len(inputs))])
    wire(tasks, inputs)
    return DAG("benchmark", tasks=tasks)


@contextmanager
def flowkit(
    make_executor: Callable[[], SerialExecutor | ThreadExecutor | ProcessExecutor], inputs: Inputs
) -> Iterator[Turn]:
    """Run with an executor of flowkit that is reused for all runs."""
    dag = pipeline(inputs)
    names = dag.graph().names
    order = [int(name[1:]) for name in names]
    with make_executor() as executor:

        def turn() -> tuple[float, list[int]]:
            seconds, results = timed(dag.run, executor)
            values = [0] * len(order)
            for place, name in zip(order, names, strict=True):
                values[place] = results[name]
            return seconds, values

        yield turn


# ---- hand-written ----------------------------------------------------------------------------------------------------


@contextmanager
def plain_loop(inputs: Inputs) -> Iterator[Turn]:
    """Run the plain loop, the lower bound."""
    yield lambda: timed(plain, inputs)


def sorter_of(inputs: Inputs) -> TopologicalSorter[int]:
    """Return a sorter, which can be used for one run."""
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for number, sources in enumerate(inputs):
        sorter.add(number, *sources)
    return sorter


def loop(inputs: Inputs, sorter: TopologicalSorter[int]) -> dict[int, int]:
    """Run in the order of graphlib, in this thread."""
    sorter.prepare()
    values: dict[int, int] = {}
    while sorter.is_active():
        for number in sorter.get_ready():
            values[number] = add(*[values[source] for source in inputs[number]])
            sorter.done(number)
    return values


def pool_with_wait(pool: Executor, inputs: Inputs, sorter: TopologicalSorter[int]) -> dict[int, int]:
    """Run with graphlib and a pool, the common way: ``wait`` for the first future that is done."""
    sorter.prepare()
    values: dict[int, int] = {}
    pending: dict[Future[int], int] = {}
    while sorter.is_active():
        for number in sorter.get_ready():
            pending[pool.submit(add, *[values[source] for source in inputs[number]])] = number
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            number = pending.pop(future)
            values[number] = future.result()
            sorter.done(number)
    return values


def pool_with_queue(pool: Executor, inputs: Inputs, sorter: TopologicalSorter[int]) -> dict[int, int]:
    """Run with graphlib and a pool, the scalable way: each future is put into a queue when it is done."""
    sorter.prepare()
    values: dict[int, int] = {}
    numbers: dict[Future[int], int] = {}
    ended: SimpleQueue[Future[int]] = SimpleQueue()
    while sorter.is_active():
        for number in sorter.get_ready():
            future = pool.submit(add, *[values[source] for source in inputs[number]])
            numbers[future] = number
            future.add_done_callback(ended.put)
        future = ended.get()
        number = numbers.pop(future)
        values[number] = future.result()
        sorter.done(number)
    return values


@contextmanager
def by_hand(
    run: Callable[..., dict[int, int]], make_pool: Callable[[], Executor] | None, inputs: Inputs
) -> Iterator[Turn]:
    """Run with graphlib, and with a warm pool if there is one."""
    pool = None if make_pool is None else make_pool()

    def turn() -> tuple[float, list[int]]:
        leading = () if pool is None else (pool,)
        seconds, values = timed(run, *leading, inputs, sorter_of(inputs))
        return seconds, [values[number] for number in range(len(inputs))]

    try:
        yield turn
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


# ---- peers -----------------------------------------------------------------------------------------------------------


SCHEDULERS: dict[str, tuple[Callable[[int], Executor] | None, str]] = {
    "synchronous": (None, "dask"),
    "threaded": (ThreadPoolExecutor, "dask.threaded"),
    "multiprocessing": (ProcessPoolExecutor, "dask.multiprocessing"),
}


@contextmanager
def dask(scheduler: str, inputs: Inputs) -> Iterator[Turn]:
    """Run a graph in the format of dask, and get all values as flowkit does."""
    make_pool, module = SCHEDULERS[scheduler]
    get = import_module(module).get
    pool = make_pool(2) if make_pool is not None else None
    options = {} if pool is None else {"pool": pool}
    keys = [f"t{number}" for number in range(len(inputs))]
    graph = {key: (add, *[keys[source] for source in sources]) for key, sources in zip(keys, inputs, strict=True)}

    def turn() -> tuple[float, list[int]]:
        seconds, values = timed(get, graph, keys, **options)
        return seconds, list(values)

    try:
        yield turn
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


@contextmanager
def joblib(inputs: Inputs) -> Iterator[Turn]:
    """Run independent tasks with the processes of joblib, which are reused; joblib has no dependencies."""
    if any(inputs):
        raise NotImplementedError("not supported: joblib has no dependencies between tasks")
    library = import_module("joblib")
    with library.Parallel(n_jobs=2, backend="loky") as parallel:
        yield lambda: timed(lambda: parallel(library.delayed(add)() for _ in inputs))


@contextmanager
def prefect(inputs: Inputs) -> Iterator[Turn]:
    """Run as a Prefect flow on two threads, with the temporary server that Prefect starts."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ |= {
            "PREFECT_HOME": home,
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        library = import_module("prefect")
        runner = import_module("prefect.task_runners").ThreadPoolTaskRunner(max_workers=2)
        step = library.task(add)

        @library.flow(task_runner=runner)  # type: ignore[untyped-decorator]
        def benchmark() -> list[int]:
            futures: list[Any] = []
            for sources in inputs:
                futures.append(step.submit(*[futures[source] for source in sources]))
            return [future.result() for future in futures]

        yield lambda: timed(benchmark)


SYSTEMS: dict[str, System] = {
    "plain loop": plain_loop,
    "graphlib loop": partial(by_hand, loop, None),
    "flowkit serial": partial(flowkit, SerialExecutor),
    "flowkit thread 2": partial(flowkit, partial(ThreadExecutor, 2)),
    "flowkit thread 8": partial(flowkit, partial(ThreadExecutor, 8)),
    "graphlib + threads, queue": partial(by_hand, pool_with_queue, partial(ThreadPoolExecutor, 2)),
    "graphlib + threads, wait": partial(by_hand, pool_with_wait, partial(ThreadPoolExecutor, 2)),
    "dask synchronous": partial(dask, "synchronous"),
    "dask threaded": partial(dask, "threaded"),
    "flowkit process 2": partial(flowkit, partial(ProcessExecutor, 2)),
    "joblib loky": joblib,
    "graphlib + processes, queue": partial(by_hand, pool_with_queue, partial(ProcessPoolExecutor, 2)),
    "graphlib + processes, wait": partial(by_hand, pool_with_wait, partial(ProcessPoolExecutor, 2)),
    "dask multiprocessing": partial(dask, "multiprocessing"),
    "Prefect": prefect,
}
OURS = [name for name in SYSTEMS if name.startswith("flowkit")]
