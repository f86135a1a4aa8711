"""How a function gets to a worker process: by reference, by value, or by being there already."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ._script import describe_main
from ._wire import PROTOCOL, SharingPickler

if TYPE_CHECKING:
    from collections.abc import Callable

Reference = tuple[str, ...]


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
    if unwrapped(found, func):
        return "name", (module_name, name, mark(func))
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


def unwrapped(found: Any, func: Any) -> bool:
    """Say whether what a name stands for is a function, or a task or another wrapper around it."""
    for _ in range(50):
        if found is func:
            return True
        found = getattr(found, "__wrapped__", None)
        if found is None:
            return False
    return False


def _by_pickle(func: Any) -> tuple[str, Any] | str:
    try:
        data = pickle.dumps(func, PROTOCOL)
    except Exception as error:
        return f"is a {type(func).__name__} that cannot be pickled ({type(error).__name__}: {error})"
    if b"__main__" in data and describe_main() is None:
        return f"is a {type(func).__name__} of an interactive session, which a worker cannot import"
    return "pickle", data


def cloudpickle_dumps() -> Callable[[Any, int], bytes] | None:
    """Return how to pickle by value what cannot go by reference, if ``cloudpickle`` is installed."""
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ModuleNotFoundError:
        return None
    return lambda value, protocol: bytes(cloudpickle.dumps(value, protocol))


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
    if not hasattr(os, "fork") or threading.active_count() != 1:
        return False
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:  # no way to know about threads that are not Python's
        return False


def resolve(how: str, what: Any) -> Any:
    """Return the function that a reference means, in a worker."""
    if how == "name":
        from importlib import import_module

        module_name, name, marked = what
        found: Any = sys.modules["__main__"] if module_name == "__main__" else import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
        while hasattr(found, "__wrapped__") and type(found).__name__ == "Task":
            found = found.func
        inner = found
        while hasattr(inner, "__wrapped__") and mark_of(inner) != marked:
            inner = inner.__wrapped__
        if mark_of(inner) not in (None, marked):
            raise LookupError(
                f"{name} is another function there: it stands in line {mark_of(inner)[0]}, not in line {marked[0]}; "
                f"perhaps it was defined again after the first run(), or its file has changed"
            )
    else:
        found = pickle.loads(what)
    from flowkit_core.binding import is_coroutine_function
    from flowkit_core.graph import Awaited

    return Awaited(found) if is_coroutine_function(found) else found
