"""Warnings of worker processes: filtered in the worker like in the calling process, and shown by the calling process.

A worker gets the warning filters of the calling process with each run, so a warning that they turn into an error is
raised in the task. The worker sends the others, and the calling process issues them again, at the same line: so its
registries show a warning once that several workers send, and its ``showwarning()`` and ``catch_warnings()`` apply.
"""

from __future__ import annotations

import builtins
import pickle
import sys
import warnings
from typing import TYPE_CHECKING, Any

from flowkit_core._warnings import safe_warn
from flowkit_core.failures import describe_error
from flowkit_core.safe_text import safe_str

from . import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from re import Pattern
    from types import FrameType

    ClassName = tuple[str, str]
    Filter = tuple[str, Pattern[str] | None, list[ClassName], Pattern[str] | str | None, int]

_MAIN, _MAIN_IN_WORKERS = "__main__", "__mp_main__"
_show_here = warnings.showwarning  # prints to standard error
_registries: dict[str, dict[Any, Any]] = {}  # path of a file that belongs to no module here -> its registry


# ---- in the calling process ------------------------------------------------------------------------------------------


def current_filters() -> list[Filter]:
    """Return the warning filters of this process, with the names of the categories instead of the classes."""
    return [
        (action, message, _names_of(category), module, line)
        for action, message, category, module, line in tuple(warnings.filters)
    ]


def handle_warning(data: bytes) -> None:
    """Issue a warning of a worker in this process."""
    text, categories, path, line, module_name, is_decided = pickle.loads(data)
    message = _message(text, categories)
    module = sys.modules.get(module_name)
    registry = _registries.setdefault(path, {}) if module is None else _registry_of(vars(module))
    if module is not None and module_name == _MAIN:
        module_name = module.__name__  # it has another name if this is a worker that runs a pipeline inside a task
    try:
        if not is_decided:
            try:
                warnings.warn_explicit(message, type(message), path, line, module_name, registry)
            except type(message):  # the filters have changed since the run began
                is_decided = True
        if is_decided:
            warnings.showwarning(message, type(message), path, line)
    except Exception as error:
        safe_warn(f"a warning of a worker process could not be shown: {describe_error(error)}")


def _registry_of(variables: dict[str, Any]) -> dict[Any, Any]:
    registry = variables.setdefault("__warningregistry__", {})
    return registry if isinstance(registry, dict) else {}


def _message(text: str, categories: Sequence[ClassName]) -> Warning:
    """Return a warning of the first category that is known here and can be made of a text."""
    for name in categories:
        category = _class_of(name)
        if category is not None:
            try:
                message = category(text)
                if str(message) == text:
                    return message
            except Exception:  # noqa: S112 - it takes other arguments
                continue
    return Warning(text)


def _class_of(name: ClassName) -> type[Warning] | None:
    """Return a category; None if it is not known in this process. No module is imported."""
    module_name, qualname = name
    found: Any = sys.modules.get(module_name)
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) and issubclass(found, Warning) else None


def _names_of(category: Any) -> list[ClassName]:
    """Return the names of a category, or of a tuple of categories."""
    return [_name_of(each) for each in (category if type(category) is tuple else (category,))]


def _name_of(category: type) -> ClassName:
    module_name = _MAIN if category.__module__ == _MAIN_IN_WORKERS else category.__module__
    return module_name, category.__qualname__


# ---- in the worker ---------------------------------------------------------------------------------------------------


class WarningForwarder:
    """Sends the warnings of this worker to the calling process.

    Args:
        send: sends a pickled warning.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._filters: list[Any] = []
        self._own: list[Any] = []  # filters of the initializer

    def start(self, filters: Sequence[Filter]) -> None:
        """Set the filters, and forward warnings from now on; to be repeated after code that may have changed them.

        Args:
            filters: what :func:`current_filters` has returned in the calling process.
        """
        self._filters = [*self._own, *(each for entry in filters for each in _resolved(entry))]
        warnings.resetwarnings()  # also forgets which warnings were shown: the calling process keeps track of them
        current: Any = warnings.filters
        current[:] = self._filters
        warnings.showwarning = self._forward

    def keep_changes(self) -> None:
        """Keep the filters that were added since :meth:`start`, by the initializer."""
        self._own = [entry for entry in warnings.filters if entry not in self._filters]

    def pause(self) -> None:
        """Drop warnings, while code is executed that the calling process has executed."""
        warnings.showwarning = _drop

    def stop(self) -> None:
        """Print warnings to standard error again."""
        warnings.showwarning = _show_here

    def _forward(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            _show_here(message, category, filename, lineno, file, line)
            return
        categories = [_name_of(base) for base in category.__mro__ if issubclass(base, Warning)]
        is_decided = warnings.filters != self._filters  # by filters of the task
        module = _module_of(filename, lineno, sys._getframe(1))
        facts = safe_str(lambda: str(message)), categories, filename, lineno, module, is_decided
        self._send(pickle.dumps(facts, protocol.PICKLE_PROTOCOL))


def _drop(*_args: object, **_options: object) -> None:
    """Function ``showwarning()`` that does nothing."""


def _module_of(path: str, line: int, frame: FrameType | None) -> str:
    """Return the name of the module at whose line a warning was issued."""
    while frame is not None:
        if frame.f_code.co_filename == path and frame.f_lineno == line:
            name = frame.f_globals.get("__name__")
            break
        frame = frame.f_back
    else:
        modules = list(sys.modules.items())
        name = next((name for name, module in modules if getattr(module, "__file__", None) == path), None)
    if not isinstance(name, str):
        return path.removesuffix(".py") or "<unknown>"  # as warnings.warn_explicit() does
    return _MAIN if name == _MAIN_IN_WORKERS else name


def _resolved(entry: Filter) -> list[Any]:
    """Return the filters of this worker for one of the calling process: two, if it is for the script."""
    action, message, names, module, line = entry
    categories = tuple(getattr(builtins, name[1]) if name[0] == "builtins" else _stand_in(name) for name in names)
    category = categories[0] if len(categories) == 1 else categories
    filters: list[Any] = [(action, message, category, module, line)]
    if module is not None and (module == _MAIN if isinstance(module, str) else module.match(_MAIN)):
        filters.append((action, message, category, _MAIN_IN_WORKERS, line))
    return filters


def _stand_in(name: ClassName) -> type:
    """Return a stand-in for a class of a name, because importing its module could take long.

    Categories of this name, and their subclasses, count as its subclasses.
    """
    return _StandIn(name[1], (Warning,), {"__module__": name[0]})


class _StandIn(type):
    def __subclasscheck__(cls, category: type) -> bool:
        """Return whether a category, or one of its base classes, has the name of this class."""
        return _name_of(cls) in map(_name_of, category.__mro__)
