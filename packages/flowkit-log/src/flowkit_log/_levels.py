"""Class `LogLevel`: the six levels, and the conversion of level names and numbers."""

from __future__ import annotations

import logging
from enum import IntEnum


class LogLevel(IntEnum):
    """Severity of a log line.

    The numbers are those of the standard `logging` module, with `SYSTEM` and `SUCCESS` between `INFO` and `WARNING`, so
    `logging` accepts a `LogLevel` wherever it takes a level.

    ```python
    import logging

    from flowkit_log import LogLevel

    assert LogLevel.WARNING == logging.WARNING
    assert LogLevel.INFO < LogLevel.SYSTEM < LogLevel.SUCCESS < LogLevel.WARNING
    ```
    """

    DEBUG = 10
    """Details for debugging."""
    INFO = 20
    """Progress of the work."""
    SYSTEM = 22
    """Events of flowkit itself: a run started, a run finished."""
    SUCCESS = 25
    """A step was completed."""
    WARNING = 30
    """An unexpected condition; the work continues."""
    ERROR = 40
    """A step failed."""


_DESCENDING = sorted(LogLevel, reverse=True)

# Other formatters then print "SUCCESS" instead of "Level 25". A name that was registered before is kept.
for _level in (LogLevel.SYSTEM, LogLevel.SUCCESS):
    if logging.getLevelName(int(_level)) == f"Level {int(_level)}":
        logging.addLevelName(int(_level), _level.name)


def level_of(number: int) -> LogLevel:
    """Return the level that is printed for a record of this number: the highest one that is not above it."""
    for level in _DESCENDING:
        if number >= level:
            return level
    return LogLevel.DEBUG


def level_number(level: object) -> int:
    """Return the number of a level given as a `LogLevel`, an integer or a name.

    Raises:
        TypeError: `level` is of another type.
        ValueError: the name is unknown, or the number is below 1 (0 is `logging.NOTSET`).
    """
    if isinstance(level, int) and not isinstance(level, bool):
        if level < 1:
            raise ValueError(f"level={level!r} is not a level: {_ALLOWED}")
        return int(level)
    if isinstance(level, str):
        number = _NUMBERS.get(level.strip().upper())
        if number is None:
            raise ValueError(f"level={level!r} is not a level: {_ALLOWED}")
        return number
    raise TypeError(f"level={level!r} is of type {type(level).__name__}: {_ALLOWED}")


_NUMBERS = {level.name: int(level) for level in LogLevel} | {"WARN": 30, "CRITICAL": 50}
_ALLOWED = (
    f"use a LogLevel, one of the names {', '.join(level.name for level in LogLevel)}, or an integer of at least 1."
)
