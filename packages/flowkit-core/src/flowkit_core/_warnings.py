"""Warnings that are shown by default, with the line of the user's code."""

from __future__ import annotations

import sys

from ._stack_frames import user_level


def warn(message: str) -> None:
    """Issue a :class:`RuntimeWarning` at the first frame outside flowkit.

    Use it while a pipeline is built. During a run, use :func:`report`, which never raises.

    Raises:
        RuntimeWarning: the warning filters turn warnings into errors.
    """
    import warnings

    warnings.warn(message, RuntimeWarning, stacklevel=user_level())


def report(message: str) -> None:
    """Issue a :class:`RuntimeWarning` at the first frame outside flowkit, and never raise.

    If the warning filters turn warnings into errors, the warning is printed to standard error instead.
    """
    import warnings

    try:
        try:
            warnings.warn(message, RuntimeWarning, stacklevel=user_level())
        except RuntimeWarning as warning:
            sys.excepthook(RuntimeWarning, warning, None)
    except Exception:  # noqa: S110 - standard error is closed, or a hook of the user's failed
        pass
