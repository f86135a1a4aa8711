"""Functions that worker processes call for elements."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from pathlib import Path

from flowkit_core import Skip, current


def add_one(x):
    return x + 1


def add(x, other):
    return x + other


def scaled(factor, x, *, offset=0):
    return factor * x + offset


def fail_on_hundreds(x):
    if x % 100 == 99:
        raise ValueError(x)
    return x


def skip_on_hundreds(x):
    if x % 100 == 99:
        raise Skip("a hundred")
    return x


def fail_once(folder, x):
    mark = Path(folder) / str(x)
    if x % 100 == 99 and not mark.exists():
        mark.touch()
        raise ConnectionError(x)
    return x


def die_on_five_hundred(x):
    if x == 500:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def die_on_seven(folder, x):
    if x == 7:
        with Path(folder, "calls").open("a") as file:
            file.write("7")
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def number_of_calls(folder):
    return len(Path(folder, "calls").read_text())


def die_on_seven_and_fail_once(folder, x):
    if x == 9 and not Path(folder, "9").exists():
        Path(folder, "9").touch()
        raise ConnectionError(x)
    return die_on_seven(folder, x)


def generator_expression():
    return (x for x in range(3))


def function_of(folder, x):
    with Path(folder, "calls").open("a") as file:
        file.write("7")
    return lambda: x


def where(x):
    context = current()
    return context.task, context.element == x, context.random.random()


def log_hundreds(x):
    if x % 100 == 0:
        logging.getLogger("own").warning("element %d", x)
    return x


def unpicklable_on_seven(x):
    return threading.Lock() if x == 7 else x


def large(x):
    return bytes(200_000)


def size(x):
    return len(x)


def hang_on_two(x):
    if x == 2:
        threading.Event().wait(60)
    return x


def act(actions, x):
    """Return one more than the argument, or do what the action of the element is."""
    action = actions[current().element]
    if action == "skip":
        raise Skip("asked to")
    if action == "fail" or (action == "fail once" and current().attempt == 1):
        raise ValueError(x)
    return x + 1


async def awaited(x):
    return x + 1


async def returns_coroutine(x):
    return awaited(x)


def no_numbers():
    return []


def numbers():
    yield from range(1000)


def mark(folder, x):
    (Path(folder) / str(x)).touch()
    return x


source = None


def registered():
    """Return the generator of the function `source`; it is not called in a worker process."""
    yield from source()


async def act_async(actions, x):
    await asyncio.sleep(0)
    return act(actions, x)
