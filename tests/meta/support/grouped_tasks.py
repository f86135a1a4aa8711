"""Tasks that look at the record of their run: which of their inputs are committed when they start?"""

from __future__ import annotations

import itertools
import os
import sqlite3
from functools import partial
from threading import get_ident

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
