"""The content of a value as a JSON tree, the same in every process; the code in it by its label.

This reaches further than what a store keeps, for nothing has to come back: cycles, subclasses, partial functions. What
has no content to write down is refused, never guessed.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict, deque
from enum import Enum
from hashlib import sha256
from math import isfinite
from threading import Lock

from flowkit_state.errors import UnsupportedValueError, short_repr
from flowkit_state.fingerprint import stdlib_types
from flowkit_state.fingerprint.provenance import of_module
from flowkit_state.module_names import named_label
from flowkit_state.serialization import class_references
from flowkit_state.serialization.json_encoder import encode
from flowkit_state.serialization.json_text import dumps
from flowkit_state.serialization.trampoline import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from flowkit_state.fingerprint.provenance import Foreign
    from flowkit_state.serialization.serializer_protocol import Serializer
    from flowkit_state.serialization.trampoline import Steps

STRICT, NORMAL, LENIENT, FIXED = range(4)
"""How much of a value counts. STRICT: all, as for inputs. NORMAL: not what has no content, such as a lock. LENIENT:
what cannot be written down counts by its type. FIXED: and what a program may change as it goes, lists and objects,
counts as it was when this process first looked at it.
"""

_MOST_SEEN = 1024
_MOST_REPEATS = 5_000_000  # [a, a] sixty deep has no end
_SIMPLE = frozenset([type(None), bool, int, float, complex, str, bytes])
_PLAIN: dict[type, Callable[[Any], Any]] = {  # what an instance of a subclass is without that
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


class Content:
    """Writes down values.

    Args:
        refer: returns the label of a function, a class or a module, and sees to it that it is described; None for
            anything else.
        note: is told of foreign code that a value belongs to.
        changed: addresses of objects that count as they were when this process first looked at them.
        own: the user's serializers: what they make of a value is its content.

    Attributes:
        missed: what the last tree does not tell of, where that was asked for: the first place, and its type.
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
        self.missed = ""
        self._path: list[str] = []
        self._mode = NORMAL
        self._culprit: object = None
        self._open: dict[int, int] = {}
        self._seen: set[int] = set()
        self._repeats = 0
        self._lenient = 0

    def tree(self, value: object, root: str, mode: int, hint: str) -> Any:
        """Return the tree of `value`. Raises `UnsupportedValueError`, which says where inside `root`, and the hint."""
        self._path, self._mode, self._open, self._seen, self._repeats, self._lenient = [root], mode, {}, set(), 0, 0
        self.missed = ""
        try:
            return walk(self._expand, value)
        except class_references.RefusedError as refused:
            reason = refused.args[0]
        except Exception as error:  # a proxy of nothing yet, or what another thread is changing
            if mode in (LENIENT, FIXED):
                self._miss()
                return {"of type": type_name(type(value))}
            reason = f"and cannot be looked into ({type(error).__name__}: {error})"
        raise UnsupportedValueError(None, self._place(), type_name(type(self._culprit)), reason, hint)

    def _place(self) -> str:
        return "".join(self._path if len(self._path) <= 12 else [*self._path[:6], "...", *self._path[-6:]])

    def _miss(self) -> None:
        cls = type(self._culprit)
        if self._mode == FIXED and not self.missed and not stdlib_types.is_of_process(cls):
            self.missed = f"{self._place()} is of type {type_name(cls)}"

    def _expand(self, value: Any) -> Any:
        cls = type(value)
        if cls in _SIMPLE:
            return _simple(value)
        self._culprit = value
        state = self._mode == FIXED or (id(value) in self._changed and self._mode != STRICT)
        flat = _flat(cls, value)
        if flat is not None:
            return _as_first_seen(value, flat) if state and cls is not tuple else flat
        label = self._refer(value)
        if label is not None:
            return {"code": label}
        if id(value) in self._open:
            return {"again": len(self._open) - self._open[id(value)]}
        self._repeats += id(value) in self._seen
        if self._repeats > _MOST_REPEATS:
            raise class_references.RefusedError("and is reached by millions of ways")
        self._seen.add(id(value))
        return self._inside(cls, value, state)

    def _inside(self, cls: type, value: object, state: bool) -> Steps:
        """Write `value` down, and know meanwhile that this is where we are; what is in a `state` is never refused."""
        self._open[id(value)] = len(self._open)
        self._lenient += state
        written = self._write(cls, value)
        out = written if not hasattr(written, "send") else (yield from written)
        self._lenient -= state
        del self._open[id(value)]
        return _as_first_seen(value, out) if state else out

    def _write(self, cls: type, value: Any) -> Any:
        for serializer in self._own:
            if isinstance(value, serializer.type):
                return self._serialized(serializer, value)
        name = stdlib_types.name_of(cls)
        writer = _WRITERS.get(name)
        if writer is not None:
            return writer(self, value)
        if self._mode != STRICT and (name in _WITHOUT_CONTENT or any(value is getattr(sys, s) for s in _STREAMS)):
            return {"of type": name}
        if self._mode == FIXED and stdlib_types.is_moving(cls):
            content = stdlib_types.moving(value)
            return {"of type": name} if content is None else {"kind": name, "items": encode(content)}
        if isinstance(value, Enum):
            return self._parts(cls, [value.name, value.value])
        foreign = of_module(cls.__module__)
        if foreign is None or class_references.is_namedtuple(cls):
            return self._object(cls, value)
        return self._foreign(cls, value)

    def _serialized(self, serializer: Serializer, value: Any) -> Any:
        try:
            return {"own": [serializer.name, sha256(serializer.dump(value)).hexdigest()]}
        except Exception as error:
            return self._refuse(f"which its serializer {serializer.name!r} failed to dump ({error})")

    def _foreign(self, cls: type, value: Any) -> Any:
        """Write down what is of a class of the standard library or of a package."""
        self._note(of_module(cls.__module__))
        if cls.__module__ == "typing" or cls.__qualname__ in ("GenericAlias", "UnionType"):
            return self._typing(value)
        library = _by_library(value, self._mode)
        if library is not None:
            return library
        if class_references.is_dataclass(cls):
            fields = class_references.dataclass_fields(value)
            return self._parts(cls, list(fields.values()), [f".{field}" for field in fields])
        try:
            return encode(value)
        except UnsupportedValueError as error:
            if self._may_be_data() and stdlib_types.is_data(cls):
                return self._object(cls, value, error.reason)
            return self._refuse(error.reason)

    def _may_be_data(self) -> bool:
        """Return whether what is built on the standard library is looked into.

        Not as an input, where it may be a handle; nor where its type alone has always been enough.
        """
        return self._mode in (NORMAL, FIXED)

    def _method(self, value: Any) -> Steps:
        return self._items([value.__self__], {"method": value.__qualname__})

    def _object(self, cls: type, value: Any, reason: str = "") -> Any:
        """Write down an instance of a class of the project, or of one like that: its class, and all that it holds.

        As an input, only one that is data: any other may be a handle, to something that is not seen in it.
        """
        if self._mode == STRICT and not (class_references.is_dataclass(cls) or class_references.is_namedtuple(cls)):
            return self._refuse("a class that is neither a dataclass nor a named tuple nor an enum")
        base = next((base for base in _PLAIN if isinstance(value, base)), object)
        slots = class_references._slots(cls)
        slots.pop("__dict__", None)
        foreign = [parent for parent in cls.__mro__ if parent not in (object, base) and _is_foreign(parent)]
        for parent in foreign:
            if not (self._may_be_data() and stdlib_types.is_data(parent) and stdlib_types.holds_all(cls, base, slots)):
                return self._refuse(reason or f"and built on {type_name(parent)}, which may hold more than can be seen")
        held = stdlib_types.held(value, slots)
        for name in [name for name in held if _is_lazy(cls, name)]:
            del held[name]
        if foreign:
            held = dict(sorted(held.items()))
        parts, steps = [*held.values()], [f".{name}" for name in held]
        if base is not object:
            parts.append(_PLAIN[base](value))
            steps.append("")
        if reason and not parts:
            return {"of type": type_name(cls)}
        return self._parts(cls, parts, steps, list(held))

    def _parts(
        self, cls: type, parts: list[Any], steps: list[str] | None = None, names: list[str] | None = None
    ) -> Steps:
        out = yield from self._items(parts, {}, steps)
        return {"class": self._class(cls), "names": names, **out}

    def _class(self, cls: type) -> str:
        return self._refer(cls) or type_name(cls)

    def _items(self, values: Iterable[Any], head: dict[str, Any], steps: list[str] | None = None) -> Steps:
        out = []
        for index, item in enumerate([*values]):
            if type(item) in _SIMPLE:
                out.append(_simple(item))
                continue
            flat = _flat(type(item), item) if self._mode == STRICT else None
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

    def _refuse(self, reason: str) -> Any:
        if self._mode in (LENIENT, FIXED) or self._lenient:
            self._miss()
            return {"of type": type_name(type(self._culprit))}
        raise class_references.RefusedError(reason)


