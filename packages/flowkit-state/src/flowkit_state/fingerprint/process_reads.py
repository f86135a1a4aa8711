"""What code reads from the process that runs it: environment variables, the command line and the clock.

They are found however they are spelled: `os.environ["DAY"]`, `environ.get("DAY")`, `os.getenv("DAY")`, `sys.argv[1]`.
"""

from __future__ import annotations

import os
import sys
import time
from hashlib import blake2b
from types import MethodType, ModuleType

from flowkit_state.fingerprint.name_resolution import UNSET, is_a

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flowkit_state.fingerprint.code import CodeAnalysis
    from flowkit_state.fingerprint.data_flow import Path
    from flowkit_state.fingerprint.name_resolution import VisibleNames

_LOOKUPS = ("__contains__", "__getitem__", "get", "pop", "setdefault")  # methods of `os.environ` that take a name
_CLOCK = {"date": ("today",), "datetime": ("now", "today", "utcnow")}  # methods of the classes of `datetime`
_CLOCK_FUNCTIONS = {
    time.time: 1,
    time.time_ns: 1,
    time.ctime: 1,
    time.gmtime: 1,
    time.localtime: 1,
    time.strftime: 2,
}
"""Functions that read the clock if they are called with fewer arguments."""


class ProcessReads:
    """What functions read from the process.

    Args:
        key: key of the digests of what they read, so that the values cannot be guessed from the digests alone; or a
            function that returns it, which is called when it is needed.

    Attributes:
        components: digests by label, such as `environment variable DAY` or `sys.argv[1]`.
        clock: names of the functions that read the clock, such as `date.today()`.
        uses_environment: whether `os.environ` is used as a whole, so that what is read in it is not known.
    """

    def __init__(self, key: bytes | Callable[[], bytes]) -> None:
        self.components: dict[str, str] = {}
        self.clock: list[str] = []
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
        for path in known.wholes:
            value, rest = resolved.get(path) or _resolve(path, visible)
            if _is_lookup(value, rest):
                self.uses_environment = True
            elif _is_process_value(value):
                self._add_item(value, None)
            else:
                self._add_clock(value, rest, 0)
        if not known.has_source:  # how it uses them is not known
            return [*known.loads]
        return [
            path
            for path, (value, rest) in resolved.items()
            if not _is_process_value(value) and not _is_lookup(value, rest)
        ]

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
        datetime = sys.modules.get("datetime")
        name = ""
        if len(rest) == 1 and datetime is not None and is_a(value, type):
            kind = next((each for each in _CLOCK if value is getattr(datetime, each, None)), "")
            if rest[0] in _CLOCK.get(kind, ()):
                name = f"{kind}.{rest[0]}()"
        elif not rest and any(value is each and count < least for each, least in _CLOCK_FUNCTIONS.items()):
            name = f"time.{value.__name__}()"
        if name and name not in self.clock:
            self.clock.append(name)

    def _set(self, label: str, value: Any) -> None:
        data = ascii(value).encode()
        key = self._key if isinstance(self._key, bytes) else self._key()
        self.components[label] = blake2b(data, key=key, digest_size=16).hexdigest()


def _resolve(path: Path, visible: VisibleNames) -> tuple[Any, tuple[str, ...]]:
    """Return the value of a path without its attributes, those of modules excepted, and the other attributes."""
    found = visible.start(path)
    value, rest = UNSET if found is None else found[0], path[2:]
    while rest and is_a(value, ModuleType):
        value, rest = vars(value).get(rest[0], UNSET), rest[1:]
    return value, rest


def _is_lookup(value: Any, rest: tuple[str, ...]) -> bool:
    """Return whether it is a function that returns the environment variable whose name is its first argument."""
    if value is os.environ:
        return len(rest) == 1 and rest[0] in _LOOKUPS
    is_bound = is_a(value, MethodType) and value.__self__ is os.environ and value.__name__ in _LOOKUPS
    return not rest and (value is os.getenv or is_bound)


def _is_process_value(value: Any) -> bool:
    return value is os.environ or value is sys.argv
