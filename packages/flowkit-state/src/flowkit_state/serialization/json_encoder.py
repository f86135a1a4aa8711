"""Encoding of values as JSON trees, type included: `json_decoder.decode` restores them.

What JSON supports is written as itself. Everything else is an object with one key that begins with `$`, the tag of its
type: `{"$tuple": [1, 2]}`. A dictionary that JSON does not support (with keys that are not text, or that begin with
`$`) is `{"$dict": [[key, value], ...]}`. So no value can be mistaken for a tag. `$own` is the tag of values that a
serializer of the user has dumped, `$data` that of values of data libraries, such as NumPy arrays. Their bytes are not
part of the tree: it refers to them by number.
"""

from __future__ import annotations

from base64 import b64encode
from enum import Enum
from math import isfinite

from flowkit_state.errors import UnsupportedValueError, short_repr
from flowkit_state.serialization import class_references, model_classes
from flowkit_state.serialization.builtin_types import ENCODERS, encode_str
from flowkit_state.serialization.class_references import RefusedError
from flowkit_state.serialization.data_types.forms import Composite, form_of
from flowkit_state.serialization.json_text import dumps
from flowkit_state.serialization.library_types import encoder_for
from flowkit_state.serialization.trampoline import MAX_DEPTH, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from flowkit_state.serialization.data_types.forms import Buffer, Form
    from flowkit_state.serialization.serializer_protocol import Serializer
    from flowkit_state.serialization.trampoline import Steps

_HINT = (
    'Convert it to a supported type first, or use StateManager(..., serializer="pickle"), or a serializer for its type.'
)
_BUILTINS = (str, bytes, bytearray, int, float, complex, tuple, list, dict, set, frozenset)
_PYDANTIC_STEPS = (".model_extra", ".model_fields_set", ".__pydantic_private__")
_SHORT = 1 << 63
_MAX_INLINE = 1 << 14  # bytes of a serializer of the user that are part of the tree
_MAX_REPEATS = 5_000_000  # an object is written once per reference, so that [a, a] nested sixty times has no end


def encode(
    value: object,
    *,
    key: str | None = None,
    root: str = "value",
    serializers: Sequence[Serializer] = (),
    parts: list[list[Buffer]] | None = None,
) -> Any:
    """Return the JSON tree of `value`.

    Args:
        value: any value.
        key: the key of the entry, for the error.
        root: what the error calls `value`.
        serializers: the serializers of the user, for other types than those that are supported here.
        parts: receives the bytes of values of data libraries; `None`: such values are refused.

    Raises:
        UnsupportedValueError: the value contains an object that could not be restored exactly.
    """
    encoder = _Encoder(root, serializers, parts)
    try:
        return walk(encoder.expand, value, max_depth=MAX_DEPTH)
    except RefusedError as refused:
        reason, hint = refused.args
    except RecursionError:
        reason = f"and is nested more than {MAX_DEPTH} levels deep"
        hint = 'Store a flatter form of the value, or use StateManager(..., serializer="pickle").'
    cls = type(encoder.current)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    path = encoder.path if len(encoder.path) <= 12 else [*encoder.path[:6], "...", *encoder.path[-6:]]
    raise UnsupportedValueError(key, "".join(path), name, reason, hint)


def _is_plain_row(row: dict[Any, Any]) -> bool:
    """Return whether a dictionary is its own JSON form. This shortcut applies to most rows of data."""
    for key in row:
        if type(key) is not str or not key.isascii() or key.startswith("$"):
            return False
    for value in row.values():
        kind = type(value)
        if kind is str:
            plain = value.isascii()
        elif kind is float:
            plain = isfinite(value)
        elif kind is int:
            plain = -_SHORT < value < _SHORT
        else:
            plain = value is None or kind is bool
        if not plain:
            return False
    return True