_seen: dict[tuple[int, str | None], tuple[object, Any]] = {}
_seen_guard = Lock()


def _as_first_seen(value: object, tree: Any) -> Any:
    """Return what was written down of `value` when it was first seen in this process, of the last objects that were.

    They are kept alive, so that no new object is taken for an old one at its address.
    """
    return first_seen(value, None, tree)


def first_seen(value: object, name: str | None, found: Any) -> Any:
    """Return what was `found` of `value` under a name when that was looked at for the first time."""
    with _seen_guard:
        known = _seen.pop((id(value), name), (value, found))
        _seen[id(value), name] = known
        if len(_seen) > _MOST_SEEN:
            del _seen[next(iter(_seen))]
        return known[1]


def _simple(value: Any) -> Any:
    """Write down what has no parts, most of it as itself."""
    cls = type(value)
    if cls is str:
        return value if value.isascii() else encode(value)
    if cls is int:
        return value if value.bit_length() < 64 else encode(value)
    if cls is float:
        return value if isfinite(value) else encode(value)
    return value if value is None or cls is bool else encode(value)


def _flat(cls: type, value: Any) -> Any:
    """Write down a container of what has no parts, as most of those are that data consists of; None if it is none."""
    if cls is dict:
        if _SIMPLE.issuperset(map(type, value.values())) and _SIMPLE.issuperset(map(type, value)):
            return {"dict": [[_simple(key), _simple(item)] for key, item in value.items()]}
    elif (cls is list or cls is tuple) and _SIMPLE.issuperset(map(type, value)):
        return {cls.__name__: [*map(_simple, value)]}
    return None


