"""Binding of upstream results to parameters, done once when the graph is built."""

from __future__ import annotations

from flowkit_core._text import did_you_mean, escape_control_chars, listed
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import raise_or_collect, warn
from flowkit_core.errors import BindingError

from .parameters import KEY, Parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flowkit_core._typing import Any


class Binding:
    """Sources of the arguments of one node; a source is the index of a node.

    Attributes:
        named: parameter -> source.
        rest: sources of ``*args``.
        named_rest: key -> source, for ``**kwargs``.
        open: parameters that no upstream fills; they take ``run(params=...)``, then their default.
        by_order: parameters in ``named`` that were filled by order, not by name.
    """

    __slots__ = ("by_order", "named", "named_rest", "open", "rest")

    def __init__(
        self,
        named: dict[str, int],
        rest: Sequence[int] = (),
        named_rest: Mapping[str, int] | None = None,
        open: Iterable[str] = (),
        by_order: Sequence[str] = (),
    ) -> None:
        self.named = named
        self.rest = tuple(rest)
        self.named_rest = named_rest or {}
        self.open = tuple(open)
        self.by_order = by_order

    def in_order(self, parameters: Parameters) -> tuple[int, ...] | None:
        """Return the sources if they are the leading positional arguments, in order and no others; else None.

        The result is ``Node.arg_sources``, with which a call needs no names. For ``def f(a, b, *rest)``, the sources
        ``named={"b": 1, "a": 0}, rest=(2,)`` are in order: ``(0, 1, 2)``. For ``named={"b": 1}``, where ``a`` takes its
        default, they are not: each call then gets its arguments by name from this binding.
        """
        if self.named_rest:
            return None
        count = len(self.named)
        if tuple(self.named) != parameters.positional[:count]:
            if set(self.named) != set(parameters.positional[:count]):
                return None
            leading = tuple(self.named[name] for name in parameters.positional[:count])
        else:
            leading = tuple(self.named.values())
        if self.rest and count != len(parameters.positional):
            return None
        return leading + self.rest


def bind_for_dag(task: str, parameters: Parameters, upstream: Mapping[str, int], _names: Sequence[str] = ()) -> Binding:
    """Bind by the rule of a DAG: by name from the direct upstreams, the others in order.

    A task without parameters takes no results.

    Args:
        task: name of the task.
        parameters: what its function takes.
        upstream: the direct upstreams, name -> index, in order of declaration.

    Raises:
        BindingError: the task has more upstream results than parameters.
    """
    names = parameters.names
    if not names and not parameters.rest and not parameters.named_rest:
        return Binding({})
    if parameters.bound:
        names = tuple([name for name in names if name not in parameters.bound])
    named = {name: upstream[name] for name in names if name in upstream}
    others = [(name, index) for name, index in upstream.items() if name not in named]
    by_order: list[str] = []
    if others:
        by_place = parameters.positional if parameters.rest else names  # parameters after *args are filled by name only
        free = [
            name
            for name in by_place
            if name not in named and name != KEY and (name in parameters.positional or name not in parameters.defaults)
        ]
        for parameter, (_, index) in zip(free, others, strict=False):
            named[parameter] = index
            by_order.append(parameter)
        others = others[len(free) :]
    rest: list[int] = []
    named_rest: dict[str, int] = {}
    if others:
        if parameters.rest:
            rest = [index for _, index in others]
        elif parameters.named_rest:
            named_rest = dict(others)
        elif names and (parameters.bound or not all(name in upstream for name in names)):
            raise_or_collect(_too_many(task, parameters, upstream, others))
    return Binding(named, rest, named_rest, _open(parameters, named), by_order)


def bind_for_flow(
    task: str, parameters: Parameters, upstream: Mapping[str, int], earlier: Callable[[str], int | None]
) -> Binding:
    """Bind by the rule of a Flow: by name from any earlier task; one remaining parameter to one remaining upstream.

    Args:
        task: name of the task.
        parameters: what its function takes.
        upstream: the direct upstreams, name -> index, in order of declaration.
        earlier: returns the index of the earlier task of a name, or None.
    """
    names = parameters.names
    if parameters.bound:
        names = tuple([name for name in names if name not in parameters.bound])
    named: dict[str, int] = {}
    for name in names:
        index = upstream.get(name)
        if index is None:
            index = earlier(name)
        if index is not None:
            named[name] = index
    required = [name for name in names if name not in named and name not in parameters.defaults and name != KEY]
    others = {name: index for name, index in upstream.items() if name not in named}
    rest: list[int] = []
    named_rest: dict[str, int] = {}
    by_order: list[str] = []
    if len(required) == 1 and len(others) == 1:
        named[required[0]] = next(iter(others.values()))
        by_order = required
    elif parameters.rest:
        rest = list(others.values())
    elif parameters.named_rest:
        named_rest = others
    return Binding(named, rest, named_rest, _open(parameters, named), by_order)


