"""The measures; each runs in its own process, see cell.py.

A measure is a context manager that takes strings, prepares, and returns a function. Each call of the function is one
turn, and returns the measured values by name, mostly seconds.
"""

from __future__ import annotations

import gc
import logging
import resource
import sqlite3
import sys
import tracemalloc
from collections import deque
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from itertools import count
from multiprocessing import get_context
from tempfile import TemporaryDirectory
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from arrays import KINDS, MIB
from coroutines import coroutines
from elements import elements
from elements import pipeline as mapped_pipeline
from shapes import SHAPES, add, plain
from systems import SYSTEMS, loop, make_tasks, pipeline, pool_with_wait, sorter_of, timed, wire
from uneven import graph_of, naps

from flowkit_core import DAG, SerialExecutor, Task
from flowkit_exec import ProcessExecutor, ThreadExecutor
from flowkit_log import configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager

    from shapes import Inputs

    Laps = dict[str, float]
    Turn = Callable[[], Laps]
    Measure = Callable[..., AbstractContextManager[Turn]]


@contextmanager
def shape(system: str, name: str, size: str) -> Iterator[Turn]:
    """Run a shape, and compare the results with those of the plain loop."""
    inputs = SHAPES[name](int(size))
    expected = plain(inputs)
    with SYSTEMS[system](inputs) as run:

        def turn() -> Laps:
            seconds, values = run()
            if values != expected:
                raise AssertionError(f"{system} computed something else than the plain loop")
            return {"run": seconds}

        yield turn


# ---- before the first result -----------------------------------------------------------------------------------------


def build_flowkit(inputs: Inputs, names: list[str]) -> Laps:
    """Time each step from the functions to the second run, in this thread."""
    start = perf_counter()
    tasks = [Task(add, name=name) for name in names]
    defined = perf_counter()
    for task, sources in zip(tasks, inputs, strict=True):
        for source in sources:
            tasks[source] >> task
    wired = perf_counter()
    dag = DAG("build", tasks=tasks)
    dag.graph()
    built = perf_counter()
    first, _ = timed(dag.run, "serial")
    later, _ = timed(dag.run, "serial")
    return {
        "tasks": defined - start,
        "wiring": wired - defined,
        "graph": built - wired,
        "first run": first,
        "later run": later,
    }


class PlainTask:
    """Minimal task: an object with slots for a function, a name and upstreams."""

    __slots__ = ("func", "name", "upstream")

    def __init__(self, func: Callable[..., int], *, name: str) -> None:
        self.func = func
        self.name = name
        self.upstream: list[PlainTask] = []

    def __rshift__(self, other: PlainTask) -> PlainTask:
        other.upstream.append(self)
        return other


def build_slots(inputs: Inputs, names: list[str]) -> Laps:
    """Time the definition and wiring of objects with slots, the baseline of tasks of flowkit."""
    start = perf_counter()
    tasks = [PlainTask(add, name=name) for name in names]
    defined = perf_counter()
    for task, sources in zip(tasks, inputs, strict=True):
        for source in sources:
            tasks[source] >> task
    return {"tasks": defined - start, "wiring": perf_counter() - defined}


def build_graphlib(inputs: Inputs, _names: list[str]) -> Laps:
    """Time each step of the loop with graphlib; ``prepare`` is part of the run."""
    wiring, sorter = timed(sorter_of, inputs)
    first, _ = timed(loop, inputs, sorter)
    again = sorter_of(inputs)
    later, _ = timed(loop, inputs, again)
    return {"wiring": wiring, "first run": first, "later run": later}


def build_delayed(inputs: Inputs, _names: list[str]) -> Laps:
    """Time each step of dask.delayed in this thread."""
    library = import_module("dask")
    step = library.delayed(add)

    def wired() -> list[Any]:
        values: list[Any] = []
        for sources in inputs:
            values.append(step(*[values[source] for source in sources]))
        return values

    wiring, values = timed(wired)
    first, _ = timed(library.compute, *values, scheduler="synchronous")
    later, _ = timed(library.compute, *values, scheduler="synchronous")
    return {"wiring": wiring, "first run": first, "later run": later}


BUILDERS = {
    "flowkit": build_flowkit,
    "slots objects": build_slots,
    "graphlib": build_graphlib,
    "dask.delayed": build_delayed,
}


@contextmanager
def build(system: str, name: str, size: str) -> Iterator[Turn]:
    """Time all steps from the functions to the results."""
    inputs = SHAPES[name](int(size))
    yield partial(BUILDERS[system], inputs, [f"t{number}" for number in range(len(inputs))])