def _is_foreign(cls: type) -> bool:
    """Return whether a class of others may hold something in the instances of its subclasses."""
    return of_module(cls.__module__) is not None and vars(cls).get("__slots__") != ()


def _is_lazy(cls: type, name: str) -> bool:
    """Return whether the attribute is worked out from the others, sooner or later."""
    return type(getattr(cls, name, None)).__qualname__ == "cached_property"


def _by_library(value: Any, mode: int) -> Any:
    """Write down what belongs to logging or numpy, if these are loaded at all."""
    logging, numpy = sys.modules.get("logging"), sys.modules.get("numpy")
    if logging is not None and isinstance(value, logging.Logger) and mode != STRICT:
        return {"logger": value.name}
    if numpy is None:
        return None
    if isinstance(value, numpy.dtype):
        return {"dtype": repr(value.descr if value.names else value.str)}
    if (type(value) is numpy.ndarray or isinstance(value, numpy.generic)) and not value.dtype.hasobject:
        kind = repr(value.dtype.descr if value.dtype.names else value.dtype.str)
        return {"numpy": [type(value).__name__, kind, list(value.shape), sha256(value.tobytes()).hexdigest()]}
    return None


def _array(content: Content, value: Any) -> Any:
    return {"array": [value.typecode, encode(value.tobytes())]}