def misspelt_parameter(binding: Binding, upstream: Sequence[int], names: Sequence[str]) -> tuple[str, str, str] | None:
    """Return a parameter that is filled by order and whose name is probably a misspelt name of another upstream.

    Args:
        binding: the binding of a node.
        upstream: the indices of its upstreams.
        names: the names of all nodes.

    Returns:
        The parameter, the name of the upstream that fills it, and the similar name; None if there is no such parameter.
    """
    for parameter in binding.by_order:
        initial = parameter[0]
        for index in upstream:
            name = names[index]
            if name[0] == initial and len(parameter) > _SHORT and -2 <= len(name) - len(parameter) <= 2:
                given = names[binding.named[parameter]]
                if given != name and _is_misspelt(parameter, name, given, binding, index):
                    return parameter, given, name
    return None


_SHORT = 3  # characters of names that are too short to be compared
_SIMILAR = 0.75  # as a ratio of difflib; "ordes" and "orders": 0.91


def _is_misspelt(parameter: str, name: str, given: str, binding: Binding, index: int) -> bool:
    """Return whether a parameter is more similar to an upstream than to the one given, and no other one is as similar.

    Upstreams that fill a parameter by name are meant for that one.
    """
    fills = next((each for each, source in binding.named.items() if source == index), None)
    if fills is not None and fills not in binding.by_order:
        return False
    similarity = _similarity(parameter, name)
    rival = 0.0 if fills is None else _similarity(fills, name)
    return similarity >= _SIMILAR and similarity > max(_similarity(parameter, given), rival)


def _similarity(name: str, other: str) -> float:
    from difflib import SequenceMatcher

    return SequenceMatcher(None, name, other).ratio()


def _open(parameters: Parameters, named: Mapping[str, int]) -> list[str]:
    return [name for name in parameters.names if name not in named and name not in parameters.bound]


# ---- conditions ------------------------------------------------------------------------------------------------------


