"""Values to JSON and back, type included.

What JSON has is written as itself. Everything else is an object with one key that begins with `$`:
`{"$tuple": [1, 2]}`, `{"$bytes": "AAE="}`. A dictionary that JSON has no match for (keys that are no text, or
begin with `$`) is `{"$dict": [[key, value], ...]}`. So no value can be mistaken for a tag.
"""

from __future__ import annotations

import re
import sys
from base64 import b64decode, b64encode
from enum import Enum
from math import copysign, isfinite, isnan

from flowkit_state.errors import RestoreError, UnsupportedValueError, shown
from flowkit_state.serialization import class_references
from flowkit_state.serialization.class_references import NotFoundError, RefusedError
from flowkit_state.serialization.json_text import dumps
from flowkit_state.serialization.trampoline import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from flowkit_state.serialization.serializer_protocol import Serializer
    from flowkit_state.serialization.trampoline import Steps

_HINT = (
    'Convert it to a supported type first, or use StateManager(..., serializer="pickle"), or a serializer for its type.'
)
_BUILTINS = (str, bytes, bytearray, int, float, complex, tuple, list, dict, set, frozenset)
_SHORT = 1 << 63
_PLAIN_INT_BITS = 1024  # longer ones are written in hexadecimal: decimal is quadratic, and Python limits it
_MAX_REPEATS = 5_000_000  # an object reached again by another way is written again: [a, a] sixty deep has no end

# A high surrogate followed by a low one would come back from JSON as one character.
_joins_up = re.compile("[\ud800-\udbff][\udc00-\udfff]").search


def encode(value: object, *, key: str | None = None, root: str = "value", own: Sequence[Serializer] = ()) -> Any:
    """Return the JSON tree of `value`. Raises `UnsupportedValueError`, which says where inside `root` and why.

    `own` are the user's serializers, for types that have no form of their own.
    """
    encoder = _Encoder(root, own)
    try:
        return walk(encoder.expand, value)
    except RefusedError as refused:
        reason, hint = refused.args
        culprit = encoder.culprit
        cls = type(culprit)
        name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
        path = encoder.path if len(encoder.path) <= 12 else [*encoder.path[:6], "...", *encoder.path[-6:]]
        raise UnsupportedValueError(key, "".join(path), name, reason, hint) from None


def decode(tree: Any, *, key: str | None = None, own: Mapping[str, Serializer] | None = None) -> Any:
    """Return the value of a JSON tree, made anew. Raises `RestoreError`. `own` are the user's serializers, by name."""

    def expand(part: Any) -> Any:
        if type(part) is dict and len(part) == 1 and "$own" in part:
            return _read_own(part["$own"], own or {})
        return _expand_tree(part)

    try:
        return walk(expand, tree)
    except NotFoundError as error:
        raise RestoreError(key, str(error)) from None
    except Exception as error:  # whatever a damaged entry makes of the constructors below
        raise RestoreError(key, f"the stored entry is damaged ({type(error).__name__}: {error}).") from error


def _plain(value: Any) -> Any:
    return value


def _str(value: str) -> Any:
    if value.isascii() or not _joins_up(value):
        return value
    return {"$str": value.encode("utf-8", "surrogatepass").hex()}


def _int(value: int) -> Any:
    return value if value.bit_length() <= _PLAIN_INT_BITS else {"$int": hex(value)}


def _float(value: float) -> Any:
    return value if isfinite(value) else {"$float": ("-" if copysign(1.0, value) < 0 else "") + str(abs(value))}


def _bytes(value: bytes) -> Any:
    return {"$bytes": b64encode(value).decode("ascii")}


_LEAVES: dict[type, Callable[[Any], Any]] = {
    type(None): _plain,
    bool: _plain,
    int: _int,
    float: _float,
    str: _str,
    bytes: _bytes,
    bytearray: lambda value: {"$bytearray": b64encode(value).decode("ascii")},
    complex: lambda value: {"$complex": [_float(value.real), _float(value.imag)]},
    range: lambda value: {"$range": [_int(int(part)) for part in (value.start, value.stop, value.step)]},
}


def _is_plain_row(row: dict[Any, Any]) -> bool:
    """Return whether JSON writes a dictionary as it is, as it does nearly all rows of data."""
    for key in row:
        if type(key) is not str or not key.isascii() or key.startswith("$"):
            return False
    for value in row.values():
        kind = type(value)
        if kind is str:
            plain = value.isascii()
        elif kind is float:
            plain = isfinite(value)
        elif kind is int:
            plain = -_SHORT < value < _SHORT
        else:
            plain = value is None or kind is bool
        if not plain:
            return False
    return True


