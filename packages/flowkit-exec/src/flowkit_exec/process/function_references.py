"""How a function gets to a worker process: by reference, by value, or by being there already."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from time import monotonic, sleep
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any
from zlib import crc32

from flowkit_core import Task

from .main_module import MainModule, describe_main
from .protocol import PROTOCOL
from .safe_text import described, is_for_the_program
from .shared_memory import SharingPickler

if TYPE_CHECKING:
    from collections.abc import Callable

Reference = tuple[str, ...]

LINGER = 0.03
"""Seconds that the system may need to clear away a thread that was joined."""


def reference(func: Any) -> tuple[str, Any] | str:
    """Return how a worker can get a function without help; or why it cannot, in words.

    ``("name", (module, qualified name, depth, mark))`` is looked up; ``("pickle", bytes)`` is unpickled.
    """
    module_name, name = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if module_name is None or name is None:
        return _by_pickle(func)
    pickled = "" if isinstance(func, FunctionType) else _by_pickle(func)
    if not isinstance(pickled, str):
        return pickled
    if "<lambda>" in name:
        return "is a lambda, which has no name to find it by"
    if "<locals>" in name:
        return f"is defined inside a function ({name}), where a worker cannot look it up"
    module = sys.modules.get(module_name)
    if module_name == "__main__" and (describe_main() is None or _file(func).startswith("<")):
        return "is defined in an interactive session or a script without source, which a worker cannot import"
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    for depth, inner in enumerate(layers(found)):
        if inner is func:
            marked = mark_of(func)
            if marked is not None and not _is_as_written(module):
                marked = (*marked[:2], None)
            return "name", (module_name, name, depth, marked)
    return pickled or (
        f"is not what {module_name}.{name} is by now: it was replaced, or it is made by code that a worker does not run"
    )


def _file(func: Any) -> str:
    return func.__code__.co_filename if hasattr(func, "__code__") else ""


def mark_of(func: Any) -> Any:
    """Return what tells a function from another of the same name, its line first; None for what is no function."""
    code = getattr(func, "__code__", None)
    if code is None:
        return None
    return code.co_firstlineno, code.co_varnames[: code.co_argcount], (sys.flags.optimize, _digest(code))


def _is_as_written(module: ModuleType | None) -> bool:
    """Say whether the code of a module is that of its file: pytest and others have loaders that change it."""
    loader = getattr(getattr(module, "__spec__", None) or module, "loader", None) or getattr(module, "__loader__", None)
    return type(loader).__module__ in ("_frozen_importlib_external", "zipimport")


def _alike(found: Any, marked: Any) -> bool:
    """Say whether a function has a mark; a digest that is missing, or of code optimized otherwise, does not count."""
    own = mark_of(found)
    if own == marked or own is None or marked is None or own[:2] != marked[:2]:
        return bool(own == marked)
    return marked[2] is None or marked[2][0] != sys.flags.optimize


def _digest(code: CodeType) -> int:
    """Return a number that stands for instructions, names and constants, the same in every process."""
    digest = crc32(repr(code.co_names).encode(), crc32(code.co_code))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            text = str(_digest(constant))
        elif isinstance(constant, frozenset):  # in no order
            text = repr(sorted(map(repr, constant)))
        else:
            text = repr(constant)
        digest = crc32(text.encode(errors="surrogatepass"), digest)
    return digest


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
        session = "an interactive session or a script without source"
        return f"is a {type(func).__name__} of {session}, which a worker cannot import"
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
        others = there if marked is not None else ()  # without a mark, they could be anything
        same = [inner for inner in (*there[depth : depth + 1], *others) if _alike(inner, marked)]
        if not same:
            line, expected = (mark_of(there[-1]) or "?")[0], (marked or "?")[0]
            moved = f"it stands in line {line}, not in line {expected}"
            where = moved if line != expected else "its code is not the same"
            raise LookupError(
                f"{name} is another function there: {where}; perhaps it was defined again after the first run(), or "
                f"its file has changed"
            )
        found = same[0]
        main = sys.modules["__main__"]
        if isinstance(main, MainModule) and module_name == "__main__":
            main._flowkit_script.check(found)
    else:
        found = pickle.loads(what)
    method: Any = found.__func__ if type(found) is MethodType else None
    if isinstance(method, Task):  # unpickling finds the task of the class; the run handles its retries
        found = MethodType(method.func, found.__self__)
    return found
