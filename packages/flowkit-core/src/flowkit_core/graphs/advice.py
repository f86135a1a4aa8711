"""Texts of warnings and errors about the parameters of a graph: what is wrong, and what to write instead."""

from __future__ import annotations

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .node import Node


def on_misspelt_parameter(task: str, parameter: str, given: str, meant: str) -> str:
    """Return the warning about a parameter that is filled by order and misspells the name of another upstream."""
    return (
        f"task {task!r} gets what {given!r} returns as {parameter!r}, by order, although the name of its "
        f"upstream {meant!r} is more similar: name the parameter {meant!r}, or {given!r} if that is meant"
    )


def on_ignored_default(task: str, parameter: str, given: str) -> str:
    """Return the warning about a default that differs from task to task, and that an upstream result replaces."""
    return (
        f"task {task!r} gets what {given!r} returns as {parameter!r}, by order, instead of its default, which differs "
        f"in other tasks of the same function: to give each task a value of its own, use functools.partial(function, "
        f"{parameter}=...); if the default is only for a missing result, name the parameter {given!r}"
    )


def on_shared_generator(task: str, takers: Sequence[str]) -> str:
    """Return the warning about a generator that several tasks take."""
    return (
        f"task {task!r} returns a generator, which {' and '.join(map(repr, takers))} take: it can be iterated once, "
        f"so all but one of them get nothing: return a list"
    )


def on_annotated_none(task: str, parameter: str, upstream: str) -> str:
    """Return the warning about a parameter that is filled by order from a function that returns None."""
    return (
        f"task {task!r} gets what {upstream!r} returns as {parameter!r}, by order, but {upstream!r} is "
        f"annotated '-> None': to wait for it without taking its result, write {_after(task, upstream)}; "
        f"if None is meant, name the parameter {upstream!r}"
    )


def on_needed_results(task: str, parameter: str, upstream: str) -> str:
    """Return the warning about a clean-up task that needs the results of all its upstreams."""
    return (
        f"task {task!r} has trigger='all_done', but does not run after a failure: its parameter {parameter!r} has no "
        f"default, so it needs the result of {upstream!r}: write {parameter}=None, or take no result with "
        f"{_after(task, upstream)}"
    )


def for_filled_parameter(task: str, upstream: str, *, for_dag: bool) -> str:
    """Return the fix for a name in ``params`` that an upstream fills.

    Args:
        task: the task that takes the parameter.
        upstream: the task that fills it.
        for_dag: whether the pipeline is a DAG, and not a Flow.
    """
    if not for_dag:
        return f"rename the parameter, or the task {upstream!r}; a flow fills parameters by the names of earlier tasks"
    return (
        f"if the task is only to wait for {upstream!r}, write {_after(task, upstream)} instead of "
        f"{upstream} >> {task}; if another parameter is to take its result, name that {upstream!r}, or put it first"
    )


def for_open_parameter_of_flow(parameter: str, *, exists: bool) -> str:
    """Return the fix for a parameter that nothing fills, in a Flow.

    Args:
        parameter: the parameter.
        exists: whether there is a task of that name, which is not earlier in the flow.
    """
    if exists:
        return f"a task named {parameter!r} exists but is not earlier in the flow: add({parameter}) before it"
    return "name the parameter after an earlier task of the flow, add() such a task before it"


def for_open_parameter_of_dag(
    pipeline: str, node: Node, parameter: str, waits: Sequence[str], ancestors: Sequence[str], *, exists: bool
) -> str:
    """Return the fix for a parameter that nothing fills, in a DAG.

    Args:
        pipeline: name of the pipeline.
        node: the node.
        parameter: the parameter.
        waits: names of the tasks that the node only waits for.
        ancestors: names of all tasks upstream of it.
        exists: whether there is a task of that name which is not directly upstream.
    """
    if parameter in waits:
        return (
            f"it only runs after {parameter!r} (after()): write '{parameter} >> {node.name}' instead, to take its "
            f"result"
        )
    if parameter in ancestors:
        return (
            f"{parameter!r} is upstream of it only through other tasks, and a DAG passes results of direct "
            f"upstreams: add '{parameter} >> {node.name}'"
        )
    if exists:
        return f"a task named {parameter!r} exists but is not wired to it: add '{parameter} >> {node.name}'"
    wire = "wire a task to it with '>>'"
    if node.upstream:
        return wire
    return f"if it is not part of {pipeline!r}, name the tasks that are, with DAG({pipeline!r}, tasks=[...]); or {wire}"


def _after(task: str, upstream: str) -> str:
    """Return the text that wires a task to wait for another one."""
    return f"{escape_control_chars(task)}.after({escape_control_chars(upstream)})"
