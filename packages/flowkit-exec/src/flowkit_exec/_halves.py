"""What half of a script lacks: names that the other half would have made or changed, and which a function reads."""

from __future__ import annotations

import ast
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


def changed(statements: Iterable[ast.stmt], facts: Mapping[str, Any]) -> set[str]:
    """Return the global names that statements may make or change: rather too many than too few."""
    names: set[str] = set()
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
                names.add(_base(node))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):  # rates.update(...)
                base = _base(node.func)
                if not isinstance(facts.get(base), ModuleType):
                    names.add(base)
    return names


def _base(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def read(function: Any, facts: Mapping[str, Any]) -> set[str]:
    """Return the global names that a function reads, itself or by way of what it calls of the same script."""
    names: set[str] = set()
    todo = [function]
    while todo:
        for code in _codes(todo.pop()):
            new = set(code.co_names) - names
            names |= new
            todo += [facts[name] for name in new if name in facts and not isinstance(facts[name], ModuleType)]
    return names


def _codes(thing: Any) -> Iterator[CodeType]:
    """Yield the code of a function, of a task or another wrapper around one, or of the methods of a class."""
    todo = [thing, *(vars(thing).values() if isinstance(thing, type) else ())]
    for part in todo:
        inner = getattr(part, "__wrapped__", None)
        if inner is not None and inner is not part:
            todo.append(inner)
        if isinstance(part, FunctionType):
            todo.append(part.__code__)
        elif isinstance(part, CodeType):
            yield part
            todo += [constant for constant in part.co_consts if isinstance(constant, CodeType)]
