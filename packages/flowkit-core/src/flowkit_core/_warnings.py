"""Warnings that are shown by default, with the line of the user's code."""

from __future__ import annotations

import sys

PACKAGES = frozenset(f"flowkit{part}" for part in ("", "_core", "_exec", "_flow", "_state", "_log", "_dask", "_view"))
"""The packages of flowkit. A user's package such as ``flowkit_jobs`` is not included."""


def warn(message: str) -> None:
    """Issue a :class:`RuntimeWarning` at the first frame outside flowkit.

    Use it while a pipeline is built. During a run, use ``failure.report()``, which never raises.

    Raises:
        RuntimeWarning: the warning filters turn warnings into errors.
    """
    import warnings

    warnings.warn(message, RuntimeWarning, stacklevel=user_level())


def user_level() -> int:
    """Return the ``stacklevel`` that shows a warning of the calling function at the first frame outside flowkit."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in PACKAGES:
        level, frame = level + 1, frame.f_back
    return level
