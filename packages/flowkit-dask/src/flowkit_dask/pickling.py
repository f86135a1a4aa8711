"""Pickles of functions and arguments: of importable modules by name, of the main script and closures by value."""

from __future__ import annotations

import pickle
import sys
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]

from flowkit_core import Task
from flowkit_core.executors.pickling_by_value import dumps_by_value, is_importable

if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOL = 5


def dumps(value: Any) -> bytes:
    """Return the pickle of a value, by value where a worker could not import it by name.

    Raises:
        Exception: the value cannot be pickled.
    """
    try:
        data = pickle.dumps(value, PROTOCOL)
    except Exception:
        return dumps_by_value(value)
    return dumps_by_value(value) if b"__main__" in data or cloudpickle.list_registry_pickle_by_value() else data


def dumps_function(func: Callable[..., Any]) -> bytes:
    """Return the pickle of a function; a function of a module is found by its name, also if a task has that name.

    Raises:
        Exception: the function cannot be pickled.
    """
    module, qualname = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(qualname, str) and is_importable(module)):
        return dumps(func)
    is_found = _find(sys.modules.get(module), qualname) is func
    return pickle.dumps((module, qualname), PROTOCOL) if is_found else dumps(func)


@lru_cache(256)
def loads_function(data: bytes) -> Callable[..., Any]:
    """Return the function of a pickle of :func:`dumps_function`.

    Raises:
        Exception: the pickle cannot be loaded, for example because a module cannot be imported.
    """
    found: Any = pickle.loads(data)
    if type(found) is tuple:
        module, qualname = found
        found = _find(import_module(module), qualname)
        if found is None:
            raise AttributeError(f"module {module!r} has no {qualname!r} there")
    function: Callable[..., Any] = found
    return function


def _find(module: Any, qualname: str) -> Any:
    found: Any = module
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found.func if isinstance(found, Task) else found
