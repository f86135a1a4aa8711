"""The six levels, their numbers, their names and how they are printed."""

from __future__ import annotations

import logging
from enum import IntEnum


class LogLevel(IntEnum):
    """How important a log line is.

    The numbers are those of the standard `logging` module, with `SYSTEM` and `SUCCESS` between `INFO` and `WARNING`, so
    a `LogLevel` can be given wherever `logging` takes a level.

    ```python
    import logging

    from flowkit_log import LogLevel

    assert LogLevel.WARNING == logging.WARNING
    assert LogLevel.INFO < LogLevel.SYSTEM < LogLevel.SUCCESS < LogLevel.WARNING
    ```
    """

    DEBUG = 10
    """Details for finding a fault."""
    INFO = 20
    """What is going on."""
    SYSTEM = 22
    """What flowkit itself does: a run started, a run finished."""
    SUCCESS = 25
    """Something was completed."""
    WARNING = 30
    """Unexpected, and the work goes on."""
    ERROR = 40
    """Something failed."""


_DESCENDING = sorted(LogLevel, reverse=True)

# Handlers of other people then print "SUCCESS" instead of "Level 25". A name somebody else has given is left alone.
for _level in (LogLevel.SYSTEM, LogLevel.SUCCESS):
    if logging.getLevelName(int(_level)) == f"Level {int(_level)}":
        logging.addLevelName(int(_level), _level.name)


def level_of(number: int) -> LogLevel:
    """Return the level that a record of this number is shown as: the highest one that is not above it."""
    for level in _DESCENDING:
        if number >= level:
            return level
    return LogLevel.DEBUG


def level_number(level: object) -> int:
    """Return the number of a level given as a `LogLevel`, an integer or a name.

    Raises:
        TypeError: it is none of these.
        ValueError: there is no such name, or the number is below 1 (0 means "ask the root logger" to `logging`).
    """
    if isinstance(level, int) and not isinstance(level, bool):
        if level < 1:
            raise ValueError(f"level={level!r} is not a level: {_WAYS}")
        return int(level)
    if isinstance(level, str):
        number = _NUMBERS.get(level.strip().upper())
        if number is None:
            raise ValueError(f"level={level!r} is not a level: {_WAYS}")
        return number
    raise TypeError(f"level={level!r} is of type {type(level).__name__}: {_WAYS}")


_NUMBERS = {level.name: int(level) for level in LogLevel} | {"WARN": 30, "CRITICAL": 50}
_WAYS = f"use a LogLevel, one of the names {', '.join(level.name for level in LogLevel)}, or an integer of at least 1."