def bind_condition(
    accepts: Parameters,
    given: Mapping[str, Any],
    positional: Sequence[str],
    rest: Sequence[Any],
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a condition (``when``).

    A parameter named like a parameter of the task gets that argument; the others *without a default* take the task's
    remaining arguments in order; one with a default is filled by name only.

    Args:
        accepts: the parameters of the condition.
        given: the arguments of the task by name, including its defaults.
        positional: the names of the task's parameters, in order.
        rest: the values of the task's ``*args``.

    Returns:
        Positional and keyword arguments. If too few remain, the call of the condition raises a TypeError.
    """
    by_name = [name for name in accepts.names if name not in accepts.bound]
    named = {name: given[name] for name in by_name[accepts.unnamed :] if name in given}
    left = [given[name] for name in positional if name in given and name not in named]
    queue = iter([*left, *rest])
    missing = object()
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    in_order = True  # after an omitted parameter, the following ones are passed by keyword
    for place, name in enumerate(accepts.positional):
        value = named.get(name, missing)
        can_be_named = place >= accepts.positional_only
        if value is missing and (place < accepts.unnamed or name not in accepts.defaults):
            value = next(queue, missing)
        if value is missing and not can_be_named:
            value = accepts.defaults.get(name, missing)
        if value is missing:
            in_order = False
        elif in_order:
            args.append(value)
        elif can_be_named:
            kwargs[name] = value
    if accepts.rest and in_order:
        args += queue
    for name in accepts.keyword_only:
        value = named.get(name, missing)
        if value is missing and name not in accepts.defaults:
            value = next(queue, missing)
        if value is not missing:
            kwargs[name] = value
    if accepts.named_rest and not accepts.rest:
        kwargs |= {name: value for name, value in given.items() if name not in accepts.names}
    return args, kwargs


def check_condition(
    task: str, when: Callable[..., Any], parameters: Parameters, upstream: Sequence[str], waits: Sequence[str]
) -> None:
    """Check that the condition of a task has no more required parameters than the task can have arguments.

    Args:
        task: name of the task.
        when: the condition.
        parameters: the parameters of the task's function.
        upstream: names of the upstreams by data edges.
        waits: names of the upstreams by order-only edges.

    Raises:
        BindingError: the condition has too many parameters, or one named like an upstream by an order-only edge.
    """
    accepts = Parameters(when)
    for name in accepts.names:
        if name in waits and name not in parameters.names:
            raise_or_collect(
                BindingError(
                    f"the condition (when=) of task {task!r} takes {name!r}, but the task only runs after {name!r}: "
                    f"after() takes no result. Write '{name} >> {task}', and give the task a parameter {name!r}",
                    task,
                    name,
                    parameters.names,
                ),
                "condition",
            )
            return
    needed = [name for name in accepts.names if name not in accepts.defaults]
    unnamed = [name for name in needed if name not in parameters.names]
    free = [name for name in parameters.names if name not in accepts.names]
    for name, given in zip(unnamed[accepts.unnamed :], free[accepts.unnamed :], strict=False):
        meant = max(free, key=lambda each: _similarity(name, each))
        if meant != given and len(name) > _SHORT and name[0] == meant[0] and _similarity(name, meant) >= _SIMILAR:
            warn(_misspelt_condition(task, name, given, meant), "condition", task)
    most = len(free) + (len(upstream) if parameters.rest or parameters.named_rest else 0)
    if len(unnamed) > most:
        guess = did_you_mean(unnamed[-1], free)
        raise_or_collect(
            BindingError(
                f"the condition (when=) of task {task!r} takes {accepts}, but the arguments of the task are "
                f"{parameters}: no argument is left for {unnamed[-1]!r}{guess}; take "
                f"{len(needed) - len(unnamed) + most} at most, named like those of the task, or give the others "
                f"defaults",
                task,
                unnamed[-1],
                parameters.names,
            ),
            "condition",
        )


def _misspelt_condition(task: str, parameter: str, given: str, meant: str) -> str:
    """Return the warning about a parameter of a condition that is filled by order and misspells another argument."""
    return (
        f"the condition (when=) of task {task!r} gets the argument {given!r} as {parameter!r}, by order, although the "
        f"name of the argument {meant!r} is more similar: name the parameter {meant!r}, or {given!r} if that is meant"
    )


def may_be_missing(task: str, trigger: str, parameter: str, upstream: str) -> BindingError:
    """Return the error for a required parameter of a task whose trigger lets it run without the result of an upstream.

    Args:
        task: name of the task.
        trigger: its trigger.
        parameter: the parameter.
        upstream: name of the upstream that fills it.
    """
    when = {
        "one_success": "as soon as one upstream has succeeded, which may be another",
        "one_failed": "as soon as one upstream has failed",
        "all_failed": "if every upstream has failed",
    }[trigger]
    return BindingError(
        f"task {task!r} has trigger={trigger!r}: it runs {when}, so the result of {upstream!r} may be missing, but its "
        f"parameter {parameter!r} has no default: give it one, {parameter}=None, take *args, or take no result with "
        f"{escape_control_chars(task)}.after({escape_control_chars(upstream)})",
        task,
        parameter,
        [upstream],
    )


def _too_many(
    task: str, parameters: Parameters, upstream: Mapping[str, int], others: Sequence[tuple[str, int]]
) -> BindingError:
    left = ", ".join(repr(name) for name, _ in others[:5]) + (", ..." if len(others) > 5 else "")
    free = [name for name in parameters.names if name not in parameters.bound]
    takes = "1 argument" if len(free) == 1 else f"{len(free)} arguments"
    bound = f" ({listed(sorted(parameters.bound))} bound by partial)" if parameters.bound else ""
    arrive = "1 upstream result arrives" if len(upstream) == 1 else f"{len(upstream)} upstream results arrive"
    first = escape_control_chars(others[0][0])
    return BindingError(
        f"task {task!r} takes {takes}, {parameters}{bound}, but {arrive}: {listed(upstream)}; no parameter is left for "
        f"{left}: add one, or *args, or name every parameter after its upstream; or, to wait for a task "
        f"without taking its result, write {escape_control_chars(task)}.after({first})",
        task,
        None,
        list(upstream),
    )
