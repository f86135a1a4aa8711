"""Texts of warnings about discovery: which tasks and edges a pipeline lacks, and what to write instead."""

from __future__ import annotations

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flowkit_core._typing import Any


def imported_only(pipeline: str, module: str, task: Any) -> str:
    """Return the warning of a task that a module has imported by name, but does not wire, copy or call."""
    return (
        f"DAG {pipeline!r} has the tasks that module {module!r} has made, and not {task.name!r}, "
        f"which it has only imported: wire it with '>>', or name the tasks, DAG({pipeline!r}, tasks=[...])"
    )


def decorator_above(pipeline: str, task: Any) -> str:
    """Return the warning of a task that a decorator above ``@task`` wraps, and which runs without it."""
    return (
        f"DAG {pipeline!r} runs the task {task.name!r} without the decorator that is above its @task: "
        f"write @task above the other decorator"
    )


def only_called(pipeline: str, tasks: Sequence[Any]) -> str:
    """Return the warning of tasks that were all called directly, and of which none takes the result of another."""
    return (
        f"DAG {pipeline!r} runs {_listed(tasks)} again, which were called before, and no edges connect them: a call, "
        f"as in load(extract()), runs the tasks at once and wires nothing: write extract >> load, or, if they are to "
        f"run independently, DAG({pipeline!r}, tasks=[...])"
    )


def no_tasks(pipeline: str, where: str, advice: str) -> str:
    """Return the warning that discovery has found no tasks.

    Args:
        pipeline: name of the pipeline.
        where: where discovery has looked.
        advice: what to write, with the punctuation before it.
    """
    return f"DAG {pipeline!r} has no tasks: none was made in {where}{advice}"


def caller_has_tasks(pipeline: str, caller: str, tasks: Sequence[Any]) -> str:
    """Return the advice for tasks that a caller of the function has made."""
    return f"; its caller {caller}() has made {_listed(tasks)}: write DAG({pipeline!r}, tasks=[...])"


def block_has_tasks(pipeline: str, tasks: Sequence[Any]) -> str:
    """Return the advice for tasks of a ``with`` block."""
    return (
        f"; tasks of a 'with' block ({_listed(tasks)}) are only in the DAG of the block: "
        f"write with DAG({pipeline!r}) as dag: ..., and dag.run()"
    )


def module_has_tasks(pipeline: str, module: str, tasks: Sequence[Any], last: Any) -> str:
    """Return the advice for tasks of an imported module; one of them has no downstreams."""
    return (
        f"; module {module!r}, imported there, has {_listed(tasks)}: "
        f"write DAG({pipeline!r}, tasks=[{module}.{escape_control_chars(last.name)}])"
    )


def tasks_were_removed(pipeline: str, tasks: Sequence[Any]) -> str:
    """Return the advice for tasks that ``Task.clear_registry()`` has removed."""
    return (
        f"; Task.clear_registry() has removed {_listed(tasks)}: create new ones, or write "
        f"DAG({pipeline!r}, tasks=[...])"
    )


def belongs_to_block(pipeline: str, task: Any, block: str, created_in: str, kind: str = "DAG") -> str:
    """Return the error of a pipeline whose task, or the edges to it, belong to the ``with`` block of another pipeline.

    Args:
        pipeline: name of the pipeline, which was created while the block was open.
        task: the task; None if the pipeline lacks the tasks and edges, because it was to have all of its call.
        block: name of the other pipeline.
        created_in: function that creates the pipeline, or ``"<module>"``.
        kind: ``"DAG"`` or ``"flow"``.
    """
    place = "" if created_in == "<module>" else f" in {created_in}()"
    if task is None:
        maker = f"{created_in}()" if place else "the module"
        which = f"the tasks or edges that {maker} has made are part of that block"
    else:
        which = f"has the task {task.name!r}, which was made or wired in that block"
    return (
        f"{kind} {pipeline!r} was created{place} while the block 'with DAG({block!r})' was open, and {which}: "
        f"such tasks and edges belong to DAG {block!r} alone. Make them in a block of their own, "
        f"with DAG({pipeline!r}) as dag: ..., or before the block begins"
    )


def create_tasks(pipeline: str) -> str:
    """Return the advice if there are no tasks anywhere near."""
    return f": create tasks with @task before, or write DAG({pipeline!r}, tasks=[...])"


def edges_elsewhere(pipeline: str, task: Any, edge: object, declared_in: str, created_in: str) -> str:
    """Return the warning of a task without upstreams here, which has some in a call that is not among the callers.

    Args:
        pipeline: name of the pipeline.
        task: the task.
        edge: an edge to it.
        declared_in: function that declares the edge.
        created_in: function that creates the pipeline.
    """
    return (
        f"task {task.name!r} of DAG {pipeline!r} has no upstreams, but {declared_in}() declares {edge}, "
        f"which applies to pipelines that {declared_in}() or functions that it calls create: create the "
        f"DAG there, not in {created_in}(), or wire the tasks at the top level of their module"
    )


def unused_tasks(pipeline: str, created_in: str, found: Sequence[Any], caller: str, held: Sequence[Any]) -> str:
    """Return the warning of a call that runs the tasks of the module although a caller has unused tasks.

    Args:
        pipeline: name of the pipeline.
        created_in: function that creates the pipeline.
        found: the tasks of the module.
        caller: a caller of that function.
        held: its unused tasks.
    """
    return (
        f"DAG {pipeline!r} was created in {created_in}(), which has made no tasks, so the DAG has "
        f"{_listed(found)}; its caller {caller}() has made {_listed(held)}, which no pipeline has: "
        f"name the tasks, DAG({pipeline!r}, tasks=[...])"
    )


def dropped_edges(pipeline: str, edges: Iterable[str], redefined: Iterable[Any], others: Sequence[str]) -> str:
    """Return the warning of edges that were removed because a task was redefined.

    Args:
        pipeline: name of the pipeline.
        edges: the edges.
        redefined: the tasks that were redefined.
        others: names of the other tasks at these edges.
    """
    dropped = " and ".join(edges)
    places = [f"{task.name!r} ({task.location})" for task in redefined]
    return (
        f"{pipeline!r} lacks {dropped}, because {' and '.join(places)} {'was' if len(places) == 1 else 'were'} "
        f"redefined since: write {dropped} again (in a notebook, run the cell that wires them), or redefine "
        f"{' and '.join(map(repr, others))} as well"
    )


def leave_out(pipeline: str, tasks: Sequence[str]) -> str:
    """Return what to write, after :func:`dropped_edges`, if the tasks are not to be part of the pipeline."""
    return (
        f"; to leave {' and '.join(map(repr, tasks))} out, write DAG({pipeline!r}, tasks=[...]), or begin "
        f"again with Task.clear_registry()"
    )


def _listed(tasks: Sequence[Any], most: int = 5) -> str:
    names = [escape_control_chars(task.name) for task in tasks]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
