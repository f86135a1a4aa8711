"""Function `origin_of`: the module and the name under which the command line finds a pipeline again."""

from __future__ import annotations

import os
import sys

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowkit_core._typing import Any


def origin_of(pipeline: object, module_name: str, function: str) -> tuple[str, str] | tuple[None, None]:
    """Return a text ``"module:name"`` that denotes a pipeline, and the folder that has the module.

    The name is that of a variable of the module that refers to the pipeline, else that of the function that created it.
    The text is only ``"module"`` if there is neither. Of a script, the module is the name of its file, as in
    ``"etl.py:dag"``. Both are None if the module has no file.

    Args:
        pipeline: the pipeline.
        module_name: name of the module whose code created it.
        function: qualified name of the code that created it.
    """
    module: Any = sys.modules.get(module_name)
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not os.path.isfile(file):  # such as an interactive session
        return None, None
    names = [name for name, value in [*vars(module).items()] if value is pipeline]
    name = names[0] if names else function if function.isidentifier() else ""
    folder, base = os.path.split(os.path.abspath(file))
    if module_name == "__main__":
        spec = getattr(module, "__spec__", None)
        module_name = base if spec is None else spec.name
    if module_name != base:
        levels = module_name.count(".") + (base == "__init__.py")
        for _ in range(levels):
            folder = os.path.dirname(folder)
    return f"{module_name}:{name}" if name else module_name, folder
