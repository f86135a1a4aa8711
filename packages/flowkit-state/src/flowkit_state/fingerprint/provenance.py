"""Origin of code: the project, the standard library, or an installed package.

The code of the project is compared. Foreign code is represented by components with its version:
`{"package requests": "2.32.3"}` for a package, an empty dictionary for the standard library; `None` is the project.
"""

from __future__ import annotations

import os
import sys
from functools import cache

from flowkit_state.module_names import OURS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Foreign = dict[str, str] | None

_INSTALLED = ("site-packages", "dist-packages")
_STANDARD = os.path.realpath(os.path.dirname(os.__file__)) + os.sep


def of_code(file: str, module: object) -> Foreign:
    """Return the origin of code from a file; for code made from text, of the module called `module`."""
    if file.startswith("<"):
        return {} if file.startswith("<frozen ") else of_module(module)
    if isinstance(module, str) and module.partition(".")[0] in OURS:
        return of_module(module)
    return _of_file(file)


@cache
def of_module(name: object) -> Foreign:
    """Return the origin of the module called `name`, which may not have been imported."""
    if not isinstance(name, str):
        return None
    top = name.partition(".")[0]
    if top in OURS:
        return _version(top.replace("_", "-"))
    if top in sys.builtin_module_names:
        return {}
    origin = _file_of(name)
    if origin in ("built-in", "frozen"):
        return {}
    return None if origin is None else _of_file(origin)


def _file_of(name: str) -> str | None:
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return file
    spec = getattr(module, "__spec__", None)
    if module is None:
        from importlib.util import find_spec

        try:
            spec = find_spec(name.partition(".")[0])  # find_spec() would import the parent of a submodule
        except (ImportError, ValueError):
            return None
    places = getattr(spec, "submodule_search_locations", None)
    return getattr(spec, "origin", None) or next((os.path.join(place, "?") for place in places or ()), None)


@cache
def _of_file(file: str) -> Foreign:
    path = os.path.realpath(file)
    parts = path.split(os.sep)
    for place in _INSTALLED:
        if place in parts[:-1]:
            return _of_package(parts[parts.index(place) + 1].partition(".")[0])
    return {} if path.startswith(_STANDARD) else None


def _of_package(name: str) -> Foreign:
    """Return the versions of the distributions of a package; None if there are none, so that its code is compared."""
    found: dict[str, str] = {}
    for distribution in _distributions().get(name, ()):
        found.update(_version(distribution))
    return found or None


@cache
def _distributions() -> Mapping[str, list[str]]:
    from importlib.metadata import packages_distributions

    return {name: sorted(set(found)) for name, found in packages_distributions().items()}


@cache
def _version(distribution: str) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {f"package {distribution}": version(distribution)}
    except PackageNotFoundError:  # flowkit run from its source tree
        return {f"package {distribution}": "unknown"}