# ---- once, end to end ------------------------------------------------------------------------------------------------

WARM_UP = 10


def once_flowkit(inputs: Inputs, names: list[str], ends: list[int] | None) -> tuple[float, list[int]]:
    """Define, wire, build and run a pipeline on two threads, as a program does it in one function.

    Args:
        inputs: the graph.
        names: the names of its tasks.
        ends: the tasks that nothing needs, which the DAG is made of; None for ``DAG("once")``, which finds its tasks.
    """
    began = perf_counter()
    tasks = [Task(add, name=name) for name in names]
    for task, sources in zip(tasks, inputs, strict=True):
        for source in sources:
            tasks[source] >> task
    dag = DAG("once") if ends is None else DAG("once", tasks=[tasks[end] for end in ends])
    results = dag.run(max_workers=2)
    seconds = perf_counter() - began
    return seconds, [results[name] for name in names]


def once_pool(inputs: Inputs, _names: list[str], _ends: list[int]) -> tuple[float, list[int]]:
    """Fill a sorter, start a pool of two threads, run, and shut the pool down."""
    began = perf_counter()
    sorter = sorter_of(inputs)
    with ThreadPoolExecutor(2) as pool:
        values = pool_with_wait(pool, inputs, sorter)
    return perf_counter() - began, [values[number] for number in range(len(inputs))]


def once_loop(inputs: Inputs, _names: list[str], _ends: list[int]) -> tuple[float, list[int]]:
    """Fill a sorter and run in its order, in this thread."""
    began = perf_counter()
    values = loop(inputs, sorter_of(inputs))
    return perf_counter() - began, [values[number] for number in range(len(inputs))]


ONCE: dict[str, Callable[[Inputs, list[str], list[int]], tuple[float, list[int]]]] = {
    "flowkit": once_flowkit,
    "flowkit, bare DAG": lambda inputs, names, _ends: once_flowkit(inputs, names, None),
    "graphlib + threads, wait": once_pool,
    "graphlib loop": once_loop,
}


@contextmanager
def once(system: str, name: str, size: str) -> Iterator[Turn]:
    """Time one pass from functions to results, of a new pipeline in each turn.

    A small pipeline is run first, so that modules are imported. Garbage of the turn before is collected before the
    clock starts; within a turn the collector works as it does in any program.
    """
    inputs = SHAPES[name](int(size))
    expected = plain(inputs)
    names = [f"t{number}" for number in range(len(inputs))]
    used = {source for sources in inputs for source in sources}
    ends = [number for number in range(len(inputs)) if number not in used]
    first: Inputs = [[number - 1] if number else [] for number in range(WARM_UP)]
    ONCE[system](first, [f"first_{number}" for number in range(WARM_UP)], [WARM_UP - 1])

    def turn() -> Laps:
        gc.collect()
        seconds, values = ONCE[system](inputs, names, ends)
        if values != expected:
            raise AssertionError(f"{system} computed something else than the plain loop")
        return {"run": seconds}

    yield turn


@contextmanager
def memory(name: str, size: str) -> Iterator[Turn]:
    """Measure the memory of flowkit in bytes, without the names and the values, which belong to the user."""
    inputs = SHAPES[name](int(size))
    names = [f"t{number}" for number in range(len(inputs))]

    def turn() -> Laps:
        Task.clear_registry()
        gc.collect()
        tracemalloc.start()
        values = plain(inputs)
        own = tracemalloc.get_traced_memory()[0]
        del values
        start = tracemalloc.get_traced_memory()[0]
        tasks = make_tasks(names)
        wire(tasks, inputs)
        wired = tracemalloc.get_traced_memory()[0]
        dag = DAG("memory", tasks=tasks)
        dag.graph()
        graph = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        results = dag.run("serial")
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        if len(results) != len(inputs):
            raise AssertionError("results are missing")
        return {
            "tasks and wiring": wired - start,
            "graph": graph - wired,
            "results, without the values": kept - graph - own,
            "everything at the peak": peak - start - own,
        }

    yield turn


LARGE = 20 << 20


def grown(values: bytearray) -> bytearray:
    """Return other 20 MiB."""
    return bytearray(values)


