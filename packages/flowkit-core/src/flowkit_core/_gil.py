"""Whether this Python has a global interpreter lock."""

from __future__ import annotations

import sys

GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether one call into C, such as ``next()`` of an iterator or ``heappush()``, is atomic for other threads."""
