"""What objects of the standard library are: data, what moves on as it is used, or a handle to something else.

Data is what has all there is to it in its attributes, where it can be compared: a parsed command line, a template.
"""

from __future__ import annotations

from flowkit_state.fingerprint.provenance import of_module
from flowkit_state.serialization.class_references import _is_filled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import MemberDescriptorType
    from typing import Any

_OPTIONS = frozenset(["argparse.Namespace", "optparse.Values"])
_WORLD = frozenset(
    [
        "ftplib",
        "http.client",
        "imaplib",
        "mailbox",
        "pathlib",
        "poplib",
        "smtplib",
        "subprocess",
        "tempfile",
        "unittest",
        "weakref",
        "xmlrpc",
    ]
)
"""Modules whose objects are more than they hold: connections, names that are new in each process, caches that fill."""

_OF_THE_PROCESS = frozenset(
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
"""Modules, and a class, whose objects are made for one process: they say nothing that would hold in another."""

_MANAGED_DICT = 1 << 4  # a flag of classes, whose instances have a __dict__ that is no part of their size
_POINTER = tuple.__itemsize__


def name_of(cls: type) -> str:
    """Return the qualified name of a class, with its module."""
    return f"{cls.__module__}.{cls.__qualname__}"


def is_options(value: object) -> bool:
    """Return whether `value` is what the command line was parsed to: no more than names for values."""
    return name_of(type(value)) in _OPTIONS


def is_of_process(cls: type) -> bool:
    """Return whether instances are left out where runs of two processes are compared: locks, loggers, files, chance."""
    name = name_of(cls)
    if name.startswith("numpy.random."):
        return True
    return not _OF_THE_PROCESS.isdisjoint([name, name.partition(".")[0]]) and of_module(cls.__module__) == {}


def is_data(cls: type) -> bool:
    """Return whether this class of the standard library stands for nothing but what its instances hold."""
    handle = not _WORLD.isdisjoint([cls.__module__, cls.__module__.partition(".")[0]]) or is_of_process(cls)
    return not handle and of_module(cls.__module__) == {}


def holds_all(cls: type, base: type, slots: Mapping[str, MemberDescriptorType]) -> bool:
    """Return whether instances hold no more than their attributes and what an instance of `base` holds.

    It is how Python itself finds out what it can pickle: one that is larger has parts that only its C code sees.
    """
    if slots and base.__itemsize__:  # they are names for parts of a tuple of C code, which may have more
        return False
    pointers = len(slots) + (cls.__weakrefoffset__ > 0 and not base.__weakrefoffset__)
    pointers += bool(cls.__dictoffset__ and not cls.__flags__ & _MANAGED_DICT and not base.__dictoffset__)
    return cls.__itemsize__ == base.__itemsize__ and cls.__basicsize__ <= base.__basicsize__ + pointers * _POINTER


def held(value: object, slots: Mapping[str, MemberDescriptorType]) -> dict[str, Any]:
    """Return the attributes that an object has of its own."""
    found = {name: slot.__get__(value, type(value)) for name, slot in slots.items() if _is_filled(slot, value)}
    found.update(getattr(value, "__dict__", {}))
    return found


# Those that have a form of their own: tuples, for what is made anew each time must not be taken for an object of the
# program, of which it is kept how it was first seen.


def parser(value: Any) -> list[Any]:
    """Return what a `configparser` parser holds, also what tells how that is read."""
    sections = [(name, value.items(name, raw=True)) for name in value.sections()]
    told = tuple(part for name, options in sections for part in (name, len(options), *_flat(options)))
    return [_flat(value.defaults().items()), told, *_reading(value)]


def section(value: Any) -> list[Any]:
    """Return what a section of such a parser holds; of the others only if values may refer to them."""
    whole = value.parser
    settings = _reading(whole)
    alone = settings[0].__qualname__ in ("NoneType", "Interpolation", "BasicInterpolation", "LegacyInterpolation")
    alone = alone and of_module(settings[0].__module__) == {}
    return [value.name, _flat(whole.items(value.name, raw=True)), *settings, None if alone else whole]


def _reading(value: Any) -> list[Any]:
    interpolation = type(getattr(value, "_interpolation", None))
    return [interpolation, _flat(value.converters.items()), value.BOOLEAN_STATES, value.default_section]


def _flat(pairs: Iterable[tuple[Any, Any]]) -> tuple[Any, ...]:
    return tuple(part for pair in pairs for part in pair)


def context(value: Any) -> list[Any]:
    """Return the settings of a `decimal.Context`, not what has happened in it."""
    traps = tuple(sorted(signal.__name__ for signal, on in value.traps.items() if on))
    return [value.prec, value.rounding, value.Emin, value.Emax, value.capitals, value.clamp, traps]


def moving(value: Any) -> Any:
    """Return how far `value` is, which moves on as it is used; None if there is nothing to it."""
    try:
        return _MOVING[name_of(type(value))](value)
    except Exception:  # it is closed
        return None


def is_moving(cls: type) -> bool:
    """Return whether instances can be compared, but only as they were first seen."""
    return name_of(cls) in _MOVING


def _file(value: Any) -> str | None:
    """Return the name of a file that is read; what is written to is no input."""
    name, mode = value.name, value.mode
    return name if isinstance(name, str) and mode.startswith("r") and "+" not in mode else None


def _buffer(value: Any) -> Any:
    content, *_, position, _ = value.__getstate__()
    return [content, position] if content else None


_MOVING: dict[str, Callable[[Any], Any]] = {
    "_io.TextIOWrapper": _file,
    "_io.BufferedReader": _file,
    "_io.FileIO": _file,
    "_io.StringIO": _buffer,
    "_io.BytesIO": _buffer,
    "itertools.count": lambda value: None if repr(value) == "count(0)" else repr(value),
}
