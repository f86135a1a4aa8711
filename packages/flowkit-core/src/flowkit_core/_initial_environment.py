"""Working directory, arguments and environment when the package is imported.

Worker processes execute the main script in this environment, as the program may have changed its own since.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _capture() -> dict[str, Any]:
    try:
        directory: str | None = os.getcwd()
    except OSError:  # it was removed
        directory = None
    return {"cwd": directory, "argv": list(sys.argv), "environment": dict(getattr(os, "environb", os.environ))}


captured = _capture()
