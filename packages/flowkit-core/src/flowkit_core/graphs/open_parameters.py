"""Parameters that no upstream fills: checking ``run(params=...)``, and the values for one task."""

from __future__ import annotations

from flowkit_core._text import closest, did_you_mean, listed, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import raise_or_collect
from flowkit_core.errors import BindingError

from .parameters import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from flowkit_core._typing import Any

    from .node import Node


def params_of(node: Node, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of ``run(params=...)`` for one node.

    ``"clean.extract.parameter"``, for one task, takes precedence over ``"clean.parameter"``, for all tasks of a
    pipeline that is used as a task, and this over ``"parameter"``.
    """
    own = {name: value for name, value in params.items() if "." not in name}
    for task in owners(node):
        for key, value in params.items():
            owner, dot, name = key.rpartition(".")
            if dot and owner == task:
                own[name] = value
    return own


def owners(node: Node) -> list[str]:
    """Return the names before the last dot in ``params`` that mean a node, the one with precedence last."""
    return [*(node.entry.names() if node.entry is not None else ()), node.name]


def check_params_type(params: Any) -> None:
    """Check that the argument ``params`` is a mapping of names.

    Raises:
        BindingError: it is not.
    """
    if not hasattr(params, "keys"):
        raise BindingError(
            f"run(params=...) is {short_repr(params)}, but must map parameter names to values: "
            f"write params={{'name': ...}}"
        )
    if odd := [name for name in params if not isinstance(name, str)]:
        raise BindingError(
            f"run(params=...) has the key {short_repr(odd[0])}, but its keys must be names of parameters: "
            f"write params={{'name': ...}}"
        )


def check_open(
    nodes: Sequence[Node],
    names: Sequence[str],
    open_nodes: Sequence[Node],
    params: Mapping[str, Any],
    remedy: Callable[[Node, str, bool], str],
    filled_remedy: Callable[[str, str, str], str],
    known: Callable[[], Sequence[str]],
) -> None:
    """Check that ``run(params=...)`` fills every open parameter without a default, and has no unknown names.

    Args:
        nodes: the nodes of a graph.
        names: the names of the nodes.
        open_nodes: the nodes with open parameters.
        params: the argument ``params`` of ``run()``.
        remedy: returns the fix for a parameter that nothing fills, given the node, the parameter, and whether a task
            of that name exists that is not directly upstream.
        filled_remedy: returns the fix for a parameter that an upstream fills, given task, parameter and upstream.
        known: returns names of tasks outside the pipeline, for suggestions.

    Raises:
        BindingError: a parameter is not filled, or no task has an open parameter of a name.
    """
    check_params_type(params)
    wanted: dict[str, list[str]] = {}  # parameter -> tasks that take it
    for node in open_nodes:
        for parameter in node.binding.open if node.binding is not None else ():
            wanted.setdefault(parameter, []).append(node.name)
    qualified = {
        f"{owner}.{parameter}"
        for node in open_nodes
        for parameter in (node.binding.open if node.binding is not None else ())
        for owner in owners(node)
    }
    for name in params:
        if name not in wanted and name not in qualified:
            raise_or_collect(_unwanted(nodes, names, name, wanted, qualified, filled_remedy), "parameter")
    for node in open_nodes:
        for parameter in node.binding.open if node.binding is not None else ():
            if parameter in params or parameter in node.parameters.defaults or parameter == KEY:
                continue
            if not any(f"{owner}.{parameter}" in params for owner in owners(node)):
                upstream = [names[index] for index in node.upstream if index not in node.waits]
                raise_or_collect(_missing(node, parameter, upstream, remedy, [*names, *known()]), "parameter")


def _unwanted(
    nodes: Sequence[Node],
    names: Sequence[str],
    name: str,
    wanted: Mapping[str, Sequence[str]],
    qualified: set[str],
    filled_remedy: Callable[[str, str, str], str],
) -> BindingError:
    """Return the error for a name in ``run(params=...)`` that is not an open parameter of any task."""
    owner, dot, parameter = name.rpartition(".")
    for node in nodes:
        if dot and node.name != owner:
            continue
        filled = parameter if dot else name
        source = node.named_sources().get(filled)
        if source is not None:
            upstream = names[source]
            return BindingError(
                f"run(params=...) has {name!r}, but {filled!r} of task {node.name!r} is filled by its upstream "
                f"{upstream!r}: {filled_remedy(node.name, filled, upstream)}",
                node.name,
                filled,
                [upstream],
            )
    takes = sorted(wanted)
    similar = _similar_filled(nodes, name, {*takes, *qualified})
    if similar is not None:
        node, filled, source = similar
        upstream = names[source]
        return BindingError(
            f"run(params=...) has {name!r}, but no task has an open parameter of this name; the similar {filled!r} of "
            f"task {node.name!r} is filled by its upstream {upstream!r}: {filled_remedy(node.name, filled, upstream)}",
            node.name,
            filled,
            [upstream],
        )
    guess = did_you_mean(name, [*takes, *sorted(qualified)])
    if dot and owner in names:
        own = sorted(found for found, tasks in wanted.items() if owner in tasks)
        has = f"open parameters of task {owner!r}: {', '.join(own)}" if own else f"task {owner!r} has no open parameter"
    else:
        has = f"open parameters: {', '.join(takes)}" if takes else "there are no open parameters: leave it out"
    return BindingError(
        f"run(params=...) has {name!r}, but no task has an open parameter of this name{guess}; {has}", None, name, takes
    )


def _similar_filled(nodes: Sequence[Node], name: str, taken: AbstractSet[str]) -> tuple[Node, str, int] | None:
    """Return the parameter that is most similar to a name in ``run(params=...)``, if an upstream fills it.

    Args:
        nodes: the nodes of a graph.
        name: the name, ``"parameter"`` or ``"task.parameter"``.
        taken: the names that tasks take from ``run(params=...)``.

    Returns:
        The node, the parameter and the index of the node that fills it; None if a name in ``taken`` is more similar.
    """
    found: dict[str, tuple[Node, str, int]] = {}
    for node in nodes:
        for parameter in node.parameters.names:
            source = node.named_sources().get(parameter)
            if source is not None:
                found[f"{node.name}.{parameter}" if "." in name else parameter] = node, parameter, source
    most_similar = closest(name, {*found, *taken})
    return found.get(most_similar) if most_similar is not None and most_similar not in taken else None


def _missing(
    node: Node,
    parameter: str,
    upstream: Sequence[str],
    remedy: Callable[[Node, str, bool], str],
    names: Sequence[str],
) -> BindingError:
    """Return the error for a parameter that nothing fills, given the names of tasks in and near the pipeline."""
    task, parameters = node.name, node.parameters
    others = [name for name in names if name != task]
    exists = parameter in others and parameter not in upstream
    guess = "" if exists else did_you_mean(parameter, [name for name in others if name not in parameters.names])
    if parameter == "self":
        advice = f"a method needs an object: make a task of a bound method, Task(something.{task})"
    else:
        advice = remedy(node, parameter, exists)
    if upstream:
        use = f"nothing upstream is named that{guess}; it can use: {listed(upstream)}"
    else:
        called = (
            f" ({task!r} was called, which runs it and wires nothing)" if getattr(node.task, "_was_called", 0) else ""
        )
        use = f"it has no upstream{called}{guess}"
    return BindingError(
        f"task {task!r} takes {parameter!r}, but {use}; its signature is {task}{parameters}: "
        f"{advice}, give the parameter a default, or pass run(params={{{parameter!r}: ...}})",
        task,
        parameter,
        upstream,
    )
