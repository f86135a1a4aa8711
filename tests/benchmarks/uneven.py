"""Tasks of 10 ms to 1 s: random graphs, and makespans of greedy schedules for comparison."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from random import Random
from time import sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shapes import Inputs

SHORTEST, LONGEST = 0.01, 1.0


def graph_of(kind: str, seed: int, count: int) -> tuple[Inputs, list[float]]:
    """Return a graph and the duration of each task in seconds, distributed evenly on a logarithmic scale.

    Args:
        kind: ``"random"``, where a task takes up to three results of the twelve tasks before it, or ``"independent"``.
        seed: seed of the random numbers.
        count: number of tasks.
    """
    random = Random(seed)
    seconds = [SHORTEST * (LONGEST / SHORTEST) ** random.random() for _ in range(count)]
    if kind == "independent":
        return [[] for _ in seconds], seconds
    inputs = [
        sorted(random.sample(range(max(0, number - 12), number), min(number, random.randint(0, 3))))
        for number in range(count)
    ]
    return inputs, seconds


def longest_paths(inputs: Inputs, lengths: list[float]) -> list[float]:
    """Return, for each task, the length of the longest path from its start to an end of the graph."""
    paths = list(lengths)
    for number in reversed(range(len(inputs))):
        for source in inputs[number]:
            paths[source] = max(paths[source], lengths[source] + paths[number])
    return paths


def greedy(inputs: Inputs, seconds: list[float], workers: int, rank: list[float]) -> float:
    """Return the makespan of a schedule in which no worker is idle while a task is ready.

    The ready task of the highest rank starts first; among equals, the first one in topological order.
    """
    after: Inputs = [[] for _ in inputs]
    for number, sources in enumerate(inputs):
        for source in sources:
            after[source].append(number)
    index = _indices(inputs, after)
    waiting = [len(sources) for sources in inputs]
    ready = [(-rank[number], index[number], number) for number, count in enumerate(waiting) if not count]
    heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            *_, number = heappop(ready)
            heappush(running, (now + seconds[number], number))
        now, ended = heappop(running)
        for number in after[ended]:
            waiting[number] -= 1
            if not waiting[number]:
                heappush(ready, (-rank[number], index[number], number))
    return now


def _indices(inputs: Inputs, after: Inputs) -> list[int]:
    """Return the index of each task in topological order; ready tasks are ordered by number."""
    waiting = [len(sources) for sources in inputs]
    order = [number for number, count in enumerate(waiting) if not count]
    for number in order:  # the loop appends to it
        for other in after[number]:
            waiting[other] -= 1
            if not waiting[other]:
                order.append(other)
    indices = [0] * len(order)
    for index, number in enumerate(order):
        indices[number] = index
    return indices


def best_greedy(inputs: Inputs, seconds: list[float], workers: int) -> float:
    """Return the makespan of critical path first, for a scheduler that knows the duration of each task."""
    return greedy(inputs, seconds, workers, longest_paths(inputs, seconds))


def blind_greedy(inputs: Inputs, seconds: list[float], workers: int) -> float:
    """Return the makespan of critical path first, for a scheduler that assumes equal durations."""
    return greedy(inputs, seconds, workers, longest_paths(inputs, [1.0] * len(seconds)))


class Nap:
    """A task that sleeps, so its duration does not depend on the load of the machine."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, *_inputs: int) -> int:
        """Sleep."""
        sleep(self.seconds)
        return 1


def naps(seconds: list[float]) -> list[Callable[..., int]]:
    """Return a task for each duration."""
    return [Nap(each) for each in seconds]
