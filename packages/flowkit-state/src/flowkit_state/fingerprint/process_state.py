"""Objects and functions of the standard library that give access to state of the process, which cannot be compared.

A result that depends on such state must not be cached without it: two calls with the same code and the same inputs may
return different results.
"""

from __future__ import annotations

import sys
from functools import cache
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from flowkit_state.fingerprint.name_resolution import UNSET, is_a
from flowkit_state.fingerprint.provenance import of_module
from flowkit_state.fingerprint.stdlib_types import context_settings, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from flowkit_state.fingerprint.data_flow import Path

_HOLDERS = frozenset(
    [
        "_contextvars.Context",
        "_contextvars.ContextVar",
        "_queue.SimpleQueue",
        "_random.Random",
        "_thread._local",
        "_threading_local.local",
        "asyncio.locks.Event",
        "asyncio.queues.Queue",
        "multiprocessing.queues.Queue",
        "multiprocessing.queues.SimpleQueue",
        "multiprocessing.synchronize.Event",
        "os._Environ",
        "queue.Queue",
        "threading.Event",
        "threading.Thread",
    ]
)
"""Classes whose instances hold state that other code of the process sets."""

_SYNCHRONIZATION = frozenset(
    [
        "_queue.SimpleQueue",
        "_thread.RLock",
        "_thread.lock",
        "asyncio.locks.BoundedSemaphore",
        "asyncio.locks.Condition",
        "asyncio.locks.Event",
        "asyncio.locks.Lock",
        "asyncio.locks.Semaphore",
        "asyncio.queues.Queue",
        "queue.Queue",
        "threading.Barrier",
        "threading.BoundedSemaphore",
        "threading.Condition",
        "threading.Event",
        "threading.Semaphore",
    ]
)
"""Classes whose instances do not change results if code only waits for them, or wakes up others."""

_READERS = frozenset(
    [
        "_contextvars.copy_context",
        "_thread._get_current_thread",
        "builtins.input",
        "fileinput.input",
        "getpass.getpass",
        "getpass.getuser",
        "getpass.unix_getpass",
        "genericpath.expandvars",
        "nt.getcwd",
        "nt.getcwdb",
        "ntpath.abspath",
        "ntpath.expanduser",
        "ntpath.expandvars",
        "ntpath.realpath",
        "ntpath.relpath",
        "os.getenv",
        "os.getenvb",
        "posix.getcwd",
        "posix.getcwdb",
        "posixpath.abspath",
        "posixpath.expanduser",
        "posixpath.expandvars",
        "posixpath.realpath",
        "posixpath.relpath",
        "threading.currentThread",
        "threading.current_thread",
    ]
)
"""Functions that return state of the process."""

_READER_MODULES = frozenset(["_locale", "locale"])
_READER_METHODS = frozenset(["cwd", "home"])  # class methods in `pathlib`
_MAX_DEPTH = 3
_DEFAULT_DECIMAL_CONTEXT = [28, "ROUND_HALF_EVEN", -999999, 999999, 1, 0]
_DEFAULT_DECIMAL_CONTEXT += [("DivisionByZero", "InvalidOperation", "Overflow")]


def reason(value: Any) -> str:
    """Return why a value gives access to state of the process, for a message; empty if it does not."""
    cls = type(value)
    if cls in (FunctionType, BuiltinFunctionType, MethodType):
        return _reason_of_function(value)
    if value is sys.argv or value is sys.orig_argv:
        return "which belongs to the process"
    if value is sys.stdin or value is sys.__stdin__:
        return "which is read once"
    names = {name_of(parent) for parent in cls.__mro__}
    is_holder = not names.isdisjoint(_HOLDERS) and "random.SystemRandom" not in names
    return "which holds state of the process" if is_holder or name_of(cls).startswith("numpy.random.") else ""


def _reason_of_function(value: Any) -> str:
    if is_context(value):
        return "which returns what belongs to one attempt at the task"
    holder = getattr(value, "__self__", None)
    if holder is not None and not isinstance(holder, (ModuleType, FunctionType, BuiltinFunctionType, MethodType)):
        is_path = is_a(holder, type) and holder.__module__.partition(".")[0] == "pathlib"
        is_reader = value.__name__ in _READER_METHODS if is_path else bool(reason(holder))
    else:
        module = value.__module__
        is_reader = f"{module}.{value.__qualname__}" in _READERS or module in _READER_MODULES
    return "which returns state of the process" if is_reader else ""


def is_context(value: object) -> bool:
    """Return whether a value is `flowkit.current`, which returns the context of the task."""
    return type(value) is FunctionType and value.__module__ == "flowkit_core.context" and value.__name__ == "current"


def has_only_effects(value: object) -> bool:
    """Return whether code whose only uses of `value` discard what it returns does not depend on it."""
    return is_context(value) or any(name_of(parent) in _SYNCHRONIZATION for parent in type(value).__mro__)


def resolve(value: Any, names: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Follow attributes of a module or a class of the standard library or of a package.

    Returns the value of the longest path that is found without running code, and the names of that path, which begin
    with the name of the module or the class.
    """
    found: list[str] = [value.__name__]
    for name in names:
        if is_a(value, ModuleType):
            value = vars(value).get(name, UNSET)
        elif is_a(value, type) and name in _READER_METHODS and value.__module__.partition(".")[0] == "pathlib":
            value = getattr(value, name, UNSET)
        else:
            break
        found.append(name)
    return value, (*found,)


def decimal_context() -> list[Any] | None:
    """Return the settings of the decimal context of this thread; None if they are the default ones."""
    decimal = sys.modules.get("decimal")
    settings = None if decimal is None else context_settings(decimal.getcontext())
    return None if settings == _DEFAULT_DECIMAL_CONTEXT else settings


def reachable(holder: Any, names: Sequence[str], is_wanted: Callable[[Any], object] = reason) -> list[Path]:
    """Return the paths of `names` at which code finds a wanted value, else process state, in a module or a class."""
    found: list[Path] = []
    todo: list[Path] = [(name,) for name in names]
    for path in todo:  # which grows meanwhile
        value, steps = resolve(holder, path)
        if len(steps) == len(path) + 1 and value is not UNSET:
            if is_wanted(value):
                found.append(path)
            elif is_a(value, (ModuleType, type)) and len(path) < _MAX_DEPTH:
                todo += [(*path, name) for name in names]
    return found


@cache
def state_of_module(module: ModuleType) -> Path:
    """Return the path of process state without content in a module of the standard library; empty if there is none."""
    if of_module(module.__name__) != {}:
        return ()
    names = [name for name, value in vars(module).items() if type(value) is not list and not is_a(value, ModuleType)]
    return next((path for name in names for path in reachable(module, [name, *_READER_METHODS])), ())
