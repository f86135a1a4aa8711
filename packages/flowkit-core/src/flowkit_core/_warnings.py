"""Warnings that people see without configuring anything, at their own line."""

from __future__ import annotations

import sys

PACKAGES = frozenset(f"flowkit{part}" for part in ("", "_core", "_exec", "_flow", "_state", "_log", "_dask", "_view"))
"""The packages of flowkit. A user's package, ``flowkit_jobs`` say, is not among them."""


def warn(message: str) -> None:
    """Issue a :class:`RuntimeWarning` at the first frame that is not flowkit's own.

    For what is found while a pipeline is built. What is found during a run is reported by ``failure.report()``, which
    never raises.

    Raises:
        RuntimeWarning: where warnings are turned into errors.
    """
    import warnings

    warnings.warn(message, RuntimeWarning, stacklevel=user_level())


def user_level() -> int:
    """Return the ``stacklevel`` that shows a warning of the calling function at the first frame outside flowkit."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in PACKAGES:
        level, frame = level + 1, frame.f_back
    return level
