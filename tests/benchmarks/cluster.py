"""What a task costs on a Dask cluster, beside the same graph written by hand with ``Client.submit``.

    python tests/benchmarks/cluster.py                      10 000 tasks of each shape, and 100 000 tasks and elements
    python tests/benchmarks/cluster.py 1000 chain fanout    fewer tasks, of some shapes

Both run in turn, on one scheduler with two worker processes on this machine, and both bring all results to the client.
Printed is a table for each shape, of medians and of the median of the quotients of each round: wall time, and processor
time of the client and of the scheduler, in microseconds per task. It needs flowkit-dask.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from distributed import Client  # type: ignore[import-not-found, import-untyped, unused-ignore]
from shapes import SHAPES, add, plain
from systems import pipeline

from flowkit_core import DAG, Task
from flowkit_dask import DaskExecutor
from flowkit_dask.local_cluster import LocalWorkers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shapes import Inputs

    Turn = Callable[[], object]

ROUNDS = 3
TASKS = 10_000
LARGE = 100_000
MEASURES = ("wall", "client CPU", "scheduler CPU")


def scheduler_time() -> float:
    """Return the processor time of the process that calls it, which is the scheduler."""
    return process_time()


def increment(number: int) -> int:
    """Return the next number: the trivial function of elements."""
    return number + 1


def by_hand(client: Client, inputs: Inputs) -> list[int]:
    """Run a graph with ``Client.submit``, as one writes it by hand."""
    futures: list[Any] = []
    for sources in inputs:
        futures.append(client.submit(add, *[futures[source] for source in sources], pure=False))
    values: list[int] = client.gather(futures)
    return values


def elements_by_hand(client: Client, numbers: range) -> list[int]:
    """Call a function for each number with ``Client.map``, one call of Dask per number."""
    values: list[int] = client.gather(client.map(increment, numbers, pure=False))
    return values


def measure(client: Client, turn: Turn) -> list[float]:
    """Run a turn; return wall time and processor times in seconds."""
    before = process_time(), client.run_on_scheduler(scheduler_time)
    began = perf_counter()
    turn()
    wall = perf_counter() - began
    return [wall, process_time() - before[0], client.run_on_scheduler(scheduler_time) - before[1]]


def compare(client: Client, title: str, count: int, ours: Turn, theirs: Turn) -> None:
    """Run two turns alternately, and print the table of one shape."""
    turns = {"flowkit": ours, "by hand": theirs}
    for turn in turns.values():
        turn()
    found: dict[str, list[list[float]]] = {name: [] for name in turns}
    for number in range(ROUNDS):
        for name in turns if number % 2 else reversed(turns):
            found[name].append(measure(client, turns[name]))
    print(f"\n{count}, {title}, {ROUNDS} rounds\n")
    print("| | flowkit | by hand | quotient |\n| --- | ---: | ---: | ---: |")
    for place, what in enumerate(MEASURES):
        cells = [f"{median(lap[place] for lap in found[name]) / count * 1e6:.0f} µs" for name in turns]
        pairs = zip(*[[lap[place] for lap in found[name]] for name in turns], strict=True)
        print(f"| {what} | {' | '.join(cells)} | {median(own / other for own, other in pairs):.2f} |", flush=True)


@contextmanager
def cluster() -> Iterator[Client]:
    """Start a scheduler and two worker processes; the scheduler is a process of its own."""
    workers = LocalWorkers(2)
    try:
        with Client(workers.address, set_as_default=False) as client:
            client.wait_for_workers(2)
            yield client
    finally:
        workers.close()


def compare_shape(client: Client, executor: DaskExecutor, shape: str, count: int) -> None:
    """Compare a graph of trivial tasks."""
    inputs = SHAPES[shape](count)
    dag = pipeline(inputs)
    if sorted(dag.run(executor).values()) != sorted(plain(inputs)):
        raise AssertionError(f"wrong results of {shape}")
    compare(client, shape, len(inputs), partial(dag.run, executor), partial(by_hand, client, inputs))


def compare_elements(client: Client, executor: DaskExecutor, count: int) -> None:
    """Compare the elements of a mapped task with ``Client.map``."""
    numbers = range(count)
    dag, params = mapped(), {"number": numbers}
    ours, theirs = partial(dag.run, executor, params=params), partial(elements_by_hand, client, numbers)
    compare(client, "elements", count, ours, theirs)


def mapped() -> DAG:
    """Return a pipeline that maps the trivial function over a parameter."""
    return DAG("elements", tasks=[Task(increment, name="increment").map("number")])


def show_large(client: Client, executor: DaskExecutor) -> None:
    """Run many tasks, and many elements, once."""
    graph = pipeline(SHAPES["independent"](LARGE))
    for what, turn in (
        ("tasks", partial(graph.run, executor)),
        ("elements", partial(mapped().run, executor, params={"number": range(LARGE)})),
    ):
        wall, ours, theirs = measure(client, turn)
        print(f"\n{LARGE} {what}: {wall:.1f} s, client CPU {ours:.1f} s, scheduler CPU {theirs:.1f} s", flush=True)


def main() -> None:
    """Measure everything, or what is named."""
    count = int(sys.argv[1]) if sys.argv[1:] else TASKS
    names = sys.argv[2:] or [*SHAPES, "elements", "large"]
    with cluster() as client, DaskExecutor(client) as executor:
        for name in names:
            if name == "large":
                show_large(client, executor)
            elif name == "elements":
                compare_elements(client, executor, count)
            else:
                compare_shape(client, executor, name, count)


if __name__ == "__main__":
    main()
