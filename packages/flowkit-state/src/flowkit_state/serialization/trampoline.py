"""Recursive descent without recursion, so that no value is too deep."""

from __future__ import annotations

from types import GeneratorType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    Steps = Generator[Any, Any, Any]


def walk(expand: Callable[[Any], Any], root: Any) -> Any:
    """Return `expand(root)`, where `expand` may answer with a generator instead of a result.

    Such a generator yields each child it needs expanded, is sent the child's result, and returns its own.
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
