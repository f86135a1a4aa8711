"""Warnings that point at the first frame outside flowkit."""

from __future__ import annotations

import sys
import warnings

from flowkit_state.module_names import OURS


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning. Raises it if the warning filters turn warnings into errors."""
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in OURS:
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth)


def safe_warn(message: str) -> None:
    """Issue a `RuntimeWarning`, and never raise.

    If the warning filters turn warnings into errors, the warning is printed to standard error instead.
    """
    try:
        try:
            warn(message, RuntimeWarning)
        except RuntimeWarning as warning:
            sys.excepthook(RuntimeWarning, warning, None)
    except Exception:  # noqa: S110 - standard error is closed, or a hook of the user's failed
        pass
