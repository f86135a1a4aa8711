"""Notes on exceptions of tasks whose worker process lacks a global variable of the caller.

A spawned worker imports the modules itself, so a global that ``main()`` sets before ``run()`` does not exist there, or
has the value that the top level of the module gave it. The worker finds out which globals an exception is about
(:func:`used`); the process that called ``run()`` compares them with its own (:func:`explain`).
"""

from __future__ import annotations

import builtins
import sys
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from .safe_text import kind_of, tried

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_READS = ("LOAD_GLOBAL", "LOAD_NAME")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_ABSENT = ("name", "member")
_MAIN = ("__main__", "__mp_main__")
_WHERE = "in the process that called run()"


class Place(NamedTuple):
    """A global variable.

    Attributes:
        module: name of the module.
        name: its name.
        copied: whether the worker has a copy of the caller's globals, made when the run began: by a fork, or by value.
    """

    module: str
    name: str
    copied: bool


class Used(NamedTuple):
    """The globals that an exception is about.

    Attributes:
        kind: what the worker lacks: ``"name"`` (the global itself), ``"member"`` (the same, read by way of the module),
            ``"attribute"`` or ``"key"`` (of the value of the global), or ``"value"`` (the global is None).
        places: the candidate globals.
        item: the attribute or the key.
    """

    kind: str
    places: tuple[Place, ...]
    item: str | int = ""


def used(error: BaseException) -> Used | None:
    """In the worker: return the globals that may have caused an exception; None for other exceptions."""
    frame = _innermost(error)
    if frame is None:
        return None
    if isinstance(error, NameError):
        name, code = error.name, frame.f_code
        is_local = isinstance(error, UnboundLocalError) or name in code.co_freevars or name in code.co_cellvars
        return None if is_local or not name else Used("name", (_place(frame.f_globals, name),))
    if isinstance(error, ImportError):
        name = str(error).removeprefix("cannot import name '").partition("' from ")[0]
        module = sys.modules.get(error.name or "")
        return None if module is None else Used("member", (_place(vars(module), name),))
    if isinstance(error, AttributeError) and type(error.obj) is ModuleType:
        return Used("member", (_place(vars(error.obj), error.name or ""),))
    if isinstance(error, AttributeError) and error.name and error.obj is not None:
        return Used("attribute", _globals(frame, lambda value: value is error.obj), error.name)
    if isinstance(error, KeyError) and error.args and type(key := error.args[0]) in (str, int):
        return Used("key", _globals(frame, lambda value: type(value) is dict and key not in value), key)
    if isinstance(error, (AttributeError, TypeError)) and "NoneType" in str(error):
        return Used("value", _globals(frame, lambda value: value is None))
    return None


def explain(found: Used) -> str:
    """In the calling process: return a note on the first global that the worker lacks; empty if there is none.

    Args:
        found: what :func:`used` returned in the worker.
    """
    kind, item = found.kind, found.item
    for place in found.places:
        module_name, name, _ = place
        is_script = module_name in _MAIN
        module = sys.modules.get("__main__" if is_script else module_name)
        facts = vars(module) if module is not None else {}
        owner = "the script" if is_script else f"module {module_name!r}"
        if name not in facts:
            if kind == "name" and module is not None and name in vars(builtins):
                what = f"{name!r} was added to the module builtins {_WHERE}, but not in the worker"
                return f"flowkit: {what}: add it at the top level of {owner} too"
            continue
        if kind in _ABSENT:
            what = f"{name!r} is a global of {owner} {_WHERE}, but not in the worker"
        elif not _has(facts[name], kind, item):
            continue
        elif kind == "value":
            what = f"the global {name!r} of {owner} is None in the worker, but of type {kind_of(facts[name])} {_WHERE}"
        else:
            what = f"the global {name!r} of {owner} has the {kind} {item!r} {_WHERE}, but not in the worker"
        why, top = _reason(kind, place, getattr(module, "__file__", None) if is_script else None)
        return f"flowkit: {what}: {why}. Pass it as a parameter with run(params=...), make it in the task, or {top}"
    return ""


def _innermost(error: BaseException) -> FrameType | None:
    """Return the frame that raised an exception."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else trace.tb_frame


def _place(facts: dict[str, Any], name: str) -> Place:
    """Return the `Place` of a global, given the globals in which it was looked up."""
    module_name = str(facts.get("__name__"))
    module = sys.modules.get("__main__" if module_name in _MAIN else module_name)
    is_fork = type(sys.modules["__main__"]) is ModuleType  # in a spawned worker, __main__ is an instance of a subclass
    return Place(module_name, name, is_fork or getattr(module, "__dict__", None) is not facts)


def _globals(frame: FrameType, matches: Callable[[Any], bool]) -> tuple[Place, ...]:
    """Return the globals that a frame reads and whose value matches, its own and those of modules (``module.name``)."""
    from dis import get_instructions

    found = []
    before: Any = None  # value of the global that the previous instruction read
    for step in get_instructions(frame.f_code):
        if step.opname in _READS:
            facts = frame.f_globals
        elif step.opname in _ATTRIBUTES and type(before) is ModuleType:
            facts = vars(before)
        else:
            before = None
            continue
        before = facts.get(step.argval)
        if step.argval in facts and matches(before):
            found.append(_place(facts, step.argval))
    return tuple(dict.fromkeys(found))


def _has(value: Any, kind: str, item: str | int) -> bool:
    if kind == "value":
        return value is not None
    if kind == "key":
        return type(value) is dict and item in value
    return tried(lambda: hasattr(value, str(item)), otherwise=False)


def _reason(kind: str, place: Place, path: str | None) -> tuple[str, str]:
    """Return why a worker lacks a global, and how to set it so that workers have it; ``path`` is that of a script."""
    if place.copied:
        return "workers have the globals as they were when the run began", "set it before run()"
    if path is None:
        why = "workers import the module themselves, so what main() or another module sets later is not there"
        return why, "set it at the top level of the module"
    line, is_guarded = tried(lambda: _binding(path, place.name), (0, False))
    if is_guarded:
        why = f"line {line}, which sets it, is under if __name__ == '__main__', which workers do not execute"
    elif line and kind in _ABSENT:
        why = f"line {line}, which sets it, is not executed in workers: they execute the script up to its first run()"
    else:
        why = "workers execute only the top level of the script, up to its first run(), and not what main() sets"
    return why, "set it at the top level of the script, before the first run()"


@lru_cache(maxsize=16)
def _binding(path: str, name: str) -> tuple[int, bool]:
    """Return the last line of a script's top level that binds a global, and whether that is under the main guard."""
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
