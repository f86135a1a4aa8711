"""The four shapes of graphs of trivial tasks, the task, and the plain loop that computes the expected results.

A graph is a list: for each task the indices of its inputs, which are smaller than its own.
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Inputs = list[list[int]]


def add(*numbers: int) -> int:
    """Add one to the sum of the inputs: the trivial task."""
    return 1 + sum(numbers)


def chain(count: int) -> Inputs:
    """Return a chain: every task takes the result of the previous one."""
    return [[number - 1] if number else [] for number in range(count)]


def fanout(count: int) -> Inputs:
    """Return one task, many that take its result, and one that takes all their results."""
    return [[], *([0] for _ in range(count - 2)), list(range(1, count - 1))]


def layers(count: int) -> Inputs:
    """Return a square: every task takes three results of the previous layer."""
    width = isqrt(count)
    first: Inputs = [[] for _ in range(width)]
    rest = [
        [start + (place + step) % width for step in range(3)]
        for start in range(0, width * (width - 1), width)
        for place in range(width)
    ]
    return first + rest


def independent(count: int) -> Inputs:
    """Return tasks without inputs."""
    return [[] for _ in range(count)]


SHAPES: dict[str, Callable[[int], Inputs]] = {
    "chain": chain,
    "fanout": fanout,
    "layers": layers,
    "independent": independent,
}


def edges(inputs: Inputs) -> int:
    """Return the number of edges of a graph."""
    return sum(map(len, inputs))


def plain(inputs: Inputs) -> list[int]:
    """Run all tasks in a plain loop: the lower bound of the time, and the expected results."""
    values: list[int] = []
    for sources in inputs:
        values.append(add(*[values[source] for source in sources]))
    return values
