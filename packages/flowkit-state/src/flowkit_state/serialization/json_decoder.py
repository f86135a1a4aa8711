"""Decoding of JSON trees: `decode` returns the value that `json_encoder.encode` was given."""

from __future__ import annotations

from base64 import b64decode

from flowkit_state.errors import RestoreError, short_repr
from flowkit_state.serialization import builtin_types, class_references, library_types
from flowkit_state.serialization.class_references import NotFoundError
from flowkit_state.serialization.trampoline import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from flowkit_state.serialization.serializer_protocol import Serializer
    from flowkit_state.serialization.trampoline import Steps


def decode(tree: Any, *, key: str | None = None, serializers: Mapping[str, Serializer] | None = None) -> Any:
    """Return a new object for a JSON tree.

    Args:
        tree: what `encode` returned.
        key: the key of the entry, for the error.
        serializers: the serializers of the user, by name.

    Raises:
        RestoreError: the tree is damaged, or a class or a serializer is missing in this process.
    """

    def expand(part: Any) -> Any:
        if type(part) is dict and len(part) == 1 and "$own" in part:
            return _decode_custom(part["$own"], serializers or {})
        return _expand(part)

    try:
        return walk(expand, tree)
    except NotFoundError as error:
        raise RestoreError(key, str(error)) from None
    except Exception as error:  # the constructors raise many kinds of errors for damaged trees
        raise RestoreError(key, f"the stored entry is damaged ({type(error).__name__}: {error}).") from error


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


def _decode_custom(parts: list[str], serializers: Mapping[str, Serializer]) -> Any:
    name, text = parts
    if name not in serializers:
        hint = "open the file with StateManager(..., serializer=...) that has it."
        raise NotFoundError(
            f"it was stored by the serializer {short_repr(name)}, which this StateManager does not have; {hint}"
        )
    try:
        return serializers[name].load(b64decode(text, validate=True))
    except Exception as error:
        reason = f"its serializer {short_repr(name)} cannot load it ({type(error).__name__}: {error})."
        raise NotFoundError(reason) from error


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
}
"""Tag -> function that returns the value, or a generator for `walk`, given what follows the tag."""
