"""What a log record already has, and how facts are added to it without replacing any of that."""

from __future__ import annotations

import logging

from ._text_formatter import safe_str

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping

# `taskName` is there from Python 3.12 on, `message` and `asctime` once a record was formatted.
STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "flowkit_context"}

# Fields of a JSON line that come from the record itself. (`error` is not one: callers may say it.)
_JSON_FIELDS = frozenset({"timestamp", "level", "logger", "traceback", "stack"})


def free_key(key: str, taken: Container[str]) -> str:
    """Return `key`, with as many underscores behind it as it takes not to be one of `taken`."""
    while key in taken:
        key += "_"
    return key


def attach(record: logging.LogRecord, facts: Mapping[str, object]) -> dict[str, object]:
    """Make `facts` attributes of the record, and return them under the names they got.

    A name that means something else already, such as `name` or `level`, gets an underscore: `name_`.
    """
    taken = STANDARD_ATTRIBUTES | _JSON_FIELDS | vars(record).keys()
    named: dict[str, object] = {}
    for name, value in facts.items():
        named[free_key(safe_str(name), taken | named.keys())] = value
    vars(record).update(named)
    return named
