"""Texts that commands, reports and progress share: durations, times, parameters of runs, the version."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flowkit_core._text import short_repr

if TYPE_CHECKING:
    from typing import Any


LONG_PARAM_WIDTH = 200
"""Maximum number of characters of the `repr` of a parameter where there is much space."""


def run_duration_text(seconds: float | None, resumes: int) -> str:
    """Return the duration of the last execution of a run, and its number if the run was resumed.

    Examples:
        >>> run_duration_text(0.5, 0), run_duration_text(0.5, 2), run_duration_text(None, 2)
        ('0.50 s', '0.50 s (execution 3)', '')
    """
    text = duration_text(seconds)
    return f"{text} (execution {resumes + 1})" if text and resumes else text


def duration_text(seconds: float | None) -> str:
    """Return a duration with a unit that suits it.

    Examples:
        >>> [duration_text(each) for each in (2e-6, 0.0012, 0.5, 12.34, 200, 7260, None)]
        ['2 µs', '1.2 ms', '0.50 s', '12.3 s', '3 min 20 s', '2 h 1 min', '']
    """
    if seconds is None:
        return ""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def param_text(value: Any, width: int) -> str:
    """Return the value of a run parameter: a text itself, dates and times in ISO 8601, others as a shortened `repr`.

    Args:
        value: the value.
        width: maximum number of characters of a `repr`.

    Examples:
        >>> from datetime import date
        >>> [param_text(each, 40) for each in ("all", date(2026, 11, 29), [1, 2])]
        ['all', '2026-11-29', '[1, 2]']
    """
    from flowkit_state import UnrecordedValue

    if isinstance(value, UnrecordedValue):
        return value.text
    if type(value) is str:
        return value.encode("utf-8", "backslashreplace").decode()
    return value.isoformat() if hasattr(value, "isoformat") else short_repr(value, width)


def time_text(moment: datetime | float | None, *, zone: bool = False) -> str:
    """Return a time in the local time zone, to the second; "" for None.

    Args:
        moment: the time; a number is in seconds since the epoch.
        zone: whether to add the name of the time zone.

    Examples:
        >>> time_text(datetime(2026, 11, 29, 6, 0, 1, 500_000))
        '2026-11-29 06:00:01'
    """
    if moment is None:
        return ""
    time = moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    return time.astimezone().strftime(f"%Y-%m-%d %H:%M:%S{' %Z' if zone else ''}")


def version_text() -> str:
    """Return the version of flowkit-view, or that it is not known: its metadata is missing."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("flowkit-view")
    except PackageNotFoundError:
        return "(version unknown)"
