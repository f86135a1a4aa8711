"""Decoding of JSON trees: `decode` returns the value that `json_encoder.encode` was given."""

from __future__ import annotations

from base64 import b64decode

from flowkit_state.errors import RestoreError, short_repr
from flowkit_state.serialization import builtin_types, class_references, library_types, model_classes
from flowkit_state.serialization.class_references import NotFoundError
from flowkit_state.serialization.data_types.forms import Composite, form_named
from flowkit_state.serialization.trampoline import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from flowkit_state.serialization.serializer_protocol import Serializer
    from flowkit_state.serialization.trampoline import Steps


def decode(
    tree: Any,
    *,
    key: str | None = None,
    serializers: Mapping[str, Serializer] | None = None,
    parts: Sequence[memoryview] = (),
) -> Any:
    """Return a new object for a JSON tree.

    Args:
        tree: what `encode` returned.
        key: the key of the entry, for the error.
        serializers: the serializers of the user, by name.
        parts: the bytes of values of data libraries.

    Raises:
        RestoreError: the tree is damaged, or a class or a serializer is missing in this process.
    """

    def expand(part: Any) -> Any:
        if type(part) is dict and len(part) == 1 and "$own" in part:
            return _decode_custom(part["$own"], serializers or {}, parts)
        if type(part) is dict and len(part) == 1 and "$data" in part:
            return _decode_data(part["$data"], parts)
        return _expand(part)

    try:
        return walk(expand, tree)
    except NotFoundError as error:
        raise RestoreError(key, str(error)) from None
    except Exception as error:  # the constructors raise many kinds of errors for damaged trees
        reason = f"the stored entry is damaged ({type(error).__name__}: {error})."
        raise RestoreError(key, reason, damaged=True) from error


def _expand(tree: Any) -> Any:
    kind = type(tree)
    if kind is list:
        return _decode_list(tree)
    if kind is not dict:
        return tree
    if len(tree) == 1:
        (tag,) = tree
        if tag.startswith("$"):
            decoder = _DECODERS.get(tag)
            if decoder is None:
                raise NotFoundError(f"it has the unknown type {tag}; a newer version may have written it.")
            return decoder(tree[tag])
    return _decode_dict(tree)


def _decode_list(tree: list[Any]) -> Steps:
    out = []
    for item in tree:
        out.append((yield item) if type(item) is dict or type(item) is list else item)  # noqa: PERF401 (it yields)
    return out


def _decode_dict(tree: dict[str, Any]) -> Steps:
    out = {}
    for key, item in tree.items():
        out[key] = (yield item) if type(item) is dict or type(item) is list else item
    return out


def _decode_pairs(tree: list[Any]) -> Steps:
    out = {}
    for key, item in tree:
        name = yield key
        out[name] = yield item
    return out


def _decode_to(collection: Callable[[Any], Any]) -> Callable[[Any], Steps]:
    def decode_items(tree: list[Any]) -> Steps:
        return collection((yield from _decode_list(tree)))

    return decode_items


def _decode_namedtuple(parts: list[Any]) -> Steps:
    return class_references.namedtuple_from(parts[0], parts[1], (yield from _decode_list(parts[2])))


def _decode_dataclass(parts: list[Any]) -> Steps:
    return class_references.dataclass_from(parts[0], (yield from _decode_dict(parts[1])))


def _decode_custom(tree: list[Any], serializers: Mapping[str, Serializer], parts: Sequence[memoryview]) -> Any:
    name, content = tree
    if name not in serializers:
        hint = "open the file with StateManager(..., serializers=[...]) that has it."
        raise NotFoundError(
            f"it was stored by the serializer {short_repr(name)}, which this StateManager does not have; {hint}"
        )
    try:
        data = bytes(parts[content]) if type(content) is int else b64decode(content, validate=True)
        return serializers[name].load(data)
    except Exception as error:
        reason = f"its serializer {short_repr(name)} cannot load it ({type(error).__name__}: {error})."
        raise NotFoundError(reason) from error


def _decode_data(tree: list[Any], parts: Sequence[memoryview]) -> Any:
    form = form_named(tree[0])
    if isinstance(form, Composite):
        return _decode_composite(form, tree[1])
    part = parts[tree[1]] if type(tree[1]) is int else memoryview(b64decode(tree[1], validate=True))
    return form.load(part)


def _decode_composite(form: Composite, tree: Any) -> Steps:
    arguments = yield tree
    return form.restore(*arguments)


def _decode_pydantic(tree: list[Any]) -> Steps:
    name, fields, *rest = tree
    parts = [(yield from _decode_dict(fields))]
    for part in rest:
        parts.append((yield part))  # noqa: PERF401 (it yields)
    return model_classes.pydantic_from(name, parts)


def _decode_attrs(parts: list[Any]) -> Steps:
    return model_classes.attrs_from(parts[0], (yield from _decode_dict(parts[1])))


_DECODERS: dict[str, Callable[[Any], Any]] = {
    **builtin_types.DECODERS,
    **library_types.DECODERS,
    "$tuple": _decode_to(tuple),
    "$set": _decode_to(set),
    "$frozenset": _decode_to(frozenset),
    "$dict": _decode_pairs,
    "$enum": class_references.enum_from,
    "$namedtuple": _decode_namedtuple,
    "$dataclass": _decode_dataclass,
    "$attrs": _decode_attrs,
    "$pydantic": _decode_pydantic,
}
"""Tag -> function that returns the value, or a generator for `walk`, given what follows the tag."""
