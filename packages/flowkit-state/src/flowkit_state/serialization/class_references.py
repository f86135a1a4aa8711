"""Enum members, named tuples and dataclass objects as references to their classes, `"shop.models:Order"`, and data.

A state file must not be able to run code. So a class is only looked up in modules that the program has imported itself,
without calling a module `__getattr__`, and objects are made without calling `__init__`.
"""

from __future__ import annotations

import sys
from enum import Enum, Flag
from types import MemberDescriptorType

from flowkit_state.module_names import named_label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class RefusedError(Exception):
    """A value or a class cannot be stored. `args` are the reason and a hint what to do."""


class NotFoundError(Exception):
    """What a stored value refers to does not exist in this process. The only argument is the reason."""


def reference(cls: type) -> str:
    """Return the reference of `cls`. Raises `RefusedError` if `resolve` would not return `cls` for it.

    For a class of the main script, the module is the name under which the script could be imported: `__main__` is the
    name of every script.
    """
    label = named_label(cls.__module__)
    name = f"{cls.__module__ if label in sys.modules else label}:{cls.__qualname__}"
    try:
        resolved = resolve(name)
    except NotFoundError:
        resolved = None
    if resolved is not cls:
        raise RefusedError("a class that cannot be looked up by its name", "Define it at the top level of a module.")
    return name


def resolve(name: str) -> type:
    """Return the class with the reference `name`, without importing or calling anything. Raises `NotFoundError`."""
    module_name, _, qualname = name.partition(":")
    module = sys.modules.get(module_name)
    if module is None and module_name == named_label("__main__"):
        module = sys.modules["__main__"]
    if module is None:
        raise NotFoundError(f"its class is {name}, and the module {module_name} is not imported here; import it first.")
    target: object = module
    for part in qualname.split("."):
        target = vars(target).get(part) if target is module or isinstance(target, type) else None
    if not isinstance(target, type):
        raise NotFoundError(f"its class is {name}, but the module {module_name} has no such class (any more).")
    return target


def is_namedtuple(cls: type) -> bool:
    """Return whether a class is a named tuple."""
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def is_dataclass(cls: type) -> bool:
    """Return whether a class is a dataclass."""
    return hasattr(cls, "__dataclass_fields__")


def enum_parts(value: Enum) -> list[Any]:
    """Return the reference of the class and the names of the member, or of the members that a flag combines."""
    cls = type(value)
    names = [member.name for member in value] if isinstance(value, Flag) and not _is_member(value) else [value.name]
    parts = [reference(cls), *names]
    if enum_from(parts) is not value:
        raise RefusedError("an enum value that is not a combination of members", "Store its .value instead.")
    return parts


def enum_from(parts: list[Any]) -> Enum:
    """Undo `enum_parts`."""
    cls = resolve(parts[0])
    if not issubclass(cls, Enum):
        raise NotFoundError(f"{parts[0]} is not an enum (any more).")
    missing = [name for name in parts[1:] if name not in cls.__members__]
    if missing:
        raise NotFoundError(f"the enum {parts[0]} has no member {missing[0]} (any more).")
    members = [cls.__members__[name] for name in parts[1:]]
    if len(members) == 1:
        return members[0]
    if not issubclass(cls, Flag):
        raise NotFoundError(f"the enum {parts[0]} is not a flag (any more).")
    combined: Any = cls(0)
    for member in members:
        combined |= member
    flag: Enum = combined
    return flag


def _is_member(value: Enum) -> bool:
    name: str | None = value.name  # None: a flag with bits that no member has
    return name is not None and type(value).__members__.get(name) is value


def namedtuple_fields(value: Any) -> tuple[str, ...]:
    """Return the field names of a named tuple. Raises `RefusedError` if it has other data than its fields."""
    cls = type(value)
    if len(cls._fields) != len(value) or getattr(value, "__dict__", None):
        raise RefusedError("a named tuple that has other data than its fields", "Store a plain tuple or a dict.")
    return tuple(cls._fields)


def namedtuple_from(name: str, fields: list[str], items: list[Any]) -> Any:
    """Return a named tuple of the class with the reference `name`."""
    cls = resolve(name)
    if not is_namedtuple(cls) or list(cls._fields) != fields:  # type: ignore[attr-defined]
        raise NotFoundError(f"{name} is no longer a named tuple with the fields {', '.join(fields)}.")
    return tuple.__new__(cls, items)


def dataclass_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass object. Raises `RefusedError` if it has other data than its fields."""
    cls = type(value)
    try:
        object.__new__(cls)
    except TypeError:
        raise RefusedError("a dataclass that inherits from a builtin type", "Convert it to a dict first.") from None
    stored = attributes(value)
    names = _field_names(cls)
    for name in names:
        if name not in stored:
            reason = f"a dataclass whose field {name} is not stored in the object"
            raise RefusedError(reason, "Convert it to a dict first.")
    extra = [name for name in stored if name not in names]
    if extra:
        raise RefusedError(f"a dataclass that has other data than its fields: {extra[0]}", "Make it a field.")
    return {name: stored[name] for name in names}


def dataclass_from(name: str, fields: dict[str, Any]) -> Any:
    """Return an object of the dataclass with the reference `name`, without calling any of its methods."""
    cls = resolve(name)
    if not is_dataclass(cls) or set(_field_names(cls)) != set(fields):
        raise NotFoundError(f"{name} is no longer a dataclass with the fields {', '.join(fields) or '(none)'}.")
    return new_instance(cls, fields)


def new_instance(cls: type, fields: dict[str, Any]) -> Any:
    """Return an object with these attributes, without calling any method of its class."""
    instance: Any = object.__new__(cls)
    slots = _slots(cls)
    for field, value in fields.items():
        if field in slots:
            slots[field].__set__(instance, value)
        else:
            instance.__dict__[field] = value
    return instance


def attributes(value: object) -> dict[str, Any]:
    """Return the attributes that an object stores, in slots and in its `__dict__`."""
    slots = _slots(type(value))
    slots.pop("__dict__", None)
    stored = {name: slot.__get__(value, type(value)) for name, slot in slots.items() if _is_filled(slot, value)}
    stored.update(getattr(value, "__dict__", {}))
    return stored


def _field_names(cls: Any) -> list[str]:
    from dataclasses import fields

    return [field.name for field in fields(cls)]


def _is_filled(slot: MemberDescriptorType, value: object) -> bool:
    try:
        slot.__get__(value, type(value))
    except AttributeError:
        return False
    return True


def _slots(cls: type) -> dict[str, MemberDescriptorType]:
    slots: dict[str, MemberDescriptorType] = {}
    for base in reversed(cls.__mro__):
        slots.update((name, item) for name, item in vars(base).items() if isinstance(item, MemberDescriptorType))
    return slots
