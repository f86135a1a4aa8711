"""Warnings of globals of the script that have another value in worker processes than in this process.

Workers execute the top level of the script up to its first ``run()``. So a global that the top level sets to a literal,
and a function such as ``main()`` sets to something else before ``run()``, still has the literal there.
"""

from __future__ import annotations

import ast
import sys
from itertools import takewhile
from types import FunctionType
from typing import TYPE_CHECKING, Any

from flowkit_core._warnings import safe_warn
from flowkit_core.safe_text import try_or

from .main_module import MainModule, describe_main, is_bound_in_workers, read_script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowkit_core import Node

_literals: dict[tuple[Any, int | None], dict[str, Any]] = {}  # script and line of its first run() -> global -> value


def warn_of_changed_globals(nodes: Sequence[Node]) -> None:
    """Warn of each task that reads a global of the script whose value in workers is another one."""
    main = sys.modules["__main__"]
    description = describe_main()
    if description is None or isinstance(main, MainModule):
        return
    module_dict = vars(main)
    changed = {
        name: literal
        for name, literal in _literals_of(description, module_dict).items()
        if name in module_dict and _differs(module_dict[name], literal) and is_bound_in_workers(name)
    }
    if not changed:
        return
    from .main_module_analysis import names_read, names_set

    for node in nodes:
        func = node.task.func
        if getattr(func, "__module__", None) != "__main__":
            continue
        # a global that tasks set themselves is a cache or a counter, of each process
        for name in sorted((names_read(func, module_dict) & changed.keys()) - names_set(func, module_dict)):
            safe_warn(  # without the values, which may be secret
                f"task {node.name!r} reads the global {name!r}, which was changed after the top level of the script "
                f"had set it: worker processes have the value of the top level, because they execute the script up to "
                f"its first run(), and not what functions do. Pass it as a parameter with run(params=...), set it in "
                f"an initializer, ProcessExecutor(initializer=...), or set it at the top level"
            )


def _literals_of(description: dict[str, Any], module_dict: dict[str, Any]) -> dict[str, Any]:
    """Return the globals that the part of the script which workers execute sets to a literal, with their values.

    Those that a function uses which that part calls are left out: the function may change them in the workers, too.
    """
    key = description.get("path", description.get("module")), description["first_run_line"]
    if key not in _literals:
        _literals.clear()
        _literals[key] = try_or(lambda: _find_literals(description, module_dict), {})
    return _literals[key]


def _find_literals(description: dict[str, Any], module_dict: dict[str, Any]) -> dict[str, Any]:
    from .main_module_analysis import bound_names, is_guard

    line = description["first_run_line"]
    found: dict[str, Any] = {}
    for statement in takewhile(lambda one: line is None or (one.end_lineno or 0) < line, read_script(description)):
        if is_guard(statement):
            continue
        is_definition = isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        for name in (statement.name,) if is_definition else bound_names([statement], {}):  # type: ignore[attr-defined]
            found.pop(name, None)
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and len(names) == len(targets):
            try:
                found |= dict.fromkeys(names, ast.literal_eval(statement.value or ast.Name("missing")))
            except (ValueError, TypeError, SyntaxError):  # it is not a literal
                continue
        if not is_definition:
            for name in _names_used_by_calls(statement, module_dict):
                found.pop(name, None)
    return found


def _names_used_by_calls(statement: ast.stmt, module_dict: dict[str, Any]) -> set[str]:
    """Return the globals that the functions of the script use which a statement calls by name."""
    from .main_module_analysis import names_read, names_set

    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            function = module_dict.get(node.func.id)
            if isinstance(function, FunctionType) and function.__globals__ is module_dict:
                names |= names_read(function, module_dict) | names_set(function, module_dict)
    return names


def _differs(value: Any, literal: Any) -> bool:
    """Return whether a global has another value than the literal; an empty container may be filled later."""
    if isinstance(literal, (list, dict, set)) and not literal and type(value) is type(literal):
        return False
    return try_or(lambda: type(value) is not type(literal) or bool(value != literal), otherwise=False)
