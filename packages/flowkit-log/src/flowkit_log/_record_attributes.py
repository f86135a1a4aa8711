"""Attributes of a `LogRecord`, and how to add attributes without replacing existing ones."""

from __future__ import annotations

import logging

from ._text_formatter import safe_str

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping

# `taskName` exists from Python 3.12 on; formatters add `message` and `asctime`.
STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "flowkit_context"}

# Fields of a JSON line that come from the record itself. `error` is missing, because callers may set it.
_JSON_FIELDS = frozenset({"timestamp", "level", "logger", "traceback", "stack"})


def free_key(key: str, taken: Container[str]) -> str:
    """Return `key`, with underscores appended until it is not in `taken`."""
    while key in taken:
        key += "_"
    return key


def attach(record: logging.LogRecord, facts: Mapping[str, object]) -> dict[str, object]:
    """Set `facts` as attributes of the record, and return them under the names of the attributes.

    A name that is taken, such as `name` or `level`, gets an underscore: `name_`.
    """
    taken = STANDARD_ATTRIBUTES | _JSON_FIELDS | vars(record).keys()
    named: dict[str, object] = {}
    for name, value in facts.items():
        named[free_key(safe_str(name), taken | named.keys())] = value
    vars(record).update(named)
    return named
