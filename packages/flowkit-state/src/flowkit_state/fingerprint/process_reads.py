"""What code reads from the process that runs it: environment variables, the command line, the clock and the context.

They are found however they are spelled: `os.environ["DAY"]`, `environ.get("DAY")`, `os.getenv("DAY")`, `sys.argv[1]`.
"""

from __future__ import annotations

import os
import sys
import time
from hashlib import blake2b
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from flowkit_state.fingerprint import process_state
from flowkit_state.fingerprint.name_resolution import UNSET, is_a

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flowkit_state.fingerprint.code import CodeAnalysis
    from flowkit_state.fingerprint.data_flow import Path
    from flowkit_state.fingerprint.name_resolution import VisibleNames

_LOOKUPS = ("__contains__", "__getitem__", "get", "pop", "setdefault")  # methods of `os.environ` that take a name
_CLOCK_METHODS = ("now", "today", "utcnow")  # of the classes of `datetime`
_CLOCK_FUNCTIONS: dict[Any, int] = {
    time.asctime: 1,
    time.ctime: 1,
    time.gmtime: 1,
    time.localtime: 1,
    time.strftime: 2,
    time.time: 1,
    time.time_ns: 1,
}
"""Functions that read the time of day if they are called with fewer arguments. Others only measure durations."""
_GENERATORS = ("random.Random", "numpy.random.RandomState", "numpy.random.default_rng")
"""What makes a generator of random numbers, and seeds it by the system if it is called without arguments."""


class ProcessReads:
    """What functions read from the process.

    Args:
        key: key of the digests of what they read, so that the values cannot be guessed from the digests alone; or a
            function that returns it, which is called when it is needed.

    Attributes:
        components: digests by label, such as `environment variable DAY` or `sys.argv[1]`.
        clock: names of the functions that read the time of day, such as `date.today()`.
        unseeded: the call that makes a generator of random numbers without a seed; empty if there is none.
        uses_context: whether `flowkit.current()` is called, so that the context of the task is read.
        uses_environment: whether `os.environ` is used as a whole, so that what is read in it is not known.
    """

    def __init__(self, key: bytes | Callable[[], bytes]) -> None:
        self.components: dict[str, str] = {}
        self.clock: list[str] = []
        self.unseeded = ""
        self.uses_context = False
        self.uses_environment = False
        self._key = key

    def add(self, known: CodeAnalysis, visible: VisibleNames) -> list[Path]:
        """Add what a function reads. Return the other paths that it reads."""
        resolved = {path: _resolve(path, visible) for path in known.loads}
        for path, key in known.items:
            value, rest = resolved.get(path) or _resolve(path, visible)
            if not rest:
                self._add_item(value, key)
        for path, key, count in known.calls:
            value, rest = resolved.get(path) or _resolve(path, visible)
            if _is_lookup(value, rest):
                self._add_variable(key)
            elif _is_process_value(value):
                self._add_item(value, None)
            else:
                self._add_clock(value, rest, count)
                if count == 0 and not rest and f"{_module(value)}.{getattr(value, '__name__', '')}" in _GENERATORS:
                    self.unseeded = f"{_module(value)}.{value.__name__}"
        for path in known.wholes:
            value, rest = resolved.get(path) or _resolve(path, visible)
            if _is_lookup(value, rest):
                self.uses_environment = True
            elif _is_process_value(value):
                self._add_item(value, None)
            elif is_a(value, ModuleType) and value.__name__ in ("time", "datetime"):  # it may read all that is in it
                self._note_clock(value.__name__)
            else:
                self._add_clock(value, rest, 0)
        for path, (value, rest) in resolved.items():
            self.uses_context |= not rest and process_state.is_context(value) and path not in known.waits
        if not known.has_source:  # how it uses them is not known
            self._add_named(known, visible)
            return [*known.loads]
        return [
            path
            for path, (value, rest) in resolved.items()
            if not _is_process_value(value) and not _is_lookup(value, rest)
        ]

    def add_value(self, value: Any) -> None:
        """Add a value that is referenced in any other way than by the name of a variable, such as a default."""
        cls = type(value)
        if cls is BuiltinFunctionType:
            self._add_clock(value, (), 0)
        elif cls is FunctionType and process_state.is_context(value):
            self.uses_context = True

    def _add_named(self, known: CodeAnalysis, visible: VisibleNames) -> None:
        """Add what code without source may read of the modules and classes that it names."""
        names = [path[1] for path in known.loads if path[0] == "global"]
        for path in known.loads:
            value, rest = _resolve(path, visible)
            found = process_state.reachable(value, names, _has_time) if is_a(value, ModuleType) else []
            for each, attributes in [(value, rest), *(_attribute(value, names) for names in found)]:
                for name in ((), *((name,) for name in names)):
                    self._add_clock(each, (*attributes, *name), 0)

    def _add_item(self, value: Any, key: str | int | None) -> None:
        if value is os.environ:
            self._add_variable(key)
        elif value is sys.argv:
            if isinstance(key, int):
                self._set(f"sys.argv[{key}]", sys.argv[key] if key < len(sys.argv) else None)
            else:
                self._set("sys.argv", sys.argv[1:])

    def _add_variable(self, name: str | int | None) -> None:
        if isinstance(name, str):
            self._set(f"environment variable {name}", os.environ.get(name))
        else:
            self.uses_environment = True

    def _add_clock(self, value: Any, rest: tuple[str, ...], count: int) -> None:
        if type(value) is BuiltinFunctionType and is_a(value.__self__, type):  # a class method, such as `date.today`
            value, rest = value.__self__, (value.__name__, *rest)
        if len(rest) == 1 and rest[0] in _CLOCK_METHODS and _is_date(value):
            self._note_clock(f"{value.__name__}.{rest[0]}()")
        elif not rest and type(value) is BuiltinFunctionType and count < _CLOCK_FUNCTIONS.get(value, 0):
            self._note_clock(f"time.{value.__name__}()")

    def _note_clock(self, name: str) -> None:
        if name not in self.clock:
            self.clock.append(name)

    def _set(self, label: str, value: Any) -> None:
        data = ascii(value).encode()
        key = self._key if isinstance(self._key, bytes) else self._key()
        self.components[label] = blake2b(data, key=key, digest_size=16).hexdigest()