class _Encoder:
    """One traversal of one value.

    Attributes:
        path: the steps from the root to the current object.
        current: the current object.
    """

    def __init__(self, root: str, serializers: Sequence[Serializer], parts: list[list[Buffer]] | None) -> None:
        self._serializers = serializers
        self._parts = parts
        self.path = [root]
        self.current: object = None
        self._ancestors: set[int] = set()  # ids of the containers of the current object
        self._seen: set[int] = set()  # ids of all containers so far
        self._repeats = 0

    def expand(self, value: Any) -> Any:
        self.current = value
        cls = type(value)
        leaf = ENCODERS.get(cls)
        if leaf is not None:
            return leaf(value)
        container = _CONTAINERS.get(cls)
        if container is None:
            return self._other(value)
        self._check_references(value)
        return container(self, value)

    def _check_references(self, value: object) -> None:
        address = id(value)
        if address in self._ancestors:
            raise RefusedError("and contains itself", "Remove the reference cycle first.")
        if address in self._seen:
            self._repeats += 1
            if self._repeats > _MAX_REPEATS:
                raise RefusedError(
                    f"and is referenced more than {_MAX_REPEATS:,} times", "Store each shared object once."
                )
        self._seen.add(address)

    def _items(self, values: Iterable[Any]) -> Steps:
        out = []
        for index, item in enumerate(values):
            leaf = ENCODERS.get(type(item))
            if leaf is not None:
                out.append(leaf(item))
                continue
            if type(item) is dict and _is_plain_row(item):
                out.append(item)
                continue
            self.path.append(f"[{index}]")
            out.append((yield item))
            self.path.pop()
        return out

    def _list(self, value: Any) -> Steps:
        self._ancestors.add(id(value))
        out = yield from self._items(value)
        self._ancestors.discard(id(value))
        return out

    def _tagged(self, tag: str, value: Any) -> Steps:
        return {tag: (yield from self._list(value))}

    def _unordered(self, tag: str, value: Any) -> Steps:
        members = list(value)
        kinds = {type(member) for member in members}
        if kinds <= {int} or kinds <= {str}:  # sorted, so that equal sets have equal forms in every process
            return {tag: [ENCODERS[type(member)](member) for member in sorted(members)]}
        out = yield from self._list(members)
        return {tag: sorted(out, key=dumps)}

    def _dict(self, value: dict[Any, Any]) -> Steps:
        self._ancestors.add(id(value))
        pairs = list(value.items())
        if all(type(key) is str and not key.startswith("$") and encode_str(key) is key for key, _ in pairs):
            plain = {}
            for key, item in pairs:
                leaf = ENCODERS.get(type(item))
                plain[key] = leaf(item) if leaf is not None else (yield from self._child(f"[{short_repr(key)}]", item))
            self._ancestors.discard(id(value))
            return plain
        out = []
        for key, item in pairs:
            encoded = yield from self._child(f" key {short_repr(key)}", key)
            out.append([encoded, (yield from self._child(f"[{short_repr(key)}]", item))])
        self._ancestors.discard(id(value))
        return {"$dict": out}

    def _child(self, step: str, item: Any) -> Steps:
        self.path.append(step)
        encoded = yield item
        self.path.pop()
        return encoded

    def _other(self, value: Any) -> Any:
        cls = type(value)
        for serializer in self._serializers:
            if isinstance(value, serializer.type):
                return _encode_custom(value, serializer, self._parts)
        form = None if self._parts is None else form_of(cls)
        if form is not None:
            return self._data(form, value)
        library = encoder_for(cls)
        if library is not None:
            return library(value)
        if isinstance(value, Enum):
            return {"$enum": class_references.enum_parts(value)}
        if class_references.is_namedtuple(cls):
            self._check_references(value)
            return self._namedtuple(value)
        if class_references.is_dataclass(cls) and not isinstance(value, type):
            self._check_references(value)
            return self._dataclass(value)
        if model_classes.is_attrs_class(cls):
            self._check_references(value)
            return self._fields("$attrs", value, model_classes.attrs_fields(value))
        if model_classes.is_pydantic_model(cls):
            self._check_references(value)
            return self._pydantic(value)
        for builtin in _BUILTINS:
            if issubclass(cls, builtin):
                hint = f'Convert it first, for example with {builtin.__name__}(...), or use serializer="pickle".'
                reason = f"a subclass of {builtin.__name__}, and would be restored as a plain {builtin.__name__}"
                raise RefusedError(reason, hint)
        if (cls.__module__ or "").partition(".")[0] in ("numpy", "pandas"):
            hint = 'Convert it first, for example with .tolist() or .to_dict(), or use serializer="pickle".'
            raise RefusedError("which cannot be restored exactly", hint)
        raise RefusedError("which cannot be restored exactly", _HINT)

    def _namedtuple(self, value: Any) -> Steps:
        fields = class_references.namedtuple_fields(value)
        name = class_references.reference(type(value))
        return {"$namedtuple": [name, list(fields), (yield from self._list(value))]}

    def _dataclass(self, value: Any) -> Steps:
        return self._fields("$dataclass", value, class_references.dataclass_fields(value))

    def _fields(self, tag: str, value: Any, fields: dict[str, Any]) -> Steps:
        name = class_references.reference(type(value))
        self._ancestors.add(id(value))
        out = {}
        for field, item in fields.items():
            out[field] = yield from self._child(f".{field}", item)
        self._ancestors.discard(id(value))
        return {tag: [name, out]}

    def _pydantic(self, value: Any) -> Steps:
        fields, *rest = model_classes.pydantic_parts(value)
        name, form = (yield from self._fields("$pydantic", value, fields))["$pydantic"]
        self._ancestors.add(id(value))
        encoded = []
        for step, part in zip(_PYDANTIC_STEPS, rest, strict=True):
            encoded.append((yield from self._child(step, part)))
        self._ancestors.discard(id(value))
        return {"$pydantic": [name, form, *encoded]}

    def _data(self, form: Form, value: Any) -> Any:
        """Encode a value of a data library."""
        if isinstance(form, Composite):
            return self._composite(form, value)
        parts = self._parts
        if parts is None:
            raise RefusedError("which cannot be stored here", "Store it as a value.")
        parts.append([*form.dump(value)])
        return {"$data": [form.name, len(parts) - 1]}

    def _composite(self, form: Composite, value: Any) -> Steps:
        self._check_references(value)
        self._ancestors.add(id(value))
        encoded = yield [*form.reduce(value)]
        self._ancestors.discard(id(value))
        return {"$data": [form.name, encoded]}


def _encode_custom(value: Any, serializer: Serializer, parts: list[list[Buffer]] | None) -> Any:
    """Return the form of a value, made by a serializer of the user."""
    try:
        data = serializer.dump(value)
    except Exception as error:
        reason = f"which its serializer {serializer.name!r} failed to dump ({type(error).__name__}: {error})"
        raise RefusedError(reason, "Fix the serializer.") from error
    if type(data) is not bytes:
        reason = f"and its serializer {serializer.name!r} returned a {type(data).__name__}"
        raise RefusedError(reason, "dump() of a serializer must return bytes.")
    if parts is None or len(data) <= _MAX_INLINE:
        return {"$own": [serializer.name, b64encode(data).decode("ascii")]}
    parts.append([data])
    return {"$own": [serializer.name, len(parts) - 1]}


_CONTAINERS: dict[type, Callable[[_Encoder, Any], Steps]] = {
    list: _Encoder._list,
    tuple: lambda encoder, value: encoder._tagged("$tuple", value),
    set: lambda encoder, value: encoder._unordered("$set", value),
    frozenset: lambda encoder, value: encoder._unordered("$frozenset", value),
    dict: _Encoder._dict,
}
"""Start to encode a container of each type; no attribute of the encoder, because that would be a reference cycle."""
