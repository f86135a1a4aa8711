"""Class `ArgumentDigest`: the digest of an argument that is in another process, made there.

It is made of the content of the value. Code that the value refers to, such as the class of a dataclass, is compared in
the process that looks a result up: the project is there.
"""

from __future__ import annotations

import sys

from flowkit_state.fingerprint.provenance import of_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_LIBRARIES = ("numpy", "pandas", "polars", "pyarrow")
"""Packages for whose values digests of other processes are used; any other package may be code of the project there."""


class ArgumentDigest:
    """The digest of an argument that is in another process.

    Args:
        format: format of fingerprints.
        text: the digest.
        packages: the versions of the packages that the value belongs to, as components.
        code: label, module and qualified name of each class and function of the project that it refers to.

    Attributes:
        format, text, packages, code: see above.
    """

    __slots__ = ("code", "format", "packages", "text")

    def __init__(
        self, format: str, text: str, packages: dict[str, str], code: Sequence[tuple[str, str | None, str]]
    ) -> None:
        self.format, self.text, self.packages, self.code = format, text, packages, code

    def __reduce__(self) -> Any:
        return ArgumentDigest, (self.format, self.text, self.packages, self.code)


def library_versions() -> dict[str, str]:
    """Return the versions of data libraries, as components."""
    return {label: version for name in _LIBRARIES for label, version in (of_module(name) or {}).items()}


def find_code(module: str | None, qualname: str) -> Any:
    """Return a class or a function of a module that is imported; None if it is not found."""
    found: Any = sys.modules.get(module or "")
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found