@contextmanager
def kept(size: str) -> Iterator[Turn]:
    """Measure the peak of a chain of tasks that return 20 MiB, with ``keep=``, and that of a loop, in bytes."""
    first: Task[..., Any] = Task(partial(bytearray, LARGE), name="first")
    last = first
    for number in range(int(size) - 1):
        after = Task(grown, name=f"t{number}")
        last >> after
        last = after
    dag = DAG("kept", tasks=[last])
    dag.graph()

    def by_hand() -> bytearray:
        value = bytearray(LARGE)
        for _ in range(int(size) - 1):
            value = grown(value)
        return value

    def peak(run: Callable[[], bytearray]) -> float:
        tracemalloc.start()
        if len(run()) != LARGE:
            raise AssertionError("a value has another size")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return float(found)

    def turn() -> Laps:
        return {"flowkit": peak(lambda: dag.run(keep=[last.name])[last.name]), "by hand": peak(by_hand)}

    yield turn


@contextmanager
def huge(name: str, size: str) -> Iterator[Turn]:
    """Build a graph and run it once on two threads; the peak is that of the whole process, in bytes."""
    inputs = SHAPES[name](int(size))

    def turn() -> Laps:
        build, dag = timed(pipeline, inputs)
        graph, _ = timed(dag.graph)
        run, results = timed(dag.run, ThreadExecutor(2))
        if list(results.values()) != plain(inputs):
            raise AssertionError("flowkit computed something else than the plain loop")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return {"tasks and wiring": build, "graph": graph, "run": run, "peak": float(peak)}

    yield turn


# ---- small runs ------------------------------------------------------------------------------------------------------

THREE: Inputs = [[], [0], [0, 1]]
IN_A_ROW = 20


def run_three(pool: Executor) -> None:
    """Run the three tasks with a pool, without a graph."""
    first = pool.submit(add).result()
    second = pool.submit(add, first).result()
    pool.submit(add, first, second).result()


@contextmanager
def three(system: str, warm: str) -> Iterator[Turn]:
    """Run three tasks with an executor that is reused (``warm``) or created for each run (``cold``)."""
    dag = pipeline(THREE)
    makers: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
        "flowkit serial": (SerialExecutor, dag.run),
        "flowkit thread": (ThreadExecutor, dag.run),
        "flowkit process": (partial(ProcessExecutor, 2), dag.run),
        "ThreadPoolExecutor": (partial(ThreadPoolExecutor, 2), run_three),
        "ProcessPoolExecutor": (partial(ProcessPoolExecutor, 2), run_three),
        "ProcessPoolExecutor, spawn": (partial(ProcessPoolExecutor, 2, mp_context=get_context("spawn")), run_three),
    }
    make, run = makers[system]
    repeats = 1 if warm == "cold" and "rocess" in system else IN_A_ROW

    def often(executor: Any) -> None:
        for _ in range(repeats):
            if executor is not None:
                run(executor)
            else:
                with make() as own:
                    run(own)

    with make() if warm == "warm" else nullcontext() as executor:
        yield lambda: {"run": timed(often, executor)[0] / repeats}


def reset_logging() -> None:
    """Remove the configuration of the loggers."""
    for logger, level in ((logging.getLogger(), logging.WARNING), (logging.getLogger("flowkit"), logging.NOTSET)):
        for handler in logger.handlers[:]:
            if not isinstance(handler, logging.NullHandler):
                logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = True


@contextmanager
def logs(name: str, size: str) -> Iterator[Turn]:
    """Run a shape on two threads without logging, and with logging at WARNING by flowkit and by ``logging``.

    They take turns in one process: the difference between two equal processes is larger than the measured one.
    """
    setups: dict[str, Callable[[], object]] = {
        "none": lambda: None,
        "flowkit": partial(configure_logging, level="WARNING"),
        "standard": partial(logging.basicConfig, level=logging.WARNING),
    }
    order = deque(setups)
    with shape("flowkit thread 2", name, size) as run:

        def turn() -> Laps:
            order.rotate()
            laps = {}
            for setup in order:
                reset_logging()
                setups[setup]()
                laps[setup] = run()["run"]
            return laps

        yield turn


