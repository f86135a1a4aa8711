"""How a function gets to a worker process: by reference, by value, or by being there already."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from time import monotonic, sleep
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ._script import Script, check, describe_main
from ._segments import SharingPickler
from ._wire import PROTOCOL
from ._words import described, is_for_the_program

if TYPE_CHECKING:
    from collections.abc import Callable

Reference = tuple[str, ...]

LINGER = 0.03
"""Seconds that the system may need to clear away a thread that was joined."""


def reference(func: Any) -> tuple[str, Any] | str:
    """Return how a worker can get a function without help; or why it cannot, in words.

    ``("name", (module, qualified name))`` is looked up; ``("pickle", bytes)`` is unpickled.
    """
    module_name, name = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if module_name is None or name is None or not isinstance(func, FunctionType):
        return _by_pickle(func)
    if "<lambda>" in name:
        return "is a lambda, which has no name to find it by"
    if "<locals>" in name:
        return f"is defined inside a function ({name}), where a worker cannot look it up"
    module = sys.modules.get(module_name)
    if module_name == "__main__" and (describe_main() is None or func.__code__.co_filename.startswith("<")):
        return "is defined in an interactive session, which a worker cannot import"
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    for depth, inner in enumerate(layers(found)):
        if inner is func:
            return "name", (module_name, name, depth, mark(func))
    return (
        f"is not what {module_name}.{name} is by now: it was replaced, or it is made by code that a worker does not run"
    )


def mark(func: Any) -> tuple[Any, ...]:
    """Return what tells a function from another of the same name: where it stands, and what it takes."""
    code = func.__code__
    return code.co_firstlineno, code.co_varnames[: code.co_argcount]


def mark_of(func: Any) -> Any:
    """Return the mark of a function, None for what is no plain function."""
    return mark(func) if hasattr(func, "__code__") else None


def layers(outermost: Any) -> list[Any]:
    """Return what a name stands for, and what is within it if that is a task or another wrapper, from outside in."""
    found = [outermost]
    while len(found) < 50 and (inner := getattr(found[-1], "__wrapped__", None)) is not None:
        found.append(inner)
    return found


def _by_pickle(func: Any) -> tuple[str, Any] | str:
    try:
        data = pickle.dumps(func, PROTOCOL)
    except BaseException as error:  # pickling runs the user's code
        if is_for_the_program(error):
            raise
        return f"is a {type(func).__name__} that cannot be pickled ({described(error)})"
    if b"__main__" in data and describe_main() is None:
        return f"is a {type(func).__name__} of an interactive session, which a worker cannot import"
    return "pickle", data


def cloudpickle_dumps() -> Callable[..., bytes] | None:
    """Return how to pickle by value what cannot go by reference, if ``cloudpickle`` is installed."""
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ModuleNotFoundError:
        return None
    return lambda value, protocol, **options: bytes(cloudpickle.dumps(value, protocol, **options))


def sharing_cloudpickler() -> type[SharingPickler]:
    """Return a pickler that leaves out what lies in shared memory, and pickles by value what cannot go by reference."""
    import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]

    return type("SharingCloudpickler", (SharingPickler, cloudpickle.Pickler), {})


def by_value(func: Any) -> bytes:
    """Return a function pickled by value; only where ``cloudpickle`` is installed."""
    dumps = cloudpickle_dumps()
    return dumps(func, PROTOCOL) if dumps is not None else b""


def fork_is_safe() -> bool:
    """Say whether this process surely has one thread only: a fork of it inherits no lock that nobody will open."""
    if not hasattr(os, "fork"):
        return False
    until = monotonic() + LINGER
    while threading.active_count() == 1:
        try:
            if len(os.listdir("/proc/self/task")) == 1:
                return True
        except OSError:  # no way to know about threads that are not Python's
            return False
        if monotonic() > until:
            return False
        sleep(0.001)
    return False


def resolve(how: str, what: Any) -> Any:
    """Return the function that a reference means, in a worker."""
    if how == "name":
        from importlib import import_module

        module_name, name, depth, marked = what
        found: Any = sys.modules["__main__"] if module_name == "__main__" else import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
        there = layers(found)
        same = [inner for inner in (*there[depth : depth + 1], *there) if mark_of(inner) == marked]
        if not same:
            line = (mark_of(there[-1]) or "?")[0]
            raise LookupError(
                f"{name} is another function there: it stands in line {line}, not in line {marked[0]}; "
                f"perhaps it was defined again after the first run(), or its file has changed"
            )
        found = same[0]
        if isinstance(sys.modules["__main__"], Script) and module_name == "__main__":
            check(sys.modules["__main__"], found)
    else:
        found = pickle.loads(what)
    from flowkit_core.binding import is_coroutine_function
    from flowkit_core.graph import Awaited

    return Awaited(found) if is_coroutine_function(found) else found
