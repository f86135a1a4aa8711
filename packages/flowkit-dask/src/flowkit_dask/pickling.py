"""Pickles of functions and arguments: of importable modules by name, of the main script and closures by value."""

from __future__ import annotations

import pickle
import sys
from functools import lru_cache
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]

from flowkit_core import Task
from flowkit_core.executors.pickling_by_value import dumps_by_value, is_importable
from flowkit_core.runs.exception_transport import reduce_error

from .code_versions import INTERPRETER, check_versions, versions_of

if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOL = 5


class _Pickler(pickle.Pickler):
    """Pickles exceptions that are values, also those that pickle cannot load."""

    def reducer_override(self, value: Any) -> Any:
        """Return how a value is pickled, or NotImplemented for the default."""
        return reduce_error(value, dumps) if isinstance(value, BaseException) else NotImplemented


def dumps(value: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
    """Return the pickle of a value, by value where a worker could not import it by name.

    Args:
        value: the value.
        buffers: receives the buffers of arrays; None means that they are a part of the pickle.

    Raises:
        Exception: the value cannot be pickled.
    """
    if not cloudpickle.list_registry_pickle_by_value():
        file = BytesIO()
        try:
            _Pickler(file, PROTOCOL, buffer_callback=None if buffers is None else buffers.append).dump(value)
            if b"__main__" not in (data := file.getvalue()):
                return data
        except Exception:  # by value, perhaps
            del file
        if buffers is not None:
            buffers.clear()
    return dumps_by_value(value, buffers)


def dumps_function(func: Callable[..., Any]) -> bytes:
    """Return the pickle of a function; a function of a module is found by its name, also if a task has that name.

    It has the versions of the modules of the user that the function reaches, see `code_versions`.

    Raises:
        Exception: the function cannot be pickled.
    """
    module, qualname = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    name: tuple[str, str] | None = None
    if isinstance(module, str) and isinstance(qualname, str) and is_importable(module):
        name = (module, qualname) if _find(sys.modules.get(module), qualname) is func else None
    data = None if name is not None else dumps(func)
    return pickle.dumps((name, data, INTERPRETER, versions_of(func)), PROTOCOL)


def loads_function(data: bytes) -> Callable[..., Any]:
    """Return the function of a pickle of :func:`dumps_function`.

    Raises:
        CodeMismatchError: a module of the user is not the same here.
        Exception: the pickle cannot be loaded, for example because a module cannot be imported.
    """
    function, modules = _loaded_function(data)
    if any(getattr(sys.modules.get(name), "__spec__", None) is not spec for name, spec in modules):  # it was reloaded
        _loaded_function.cache_clear()
        function, _ = _loaded_function(data)
    return function


@lru_cache(256)
def _loaded_function(data: bytes) -> tuple[Callable[..., Any], list[tuple[str, Any]]]:
    """Return a function, and the modules that it uses, by name, with their specs."""
    name, by_value, interpreter, versions = pickle.loads(data)
    if name is None:
        function: Any = pickle.loads(by_value)
    else:
        function = _find(import_module(name[0]), name[1])
        if function is None and not (versions and interpreter == INTERPRETER):
            raise AttributeError(f"module {name[0]!r} has no {name[1]!r} there")
    if interpreter == INTERPRETER:
        check_versions(versions)
    names = {module for module, _ in versions}
    return function, [(name, getattr(sys.modules.get(name), "__spec__", None)) for name in names]


def _find(module: Any, qualname: str) -> Any:
    found: Any = module
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found.func if isinstance(found, Task) else found