def commits(path: str, size: int) -> None:
    """Insert rows into a new SQLite file, each in a transaction of its own, in the mode that flowkit uses."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("CREATE TABLE results (number INTEGER PRIMARY KEY, ended REAL, value TEXT)")
        for number in range(size):
            connection.execute("INSERT INTO results VALUES (?, ?, ?)", (number, time(), "1"))
    finally:
        connection.close()


@contextmanager
def recording(workers: str, name: str, size: str) -> Iterator[Turn]:
    """Run a shape, or a map over as many elements, on threads: without a record, and with one in a new SQLite file.

    For comparison, as many rows are inserted into a file by hand, each in a transaction of its own.
    """
    dag = mapped_pipeline("list", int(size))[0] if name == "map" else pipeline(SHAPES[name](int(size)))
    params = {"iterable": list(range(int(size)))} if name == "map" else {}
    files = count()
    with ThreadExecutor(int(workers)) as executor, TemporaryDirectory() as folder:

        def turn() -> Laps:
            bare, expected = timed(partial(dag.run, params=params), executor)
            recorded, results = timed(partial(dag.run, params=params, state=f"{folder}/{next(files)}.db"), executor)
            if results != expected:
                raise AssertionError("a recorded run computed something else")
            by_hand, _ = timed(commits, f"{folder}/{next(files)}.db", int(size))
            return {"bare": bare, "recorded": recorded, "record": max(recorded - bare, 0.0), "by hand": by_hand}

        yield turn


# ---- large things ----------------------------------------------------------------------------------------------------


@contextmanager
def uneven(system: str, workers: str, kind: str, seed: str, size: str) -> Iterator[Turn]:
    """Time a run of tasks that sleep for 10 ms to 1 s."""
    inputs, seconds = graph_of(kind, int(seed), int(size))
    functions = naps(seconds)
    tasks = [Task(function, name=f"t{number}") for number, function in enumerate(functions)]
    wire(tasks, inputs)
    dag = DAG("uneven", tasks=tasks)
    dag.graph()
    makers: dict[str, Callable[[int], Any]] = {
        "flowkit thread": ThreadExecutor,
        "flowkit process": ProcessExecutor,
        "graphlib + threads": ThreadPoolExecutor,
        "graphlib + processes": ProcessPoolExecutor,
    }

    def by_hand(pool: Any) -> None:
        sorter = sorter_of(inputs)
        sorter.prepare()
        pending: dict[Any, int] = {}
        futures = import_module("concurrent.futures")
        while sorter.is_active():
            for number in sorter.get_ready():
                pending[pool.submit(functions[number])] = number
            for future in futures.wait(pending, return_when=futures.FIRST_COMPLETED).done:
                sorter.done(pending.pop(future))

    with makers[system](int(workers)) as executor:
        if system.startswith("flowkit"):
            pipeline([[] for _ in range(8)]).run(executor)  # starts the workers
            yield lambda: {"run": timed(dag.run, executor)[0]}
        else:
            list(executor.map(add, range(8)))
            yield lambda: {"run": timed(by_hand, executor)[0]}


@contextmanager
def array(system: str, kind: str, readers: str) -> Iterator[Turn]:
    """Pass 64 MiB from a task to one or two others in two processes.

    The time of the computation, and that of passing a small value, is subtracted.
    """
    make, use = KINDS[kind]
    wanted, sizes = int(readers), {"large": 64 * MIB, "small": 8}
    places: set[int] = set()
    fresh = count()

    def by_flowkit(executor: ProcessExecutor, size: int) -> list[Any]:
        return list(dags[size].run(executor).values())[1:]

    def by_pool(pool: ProcessPoolExecutor, size: int) -> list[Any]:
        value = pool.submit(make, size).result()
        return [future.result() for future in [pool.submit(use, value) for _ in range(wanted)]]

    def dag_of(size: int) -> DAG:
        maker = Task(partial(make, size), name=f"make_{next(fresh)}")
        maker >> [Task(use, name=f"use_{next(fresh)}") for _ in range(wanted)]
        return DAG("array", tasks=maker.downstream)

    dags = {size: dag_of(size) for size in sizes.values()}
    ours = system == "flowkit process"
    with ProcessExecutor(2) if ours else ProcessPoolExecutor(2) as executor:
        run: Any = by_flowkit if ours else by_pool

        def turn() -> Laps:
            whole, read = timed(run, executor, sizes["large"])
            if {value for _, value in read} != {use(make(sizes["large"]))[1]}:
                raise AssertionError(f"{system} handed over something else")
            places.update(place for place, _ in read)
            del read
            bare, _ = timed(run, executor, sizes["small"])
            making, value = timed(make, sizes["large"])
            began = perf_counter()
            use(value)
            using = perf_counter() - began
            return {"whole": whole, "handing over": max(whole - bare - making - using, 1e-4)}

        yield turn


MEASURES: dict[str, Measure] = {
    "shape": shape,
    "build": build,
    "once": once,
    "memory": memory,
    "huge": huge,
    "kept": kept,
    "three": three,
    "logs": logs,
    "recording": recording,
    "uneven": uneven,
    "array": array,
    "coroutines": coroutines,
    "elements": elements,
}
