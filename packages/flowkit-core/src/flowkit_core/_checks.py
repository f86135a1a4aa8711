"""Checks of arguments that several functions take."""

from __future__ import annotations

from ._text import short_repr, similar_or_all
from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._typing import Any

_INFINITY = float("inf")


def checked_workers(max_workers: Any, owner: str = "max_workers", default: str = "a sensible default") -> int | None:
    """Return ``max_workers`` if it is an integer of at least 1, or None.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is less than 1.
    """
    if max_workers is None:
        return None
    if type(max_workers) is not int or max_workers < 1:
        error = ValueError if type(max_workers) is int else TypeError
        given = short_repr(max_workers)
        raise error(f"{owner} is {given}, but must be an integer of at least 1, or None for {default}")
    return max_workers


def check_switch(option: str, value: Any) -> None:
    """Raise a TypeError if the value of an option of ``run()`` is not a bool."""
    if type(value) is not bool:
        raise TypeError(f"run({option}=...) is {short_repr(value)}, but must be True or False")


def check_seconds(option: str, value: Any, *, is_positive: bool = False) -> None:
    """Raise if the value of an option of ``run()`` is neither a number of seconds nor None.

    Args:
        option: name of the option.
        value: its value.
        is_positive: whether it must be more than 0.

    Raises:
        TypeError: it is not a number.
        ValueError: it is negative or not finite.
    """
    if value is None:
        return
    if type(value) not in (int, float):
        raise TypeError(f"run({option}=...) is {short_repr(value)}, but must be a number of seconds, or None")
    if not 0 <= value < _INFINITY or (is_positive and not value):
        least = "more than 0" if is_positive else "0 or more"
        raise ValueError(f"run({option}=...) is {value!r}, but must be a number of seconds, {least}, or None")


def checked_names(argument: str, given: Any, known: Iterable[str], owner: str, also: str = "") -> list[str]:
    """Return an argument that takes names of tasks, a single one or several, as a list.

    Args:
        argument: the argument, as messages show it: ``"run(keep=...)"``.
        given: its value.
        known: the names that are allowed.
        owner: what has the tasks, as messages show it.
        also: other values that the argument takes, as messages show them: ``"True, False, "``.

    Raises:
        TypeError: it is neither a name nor a collection of names.
        ValueError: there is no task of a name.
    """
    kind = type(given)
    is_task = hasattr(kind, "__flowkit_wrapped__")
    if is_task or kind is bytes or not hasattr(kind, "__iter__"):
        what = f"write {given.name!r}" if is_task else "such as ['extract', 'load']"
        allowed = f"{also}the name of a task, or a list of names"
        raise TypeError(f"{argument} is {short_repr(given)}, but must be {allowed}: {what}")
    names: list[Any] = [given] if isinstance(given, str) else list(given)
    there = dict.fromkeys(known)
    for name in names:
        if not isinstance(name, str):
            what = f": write {name.name!r}" if hasattr(type(name), "__flowkit_wrapped__") else ""
            raise TypeError(f"{argument} has {short_repr(name)}, but its items must be names of tasks{what}")
        if name not in there:
            guess = similar_or_all(name, there)
            raise ValueError(f"{argument} names {short_repr(name)}, but {owner} has no such task{guess}")
    return names
