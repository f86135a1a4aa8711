"""Tasks without parameters, and the edges of a flow."""

from __future__ import annotations

from flowkit_core import Task


def make_tasks(*names):
    """Return a task for each name, which returns its name."""
    return [Task(lambda name=name: name, name=name) for name in names]


def make_empty_tasks(*names):
    """Return a task for each name, which returns None and has no parameter."""
    return [Task(lambda: None, name=name) for name in names]


def value(name, result=None, **options):
    """Return a task that returns a value, by default its name."""
    return Task(lambda: name if result is None else result, name=name, **options)


def edges(flow):
    """Return the edges of a flow, as pairs of names."""
    graph = flow.graph()
    return {(graph.names[index], node.name) for node in graph for index in node.upstream}


def order_edges(flow):
    """Return the order edges of a flow, as pairs of names."""
    graph = flow.graph()
    return {(graph.names[index], node.name) for node in graph for index in node.waits}
