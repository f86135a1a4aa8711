"""Checks of what users pass, where they pass it."""

from __future__ import annotations

import os

from flowkit_state.errors import StateOptionError, StateOptionTypeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

JSON_SUFFIXES = (".json",)
SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")


def seconds(option: str, value: Any) -> float | None:
    """Return a time to live as a float, or None for "never". Infinity is never; 0 is at once."""
    if value is None:
        return None
    if type(value) not in (int, float):
        raise StateOptionTypeError(option, value, "a number of seconds (an int or a float), or None")
    if not value >= 0:  # also NaN, which is not a number at all
        raise StateOptionError(option, value, "0 or more seconds, or None for no expiry")
    try:
        return None if float(value) == float("inf") else float(value)
    except OverflowError:
        return None


def text(option: str, value: Any) -> str:
    """Return `value`, which must be a plain `str`: a subclass would come back as one."""
    if type(value) is not str:
        raise StateOptionTypeError(option, value, "a str")
    return value


def state_path(value: Any) -> tuple[str, str]:
    """Return where `value` leads now, absolute and with its links followed, and its suffix."""
    if not isinstance(value, (str, os.PathLike)):
        raise StateOptionTypeError("storage_path", value, "a path (a str or a pathlib.Path), or None for memory")
    name = os.fsdecode(value)
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in JSON_SUFFIXES + SQLITE_SUFFIXES:
        allowed = f"a file name that ends in {', '.join(JSON_SUFFIXES)} (JSON) or {', '.join(SQLITE_SUFFIXES)} (SQLite)"
        raise StateOptionError("storage_path", name, allowed)
    try:
        return os.path.realpath(name), suffix
    except ValueError:
        raise StateOptionError("storage_path", name, "a path without NUL characters") from None
