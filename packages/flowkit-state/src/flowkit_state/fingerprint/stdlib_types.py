"""What instances of classes of the standard library are: data, stateful objects, or objects of one process.

The attributes of data can be compared. All classes that are not listed here are opaque.
"""

from __future__ import annotations

from flowkit_state.fingerprint.provenance import of_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_DATA = frozenset(
    [
        "argparse",
        "collections",
        "configparser",
        "contextlib",
        "csv",
        "datetime.tzinfo",  # a base class; datetime.timezone and the others have a form of their own
        "email",
        "fractions",
        "ipaddress",
        "json",
        "optparse",
        "string",
        "types",
        "urllib",
    ]
)
"""Packages, modules and classes whose instances hold nothing but their attributes."""

_PROCESS = frozenset(
    [
        "_contextvars",
        "_io",
        "_queue",
        "_random",
        "_thread",
        "asyncio",
        "concurrent",
        "logging",
        "multiprocessing",
        "os._Environ",
        "queue",
        "random",
        "sys",
        "threading",
    ]
)
"""Packages, modules and classes whose instances belong to one process: locks, loggers, files, random generators."""

SENTINELS = frozenset(["builtins.object", "dataclasses._MISSING_TYPE"])
"""Classes whose instances have no state: as constants they count by type."""

WITHOUT_CONTENT = frozenset(
    [
        "_contextvars.ContextVar",
        "_thread.lock",
        "_thread.RLock",
        "_thread._local",
        "threading.Barrier",
        "threading.Condition",
        "threading.Event",
        "threading.Semaphore",
        "threading.BoundedSemaphore",
        "asyncio.locks.Event",
        "asyncio.locks.Lock",
        "asyncio.locks.Semaphore",
    ]
)
"""Classes whose instances have state that cannot be compared: if runs in two processes are compared, they count by
type."""


def name_of(cls: type) -> str:
    """Return the qualified name of a class, with its module."""
    return f"{cls.__module__}.{cls.__qualname__}"


def is_options(value: object) -> bool:
    """Return whether `value` is a parsed command line, whose options are compared one by one."""
    return name_of(type(value)) == "argparse.Namespace"


def is_of_process(cls: type) -> bool:
    """Return whether the content of instances does not matter if runs in two processes are compared."""
    return name_of(cls).startswith("numpy.random.") or _is_listed(cls, _PROCESS)


def is_data(cls: type) -> bool:
    """Return whether instances of a class of the standard library are compared by their attributes."""
    return _is_listed(cls, _DATA)


def _is_listed(cls: type, names: frozenset[str]) -> bool:
    listed = not names.isdisjoint([name_of(cls), cls.__module__, cls.__module__.partition(".")[0]])
    return listed and of_module(cls.__module__) == {}


# The content of some types. The parts are tuples: lists that are made for each look at a value would be taken for lists
# of the program, which policies with `snapshot_mutable` keep as they were first seen.


def parser_content(value: Any) -> list[Any]:
    """Return the content of a `configparser` parser, and the settings that change how it is read."""
    sections = [(name, value.items(name, raw=True)) for name in value.sections()]
    content = tuple(part for name, options in sections for part in (name, len(options), *_flat(options)))
    return [_flat(value.defaults().items()), content, *_settings(value)]


def section_content(value: Any) -> list[Any]:
    """Return the content of a section of such a parser; with the whole parser if values may refer to other sections."""
    whole = value.parser
    settings = _settings(whole)
    is_local = settings[0].__qualname__ in ("NoneType", "Interpolation", "BasicInterpolation", "LegacyInterpolation")
    is_local = is_local and of_module(settings[0].__module__) == {}
    return [value.name, _flat(whole.items(value.name, raw=True)), *settings, None if is_local else whole]


def _settings(value: Any) -> list[Any]:
    interpolation = type(getattr(value, "_interpolation", None))
    return [interpolation, _flat(value.converters.items()), value.BOOLEAN_STATES, value.default_section]


def _flat(pairs: Iterable[tuple[Any, Any]]) -> tuple[Any, ...]:
    return tuple(part for pair in pairs for part in pair)


def context_settings(value: Any) -> list[Any]:
    """Return the settings of a `decimal.Context`, without its flags."""
    traps = tuple(sorted(signal.__name__ for signal, on in value.traps.items() if on))
    return [value.prec, value.rounding, value.Emin, value.Emax, value.capitals, value.clamp, traps]


# Stateful objects, which change as they are used


def is_stateful(cls: type) -> bool:
    """Return whether instances can be compared, but only as they were first seen."""
    return name_of(cls) in _STATES


def state(value: Any) -> Any:
    """Return the state of a stateful object; None if it is the initial one, or cannot be read."""
    try:
        return _STATES[name_of(type(value))](value)
    except Exception:  # the file is closed
        return None


def _file(value: Any) -> str | None:
    """Return the name of a file that is read. A file that is written is not an input."""
    name, mode = value.name, value.mode
    return name if isinstance(name, str) and mode.startswith("r") and "+" not in mode else None


def _buffer(value: Any) -> Any:
    content, *_, position, _ = value.__getstate__()
    return [content, position] if content else None


_STATES: dict[str, Callable[[Any], Any]] = {
    "_io.TextIOWrapper": _file,
    "_io.BufferedReader": _file,
    "_io.FileIO": _file,
    "_io.StringIO": _buffer,
    "_io.BytesIO": _buffer,
    "itertools.count": lambda value: None if repr(value) == "count(0)" else repr(value),
}
