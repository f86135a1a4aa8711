"""Stand-ins for the names of `typing` that are used at run time: importing `typing` takes longer than this package."""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Generic, TypeVar, overload
else:

    class Generic:
        """Base class whose subscripts are ignored at run time."""

        def __class_getitem__(cls, parameters):
            return cls

    class TypeVar:
        """Type variable without a meaning at run time."""

        def __init__(self, name):
            self.__name__ = name

    def overload(function):
        """Mark an overload for type checkers; return the function unchanged."""
        return function


__all__ = ["TYPE_CHECKING", "Generic", "TypeVar", "overload"]
