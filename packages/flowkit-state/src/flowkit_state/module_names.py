"""Names of modules that are the same in every process, whether a module runs as `__main__` or is imported."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

OURS = frozenset(["flowkit", "flowkit_core", "flowkit_exec", "flowkit_flow", "flowkit_log", "flowkit_state"])
_MAIN = ("__main__", "__mp_main__")  # worker processes name the script `__mp_main__`


def module_label(namespace: Mapping[str, Any]) -> str:
    """Return the name of the module with the globals `namespace`; for a script, the name it would be imported by."""
    name = namespace.get("__name__")
    if name not in _MAIN:
        return name if isinstance(name, str) else "?"
    spec = namespace.get("__spec__")
    if spec is not None:
        return str(spec.name)
    file = namespace.get("__file__")
    return os.path.splitext(os.path.basename(file))[0] if file else "__main__"


def named_label(module: object) -> str:
    """Return the label of the module called `module`."""
    if module in _MAIN and module in sys.modules:
        return module_label(vars(sys.modules[module]))
    return str(module)
