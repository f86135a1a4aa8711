"""Notes on exceptions that a task raised because its worker does not have a global variable of the calling process.

A spawned worker imports the modules itself, so a global that ``main()`` sets before ``run()`` does not exist there, or
has the value that the top level of the module gave it. The worker finds the globals that may have caused an exception
(:func:`find_globals_used`); the calling process compares them with its own (:func:`explain`).
"""

from __future__ import annotations

import builtins
import sys
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from flowkit_core.safe_text import try_or, type_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_GLOBAL_READS = ("LOAD_GLOBAL", "LOAD_NAME")
_ATTRIBUTE_READS = ("LOAD_ATTR", "LOAD_METHOD")
_ABSENT_KINDS = ("name", "member")
_MAIN_NAMES = ("__main__", "__mp_main__")
_IN_CALLER = "in the process that called run()"


class GlobalVariable(NamedTuple):
    """A global variable.

    Attributes:
        module: name of the module.
        name: its name.
        is_copy: whether the worker has a copy of the globals of the calling process, made when the run began: it is a
            fork, or the function was sent by value.
    """

    module: str
    name: str
    is_copy: bool


class GlobalsUsed(NamedTuple):
    """The globals that may have caused an exception.

    Attributes:
        kind: what does not exist in the worker: ``"name"`` (the global), ``"member"`` (the same, read as an attribute
            of the module), ``"attribute"`` or ``"key"`` (of the value of the global), ``"value"`` (the global is None).
        candidates: the globals.
        item: the attribute or the key.
    """

    kind: str
    candidates: tuple[GlobalVariable, ...]
    item: str | int = ""


def find_globals_used(error: BaseException) -> GlobalsUsed | None:
    """In the worker: return the globals that may have caused an exception; None for other exceptions."""
    frame = _innermost(error)
    if frame is None:
        return None
    if isinstance(error, NameError):
        name, code = error.name, frame.f_code
        is_local = isinstance(error, UnboundLocalError) or name in code.co_freevars or name in code.co_cellvars
        return None if is_local or not name else GlobalsUsed("name", (_global_variable(frame.f_globals, name),))
    if isinstance(error, ImportError):
        name = str(error).removeprefix("cannot import name '").partition("' from ")[0]  # `name_from` is new in 3.12
        module = sys.modules.get(error.name or "")
        return None if module is None else GlobalsUsed("member", (_global_variable(vars(module), name),))
    if isinstance(error, AttributeError) and type(error.obj) is ModuleType:
        return GlobalsUsed("member", (_global_variable(vars(error.obj), error.name or ""),))
    if isinstance(error, AttributeError) and error.name and error.obj is not None:
        return GlobalsUsed("attribute", _globals_read(frame, lambda value: value is error.obj), error.name)
    if isinstance(error, KeyError) and error.args and type(key := error.args[0]) in (str, int):
        return GlobalsUsed("key", _globals_read(frame, lambda value: type(value) is dict and key not in value), key)
    is_of_none = isinstance(error, AttributeError) and error.name is not None  # else `obj` is unknown
    if is_of_none or (isinstance(error, TypeError) and "NoneType" in str(error)):  # a TypeError has no attributes
        return GlobalsUsed("value", _globals_read(frame, lambda value: value is None))
    return None


def explain(found: GlobalsUsed) -> str:
    """In the calling process: return a note on the first global that the worker does not have, or an empty text.

    Args:
        found: what :func:`find_globals_used` returned in the worker.
    """
    kind, item = found.kind, found.item
    for variable in found.candidates:
        module_name, name, _ = variable
        is_script = module_name in _MAIN_NAMES
        module = sys.modules.get("__main__" if is_script else module_name)
        variables = vars(module) if module is not None else {}
        owner = "the script" if is_script else f"module {module_name!r}"
        if name not in variables:
            if kind == "name" and module is not None and name in vars(builtins):
                what = f"{name!r} was added to the module builtins {_IN_CALLER}, but not in the worker"
                return f"flowkit: {what}: add it at the top level of {owner} too"
            continue
        if kind in _ABSENT_KINDS:
            what = f"{name!r} is a global of {owner} {_IN_CALLER}, but not in the worker"
        elif not _has(variables[name], kind, item):
            continue
        elif kind == "value":
            kind_here = type_name(variables[name])
            what = f"the global {name!r} of {owner} is None in the worker, but of type {kind_here} {_IN_CALLER}"
        else:
            what = f"the global {name!r} of {owner} has the {kind} {item!r} {_IN_CALLER}, but not in the worker"
        why, top = _reason(kind, variable, getattr(module, "__file__", None) if is_script else None)
        return f"flowkit: {what}: {why}. Pass it as a parameter with run(params=...), make it in the task, or {top}"
    return ""


