"""Stack frames: which belong to flowkit, and the first that does not."""

from __future__ import annotations

import sys

from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

PACKAGES = frozenset(f"flowkit{part}" for part in ("", "_core", "_exec", "_flow", "_state", "_log", "_dask", "_view"))
"""The packages of flowkit. A user's package such as ``flowkit_jobs`` is not included."""


def module_name(frame: FrameType) -> str:
    """Return the name of the module whose code a frame executes; ``"?"`` if it has none."""
    name = frame.f_globals.get("__name__")
    return name if isinstance(name, str) else "?"


def package_name(frame: FrameType) -> str:
    """Return the name of the top-level package whose code a frame executes."""
    return module_name(frame).partition(".")[0]


def user_level() -> int:
    """Return the ``stacklevel`` that shows a warning of the calling function at the first frame outside flowkit."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and package_name(frame) in PACKAGES:
        level, frame = level + 1, frame.f_back
    return level
