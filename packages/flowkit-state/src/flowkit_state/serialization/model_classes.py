"""Objects of attrs classes and pydantic models, as references to their classes and data, like dataclass objects."""

from __future__ import annotations

import sys
from types import MemberDescriptorType

from flowkit_state.serialization.class_references import (
    NotFoundError,
    RefusedError,
    attributes,
    new_instance,
    resolve,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CACHED_HASH = "_attrs_cached_hash"
"""The attribute in which an object of an attrs class keeps its hash."""

_ATTRS_FACTS = ("validator", "converter", "init", "kw_only", "eq", "alias")
_STATE = ("__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")


def is_attrs_class(cls: type) -> bool:
    """Return whether a class was made by attrs."""
    return "attr" in sys.modules and type(getattr(cls, "__attrs_attrs__", None)).__module__.startswith("attr")


def is_pydantic_model(cls: type) -> bool:
    """Return whether a class is a model of pydantic, version 2."""
    base = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    return base is not None and issubclass(cls, base) and hasattr(cls, "__pydantic_fields__")


def is_model(cls: type) -> bool:
    """Return whether a class is an attrs class or a pydantic model."""
    return is_attrs_class(cls) or is_pydantic_model(cls)


def has_only_attributes(cls: type) -> bool:
    """Return whether a base class of a model stores nothing in objects but attributes."""
    return "__attrs_attrs__" in vars(cls) or cls.__module__.partition(".")[0] in ("pydantic", "pydantic_settings")


def field_facts(cls: Any) -> tuple[Any, ...]:
    """Return what the definition of the fields of an attrs class or a pydantic model says, besides their types."""
    if "__attrs_attrs__" in vars(cls):
        return tuple(
            (field.name, _attrs_default(field.default), *(getattr(field, name, None) for name in _ATTRS_FACTS))
            for field in cls.__attrs_attrs__
        )
    fields = vars(cls).get("__pydantic_fields__") or {}
    return tuple(
        (name, field.alias, None if field.is_required() else _default(field), tuple(map(repr, field.metadata)))
        for name, field in fields.items()
    )


def _default(field: Any) -> tuple[Any, ...]:
    return ("default", field.default) if field.default_factory is None else ("factory", field.default_factory)


def _attrs_default(default: Any) -> Any:
    kind = type(default).__name__
    if kind == "Factory":
        return "factory", default.factory, default.takes_self
    return None if kind == "_Nothing" else ("default", default)


def attrs_fields(value: Any) -> dict[str, Any]:
    """Return the fields of an attrs object. Raises `RefusedError` if it has other data than its fields."""
    names = _attrs_names(type(value))
    stored = attributes(value)
    stored.pop(CACHED_HASH, None)
    _check(names, stored, "an attrs class")
    return {name: stored[name] for name in names}


def attrs_from(name: str, fields: dict[str, Any]) -> Any:
    """Return an object of the attrs class with the reference `name`, without calling any of its methods."""
    cls: Any = resolve(name)
    if not is_attrs_class(cls) or set(_attrs_names(cls)) != set(fields):
        raise NotFoundError(f"{name} is no longer an attrs class with the fields {', '.join(fields) or '(none)'}.")
    instance = new_instance(cls, fields)
    if CACHED_HASH in getattr(getattr(cls.__hash__, "__code__", None), "co_names", ()):
        object.__setattr__(instance, CACHED_HASH, None)
    return instance


def pydantic_parts(value: Any) -> list[Any]:
    """Return the fields, the extra data, the names of the fields that were set, and the private attributes."""
    cls = type(value)
    names = [*cls.__pydantic_fields__]
    stored = {
        name: item for name, item in vars(value).items() if type(getattr(cls, name, None)).__name__ != "cached_property"
    }
    _check(names, stored, "a pydantic model")
    extra, fields_set, private = (getattr(value, name, None) for name in _STATE)
    return [{name: stored[name] for name in names}, extra, sorted(fields_set or ()), private]


def pydantic_from(name: str, parts: list[Any]) -> Any:
    """Return an object of the pydantic model with the reference `name`, without validation."""
    cls: Any = resolve(name)
    fields, extra, fields_set, private = parts
    if not is_pydantic_model(cls) or set(cls.__pydantic_fields__) != set(fields):
        raise NotFoundError(f"{name} is no longer a pydantic model with the fields {', '.join(fields) or '(none)'}.")
    instance = object.__new__(cls)
    object.__setattr__(instance, "__dict__", fields)
    for attribute, item in zip(_STATE, (extra, set(fields_set), private), strict=True):
        if type(getattr(cls, attribute, None)) is MemberDescriptorType:  # a root model has none but the second
            object.__setattr__(instance, attribute, item)
    return instance


def _attrs_names(cls: Any) -> list[str]:
    return [field.name for field in cls.__attrs_attrs__]


def _check(names: list[str], stored: dict[str, Any], kind: str) -> None:
    for name in names:
        if name not in stored:
            reason = f"an object of {kind} whose field {name} is not stored in it"
            raise RefusedError(reason, "Convert it to a dict first.")
    for name in stored:
        if name not in names:
            raise RefusedError(f"an object of {kind} that has other data than its fields: {name}", "Make it a field.")
