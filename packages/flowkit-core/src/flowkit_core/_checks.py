"""Checks of arguments that several functions take."""

from __future__ import annotations

from ._text import short_repr
from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._typing import Any


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
    if not 0 <= value < float("inf") or (is_positive and not value):
        least = "more than 0" if is_positive else "0 or more"
        raise ValueError(f"run({option}=...) is {value!r}, but must be a number of seconds, {least}, or None")
