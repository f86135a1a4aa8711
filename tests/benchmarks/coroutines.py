"""Coroutines that sleep and trivial coroutines, with flowkit and with asyncio."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from flowkit_core import DAG, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KINDS = ("sleep", "independent", "fanout")


async def sleep() -> int:
    """Sleep for a second."""
    await asyncio.sleep(1)
    return 1


async def add(*numbers: int) -> int:
    """Return one more than the sum, without waiting."""
    return 1 + sum(numbers)


async def gather(size: int) -> list[int]:
    """Sleep many times at once."""
    return await asyncio.gather(*[sleep() for _ in range(size)])


async def group(size: int, *numbers: int) -> list[int]:
    """Run many trivial coroutines in a TaskGroup."""
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(add(*numbers)) for _ in range(size)]
    return [each.result() for each in made]


@contextmanager
def coroutines(kind: str, size: str) -> Iterator[Callable[[], dict[str, float]]]:
    """Run coroutines, in turns with asyncio: wall time of those that sleep, CPU time of the others."""
    count = int(size)
    tasks = [Task(sleep if kind == "sleep" else add, name=f"t{number}") for number in range(count)]
    first = Task(add, name="first")
    if kind == "fanout":
        first >> tasks
    dag = DAG("coroutines", tasks=tasks)
    dag.graph()
    clock = perf_counter if kind == "sleep" else process_time
    numbers = [1] if kind == "fanout" else []
    expected = 1 + sum(numbers)

    def timed(run: Callable[[], list[int]]) -> float:
        began = clock()
        values = run()
        seconds = clock() - began
        if values != [expected] * count:
            raise AssertionError("a coroutine returned something else")
        return seconds

    def turn() -> dict[str, float]:
        by_hand = gather(count) if kind == "sleep" else group(count, *numbers)
        return {
            "flowkit": timed(lambda: list(dag.run().values())[-count:]),
            "asyncio": timed(lambda: asyncio.run(by_hand)),
        }

    yield turn
