"""Parameters whose defaults, such as ``lambda i=i: ...`` in a loop, are ignored because an upstream fills them."""

from __future__ import annotations

from types import FunctionType

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowkit_core._typing import Any

    from .node import Node


def ignored_defaults(nodes: Iterable[Node]) -> list[tuple[Node, str]]:
    """Return parameters that are filled by order although the function, defined in a loop, gives each task a default.

    Such a function is ``lambda i=i: ...``. It is recognized by its code object: functions with other defaults share it.

    Args:
        nodes: the nodes whose ``none_checked`` has parameters that have a default and are filled by order.

    Returns:
        For each code object, the first node whose default differs from that of another one, and the parameter.
    """
    first: dict[tuple[int, str], Any] = {}
    found: dict[tuple[int, str], tuple[Node, str]] = {}
    for node in nodes:
        if type(node.func) is not FunctionType:
            continue
        code = node.func.__code__
        for parameter in node.none_checked:
            default, key = node.parameters.defaults[parameter], (id(code), parameter)
            if _differ(first.setdefault(key, default), default):
                found.setdefault(key, (node, parameter))
    return list(found.values())


def _differ(value: Any, other: Any) -> bool:
    """Return whether two hashable values are not equal; values that cannot be hashed count as equal."""
    try:
        return hash(value) != hash(other) or bool(value != other)
    except Exception:  # a tuple of lists, for example, or a class whose comparison raises
        return False
