"""The four shapes of trivial tasks, what a task does, and the plain loop that says what must come out.

A graph is a list: for each task the positions of its inputs, all of them smaller than its own.
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Inputs = list[list[int]]


def add(*numbers: int) -> int:
    """Be a trivial task: add one to the sum of the inputs."""
    return 1 + sum(numbers)


def chain(count: int) -> Inputs:
    """Return a row: every task needs the one before."""
    return [[number - 1] if number else [] for number in range(count)]


def fanout(count: int) -> Inputs:
    """Return one task, many that need it, and one that needs all of those."""
    return [[], *([0] for _ in range(count - 2)), list(range(1, count - 1))]


def layers(count: int) -> Inputs:
    """Return a square: every task needs three of the layer before."""
    width = isqrt(count)
    first: Inputs = [[] for _ in range(width)]
    rest = [
        [start + (place + step) % width for step in range(3)]
        for start in range(0, width * (width - 1), width)
        for place in range(width)
    ]
    return first + rest


def independent(count: int) -> Inputs:
    """Return tasks that need nothing."""
    return [[] for _ in range(count)]


SHAPES: dict[str, Callable[[int], Inputs]] = {
    "chain": chain,
    "fanout": fanout,
    "layers": layers,
    "independent": independent,
}


def edges(inputs: Inputs) -> int:
    """Return how many edges a graph has."""
    return sum(map(len, inputs))


def plain(inputs: Inputs) -> list[int]:
    """Run all tasks in a plain loop: the limit of what Python can do, and the judge of everybody else."""
    values: list[int] = []
    for sources in inputs:
        values.append(add(*[values[source] for source in sources]))
    return values
