"""The content of a value as a JSON tree, the same in every process. Code in it is represented by its label.

A list, tuple or dict of values without parts, the most frequent content, is encoded in one step: `{"list": [...]}`. Any
other list becomes `{"kind": "list", "items": [...]}`, one step per item, because items may be nested deeply. Equal
values have the same encoding: which of the two it is depends on the items alone.

More types are supported than in a store, because nothing is restored: cycles, subclasses, partial functions. A value
whose content cannot be compared is refused or counts by its type, as the `Policy` determines.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict, deque
from enum import Enum
from hashlib import sha256
from math import isfinite
from threading import Lock

from flowkit_state.errors import UnsupportedValueError, short_repr
from flowkit_state.fingerprint import process_state, stdlib_types
from flowkit_state.fingerprint.policy import CONSTANTS
from flowkit_state.fingerprint.provenance import of_module
from flowkit_state.module_names import named_label
from flowkit_state.serialization import class_references, model_classes
from flowkit_state.serialization.data_types.forms import Binary, form_of
from flowkit_state.serialization.json_encoder import encode
from flowkit_state.serialization.json_text import dumps
from flowkit_state.serialization.trampoline import MAX_DEPTH, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from flowkit_state.fingerprint.policy import Policy
    from flowkit_state.fingerprint.provenance import Foreign
    from flowkit_state.serialization.data_types.forms import Form
    from flowkit_state.serialization.serializer_protocol import Serializer
    from flowkit_state.serialization.trampoline import Steps

FINGERPRINT = "__flowkit_fingerprint__"
"""The method by which a class defines the content of its instances."""

_MAX_SNAPSHOTS = 1024
_MAX_REPEATS = 5_000_000  # an object is written once per reference, so that [a, a] nested sixty times has no end
_SIMPLE = frozenset([type(None), bool, int, float, complex, str, bytes])
_BASES: dict[type, Callable[[Any], Any]] = {  # converters of instances of subclasses to the builtin type
    str: str.__str__,
    bytes: bytes.__bytes__,
    bytearray: lambda value: bytearray.__getitem__(value, slice(None)),
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    list: list.copy,
    OrderedDict: lambda value: OrderedDict(OrderedDict.items(value)),
    defaultdict: lambda value: defaultdict(value.default_factory, dict.copy(value)),
    deque: lambda value: deque(deque.__iter__(value), value.maxlen),
    dict: dict.copy,
    set: lambda value: {*set.__iter__(value)},
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}


def type_name(cls: type) -> str:
    """Return the name of a class, with its module unless that is `builtins`."""
    name: str = cls.__qualname__
    return name if cls.__module__ == "builtins" else f"{named_label(cls.__module__)}.{name}"


class ValueEncoder:
    """Encodes values as trees.

    Args:
        refer: returns the label of a function, a class or a module, and adds it to the components; None for any other
            value.
        note: is called with the package that a value belongs to.
        changed: addresses of objects that count as they were at their first fingerprint in this process.
        own: the user's serializers. The output of a serializer is the content of the value.

    Attributes:
        missed: the first value that the last tree contains by its type alone: its place and its type; empty if there is
            none, or if the policy does not record it.
    """

    def __init__(
        self,
        refer: Callable[[object], str | None],
        note: Callable[[Foreign], None],
        changed: set[int],
        own: Sequence[Serializer] = (),
    ) -> None:
        self._refer = refer
        self._note = note
        self._changed = changed
        self._own = own
        self._start("", CONSTANTS)

    def _start(self, root: str, policy: Policy) -> None:
        self.missed = ""
        self._policy = policy
        self._path = [root]
        self._current: object = None
        self._open: dict[int, int] = {}  # address of a value that is being encoded -> its depth
        self._seen: set[int] = set()
        self._repeats = 0
        self._snapshots = 0  # how many of the open values are snapshots

    def tree(self, value: object, root: str, policy: Policy, hint: str) -> Any:
        """Return the tree of `value`. Raises `UnsupportedValueError`, with the place inside `root` and a hint."""
        self._start(root, policy)
        try:
            return walk(self._expand, value, max_depth=MAX_DEPTH)
        except class_references.RefusedError as refused:
            reason = refused.args[0]
        except Exception as error:  # a proxy without a target, or a value that another thread is changing
            if policy.accepts_opaque:
                self._record_miss()
                return {"of type": type_name(type(value))}
            reason = f"and its attributes cannot be read ({type(error).__name__}: {error})"
        raise UnsupportedValueError(None, self._place(), type_name(type(self._current)), reason, hint)

    def _place(self) -> str:
        return "".join(self._path if len(self._path) <= 12 else [*self._path[:6], "...", *self._path[-6:]])

    def _record_miss(self) -> None:
        cls = type(self._current)
        if self._policy.records_misses and not self.missed and not stdlib_types.is_of_process(cls):
            self.missed = f"{self._place()} is of type {type_name(cls)}"

    def _refuse(self, reason: str) -> Any:
        if self._policy.accepts_opaque or self._snapshots:
            self._record_miss()
            return {"of type": type_name(type(self._current))}
        raise class_references.RefusedError(reason)

    def _refuse_process_state(self, reason: str) -> Any:
        """Refuse a value also in a snapshot: what it gives access to is not what the code has changed."""
        if self._policy.accepts_opaque:
            return {"of type": type_name(type(self._current))}
        raise class_references.RefusedError(reason)

    def _expand(self, value: Any) -> Any:
        cls = type(value)
        if cls in _SIMPLE:
            return _simple(value)
        self._current = value
        policy = self._policy
        is_snapshot = policy.snapshot_mutable or (id(value) in self._changed and not policy.data_only)
        is_snapshot = is_snapshot and cls is not tuple  # only its items can change
        flat = _flat(cls, value)
        if flat is not None:
            return first_seen(value, None, flat) if is_snapshot else flat
        label = self._refer(value)
        if label is not None:
            return {"code": label}
        if id(value) in self._open:
            return {"again": len(self._open) - self._open[id(value)]}
        self._repeats += id(value) in self._seen
        if self._repeats > _MAX_REPEATS:
            raise class_references.RefusedError(f"and is referenced more than {_MAX_REPEATS:,} times")
        self._seen.add(id(value))
        return self._inside(cls, value, is_snapshot)

    def _inside(self, cls: type, value: object, is_snapshot: bool) -> Steps:
        """Encode a value that has parts. Nothing in a snapshot is refused."""
        self._open[id(value)] = len(self._open)
        self._snapshots += is_snapshot
        encoded = self._encode(cls, value)
        out = encoded if not hasattr(encoded, "send") else (yield from encoded)
        self._snapshots -= is_snapshot
        del self._open[id(value)]
        return first_seen(value, None, out) if is_snapshot else out

    def _encode(self, cls: type, value: Any) -> Any:
        for serializer in self._own:
            if isinstance(value, serializer.type):
                return self._serialized(serializer, value)
        if hasattr(cls, FINGERPRINT):
            return self._defined(cls, value)
        if self._policy.refuses_process_state and (reason := process_state.reason(value)):
            return self._refuse_process_state(reason)
        name = stdlib_types.name_of(cls)
        encoder = _ENCODERS.get(name)
        if encoder is not None:
            return encoder(self, value)
        if not self._policy.data_only and (
            name in stdlib_types.SENTINELS or any(value is getattr(sys, stream) for stream in _STREAMS)
        ):
            return {"of type": name}
        if name in stdlib_types.WITHOUT_CONTENT and not self._policy.data_only:
            if self._policy.refuses_process_state:
                return self._refuse("whose state cannot be compared")
            return {"of type": name}
        if self._policy.snapshot_mutable and stdlib_types.is_stateful(cls):
            content = stdlib_types.state(value)
            return {"of type": name} if content is None else {"kind": name, "items": encode(content)}
        if isinstance(value, Enum):
            return self._parts(cls, [value.name, value.value])
        if of_module(cls.__module__) is None or class_references.is_namedtuple(cls):
            return self._object(cls, value)
        return self._foreign(cls, value)

    # Types

    def _serialized(self, serializer: Serializer, value: Any) -> Any:
        try:
            return {"own": [serializer.name, sha256(serializer.dump(value)).hexdigest()]}
        except Exception as error:
            return self._refuse(f"which its serializer {serializer.name!r} failed to dump ({error})")

    def _defined(self, cls: type, value: Any) -> Any:
        """Encode what the class defines as the content of its instances."""
        try:
            content = getattr(cls, FINGERPRINT)(value)
        except Exception as error:
            return self._refuse(f"whose {FINGERPRINT}() failed ({error})")
        is_foreign = of_module(cls.__module__) is not None
        head = {"class": type_name(cls) if is_foreign else self._class(cls)}
        return self._items([content], head, [f".{FINGERPRINT}()"])

    def _foreign(self, cls: type, value: Any) -> Any:
        """Encode an instance of a class of the standard library or of a package."""
        self._note(of_module(cls.__module__))
        if cls.__module__ == "typing" or cls.__qualname__ in ("GenericAlias", "UnionType"):
            return self._typing(value)
        library = self._by_library(value)
        if library is not None:
            return library
        if class_references.is_dataclass(cls):
            fields = class_references.dataclass_fields(value)
            return self._parts(cls, list(fields.values()), [f".{field}" for field in fields])
        if model_classes.is_model(cls):
            return self._object(cls, value)
        try:
            return encode(value)
        except UnsupportedValueError as error:
            if not self._policy.data_only and stdlib_types.is_data(cls):
                return self._object(cls, value)
            return self._refuse(error.reason)

    def _by_library(self, value: Any) -> Any:
        """Encode a value of logging or of a data library, if that is imported; None for any other value."""
        logging, numpy = sys.modules.get("logging"), sys.modules.get("numpy")
        if logging is not None and isinstance(value, logging.Logger) and not self._policy.data_only:
            return {"logger": value.name}
        if numpy is not None and isinstance(value, numpy.dtype):
            return {"dtype": repr(value.descr if value.names else value.str)}
        form = form_of(type(value))
        return None if form is None else self._data(form, value)

    def _data(self, form: Form, value: Any) -> Any:
        """Encode a value of a data library."""
        try:
            if isinstance(form, Binary):
                return {"data": [form.name, form.digest(value)]}
            parts = form.reduce(value)
        except class_references.RefusedError as refused:
            return self._refuse(refused.args[0])
        return self._items(parts, {"data": form.name})

    def _object(self, cls: type, value: Any) -> Any:
        """Encode an object by its class and its attributes, and by its content as an instance of a builtin type."""
        is_model = model_classes.is_model(cls)
        if self._policy.data_only and not (
            is_model or class_references.is_dataclass(cls) or class_references.is_namedtuple(cls)
        ):
            return self._refuse("a class that is neither a dataclass nor a named tuple nor an enum")
        base = next((base for base in _BASES if isinstance(value, base)), object)
        foreign = [parent for parent in cls.__mro__ if parent not in base.__mro__ and _may_have_state(parent)]
        for parent in foreign:
            if is_model and model_classes.has_only_attributes(parent):
                continue
            if self._policy.data_only or not stdlib_types.is_data(parent):
                return self._refuse(f"and derived from {type_name(parent)}, which may have content that cannot be read")
        attributes = class_references.attributes(value)
        for name in [name for name in attributes if _is_lazy(cls, name) or name == model_classes.CACHED_HASH]:
            del attributes[name]
        if foreign:  # the order in which it sets its attributes may differ between versions of Python
            attributes = dict(sorted(attributes.items()))
        parts, steps = [*attributes.values()], [f".{name}" for name in attributes]
        if base is not object:
            parts.append(_BASES[base](value))
            steps.append("")
        return self._parts(cls, parts, steps, list(attributes))

    def _parts(
        self, cls: type, parts: list[Any], steps: list[str] | None = None, names: list[str] | None = None
    ) -> Steps:
        out = yield from self._items(parts, {}, steps)
        return {"class": self._class(cls), "names": names, **out}

    def _class(self, cls: type) -> str:
        return self._refer(cls) or type_name(cls)

    def _items(self, values: Iterable[Any], head: dict[str, Any], steps: list[str] | None = None) -> Steps:
        """Encode values; `steps` are their places in the value that contains them."""
        out = []
        for index, item in enumerate([*values]):
            if type(item) in _SIMPLE:
                out.append(_simple(item))
                continue
            flat = _flat(type(item), item) if self._policy.data_only else None
            if flat is not None:
                out.append(flat)
                continue
            self._path.append(f"[{index}]" if steps is None else steps[index])
            out.append((yield item))
            self._path.pop()
        return {**head, "items": out}

    def _sequence(self, value: Any) -> Steps:
        return self._items(value, {"kind": type(value).__name__})

    def _set(self, value: Any) -> Steps:
        out = yield from self._items(value, {"kind": type(value).__name__})
        out["items"].sort(key=dumps)
        return out

    def _dict(self, value: Any) -> Steps:
        pairs = list(value.items())
        keys = yield from self._items([key for key, _ in pairs], {}, [f" key {short_repr(key)}" for key, _ in pairs])
        items = yield from self._items([item for _, item in pairs], {}, [f"[{short_repr(key)}]" for key, _ in pairs])
        factory = yield getattr(value, "default_factory", None)
        return {"kind": type(value).__name__, "keys": keys, "items": items, "factory": factory}

    def _deque(self, value: Any) -> Steps:
        return self._items([*value, value.maxlen], {"kind": "deque"})

    def _method(self, value: Any) -> Steps:
        return self._items([value.__self__], {"method": value.__qualname__})

    def _partial(self, value: Any) -> Steps:
        parts = [value.func, value.args, value.keywords]
        return self._items(parts, {"kind": type(value).__name__}, [".func", ".args", ".keywords"])

    def _reduced(self, value: Any) -> Steps:
        return self._items(value.__reduce__()[1:], {"kind": type(value).__name__})

    def _attributes(self, value: Any) -> Steps:
        held = dict(sorted(vars(value).items()))
        head = {"kind": type(value).__name__, "names": [*held]}
        return self._items(held.values(), head, [f".{name}" for name in held])

    def _typing(self, value: Any) -> Any:
        parts = getattr(value, "__args__", None)
        if parts is None:
            return {"typing": repr(value)}
        return self._items([getattr(value, "__origin__", None), *parts], {"kind": type(value).__name__})

    def _array(self, value: Any) -> Any:
        return {"array": [value.typecode, encode(value.tobytes())]}


# Snapshots of objects that the program changes. They keep the objects alive, so that no new object gets their address.
_snapshots: dict[tuple[int, str | None], tuple[object, Any]] = {}
_snapshots_lock = Lock()


def first_seen(value: object, name: str | None, found: Any) -> Any:
    """Return the content of `value` (or of its attribute `name`) as it was at the first call for it.

    `found` is stored if this is the first call. Only the last 1024 values are kept.
    """
    with _snapshots_lock:
        known = _snapshots.pop((id(value), name), (value, found))
        _snapshots[id(value), name] = known
        if len(_snapshots) > _MAX_SNAPSHOTS:
            del _snapshots[next(iter(_snapshots))]
        return known[1]


def _simple(value: Any) -> Any:
    """Encode a value without parts, most of them as themselves."""
    cls = type(value)
    if cls is str:
        return value if value.isascii() else encode(value)
    if cls is int:
        return value if value.bit_length() < 64 else encode(value)
    if cls is float:
        return value if isfinite(value) else encode(value)
    return value if value is None or cls is bool else encode(value)


def _flat(cls: type, value: Any) -> Any:
    """Encode a container of values without parts, the most frequent kind in data; None for any other value."""
    if cls is dict:
        if _SIMPLE.issuperset(map(type, value.values())) and _SIMPLE.issuperset(map(type, value)):
            return {"dict": [[_simple(key), _simple(item)] for key, item in value.items()]}
    elif (cls is list or cls is tuple) and _SIMPLE.issuperset(map(type, value)):
        return {cls.__name__: [*map(_simple, value)]}
    return None


def _may_have_state(cls: type) -> bool:
    """Return whether a class of the standard library or of a package may store something in instances of subclasses."""
    return of_module(cls.__module__) is not None and vars(cls).get("__slots__") != ()


def _is_lazy(cls: type, name: str) -> bool:
    """Return whether an attribute is computed from the others when it is first read."""
    return type(getattr(cls, name, None)).__qualname__ == "cached_property"


def _by_parts(parts: Callable[[Any], list[Any]]) -> Callable[[ValueEncoder, Any], Any]:
    return lambda encoder, value: encoder._items(parts(value), {"kind": type(value).__name__})


def _by_attributes(*names: str) -> Callable[[ValueEncoder, Any], Any]:
    def encoded(encoder: ValueEncoder, value: Any) -> Steps:
        parts = [getattr(value, name) for name in names]
        return encoder._items(parts, {"kind": type(value).__name__}, [f".{name}" for name in names])

    return encoded


_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
_ENCODERS: dict[str, Callable[[ValueEncoder, Any], Any]] = {
    "builtins.list": ValueEncoder._sequence,
    "builtins.tuple": ValueEncoder._sequence,
    "builtins.set": ValueEncoder._set,
    "builtins.frozenset": ValueEncoder._set,
    "builtins.dict": ValueEncoder._dict,
    "builtins.mappingproxy": ValueEncoder._dict,
    "builtins.bytearray": lambda _, value: encode(value),
    "builtins.slice": _by_attributes("start", "stop", "step"),
    "builtins.ellipsis": lambda _, value: {"name": "..."},
    "builtins.NotImplementedType": lambda _, value: {"name": "NotImplemented"},
    "builtins.builtin_function_or_method": ValueEncoder._method,
    "builtins.method-wrapper": ValueEncoder._method,
    "builtins.method": _by_attributes("__func__", "__self__"),
    "builtins.property": _by_attributes("fget", "fset", "fdel"),
    "builtins.staticmethod": _by_attributes("__func__"),
    "builtins.classmethod": _by_attributes("__func__"),
    "collections.OrderedDict": ValueEncoder._dict,
    "collections.defaultdict": ValueEncoder._dict,
    "collections.Counter": ValueEncoder._dict,
    "collections.deque": ValueEncoder._deque,
    "collections.ChainMap": _by_attributes("maps"),
    "types.SimpleNamespace": _by_attributes("__dict__"),
    "logging.LoggerAdapter": _by_attributes("logger", "extra"),
    "argparse.Namespace": ValueEncoder._attributes,
    "string.Template": ValueEncoder._attributes,
    "collections.UserDict": ValueEncoder._attributes,
    "configparser.ConfigParser": _by_parts(stdlib_types.parser_content),
    "configparser.RawConfigParser": _by_parts(stdlib_types.parser_content),
    "configparser.SectionProxy": _by_parts(stdlib_types.section_content),
    "decimal.Context": _by_parts(stdlib_types.context_settings),
    "_json.Scanner": _by_attributes(
        "strict", "object_hook", "object_pairs_hook", "parse_float", "parse_int", "parse_constant"
    ),
    "_struct.Struct": _by_attributes("format"),
    "array.array": ValueEncoder._array,
    "re.Pattern": _by_attributes("pattern", "flags"),
    "functools.partial": ValueEncoder._partial,
    "functools.partialmethod": ValueEncoder._partial,
    "functools.cached_property": _by_attributes("func"),
    "functools.singledispatchmethod": _by_attributes("func", "dispatcher"),
    "operator.itemgetter": ValueEncoder._reduced,
    "operator.attrgetter": ValueEncoder._reduced,
    "operator.methodcaller": ValueEncoder._reduced,
}