class _Encoder:
    """One walk over one value: where it is (`path`), and what it is inside of (`_open`)."""

    def __init__(self, root: str, own: Sequence[Serializer]) -> None:
        self._own = own
        self.path = [root]
        self.culprit: object = None
        self._open: set[int] = set()
        self._seen: set[int] = set()
        self._repeats = 0
        self._containers: dict[type, Callable[[Any], Steps]] = {
            list: self._list,
            tuple: lambda value: self._tagged("$tuple", value),
            set: lambda value: self._unordered("$set", value),
            frozenset: lambda value: self._unordered("$frozenset", value),
            dict: self._dict,
        }

    def expand(self, value: Any) -> Any:
        self.culprit = value
        cls = type(value)
        leaf = _LEAVES.get(cls)
        if leaf is not None:
            return leaf(value)
        container = self._containers.get(cls)
        if container is None:
            return self._other(value)
        self._note(value)
        return container(value)

    def _note(self, value: object) -> None:
        address = id(value)
        if address in self._open:
            raise RefusedError("and contains itself", "Break the circle first.")
        if address in self._seen:
            self._repeats += 1
            if self._repeats > _MAX_REPEATS:
                raise RefusedError("and is reached by millions of ways", "Keep each shared object once.")
        self._seen.add(address)

    def _items(self, values: Iterable[Any]) -> Steps:
        out = []
        for index, item in enumerate(values):
            leaf = _LEAVES.get(type(item))
            if leaf is not None:
                out.append(leaf(item))
                continue
            if type(item) is dict and _is_plain_row(item):
                out.append(item)
                continue
            self.path.append(f"[{index}]")
            out.append((yield item))
            self.path.pop()
        return out

    def _list(self, value: Any) -> Steps:
        self._open.add(id(value))
        out = yield from self._items(value)
        self._open.discard(id(value))
        return out

    def _tagged(self, tag: str, value: Any) -> Steps:
        return {tag: (yield from self._list(value))}

    def _unordered(self, tag: str, value: Any) -> Steps:
        members = list(value)
        kinds = {type(member) for member in members}
        if kinds <= {int} or kinds <= {str}:  # the same order in every process, so that equal sets read the same
            return {tag: [_LEAVES[type(member)](member) for member in sorted(members)]}
        out = yield from self._list(members)
        return {tag: sorted(out, key=dumps)}

    def _dict(self, value: dict[Any, Any]) -> Steps:
        self._open.add(id(value))
        pairs = list(value.items())
        if all(type(key) is str and not key.startswith("$") and _str(key) is key for key, _ in pairs):
            plain = {}
            for key, item in pairs:
                leaf = _LEAVES.get(type(item))
                plain[key] = leaf(item) if leaf is not None else (yield from self._child(f"[{shown(key)}]", item))
            self._open.discard(id(value))
            return plain
        out = []
        for key, item in pairs:
            encoded = yield from self._child(f" key {shown(key)}", key)
            out.append([encoded, (yield from self._child(f"[{shown(key)}]", item))])
        self._open.discard(id(value))
        return {"$dict": out}

    def _child(self, step: str, item: Any) -> Steps:
        self.path.append(step)
        encoded = yield item
        self.path.pop()
        return encoded

    def _other(self, value: Any) -> Any:
        cls = type(value)
        for serializer in self._own:
            if isinstance(value, serializer.type):
                return _own(value, serializer)
        library = _library_encoder(cls)
        if library is not None:
            return library(value)
        if isinstance(value, Enum):
            return {"$enum": class_references.enum_parts(value)}
        if class_references.is_namedtuple(cls):
            self._note(value)
            return self._namedtuple(value)
        if class_references.is_dataclass(cls) and not isinstance(value, type):
            self._note(value)
            return self._dataclass(value)
        for builtin in _BUILTINS:
            if issubclass(cls, builtin):
                way = f'Convert it first, for example with {builtin.__name__}(...), or use serializer="pickle".'
                reason = f"a subclass of {builtin.__name__}, and would come back as a plain one"
                raise RefusedError(reason, way)
        if (cls.__module__ or "").partition(".")[0] in ("numpy", "pandas"):
            way = 'Convert it first, for example with .tolist() or .to_dict(), or use serializer="pickle".'
            raise RefusedError("which cannot be kept faithfully", way)
        raise RefusedError("which cannot be kept faithfully", _HINT)

    def _namedtuple(self, value: Any) -> Steps:
        fields = class_references.namedtuple_fields(value)
        name = class_references.reference(type(value))
        return {"$namedtuple": [name, list(fields), (yield from self._list(value))]}

    def _dataclass(self, value: Any) -> Steps:
        name = class_references.reference(type(value))
        fields = class_references.dataclass_fields(value)
        self._open.add(id(value))
        out = {}
        for field, item in fields.items():
            out[field] = yield from self._child(f".{field}", item)
        self._open.discard(id(value))
        return {"$dataclass": [name, out]}


