"""Stand-ins for the names of :mod:`typing` that modules evaluate when they are imported.

Importing ``typing`` takes longer than importing the rest of this package. Type checkers see the real names.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any, Generic, Never, ParamSpec, Protocol, TypeVar, overload
else:

    class Generic:
        """Base class that accepts any subscript."""

        def __class_getitem__(cls, parameters):
            return cls

    class Protocol(Generic):
        """Base class without effect."""

    class Any:
        """Used in annotations only."""

    class Never:
        """Used in annotations only."""

    class TypeVar:
        """Object with a name."""

        def __init__(self, name, **options):
            self.__name__ = name

    class ParamSpec(TypeVar):
        """Object with a name."""

        args = kwargs = object

    def overload(function):
        """Return the function."""
        return function


__all__ = ["TYPE_CHECKING", "Any", "Generic", "Never", "ParamSpec", "Protocol", "TypeVar", "overload"]
