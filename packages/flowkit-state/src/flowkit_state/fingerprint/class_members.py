"""The members that a class statement defines: methods and constants, without those that Python generates."""

from __future__ import annotations

from enum import EnumMeta
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType

from flowkit_state.fingerprint.name_resolution import unwrapped
from flowkit_state.serialization import class_references, model_classes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CODE = (FunctionType, staticmethod, classmethod, property)
_DATACLASS_FLAGS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")  # of all versions of Python
_PARTS = {
    "property": ("fget", "fset", "fdel"),
    "staticmethod": ("__func__",),
    "classmethod": ("__func__",),
    "cached_property": ("func",),
}
_MAKERS = frozenset(["abc", "attr._make", "collections", "dataclasses", "enum", "typing"])
_METADATA = frozenset(["__doc__", "__firstlineno__", "__module__", "__qualname__"])
# types of dunder attributes that users define, such as __tablename__ and __table_args__
_PLAIN = (str, bytes, int, float, list, tuple, dict, set, frozenset)
_NAMES_OF_GENERATED_CODE = ("__dataclass_", "_dflt_", "_HAS_DEFAULT_FACTORY")
_OF_NAMEDTUPLES = frozenset(["_fields", "_field_defaults"])
_OF_MODELS = ("__attrs_", "__pydantic_", "__class_vars__", "__private_attributes__", "__signature__")
_INTERNAL = frozenset(
    [
        "__abstractmethods__",
        "__annotations__",
        "__closed__",
        "__dataclass_fields__",
        "__extra_items__",
        "__match_args__",
        "__mutable_keys__",
        "__non_callable_proto_members__",
        "__optional_keys__",
        "__orig_bases__",
        "__parameters__",
        "__protocol_attrs__",
        "__readonly_keys__",
        "__required_keys__",
        "__slotnames__",
        "__slots__",
        "__static_attributes__",
        "__total__",
        "__type_params__",
        "_abc_impl",
        "_is_protocol",
        "_is_runtime_protocol",
        "__annotate__",
        "__annotate_func__",
        "__callable_proto_members_only__",
    ]
)


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of the members of `cls` that define what it does.

    Values that are created here are tuples: `values` keeps no snapshots of tuples.
    """
    values = (
        {name: found.value for name, found in vars(cls)["_member_map_"].items()} if isinstance(cls, EnumMeta) else None
    )
    enum = values is not None
    is_namedtuple = class_references.is_namedtuple(cls)
    is_model = model_classes.is_model(cls)
    generated = is_model or class_references.is_dataclass(cls) or is_namedtuple
    for name, value in list(vars(cls).items()):
        if isinstance(value, (GetSetDescriptorType, MemberDescriptorType)) or name in _INTERNAL:
            continue
        if (is_namedtuple and name in _OF_NAMEDTUPLES) or (is_model and name.startswith(_OF_MODELS)):
            continue
        code = isinstance(unwrapped(value), _CODE)
        special = name.startswith("_" if enum else "__") and name.endswith("_")
        if special and not code and (enum or name in _METADATA or not isinstance(value, _PLAIN)):
            continue
        if values is not None and name in values:
            continue
        if _is_generated(value, generated):
            continue
        parts = _PARTS.get(type(value).__qualname__)
        if parts is None:
            yield name, value
            continue
        for part in parts:
            if getattr(value, part) is not None:
                yield f"{name}.{type(value).__qualname__}.{part}", getattr(value, part)
    if values is not None:
        yield "__members__", (*values.items(),)
    if annotations := _annotations(cls):
        yield "__annotations__", annotations
    yield from _fields(cls, is_model=is_model, is_namedtuple=is_namedtuple)


def _fields(cls: type, *, is_model: bool, is_namedtuple: bool) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of members for the fields of a model, a named tuple or a dataclass."""
    if is_model:
        yield "__fields__", model_classes.field_facts(cls)
    if is_namedtuple:
        yield "_fields", cls._fields  # type: ignore[attr-defined]
        yield "_field_defaults", cls._field_defaults  # type: ignore[attr-defined]
    if "__dataclass_fields__" in vars(cls):
        parameters = vars(cls)["__dataclass_params__"]
        flags = [bool(getattr(parameters, name)) for name in _DATACLASS_FLAGS]
        yield "__dataclass_params__", (*flags, "__slots__" in vars(cls), getattr(cls, "__match_args__", ()))
        yield "__dataclass_fields__", tuple(map(_field, vars(cls)["__dataclass_fields__"].values()))


def _is_generated(value: Any, from_fields: bool) -> bool:
    """Return whether the standard library generated a member; `from_fields` is whether the class has fields."""
    function = getattr(value, "__func__", value)
    function = getattr(function, "__wrapped__", function)
    if type(function).__qualname__ == "_tuplegetter":
        return True
    if not isinstance(function, FunctionType):
        return False
    code = function.__code__
    text = from_fields and (
        code.co_filename.startswith(("<string>", "<attrs generated"))  # cloudpickle changes it
        or any(name.startswith(_NAMES_OF_GENERATED_CODE) for name in code.co_freevars)
    )
    return text or function.__globals__.get("__name__") in _MAKERS


def _annotations(cls: type) -> tuple[tuple[str, str], ...]:
    """Return the names and types of the annotations of a class body, which dataclasses and others read."""
    try:
        found = vars(cls).get("__annotations__") or {}
    except Exception:  # annotations that cannot be evaluated
        return ()
    return tuple((name, _type_text(value)) for name, value in found.items()) if isinstance(found, dict) else ()


def _type_text(annotation: Any) -> str:
    """Return an annotation as text: the same for a type and for its name in a string."""
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, type) and not hasattr(annotation, "__origin__"):
        return annotation.__qualname__
    return repr(annotation)


def _field(field: Any) -> tuple[Any, ...]:
    flags = field.init, field.repr, field.hash, field.compare, field.kw_only, field._field_type.name
    return field.name, flags, field.default, field.default_factory, (*field.metadata.items(),)
