"""Pipelines of tests of cached tasks."""

from __future__ import annotations

from durable_tasks import step

from flowkit import DAG, Task


def square(folder, value):
    """Return a pipeline of a task that returns a value, and a cached task that squares it."""

    def made():
        return value

    def squared(made):
        return step(folder, "squared", made * made)

    return pair(made, squared, cache=True)


def pair(first, second, **options):
    """Return a pipeline of two functions; the options are those of the second task."""
    tasks = Task(first), Task(second, **options)
    tasks[0] >> tasks[1]
    return DAG("pair", tasks=tasks[1:])
