"""How a function is sent to a worker process: by reference (its name), by value (a pickle), or with a fork.

A reference has a kind and a value:

* ``"name"``: (module name, qualified name, number of wrappers around the function, its code identity);
* ``"pickle"``: a pickle, of pickle or of cloudpickle;
* ``"fork"``: None; the worker is a fork of the calling process and has the function.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from io import BytesIO
from time import monotonic, sleep
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any
from zlib import crc32

from flowkit_core import Task
from flowkit_core.failures import describe_error
from flowkit_core.safe_text import is_interrupt
from flowkit_exec.process.protocol import PICKLE_PROTOCOL
from flowkit_exec.process.shared_memory import SharingPickler

from .main_module import MainModule, describe_main, is_bound_in_workers

if TYPE_CHECKING:
    from collections.abc import Callable

    CodeIdentity = tuple[int, tuple[str, ...], tuple[int, int] | None]

THREAD_EXIT_TIMEOUT = 0.03
"""Seconds that the system may take to remove a joined thread from its list."""
_MAX_WRAPPERS = 50


# ---- in the calling process ------------------------------------------------------------------------------------------


def reference_to(func: Any) -> tuple[str, Any] | str:
    """Return the kind and the value of a reference to a function; if there is none, the reason as a text."""
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
    for depth, inner in enumerate(wrapped_functions(found)):
        if inner is func:
            identity = code_identity(func)
            if identity is not None and not _is_loaded_from_file(module):
                identity = (*identity[:2], None)
            return "name", (module_name, name, depth, identity)
    return pickled or (
        f"is not the object that {module_name}.{name} refers to: the name was bound again, or the function is made by "
        f"code that a worker does not execute"
    )


def _file(func: Any) -> str:
    return func.__code__.co_filename if hasattr(func, "__code__") else ""


def _is_loaded_from_file(module: ModuleType | None) -> bool:
    """Return whether the code of a module is that of its file; the loader of pytest, for example, changes it."""
    loader = getattr(getattr(module, "__spec__", None) or module, "loader", None) or getattr(module, "__loader__", None)
    return type(loader).__module__ in ("_frozen_importlib_external", "zipimport")


def _by_pickle(func: Any) -> tuple[str, Any] | str:
    """Return a reference of kind ``"pickle"``, or the reason why there is none."""
    try:
        data = pickle.dumps(func, PICKLE_PROTOCOL)
    except BaseException as error:  # pickling runs the user's code
        if is_interrupt(error):
            raise
        return f"is a {type(func).__name__} that cannot be pickled ({describe_error(error)})"
    if b"__main__" in data and describe_main() is None:
        session = "an interactive session or a script without source"
        return f"is a {type(func).__name__} of {session}, which a worker cannot import"
    return "pickle", data


def find_cloudpickle() -> Callable[..., bytes] | None:
    """Return ``cloudpickle.dumps``, with the signature of :func:`pickle.dumps`; None if it is not installed."""
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ModuleNotFoundError:
        return None
    return lambda value, protocol, **options: bytes(cloudpickle.dumps(value, protocol, **options))


def sharing_cloudpickler() -> type[SharingPickler]:
    """Return a `SharingPickler` class that pickles like cloudpickle."""
    import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]

    return type("SharingCloudpickler", (SharingPickler, cloudpickle.Pickler), {})


def by_value(func: Any) -> bytes:
    """Return a function pickled by value; requires cloudpickle.

    It refers to the classes and functions of the main script by reference, so that they are the same in all tasks.
    """
    import cloudpickle

    class ScriptPickler(cloudpickle.Pickler):  # type: ignore[misc, unused-ignore]
        def reducer_override(self, value: Any) -> Any:
            if issubclass(type(value), (type, FunctionType)) and (reference := _reference_in_script(value)) is not None:
                return resolve, ("name", reference)
            return super().reducer_override(value)

    file = BytesIO()
    ScriptPickler(file, PICKLE_PROTOCOL).dump(func)
    return file.getvalue()


def _reference_in_script(value: Any) -> tuple[str, str, int, CodeIdentity | None] | None:
    """Return a reference of kind ``"name"`` to a class or function of the main script, if workers have it."""
    module_name, name = value.__module__, value.__qualname__
    if module_name not in ("__main__", "__mp_main__") or not is_bound_in_workers(name.partition(".")[0]):
        return None
    found: Any = sys.modules["__main__"]
    for part in name.split("."):
        found = getattr(found, part, None)
    for depth, inner in enumerate(wrapped_functions(found)):
        if inner is value:
            return "__main__", name, depth, code_identity(value)
    return None


def fork_is_safe() -> bool:
    """Return whether this process is known to have one thread: a fork would inherit locks that other threads hold.

    The thread of the event loop of async tasks is ended for that, if no run uses it.
    """
    if not hasattr(os, "fork"):
        return False
    shared_loop = sys.modules.get("flowkit_core.runs.event_loop.shared_loop")
    if shared_loop is not None:
        shared_loop.park_loop()
    until = monotonic() + THREAD_EXIT_TIMEOUT
    while threading.active_count() == 1:
        try:
            if len(os.listdir("/proc/self/task")) == 1:
                return True
        except OSError:  # threads that Python has not started cannot be counted
            return False
        if monotonic() > until:
            return False
        sleep(0.001)
    return False


# ---- on both sides ---------------------------------------------------------------------------------------------------


def code_identity(func: Any) -> CodeIdentity | None:
    """Return what distinguishes a function from another of the same name; None for an object without code.

    Returns:
        Its line; its parameters; the optimization level of the interpreter and a digest of the code, or None in place
        of both.
    """
    code = getattr(func, "__code__", None)
    if code is None:
        return None
    return code.co_firstlineno, code.co_varnames[: code.co_argcount], (sys.flags.optimize, _digest(code))


def _digest(code: CodeType) -> int:
    """Return a digest of instructions, names and constants that is the same in every process."""
    digest = crc32(repr(code.co_names).encode(), crc32(code.co_code))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            text = str(_digest(constant))
        elif isinstance(constant, frozenset):  # its order differs between processes
            text = repr(sorted(map(repr, constant)))
        else:
            text = repr(constant)
        digest = crc32(text.encode(errors="surrogatepass"), digest)
    return digest


def wrapped_functions(outermost: Any) -> list[Any]:
    """Return an object and what it wraps (``__wrapped__``), a task or another decorated function, outermost first."""
    found = [outermost]
    while len(found) < _MAX_WRAPPERS and (inner := getattr(found[-1], "__wrapped__", None)) is not None:
        found.append(inner)
    return found


# ---- in the worker ---------------------------------------------------------------------------------------------------


def resolve(kind: str, reference: Any) -> Any:
    """Return the function that a reference of kind ``"name"`` or ``"pickle"`` refers to.

    Raises:
        Exception: the module cannot be imported, or does not have the function, or the pickle cannot be loaded.
        LookupError: the name refers to another function in this process.
    """
    found: Any
    if kind == "name":
        from importlib import import_module

        module_name, name, depth, identity = reference
        found = sys.modules["__main__"] if module_name == "__main__" else import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
        found = _matching(name, wrapped_functions(found), depth, identity)
        main = sys.modules["__main__"]
        if isinstance(main, MainModule) and module_name == "__main__":
            main._flowkit_script.check(found)
    else:
        found = pickle.loads(reference)
    method: Any = found.__func__ if type(found) is MethodType else None
    if isinstance(method, Task):  # unpickling finds the task of the class; the run handles its retries
        found = MethodType(method.func, found.__self__)
    return found


def _matching(name: str, candidates: list[Any], depth: int, identity: CodeIdentity | None) -> Any:
    """Return the one of a function and its wrappers that has a code identity, that at ``depth`` preferably."""
    others = candidates if identity is not None else []  # without an identity, any of them would match
    for inner in (*candidates[depth : depth + 1], *others):
        if _has_identity(inner, identity):
            return inner
    line, expected = (code_identity(candidates[-1]) or "?")[0], (identity or "?")[0]
    difference = f"it is in line {line}, not in line {expected}" if line != expected else "its code is not the same"
    raise LookupError(
        f"{name} is another function there: {difference}; perhaps it was defined again after the first run(), or its "
        f"file has changed"
    )


def _has_identity(func: Any, identity: CodeIdentity | None) -> bool:
    """Return whether a function has an identity; a digest that is None, or of another optimization level, matches."""
    own = code_identity(func)
    if own == identity or own is None or identity is None or own[:2] != identity[:2]:
        return bool(own == identity)
    return identity[2] is None or identity[2][0] != sys.flags.optimize
