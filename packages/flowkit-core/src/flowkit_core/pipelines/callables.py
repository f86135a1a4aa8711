"""Callables that become tasks: their names, whether they are methods, and checks of generators."""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.coroutines import is_async_generator_function, is_generator_function
from flowkit_core.errors import TaskOptionError, TaskOptionTypeError
from flowkit_core.graphs.parameters import wrapped_callables

if TYPE_CHECKING:
    from types import CodeType

    from flowkit_core._typing import Any

_SELF = frozenset(("self", "cls"))


def text_of(func: Any, attribute: str) -> str | None:
    """Return an attribute of a callable if it is a str; None for any other value or exception."""
    try:
        found = getattr(func, attribute, None)
    except Exception:  # a proxy may raise anything
        return None
    return str(found) if isinstance(found, str) else None


def natural_name(func: Any) -> str:
    """Return a name for a callable without ``__name__``: the one of a partial's function, else of the type."""
    for layer in wrapped_callables(func):
        name = getattr(layer, "__name__", None) if isinstance(layer, (FunctionType, MethodType, type)) else None
        if layer is not func and isinstance(func, partial) and type(name) is str:
            return name
    if isinstance(func, partial):
        name = getattr(wrapped_callables(func)[-1], "__name__", None)
        if type(name) is str and name:
            return name
    return type(func).__name__


def is_method(func: Any) -> bool:
    """Return whether a function was defined in a class, and takes ``self`` or ``cls`` first."""
    if type(func) is not FunctionType or func.__qualname__ is func.__name__ or not is_defined_in_class(func):
        return False
    code = func.__code__
    return bool(code.co_argcount) and code.co_varnames[0] in _SELF


def is_defined_in_class(func: FunctionType) -> bool:
    """Return whether a function was defined in a class, and not in a module or another function."""
    name, qualname = func.__name__, func.__qualname__
    return not (qualname is name or qualname == name or qualname[-len(name) - 2 : -len(name)] in (">.", ""))


def check_generator(name: str, func: Any, retries: int) -> None:
    """Raise an error for an async generator function, and for a generator function with retries."""
    if is_async_generator_function(func):
        allowed = "a function that returns a value, not an async generator: pipelines do not iterate its result"
        raise TaskOptionTypeError(name, "func", func, allowed)
    if retries and is_generator_function(func):
        allowed = (
            "0 for a generator function, whose code runs when the generator is iterated, after the task has ended: "
            "return a list instead"
        )
        raise TaskOptionError(name, "retries", retries, allowed)


def text_of_generator_options(task: Any) -> str:
    """Return the warning of options of a generator function that do not apply to its code; empty if it has none."""
    given = [option for option in ("timeout", "executor", "pool") if getattr(task, option) is not None]
    if not given or not is_generator_function(task.func):
        return ""
    options = " and ".join(f"{option}=" for option in given)
    return (
        f"task {task.name!r} is a generator function, so {options} {'does' if len(given) == 1 else 'do'} nothing: its "
        f"code runs after the task has ended, where the generator is iterated: return a list instead, or leave "
        f"{options} out"
    )


def line_of(code: CodeType, lasti: int) -> int:
    """Return the line of an instruction, or the first line of the code if the instruction has none."""
    for start, end, line in code.co_lines():
        if start <= lasti < end and line is not None:
            return line
    return code.co_firstlineno