def _own(value: Any, serializer: Serializer) -> Any:
    """Return the form of a value whose type the user has a serializer for."""
    try:
        data = serializer.dump(value)
    except Exception as error:
        reason = f"which its serializer {serializer.name!r} failed to dump ({type(error).__name__}: {error})"
        raise RefusedError(reason, "Mend the serializer.") from error
    if type(data) is not bytes:
        reason = f"and its serializer {serializer.name!r} made a {type(data).__name__} of it"
        raise RefusedError(reason, "A serializer's dump() has to return bytes.")
    return {"$own": [serializer.name, b64encode(data).decode("ascii")]}


def _read_own(parts: list[str], own: Mapping[str, Serializer]) -> Any:
    name, text = parts
    if name not in own:
        way = "open the file with StateManager(..., serializer=...) that has it."
        raise NotFoundError(f"it was kept by the serializer {shown(name)}, which is not here; {way}")
    try:
        return own[name].load(b64decode(text, validate=True))
    except Exception as error:
        reason = f"its serializer {shown(name)} cannot load it ({type(error).__name__}: {error})."
        raise NotFoundError(reason) from error


# Types of the standard library. Who holds such a value has imported its module, so encoding imports nothing.


def _datetime(value: Any) -> Steps:
    return {"$datetime": [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, (yield value.tzinfo)]}


def _time(value: Any) -> Steps:
    return {"$time": [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, (yield value.tzinfo)]}


def _timedelta(value: Any) -> Any:
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


def _timezone(value: Any) -> Any:
    offset, *name = value.__getinitargs__()
    return {"$timezone": [_timedelta(offset)["$timedelta"], *map(_str, name)]}


def _zoneinfo(value: Any) -> Any:
    if value.key is None:
        raise RefusedError("a time zone without a name", "Make it with ZoneInfo(name).")
    return {"$zoneinfo": value.key}


def _path(value: Any) -> Any:
    return {"$path": [type(value).__name__, _str(str(value))]}


_LIBRARY: dict[str, dict[str, Callable[[Any], Any]]] = {
    "datetime": {
        "datetime": _datetime,
        "date": lambda value: {"$date": value.isoformat()},
        "time": _time,
        "timedelta": _timedelta,
        "timezone": _timezone,
    },
    "zoneinfo": {"ZoneInfo": _zoneinfo},
    "decimal": {"Decimal": lambda value: {"$decimal": str(value)}},
    "fractions": {"Fraction": lambda value: {"$fraction": [_int(value.numerator), _int(value.denominator)]}},
    "uuid": {"UUID": lambda value: {"$uuid": value.hex}},
    "pathlib": dict.fromkeys(("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"), _path),
}
_found: dict[type, Callable[[Any], Any]] = {}


def _library_encoder(cls: type) -> Callable[[Any], Any] | None:
    if cls not in _found:
        for module, encoders in _LIBRARY.items():
            for name, encoder in encoders.items():
                if cls.__name__ == name and getattr(sys.modules.get(module), name, None) is cls:
                    _found[cls] = encoder
    return _found.get(cls)


def _expand_tree(tree: Any) -> Any:
    kind = type(tree)
    if kind is list:
        return _list_of(tree)
    if kind is not dict:
        return tree
    if len(tree) == 1:
        (tag,) = tree
        if tag.startswith("$"):
            content = tree[tag]
            make = _MAKERS.get(tag)
            if make is not None:
                return make(content)
            grow = _GROWERS.get(tag)
            if grow is None:
                raise NotFoundError(f"it has the unknown type {tag}; a newer version may have written it.")
            return grow(content)
    return _dict_of(tree)