def _innermost(error: BaseException) -> FrameType | None:
    """Return the frame that raised an exception."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else trace.tb_frame


def _global_variable(variables: dict[str, Any], name: str) -> GlobalVariable:
    """Return a `GlobalVariable`.

    Args:
        variables: the globals in which it was looked up.
        name: its name.
    """
    module_name = str(variables.get("__name__"))
    module = sys.modules.get("__main__" if module_name in _MAIN_NAMES else module_name)
    is_fork = type(sys.modules["__main__"]) is ModuleType  # in a spawned worker, __main__ is an instance of a subclass
    return GlobalVariable(module_name, name, is_fork or getattr(module, "__dict__", None) is not variables)


def _globals_read(frame: FrameType, matches: Callable[[Any], bool]) -> tuple[GlobalVariable, ...]:
    """Return the globals that a frame reads, also as attributes of modules, and whose value matches.

    Args:
        frame: the frame.
        matches: returns whether a value matches.
    """
    from dis import get_instructions

    found = []
    before: Any = None  # value of the global that the previous instruction read
    for step in get_instructions(frame.f_code):
        if step.opname in _GLOBAL_READS:
            variables = frame.f_globals
        elif step.opname in _ATTRIBUTE_READS and type(before) is ModuleType:
            variables = vars(before)
        else:
            before = None
            continue
        before = variables.get(step.argval)
        if step.argval in variables and matches(before):
            found.append(_global_variable(variables, step.argval))
    return tuple(dict.fromkeys(found))


def _has(value: Any, kind: str, item: str | int) -> bool:
    """Return whether a value is not None, or has a key or an attribute."""
    if kind == "value":
        return value is not None
    if kind == "key":
        return type(value) is dict and item in value
    return try_or(lambda: hasattr(value, str(item)), otherwise=False)


def _reason(kind: str, variable: GlobalVariable, path: str | None) -> tuple[str, str]:
    """Return why a worker does not have a global, and where to set it instead.

    Args:
        kind: as for `GlobalsUsed`.
        variable: the global.
        path: path of the script, if it is a global of that.
    """
    if variable.is_copy:
        return "workers have the globals as they were when the run began", "set it before run()"
    if path is None:
        why = "workers import the module themselves, so what main() or another module sets later does not exist there"
        return why, "set it at the top level of the module"
    line, is_guarded = try_or(lambda: _binding(path, variable.name), (0, False))
    if is_guarded:
        why = f"line {line}, which sets it, is under if __name__ == '__main__', which workers do not execute"
    elif line and kind in _ABSENT_KINDS:
        why = f"line {line}, which sets it, is not executed in workers: they execute the script up to its first run()"
    else:
        why = "workers execute only the top level of the script, up to its first run(), and not what main() sets"
    return why, "set it at the top level of the script, before the first run()"


@lru_cache(maxsize=16)
def _binding(path: str, name: str) -> tuple[int, bool]:
    """Return the line of the last top-level statement that binds a global; and whether it is under the main guard."""
    import ast

    from .main_module_analysis import bound_names

    with open(path, "rb") as file:
        tree = ast.parse(file.read())
    found = (0, False)
    for statement in tree.body:
        is_guard = isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)
        for part in statement.body if isinstance(statement, ast.If) and is_guard else [statement]:
            is_definition = isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            if not is_definition and name in bound_names([part], {}):
                found = (part.lineno, is_guard)
    return found
