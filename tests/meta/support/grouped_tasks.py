"""Tasks that look at the record of their run: which of their inputs are committed when they start?"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
from functools import partial
from threading import get_ident

from durable_tasks import wait_until

from flowkit import DAG, Task


def names_recorded(path):
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return {name for (name,) in connection.execute("SELECT name FROM attempts")}
    finally:
        connection.close()


def look(path, name, *inputs):
    """Return the name, the worker, and the inputs that another worker has made and that are not recorded."""
    worker = [os.getpid(), get_ident()]
    recorded = names_recorded(path)
    return [name, worker, [name for name, maker, _ in inputs if maker != worker and name not in recorded]]


def layers(path, size=6, executor=None):
    """Return a pipeline of layers, in which each task takes two results of the layer before.

    Args:
        path: the file where the run is recorded.
        size: number of layers, and of tasks in each.
        executor: name of the executor of every second layer.
    """
    tasks = [
        [
            Task(
                partial(look, path, f"t{row}_{column}"), name=f"t{row}_{column}", executor=executor if row % 2 else None
            )
            for column in range(size)
        ]
        for row in range(size)
    ]
    for above, below in itertools.pairwise(tasks):
        for column, task in enumerate(below):
            [above[column], above[(column + 1) % size]] >> task
    return DAG("layers", tasks=[task for row in tasks for task in row])


def rows(path, *inputs):
    """Return what :func:`look` returns, many times."""
    return [look(path, "rows", *inputs)] * 40


def mapped(path):
    """Return a pipeline with a mapped task, whose function has been called before."""
    first, several = Task(partial(look, path, "first"), name="first"), Task(partial(rows, path), name="rows")
    each = Task(partial(look, path, "each"), name="each")
    first >> several >> each.map()
    return DAG("mapped", tasks=[each])


def run_inside(path):
    """Return what the tasks of a run find whose workers are processes, and which is started by a task."""
    return list(layers(path, 4).run("process", max_workers=2, state=path).values())


def short_or_long(path, number):
    """Return at once; number 10 returns when those before it are recorded, and fails if they are not."""
    if number == 10:
        wait_until(lambda: are_recorded(path, number))
    return number


async def short_or_long_coroutine(path, number):
    """Do what :func:`short_or_long` does, in an event loop."""
    return await asyncio.to_thread(short_or_long, path, number) if number == 10 else number


def are_recorded(path, count):
    return {f"t{number}" for number in range(count)} <= names_recorded(path)


def independent(path, function=short_or_long, long=0):
    """Return a pipeline of independent tasks, of which all but number 10 are short, after some long ones."""
    tasks = [Task(partial(wait_until, partial(are_recorded, path, 10)), name=f"long{number}") for number in range(long)]
    tasks += [Task(partial(function, path, number), name=f"t{number}") for number in range(40)]
    return DAG("independent", tasks=tasks)