def _list_of(tree: list[Any]) -> Steps:
    out = []
    for item in tree:
        out.append((yield item) if type(item) is dict or type(item) is list else item)  # noqa: PERF401 (it yields)
    return out


def _dict_of(tree: dict[str, Any]) -> Steps:
    out = {}
    for key, item in tree.items():
        out[key] = (yield item) if type(item) is dict or type(item) is list else item
    return out


def _pairs_of(tree: list[Any]) -> Steps:
    out = {}
    for key, item in tree:
        name = yield key
        out[name] = yield item
    return out


def _collected(collect: Callable[[Any], Any]) -> Callable[[Any], Steps]:
    def grow(tree: list[Any]) -> Steps:
        return collect((yield from _list_of(tree)))

    return grow


def _read_float(text: Any) -> float:
    value = float(text)
    return copysign(value, -1.0) if isnan(value) and text.startswith("-") else value


def _number(tree: Any) -> float:
    return _read_float(tree["$float"]) if type(tree) is dict else float(tree)


def _integer(tree: Any) -> int:
    return int(tree["$int"], 16) if type(tree) is dict else int(tree)


def _read_str(text: str) -> str:
    return bytes.fromhex(text).decode("utf-8", "surrogatepass")


def _read_timedelta(parts: list[int]) -> Any:
    from datetime import timedelta

    return timedelta(*parts)


def _read_timezone(parts: list[Any]) -> Any:
    from datetime import timezone

    name = [_read_str(part["$str"]) if type(part) is dict else part for part in parts[1:]]
    return timezone(_read_timedelta(parts[0]), *name)


def _read_zoneinfo(key: str) -> Any:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(key)
    except (OSError, KeyError, ValueError) as error:
        raise NotFoundError(f"the time zone {key} is not known here; install the tzdata package.") from error


def _read_date(text: str) -> Any:
    from datetime import date

    return date.fromisoformat(text)


def _read_datetime(parts: list[Any]) -> Steps:
    from datetime import datetime

    return datetime.fromisoformat(parts[0]).replace(fold=parts[1], tzinfo=(yield parts[2]))


def _read_time(parts: list[Any]) -> Steps:
    from datetime import time

    return time.fromisoformat(parts[0]).replace(fold=parts[1], tzinfo=(yield parts[2]))


def _read_decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(text)


def _read_fraction(parts: list[Any]) -> Any:
    from fractions import Fraction

    return Fraction(*map(_integer, parts))


def _read_uuid(text: str) -> Any:
    from uuid import UUID

    return UUID(hex=text)


def _read_path(parts: list[Any]) -> Any:
    import pathlib

    kind, text = parts
    if kind not in _LIBRARY["pathlib"]:
        raise ValueError(f"unknown kind of path {kind}")
    return getattr(pathlib, kind)(_read_str(text["$str"]) if type(text) is dict else text)


def _read_namedtuple(parts: list[Any]) -> Steps:
    return class_references.namedtuple_from(parts[0], parts[1], (yield from _list_of(parts[2])))


def _read_dataclass(parts: list[Any]) -> Steps:
    return class_references.dataclass_from(parts[0], (yield from _dict_of(parts[1])))


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "$str": _read_str,
    "$int": lambda text: int(text, 16),
    "$float": _read_float,
    "$bytes": lambda text: b64decode(text, validate=True),
    "$bytearray": lambda text: bytearray(b64decode(text, validate=True)),
    "$complex": lambda parts: complex(*map(_number, parts)),
    "$range": lambda parts: range(*map(_integer, parts)),
    "$enum": class_references.enum_from,
    "$timedelta": _read_timedelta,
    "$timezone": _read_timezone,
    "$zoneinfo": _read_zoneinfo,
    "$date": _read_date,
    "$decimal": _read_decimal,
    "$fraction": _read_fraction,
    "$uuid": _read_uuid,
    "$path": _read_path,
}
_GROWERS: dict[str, Callable[[Any], Steps]] = {
    "$tuple": _collected(tuple),
    "$set": _collected(set),
    "$frozenset": _collected(frozenset),
    "$dict": _pairs_of,
    "$datetime": _read_datetime,
    "$time": _read_time,
    "$namedtuple": _read_namedtuple,
    "$dataclass": _read_dataclass,
}
