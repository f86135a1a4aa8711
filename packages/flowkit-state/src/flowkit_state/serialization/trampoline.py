"""Recursive traversal with an explicit stack, which does not depend on the recursion limit of Python."""

from __future__ import annotations

from types import GeneratorType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    Steps = Generator[Any, Any, Any]


def walk(expand: Callable[[Any], Any], root: Any) -> Any:
    """Return `expand(root)`, where `expand` may return a generator instead of a result.

    The generator yields the children to expand, receives the result of each, and returns its own result.
    """
    stack: list[Steps] = []
    result = expand(root)
    while True:
        if type(result) is GeneratorType:
            stack.append(result)
            result = None
        elif not stack:
            return result
        try:
            child = stack[-1].send(result)
        except StopIteration as stop:
            stack.pop()
            result = stop.value
        else:
            result = expand(child)
