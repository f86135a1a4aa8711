"""Recursive traversal with an explicit stack, which does not depend on the recursion limit of Python."""

from __future__ import annotations

import sys
from types import GeneratorType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    Steps = Generator[Any, Any, Any]

MAX_DEPTH = 128
"""How deeply values may be nested: their JSON text has up to five times as many levels, and `json` supports 990."""


def walk(expand: Callable[[Any], Any], root: Any, *, max_depth: int = sys.maxsize) -> Any:
    """Return `expand(root)`, where `expand` may return a generator instead of a result.

    The generator yields the children to expand, receives the result of each, and returns its own result.

    Raises:
        RecursionError: children are nested more than `max_depth` levels deep.
    """
    stack: list[Steps] = []
    result = expand(root)
    while True:
        if type(result) is GeneratorType:
            if len(stack) == max_depth:
                raise RecursionError(f"nested more than {max_depth} levels deep")
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
