"""Pickles by value, with cloudpickle, of what another process cannot import: the script, notebooks, closures.

cloudpickle alone cannot pickle functions of the script under ``functools.cache``, ``lru_cache`` and ``singledispatch``,
and pickles tasks of the script by name.
"""

from __future__ import annotations

import sys
from functools import cache, lru_cache, partial, singledispatch
from hashlib import sha256
from io import BytesIO
from threading import Lock
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from flowkit_core._text import escape_control_chars
from flowkit_core.failures import describe_error
from flowkit_core.runs.exception_transport import reduce_error
from flowkit_core.safe_text import type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pickle import PickleBuffer

PICKLE_PROTOCOL = 5
_MAIN_NAMES = ("__main__", "__mp_main__")
_CachedFunction = type(lru_cache(len))


def dumps_by_value(value: Any, buffers: list[PickleBuffer] | None = None) -> bytes:
    """Return the pickle of a value, by value where another process could not import it by name.

    Args:
        value: the value.
        buffers: receives the buffers of arrays; None means that they are a part of the pickle.

    Raises:
        ModuleNotFoundError: cloudpickle is not installed.
        Exception: the value cannot be pickled.
    """
    return _dumped(pickler_by_value(), value, None if buffers is None else buffers.append)


@cache
def pickler_by_value() -> Any:
    """Return the class of picklers that pickle by value.

    Raises:
        ModuleNotFoundError: cloudpickle is not installed.
    """
    import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]

    from flowkit_core import Task

    class PicklerByValue(cloudpickle.Pickler):  # type: ignore[misc, unused-ignore]
        """Pickles by value; see the module."""

        def reducer_override(self, value: Any) -> Any:
            """Return how a value is pickled, or NotImplemented for the default."""
            kind = type(value)
            if kind is _CachedFunction:
                if not is_found_by_name(value):
                    names = value.__module__, value.__qualname__
                    return _restore_cached, (names, _identity(value), value.__wrapped__, value.cache_parameters())
            elif kind is FunctionType:
                registry = getattr(value, "registry", None)
                if registry is not None and hasattr(value, "dispatch") and not is_found_by_name(value):
                    return _restore_dispatcher, (value.__wrapped__, list(registry.items()))
            elif kind is CodeType:  # cloudpickle leaves out the file, which tracebacks name
                return _restore_code, (value.co_filename, *self.dispatch_table[CodeType](value)[1])
            elif isinstance(value, BaseException):
                reduced = reduce_error(value, dumps_by_value)
                if reduced is not NotImplemented:
                    return reduced
            elif isinstance(value, Task) and not is_importable(value.__module__):
                return value.reduce_by_value()
            return super().reducer_override(value)

    return PicklerByValue


def is_importable(module: str | None) -> bool:
    """Return whether another process is to import a module: not the script, and what cloudpickle is to send by value.

    Args:
        module: name of the module.
    """
    if module is None or module in _MAIN_NAMES:
        return False
    cloudpickle: Any = sys.modules.get("cloudpickle")
    if cloudpickle is None:
        return True
    registered = cloudpickle.list_registry_pickle_by_value()
    return not any(module == name or module.startswith(f"{name}.") for name in registered)


def is_found_by_name(value: Any) -> bool:
    """Return whether another process can import a function, or a class, by its name."""
    if not is_importable(value.__module__):
        return False
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


CREATE_HINT = (
    "create it in the task, or in a function under functools.cache that the task calls, or use executor='thread'"
)
"""What to do about a global that cannot be pickled."""


def find_unpicklable(function: Any) -> str:
    """Return what a function refers to that cannot be pickled, as the end of a sentence; an empty text if unknown."""
    seen: set[int] = set()
    pending: list[tuple[Any, str]] = [(function, "")]
    while pending:
        value, user = pending.pop()
        for name, part in _parts(value):
            if id(part) in seen:
                continue
            seen.add(id(part))
            function = getattr(part, "func", part) if type(part).__module__.startswith("flowkit_core") else part
            if _parts(function) and not is_found_by_name(function):
                pending.append((function, f"uses {function.__qualname__!r}, which "))
                continue
            try:
                dumps_by_value(part)
            except Exception as error:
                described = escape_control_chars(describe_error(error))
                return f"{user}refers to {name}, a {type_name(part)}, which cannot be pickled ({described})"
    return ""


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Return what a function that is sent by value refers to, each with a description."""
    if type(value) is MethodType:
        return [("its object", value.__self__), *_parts(value.__func__)]
    if type(value) is partial:
        given = [*enumerate(value.args), *value.keywords.items()]
        return [*_parts(value.func), *((f"its argument {name!r}", part) for name, part in given)]
    if type(value) is not FunctionType:
        return []
    found, names, codes = [], list[str](), [value.__code__]
    for code in codes:  # it grows
        names += code.co_names
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    variables = value.__globals__
    found += [(f"the global {name!r}", variables[name]) for name in dict.fromkeys(names) if name in variables]
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
        found += [(f"the variable {name!r}", part) for part in _content(cell)]
    return [*found, *(("a default of its parameters", part) for part in value.__defaults__ or ())]


def _content(cell: Any) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # it is empty
        return []


def _dumped(kind: Any, value: Any, buffer_callback: Callable[[PickleBuffer], None] | None = None) -> bytes:
    file = BytesIO()
    kind(file, PICKLE_PROTOCOL, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()


def _identity(function: Any) -> bytes:
    """Return a digest of a cached function, which is another one if its code, or a value that it uses, is another."""
    return sha256(_dumped(_identity_pickler(), function.__wrapped__)).digest()


@cache
def _identity_pickler() -> Any:
    class IdentityPickler(pickler_by_value()):  # type: ignore[misc]
        """Pickles functions under ``cache`` by name: they may use each other."""

        def reducer_override(self, value: Any) -> Any:
            """Return how a value is pickled."""
            if type(value) is _CachedFunction:
                return str, (value.__qualname__,)
            return super().reducer_override(value)

    return IdentityPickler


# ---- where it is unpickled -------------------------------------------------------------------------------------------

_cached: dict[tuple[str, str], tuple[bytes, Any]] = {}
_lock = Lock()


def _restore_cached(
    names: tuple[str, str], identity: bytes, function: Callable[..., Any], parameters: dict[str, Any]
) -> Any:
    """Return a function under ``cache``: the same one for all tasks of this process, until its code changes."""
    with _lock:
        known = _cached.get(names)
        if known is None or known[0] != identity:
            known = _cached[names] = identity, lru_cache(**parameters)(function)
        return known[1]


def _restore_code(file: str, *args: Any) -> CodeType:
    """Return the code of a function in a file."""
    return CodeType(*args).replace(co_filename=file)


def _restore_dispatcher(function: Callable[..., Any], registry: Sequence[tuple[type, Callable[..., Any]]]) -> Any:
    """Return a function under ``singledispatch``."""
    dispatcher = singledispatch(function)
    for kind, implementation in registry:
        dispatcher.register(kind, implementation)
    return dispatcher
