"""Checks of the arguments that users pass."""

from __future__ import annotations

import os

from flowkit_state.errors import StateOptionError, StateOptionTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

JSON_SUFFIXES = (".json",)
SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
RUN_STATUSES = ("running", "succeeded", "failed", "interrupted")


def seconds(option: str, value: Any) -> float | None:
    """Return a duration of 0 or more seconds as a float; `None` for `None` and for infinity."""
    if value is None:
        return None
    if type(value) not in (int, float):
        raise StateOptionTypeError(option, value, "a number of seconds (an int or a float), or None")
    if not value >= 0:  # NaN as well
        raise StateOptionError(option, value, "0 or more seconds, or None for no expiry")
    try:
        return None if float(value) == float("inf") else float(value)
    except OverflowError:
        return None


def number_of_runs(option: str, value: Any) -> int | None:
    """Return a number of runs, 0 or more, or `None` for all."""
    if value is not None and type(value) is not int:
        raise StateOptionTypeError(option, value, "a number of runs, or None for all")
    if value is not None and value < 0:
        raise StateOptionError(option, value, "0 or more runs, or None for all")
    return value


def log_number(option: str, value: Any) -> int:
    """Return a level or a number of log lines, 0 or more."""
    if type(value) is not int or value < 0:
        error = StateOptionError if type(value) is int else StateOptionTypeError
        raise error(option, value, "an integer of at least 0")
    return value


def run_statuses(value: Any) -> tuple[str, ...]:
    """Return the statuses of runs to select, given as one, several or `None` for all."""
    given = RUN_STATUSES if value is None else (value,) if isinstance(value, str) else value
    allowed = " or ".join(map(repr, RUN_STATUSES))
    if not isinstance(given, (tuple, list, set, frozenset)):
        raise StateOptionTypeError("status", value, f"{allowed}, or several of them")
    for status in given:
        if status not in RUN_STATUSES:
            raise StateOptionError("status", status, allowed)
    return tuple(given)


def earliest_start(value: Any, now: float) -> float:
    """Return a time in seconds since the epoch, given as a date and time, a date or a duration before `now`."""
    from datetime import date, datetime, time, timedelta

    if isinstance(value, timedelta):
        return now - value.total_seconds()
    if isinstance(value, date):
        moment = value if isinstance(value, datetime) else datetime.combine(value, time())
        try:
            return moment.timestamp()
        except (OverflowError, ValueError, OSError):
            raise StateOptionError("since", value, "a time that the system supports") from None
    raise StateOptionTypeError("since", value, "a datetime, a date or a timedelta")


def maximum(option: str, value: Any) -> int | None:
    """Return a maximum of 1 or more, or `None` for no limit."""
    if value is not None and type(value) is not int:
        raise StateOptionTypeError(option, value, "an int, or None for no limit")
    if value is not None and value < 1:
        raise StateOptionError(option, value, "1 or more, or None for no limit")
    return value


def integer(option: str, value: Any) -> int:
    """Return an `int` that is no `bool`."""
    if type(value) is not int:
        raise StateOptionTypeError(option, value, "an int")
    return value


def text(option: str, value: Any) -> str:
    """Return a `str`. Subclasses are refused because they would be restored as plain `str`."""
    if type(value) is not str:
        raise StateOptionTypeError(option, value, "a str")
    return value


def state_path(value: Any) -> tuple[str, str]:
    """Return the absolute path of a state file, with symbolic links resolved, and its suffix in lower case."""
    if not isinstance(value, (str, os.PathLike)):
        raise StateOptionTypeError("storage_path", value, "a path (a str or a pathlib.Path), or None for memory")
    name = os.fsdecode(value)
    if "://" in name:
        raise StateOptionError("storage_path", name, "the path of a file, such as 'runs.db', and not a URL")
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in JSON_SUFFIXES + SQLITE_SUFFIXES:
        allowed = f"a file name that ends in {', '.join(JSON_SUFFIXES)} (JSON) or {', '.join(SQLITE_SUFFIXES)} (SQLite)"
        raise StateOptionError("storage_path", name, allowed)
    try:
        return os.path.realpath(name), suffix
    except ValueError:
        raise StateOptionError("storage_path", name, "a path without NUL characters") from None
