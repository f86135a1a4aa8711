"""Tasks of 10 ms to 1 s: graphs from a seed, and the makespan of the greedy schedule that flowkit is held against."""

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
    """Return a graph and the seconds that each task takes, spread evenly on a logarithmic scale.

    Args:
        kind: ``"random"``, where a task needs up to three of the twelve before it, or ``"independent"``.
        seed: what makes the graph the same each time.
        count: how many tasks.
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


def road(inputs: Inputs, lengths: list[float]) -> list[float]:
    """Return, for each task, the length of the longest road from its beginning to an end of the graph."""
    roads = list(lengths)
    for number in reversed(range(len(inputs))):
        for source in inputs[number]:
            roads[source] = max(roads[source], lengths[source] + roads[number])
    return roads


def greedy(inputs: Inputs, seconds: list[float], workers: int, rank: list[float]) -> float:
    """Return the makespan when no worker idles while a task is ready, and the ready task of highest rank goes first.

    Among equals that is the first in topological order: no rule for ties is better than another over many graphs.
    """
    after: Inputs = [[] for _ in inputs]
    for number, sources in enumerate(inputs):
        for source in sources:
            after[source].append(number)
    place = _places(inputs, after)
    waiting = [len(sources) for sources in inputs]
    ready = [(-rank[number], place[number], number) for number, count in enumerate(waiting) if not count]
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
                heappush(ready, (-rank[number], place[number], number))
    return now


def _places(inputs: Inputs, after: Inputs) -> list[int]:
    """Return the place of each task in topological order; among those that are free, by number."""
    waiting = [len(sources) for sources in inputs]
    order = [number for number, count in enumerate(waiting) if not count]
    for number in order:  # grows while it is read
        for other in after[number]:
            waiting[other] -= 1
            if not waiting[other]:
                order.append(other)
    places = [0] * len(order)
    for place, number in enumerate(order):
        places[number] = place
    return places


def best_greedy(inputs: Inputs, seconds: list[float], workers: int) -> float:
    """Return the makespan of critical path first, for a scheduler that knows beforehand how long each task takes."""
    return greedy(inputs, seconds, workers, road(inputs, seconds))


def blind_greedy(inputs: Inputs, seconds: list[float], workers: int) -> float:
    """Return the makespan of critical path first, for one that knows the graph alone and takes all tasks for equals."""
    return greedy(inputs, seconds, workers, road(inputs, [1.0] * len(seconds)))


class Nap:
    """A task that sleeps: it takes its time whatever else the machine does."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, *_inputs: int) -> int:
        """Sleep."""
        sleep(self.seconds)
        return 1


def naps(seconds: list[float]) -> list[Callable[..., int]]:
    """Return a task for each duration."""
    return [Nap(each) for each in seconds]