def _resolve(path: Path, visible: VisibleNames) -> tuple[Any, tuple[str, ...]]:
    """Return the value of a path without its attributes, those of modules excepted, and the other attributes."""
    found = visible.start(path)
    return _attribute(UNSET if found is None else found[0], path[2:])


def _attribute(value: Any, rest: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    while rest and is_a(value, ModuleType):
        value, rest = vars(value).get(rest[0], UNSET), rest[1:]
    return value, rest


def _has_time(value: Any) -> bool:
    """Return whether a value is a function that reads the time of day, or a class with a method that does."""
    return _is_date(value) or (type(value) is BuiltinFunctionType and value in _CLOCK_FUNCTIONS)


def _is_date(value: Any) -> bool:
    datetime = sys.modules.get("datetime")
    return datetime is not None and is_a(value, type) and issubclass(value, datetime.date)


def _module(value: Any) -> str:
    """Return the name of the module that a class or a function is read from; of bound functions, that of the object."""
    return getattr(value, "__module__", None) or ""


def _is_lookup(value: Any, rest: tuple[str, ...]) -> bool:
    """Return whether it is a function that returns the environment variable whose name is its first argument."""
    if value is os.environ:
        return len(rest) == 1 and rest[0] in _LOOKUPS
    is_bound = is_a(value, MethodType) and value.__self__ is os.environ and value.__name__ in _LOOKUPS
    return not rest and (value is os.getenv or is_bound)


def _is_process_value(value: Any) -> bool:
    return value is os.environ or value is sys.argv