def _encoded(content: Content, value: Any) -> Any:
    return encode(value)


_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
_WITHOUT_CONTENT = frozenset(
    [
        "builtins.object",
        "dataclasses._MISSING_TYPE",
        "_thread.lock",
        "_thread.RLock",
        "_thread._local",
        "threading.Event",
        "threading.Condition",
        "threading.Semaphore",
        "threading.BoundedSemaphore",
        "threading.Barrier",
        "asyncio.locks.Lock",
        "asyncio.locks.Event",
        "asyncio.locks.Condition",
        "asyncio.locks.Semaphore",
        "asyncio.locks.BoundedSemaphore",
        "_contextvars.ContextVar",
    ]
)


def _made_of(parts: Callable[[Any], list[Any]]) -> Callable[[Content, Any], Any]:
    return lambda content, value: content._items(parts(value), {"kind": type(value).__name__})


def _holding(*names: str) -> Callable[[Content, Any], Any]:
    def write(content: Content, value: Any) -> Steps:
        parts = [getattr(value, name) for name in names]
        return content._items(parts, {"kind": type(value).__name__}, [f".{name}" for name in names])

    return write


_WRITERS: dict[str, Callable[[Content, Any], Any]] = {
    "builtins.list": Content._sequence,
    "builtins.tuple": Content._sequence,
    "builtins.set": Content._set,
    "builtins.frozenset": Content._set,
    "builtins.dict": Content._dict,
    "builtins.mappingproxy": Content._dict,
    "builtins.bytearray": _encoded,
    "builtins.slice": _holding("start", "stop", "step"),
    "builtins.ellipsis": lambda content, value: {"name": "..."},
    "builtins.NotImplementedType": lambda content, value: {"name": "NotImplemented"},
    "builtins.builtin_function_or_method": Content._method,
    "builtins.method-wrapper": Content._method,
    "builtins.method": _holding("__func__", "__self__"),
    "builtins.property": _holding("fget", "fset", "fdel"),
    "builtins.staticmethod": _holding("__func__"),
    "builtins.classmethod": _holding("__func__"),
    "collections.OrderedDict": Content._dict,
    "collections.defaultdict": Content._dict,
    "collections.Counter": Content._dict,
    "collections.deque": Content._deque,
    "collections.ChainMap": _holding("maps"),
    "types.SimpleNamespace": _holding("__dict__"),
    "logging.LoggerAdapter": _holding("logger", "extra"),
    "flowkit_log._logger.FlowkitLogger": _holding("logger", "context"),
    "argparse.Namespace": Content._attributes,
    "optparse.Values": Content._attributes,
    "string.Template": Content._attributes,
    "collections.UserDict": Content._attributes,
    "collections.UserList": Content._attributes,
    "collections.UserString": Content._attributes,
    "configparser.ConfigParser": _made_of(stdlib_types.parser),
    "configparser.RawConfigParser": _made_of(stdlib_types.parser),
    "configparser.SectionProxy": _made_of(stdlib_types.section),
    "decimal.Context": _made_of(stdlib_types.context),
    "_json.Scanner": _holding(
        "strict", "object_hook", "object_pairs_hook", "parse_float", "parse_int", "parse_constant"
    ),
    "_struct.Struct": _holding("format"),
    "array.array": _array,
    "re.Pattern": _holding("pattern", "flags"),
    "functools.partial": Content._partial,
    "functools.partialmethod": Content._partial,
    "functools.cached_property": _holding("func"),
    "functools.singledispatchmethod": _holding("func", "dispatcher"),
    "operator.itemgetter": Content._reduced,
    "operator.attrgetter": Content._reduced,
    "operator.methodcaller": Content._reduced,
}
