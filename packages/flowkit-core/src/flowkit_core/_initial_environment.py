"""What the program began with, as far as can be seen when this is imported: a script is executed anew in that."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # what type checkers take for true; importing typing for it would cost 5 ms
if TYPE_CHECKING:
    from typing import Any


def _now() -> dict[str, Any]:
    try:
        folder: str | None = os.getcwd()
    except OSError:  # it was removed
        folder = None
    return {"cwd": folder, "argv": list(sys.argv), "environment": dict(getattr(os, "environb", {}))}


captured = _now()
