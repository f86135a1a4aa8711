"""JSON forms of the builtin types that contain no other values: numbers, text, bytes and ranges.

A value that JSON supports is its own form. The form of any other value is an object with one key, the tag of its type:
`{"$bytes": "AAE="}`.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from math import copysign, isfinite, isnan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_DECIMAL_BITS = (
    1024  # longer integers are hexadecimal: converting to decimal is quadratic, and Python limits its length
)

# A high surrogate followed by a low one would be decoded as one character.
_find_surrogate_pair = re.compile("[\ud800-\udbff][\udc00-\udfff]").search


def encode_str(value: str) -> Any:
    """Return the form of a text."""
    if value.isascii() or not _find_surrogate_pair(value):
        return value
    return {"$str": value.encode("utf-8", "surrogatepass").hex()}


def encode_int(value: int) -> Any:
    """Return the form of an integer."""
    return value if value.bit_length() <= _DECIMAL_BITS else {"$int": hex(value)}


def encode_float(value: float) -> Any:
    """Return the form of a float."""
    return value if isfinite(value) else {"$float": ("-" if copysign(1.0, value) < 0 else "") + str(abs(value))}


def decode_str(form: Any) -> str:
    """Undo `encode_str`."""
    return _str_of_hex(form["$str"]) if type(form) is dict else form


def decode_int(form: Any) -> int:
    """Undo `encode_int`."""
    return int(form["$int"], 16) if type(form) is dict else int(form)


def decode_float(form: Any) -> float:
    """Undo `encode_float`."""
    return _float_of_text(form["$float"]) if type(form) is dict else float(form)


def _str_of_hex(text: str) -> str:
    return bytes.fromhex(text).decode("utf-8", "surrogatepass")


def _float_of_text(text: str) -> float:
    value = float(text)
    return copysign(value, -1.0) if isnan(value) and text.startswith("-") else value


def _unchanged(value: Any) -> Any:
    return value


ENCODERS: dict[type, Callable[[Any], Any]] = {
    type(None): _unchanged,
    bool: _unchanged,
    int: encode_int,
    float: encode_float,
    str: encode_str,
    bytes: lambda value: {"$bytes": b64encode(value).decode("ascii")},
    bytearray: lambda value: {"$bytearray": b64encode(value).decode("ascii")},
    complex: lambda value: {"$complex": [encode_float(value.real), encode_float(value.imag)]},
    range: lambda value: {"$range": [encode_int(int(part)) for part in (value.start, value.stop, value.step)]},
}
"""Type -> function that returns the form of a value."""

DECODERS: dict[str, Callable[[Any], Any]] = {
    "$str": _str_of_hex,
    "$int": lambda text: int(text, 16),
    "$float": _float_of_text,
    "$bytes": lambda text: b64decode(text, validate=True),
    "$bytearray": lambda text: bytearray(b64decode(text, validate=True)),
    "$complex": lambda parts: complex(*map(decode_float, parts)),
    "$range": lambda parts: range(*map(decode_int, parts)),
}
"""Tag -> function that returns the value, given what follows the tag."""
