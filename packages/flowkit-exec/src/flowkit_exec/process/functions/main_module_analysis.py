"""Static analysis of the main script: the names that its statements bind, and those that a function reads."""

from __future__ import annotations

import ast
import dis
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_GLOBAL_WRITES = ("STORE_GLOBAL", "DELETE_GLOBAL")
_GLOBAL_READS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


def bound_names(statements: Iterable[ast.stmt], module_dict: Mapping[str, Any]) -> set[str]:
    """Return the global names that statements bind, or whose attributes or items they assign.

    Args:
        statements: top-level statements that were not executed.
        module_dict: the globals as they are without them. A statement that only imports a name again, or that assigns
            an attribute of a module, does not count.
    """
    names: set[str] = set()
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.MatchAs, ast.MatchStar)):
            names.add(node.name or "")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            imported = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            names |= imported - module_dict.keys()
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            name = _base_name(node)
            if not isinstance(module_dict.get(name), ModuleType):
                names.add(name)
    return names


def is_guard(statement: ast.stmt) -> bool:
    """Return whether a statement is ``if __name__ == "__main__"``."""
    if not isinstance(statement, ast.If) or not isinstance(statement.test, ast.Compare):
        return False
    operands = [statement.test.left, *statement.test.comparators]
    return any(isinstance(operand, ast.Name) and operand.id == "__name__" for operand in operands)


def _base_name(node: ast.expr) -> str:
    """Return ``a`` for ``a.b[c].d``; an empty string if the innermost expression is not a name."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def names_read(function: Any, module_dict: Mapping[str, Any]) -> set[str]:
    """Return the global names that a function reads, and that the functions and classes it reads by name read."""
    return {name for opname, name in _global_accesses(function, module_dict) if opname in _GLOBAL_READS}


def names_set(function: Any, module_dict: Mapping[str, Any]) -> set[str]:
    """Return the global names that a function sets, and that the functions and classes it reads by name set."""
    return {name for opname, name in _global_accesses(function, module_dict) if opname in _GLOBAL_WRITES}


def _global_accesses(function: Any, module_dict: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return the instructions that read or set a global, of a function and those that it reads: (name, global)."""
    found: set[tuple[str, str]] = set()
    pending = [function]
    while pending:
        for code in _code_objects(pending.pop()):
            opnames = (*_GLOBAL_READS, *_GLOBAL_WRITES)
            new = {(step.opname, step.argval) for step in dis.get_instructions(code) if step.opname in opnames} - found
            found |= new
            values = [module_dict[name] for opname, name in new if opname in _GLOBAL_READS and name in module_dict]
            pending += [value for value in values if not isinstance(value, ModuleType)]
    return found


def _code_objects(value: Any) -> Iterator[CodeType]:
    """Yield the code of a function, of the function in a task or other wrapper, or of the methods of a class."""
    pending = [value, *(vars(value).values() if isinstance(value, type) else ())]
    for part in pending:  # it grows
        inner = getattr(part, "__wrapped__", None)
        if inner is not None and inner is not part:
            pending.append(inner)
        if isinstance(part, FunctionType):
            pending.append(part.__code__)
        elif isinstance(part, CodeType):
            yield part
            pending += [constant for constant in part.co_consts if isinstance(constant, CodeType)]
