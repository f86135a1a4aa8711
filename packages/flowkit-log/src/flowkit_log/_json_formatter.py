"""Class `JsonFormatter`: one valid JSON object (RFC 8259) per line, for context of any type."""

from __future__ import annotations

import logging
import math
import time

from ._levels import level_of
from ._record_attributes import STANDARD_ATTRIBUTES, free_key
from ._text_formatter import message_of, safe_str, traceback_of, unprintable

_MAX_DEPTH = 16


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object on one line, in ASCII.

    The fields are, in this order: `timestamp` (ISO 8601, UTC, milliseconds), `level`, `logger` and `message`; every
    attribute that was added to the record, which are the facts of a run (`event`, `run_id`, `pipeline`, `task`,
    `attempt`, ...) and the context of the caller; for an exception, `error` (`"ValueError: boom"`, unless the record
    has an attribute `error`) and `traceback`; and `stack`, if the record has one. An attribute named like another field
    gets an underscore: `level_`.

    Values without a JSON form become strings: bytes are decoded, dates and other objects are passed to `str`, floats
    become `"NaN"` or `"Infinity"`, recursion becomes `"<circular list>"`, and an object whose `str` raises becomes
    `"<unprintable Thing>"`.

    ```python
    import logging

    from flowkit_log import JsonFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.getLogger("flowkit").addHandler(handler)
    ```
    """

    def __init__(self) -> None:
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a JSON object, without a newline at the end."""
        # Imported late: programs that do not use JSON save the import time.
        import json

        fields: dict[str, object] = {
            "timestamp": _timestamp(record.created),
            "level": level_of(record.levelno).name,
            "logger": _text(record.name),
            "message": _text(message_of(record)),
        }
        last = {"traceback": traceback_of(record), "stack": record.stack_info}
        for key, value in list(vars(record).items()):
            if key not in STANDARD_ATTRIBUTES:
                fields[free_key(_text(key), fields.keys() | last)] = _json_value(value, ())
        if record.exc_info and record.exc_info[1] is not None:
            fields.setdefault("error", _text(_error_text(record.exc_info[1])))
        fields.update({key: _text(value) for key, value in last.items() if value})
        # JSON requires no escape for DEL, the only control character that json.dumps() leaves unescaped.
        return json.dumps(fields, allow_nan=False).replace("\x7f", "\\u007f")


def _timestamp(created: float) -> str:
    seconds, milliseconds = divmod(round(created * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}Z"


def _error_text(error: BaseException) -> str:
    text = safe_str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text(value: object) -> str:
    # json.dumps() accepts lone surrogates, but most parsers reject them.
    return safe_str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _json_value(value: object, inside: tuple[int, ...]) -> object:
    """Return `value` as JSON types. `inside` has the ids of the containers that enclose it."""
    try:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, int):
            # Conversion of a longer one to decimal may raise (sys.set_int_max_str_digits).
            number = int(value)
            return number if number.bit_length() < 2_000 else hex(number)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else _NOT_FINITE.get(float(value), "NaN")
        if isinstance(value, (bytes, bytearray)):
            return bytes(value).decode("utf-8", "backslashreplace")
        if isinstance(value, BaseException):
            return _text(_error_text(value))
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            return _container(value, inside)
        return _text(value)
    except Exception:
        return _text(unprintable(value))


def _container(
    value: dict[object, object] | list[object] | tuple[object, ...] | set[object] | frozenset[object],
    inside: tuple[int, ...],
) -> object:
    if id(value) in inside:
        return _text(f"<circular {type(value).__name__}>")
    if len(inside) >= _MAX_DEPTH:
        return _text(f"<{type(value).__name__} nested deeper than {_MAX_DEPTH} levels>")
    inside = (*inside, id(value))
    if not isinstance(value, dict):
        return [_json_value(item, inside) for item in value]
    fields: dict[str, object] = {}
    for key, item in value.items():
        fields[free_key(_text(key), fields)] = _json_value(item, inside)
    return fields


_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}
