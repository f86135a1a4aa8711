"""The few names of `typing` that are needed at run time, without importing it: it costs more than all of this layer."""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Generic, TypeVar, overload
else:

    class Generic:
        """Accept any subscript and mean nothing by it."""

        def __class_getitem__(cls, parameters):
            return cls

    class TypeVar:
        """A name for the type checker."""

        def __init__(self, name):
            self.__name__ = name

    def overload(function):
        """Mark a signature for the type checker."""
        return function


__all__ = ["TYPE_CHECKING", "Generic", "TypeVar", "overload"]
