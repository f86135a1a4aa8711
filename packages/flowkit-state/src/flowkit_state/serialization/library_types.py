"""JSON forms of types of the standard library: dates and times, decimals, fractions, UUIDs and paths.

A process that has a value of one of these types has imported its module, so encoding imports nothing.
"""

from __future__ import annotations

import sys

from flowkit_state.serialization.builtin_types import decode_int, decode_str, encode_int, encode_str
from flowkit_state.serialization.class_references import NotFoundError, RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flowkit_state.serialization.trampoline import Steps


def encoder_for(cls: type) -> Callable[[Any], Any] | None:
    """Return the function that encodes values of `cls`, or `None` if it is not one of these types.

    The function returns the form of a value, or a generator for `trampoline.walk`.
    """
    if cls not in _encoder_cache:
        for module, encoders in _ENCODERS.items():
            for name, encoder in encoders.items():
                if cls.__name__ == name and getattr(sys.modules.get(module), name, None) is cls:
                    _encoder_cache[cls] = encoder
    return _encoder_cache.get(cls)


def _encode_datetime(value: Any) -> Steps:
    return {"$datetime": [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, (yield value.tzinfo)]}


def _encode_time(value: Any) -> Steps:
    return {"$time": [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, (yield value.tzinfo)]}


def _encode_timedelta(value: Any) -> Any:
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


def _encode_timezone(value: Any) -> Any:
    offset, *name = value.__getinitargs__()
    return {"$timezone": [_encode_timedelta(offset)["$timedelta"], *map(encode_str, name)]}


def _encode_zoneinfo(value: Any) -> Any:
    if value.key is None:
        raise RefusedError("a time zone without a name", "Make it with ZoneInfo(name).")
    return {"$zoneinfo": value.key}


def _encode_path(value: Any) -> Any:
    return {"$path": [type(value).__name__, encode_str(str(value))]}


def _decode_datetime(parts: list[Any]) -> Steps:
    from datetime import datetime

    return datetime.fromisoformat(parts[0]).replace(fold=parts[1], tzinfo=(yield parts[2]))


def _decode_date(text: str) -> Any:
    from datetime import date

    return date.fromisoformat(text)


def _decode_time(parts: list[Any]) -> Steps:
    from datetime import time

    return time.fromisoformat(parts[0]).replace(fold=parts[1], tzinfo=(yield parts[2]))


def _decode_timedelta(parts: list[int]) -> Any:
    from datetime import timedelta

    return timedelta(*parts)


def _decode_timezone(parts: list[Any]) -> Any:
    from datetime import timezone

    return timezone(_decode_timedelta(parts[0]), *map(decode_str, parts[1:]))


def _decode_zoneinfo(key: str) -> Any:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(key)
    except (OSError, KeyError, ValueError) as error:
        raise NotFoundError(
            f"the time zone {key} does not exist on this machine; install the tzdata package."
        ) from error


def _decode_decimal(text: str) -> Any:
    from decimal import Decimal

    return Decimal(text)


def _decode_fraction(parts: list[Any]) -> Any:
    from fractions import Fraction

    return Fraction(*map(decode_int, parts))


def _decode_uuid(text: str) -> Any:
    from uuid import UUID

    return UUID(hex=text)


def _decode_path(parts: list[Any]) -> Any:
    import pathlib

    kind, text = parts
    if kind not in _PATHS:
        raise ValueError(f"unknown kind of path {kind}")
    return getattr(pathlib, kind)(decode_str(text))


_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")

_ENCODERS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "datetime": {
        "datetime": _encode_datetime,
        "date": lambda value: {"$date": value.isoformat()},
        "time": _encode_time,
        "timedelta": _encode_timedelta,
        "timezone": _encode_timezone,
    },
    "zoneinfo": {"ZoneInfo": _encode_zoneinfo},
    "decimal": {"Decimal": lambda value: {"$decimal": str(value)}},
    "fractions": {
        "Fraction": lambda value: {"$fraction": [encode_int(value.numerator), encode_int(value.denominator)]}
    },
    "uuid": {"UUID": lambda value: {"$uuid": value.hex}},
    "pathlib": dict.fromkeys(_PATHS, _encode_path),
}
_encoder_cache: dict[type, Callable[[Any], Any]] = {}

DECODERS: dict[str, Callable[[Any], Any]] = {
    "$datetime": _decode_datetime,
    "$date": _decode_date,
    "$time": _decode_time,
    "$timedelta": _decode_timedelta,
    "$timezone": _decode_timezone,
    "$zoneinfo": _decode_zoneinfo,
    "$decimal": _decode_decimal,
    "$fraction": _decode_fraction,
    "$uuid": _decode_uuid,
    "$path": _decode_path,
}
"""Tag -> function that returns the value, or a generator for `trampoline.walk`, given what follows the tag."""
