"""Source text of the expression that a frame executes, for errors about tasks that were called by mistake."""

from __future__ import annotations

import ast
from types import ModuleType

from flowkit_core._typing import TYPE_CHECKING

from .frames import CO_OPTIMIZED, local_variable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from flowkit_core._typing import Any


def called_tasks(frame: FrameType, is_task: Callable[[Any], bool]) -> tuple[list[Any], str, str] | None:
    """Return the tasks that are called as operands or arguments of the expression that a frame executes.

    Args:
        frame: the frame.
        is_task: returns whether a value is a task.

    Returns:
        The tasks, the expression as it is written, and the expression with their names instead of the calls:
        ``"extract() >> load", "extract >> load"``. None if no task is called, or the source is not available.
    """
    text = _expression(frame)
    if "(" not in text:
        return None
    calls = _Calls(frame, is_task)
    try:
        tree = ast.parse(f"({text}\n)", mode="eval")  # it may continue on further lines
        written = ast.unparse(tree)
        corrected = ast.unparse(calls.visit(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the file has changed, or the expression is deep
        return None
    return (calls.tasks, written, corrected) if calls.tasks else None


class _Calls(ast.NodeTransformer):
    """Replaces calls of tasks by the names of the tasks, in operands, lists and arguments of methods and classes."""

    def __init__(self, frame: FrameType, is_task: Callable[[Any], bool]) -> None:
        self._frame, self._is_task = frame, is_task
        self.tasks: list[Any] = []

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, (ast.Expression, ast.BinOp, ast.List, ast.Tuple, ast.keyword)):
            return super().generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        function = self._value(node.func)
        if self._is_task(function):
            self.tasks.append(function)
            return node.func
        if isinstance(function, type) or (function is None and isinstance(node.func, ast.Attribute)):
            return super().generic_visit(node)
        return node

    def _value(self, node: ast.expr) -> Any:
        """Return the value of a name, or of an attribute of a module; None for any other expression."""
        if isinstance(node, ast.Name):
            frame = self._frame
            is_function = frame.f_code.co_flags & CO_OPTIMIZED
            value = local_variable(frame, node.id) if is_function else frame.f_locals.get(node.id)
            return frame.f_globals.get(node.id) if value is None else value
        if isinstance(node, ast.Attribute) and isinstance(module := self._value(node.value), ModuleType):
            return vars(module).get(node.attr)
        return None


def _expression(frame: FrameType) -> str:
    """Return the source text of the instruction that a frame executes; an empty string if it is not available."""
    from itertools import islice
    from linecache import getlines

    code = frame.f_code
    first, last, start, end = next(islice(code.co_positions(), frame.f_lasti // 2, None), (None,) * 4)
    if first is None or last is None or start is None or end is None:
        return ""
    lines = [line.encode() for line in getlines(code.co_filename, frame.f_globals)[first - 1 : last]]
    if len(lines) <= last - first:
        return ""
    lines[-1] = lines[-1][:end]  # the offsets count bytes
    lines[0] = lines[0][start:]
    return b"".join(lines).decode(errors="replace")
