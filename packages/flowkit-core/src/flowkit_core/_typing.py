"""The parts of :mod:`typing` that the core needs, without importing it.

Importing ``typing`` costs more than importing all of the core. Type checkers see the real names; at run time the few
that are evaluated while a module is imported are replaced by empty stand-ins.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any, Generic, Never, ParamSpec, Protocol, TypeVar, overload
else:

    class Generic:
        """Accept any subscript and mean nothing by it."""

        def __class_getitem__(cls, parameters):
            return cls

    class Protocol(Generic):
        """A protocol is a class nobody needs to inherit from."""

    class Any:
        """Stands in annotations only."""

    class Never:
        """Stands in annotations only."""

    class TypeVar:
        """A name for the type checker."""

        def __init__(self, name, **options):
            self.__name__ = name

    class ParamSpec(TypeVar):
        """A name for the type checker."""

        args = kwargs = object

    def overload(function):
        """Mark a signature for the type checker."""
        return function


__all__ = ["TYPE_CHECKING", "Any", "Generic", "Never", "ParamSpec", "Protocol", "TypeVar", "overload"]
