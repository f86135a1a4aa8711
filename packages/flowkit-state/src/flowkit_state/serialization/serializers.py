"""From a value to what a store keeps, and back: JSON text by default, the bytes of a pickle when the user asks.

What JSON text cannot carry may have serializers of its own, objects that the user hands to `StateManager`.
"""

from __future__ import annotations

from types import FunctionType, MethodType

from flowkit_state.errors import (
    RestoreError,
    StateOptionError,
    StateOptionTypeError,
    UnsupportedValueError,
)
from flowkit_state.serialization.json_decoder import decode
from flowkit_state.serialization.json_encoder import encode
from flowkit_state.serialization.json_text import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from flowkit_state.serialization.serializer_protocol import Serializer, SerializerOption


class Serialization:
    """How one store keeps values.

    Args:
        choice: what the user gave as `serializer`.
        check_trust: raises `UntrustedPickleError` if another user could have written the stored pickles. It is called
            before a pickle is loaded.

    Raises:
        StateOptionError, StateOptionTypeError: that cannot be meant.
    """

    def __init__(self, choice: SerializerOption, check_trust: Callable[[], None]) -> None:
        self.choice = choice
        self._check_trust = check_trust
        self.pickled = isinstance(choice, str) and choice == "pickle"
        own: Sequence[Any] = ()
        if isinstance(choice, str):
            if choice not in ("json", "pickle"):
                raise StateOptionError("serializer", choice, '"json" or "pickle", or serializer objects')
        else:
            own = choice if isinstance(choice, (list, tuple)) else (choice,)
        self.own = tuple(_checked(serializer) for serializer in own)
        self._named = {serializer.name: serializer for serializer in self.own}
        if len(self._named) < len(self.own):
            raise StateOptionError("serializer", choice, "serializers of different names")

    def dump(self, key: str | None, value: Any, root: str = "value") -> str | bytes:
        """Return what to keep of `value`. Raises `UnsupportedValueError`, which calls it `root`."""
        if self.pickled:
            return _to_pickle(key, value, root)
        kind = type(value)
        if value is None or kind is bool:
            return _WORDS[value]
        if kind is int and -_SHORT < value < _SHORT:
            return str(value)
        return dumps(encode(value, key=key, root=root, own=self.own))

    def load(self, key: str | None, payload: str | bytes) -> Any:
        """Return the value kept as `payload`.

        Raises `RestoreError`, and `UntrustedPickleError` where another user could have written the pickle.
        """
        if isinstance(payload, str):
            return decode(loads(payload), key=key, own=self._named)
        if not self.pickled:
            way = 'open the file with StateManager(..., serializer="pickle") if you trust everyone who could write it.'
            raise RestoreError(key, f"it is a pickle, and loading a pickle can run any code; {way}")
        self._check_trust()
        import pickle

        try:
            return pickle.loads(payload)
        except Exception as error:
            raise RestoreError(key, f"its pickle cannot be loaded here ({type(error).__name__}: {error}).") from error

    def check_trust(self) -> None:
        """Raise `UntrustedPickleError` if values are stored as pickles that another user could have written."""
        if self.pickled:
            self._check_trust()

    def check_result(self, task: str, function: Callable[..., Any]) -> None:
        """Raise `UnsupportedValueError` if the annotation of a function tells that its result cannot be kept."""
        plain: Any = function.__func__ if isinstance(function, MethodType) else function
        if not isinstance(plain, FunctionType):  # a mock or a remote proxy has every attribute
            return
        annotation = plain.__annotations__.get("return")
        if annotation is None:
            return
        root = f'the result of task "{task}"'
        for found in _classes_in(annotation, function):
            name = f"{found.__module__}.{found.__qualname__}"
            if any(issubclass(found, serializer.type) for serializer in self.own):
                continue
            if name.startswith(_LAZY):
                reason = "as its annotation says, which nothing can keep"
                raise UnsupportedValueError(None, root, name, reason, "Return a list, or other plain data.")
            if not self.pickled and name.partition(".")[0] in _FOREIGN:
                reason = "as its annotation says, which JSON cannot keep faithfully"
                way = 'Use serializer="pickle" for the StateManager, a serializer for this type, or return plain data.'
                raise UnsupportedValueError(None, root, name, reason, way)


_WORDS = {None: "null", True: "true", False: "false"}
_SHORT = 1 << 53
_LAZY = (
    "collections.abc.Generator",
    "collections.abc.Iterator",
    "collections.abc.AsyncIterator",
    "collections.abc.AsyncGenerator",
    "collections.abc.Coroutine",
    "collections.abc.Awaitable",
    "collections.abc.Callable",
    "_io.",
    "io.",
    "types.GeneratorType",
    "types.FunctionType",
    "types.CoroutineType",
    "_thread.",
)
_FOREIGN = ("numpy", "pandas", "polars", "pyarrow", "torch", "scipy", "xarray")


def to_json(key: str | None, value: object, root: str = "value") -> str:
    """Return the JSON text of `value`. Raises `UnsupportedValueError`."""
    return dumps(encode(value, key=key, root=root))


def _to_pickle(key: str | None, value: object, root: str) -> bytes:
    """Return the pickle of `value`, having seen that it can be loaded. Raises `UnsupportedValueError`."""
    import pickle

    try:
        payload = pickle.dumps(value, protocol=5)
        pickle.loads(payload)
    except Exception as error:
        reason = f"which pickle cannot keep ({type(error).__name__}: {error})"
        raise UnsupportedValueError(
            key, root, type(value).__qualname__, reason, "Keep something simpler that it can be made from."
        ) from error
    return payload


def _classes_in(annotation: Any, function: Any) -> Iterator[type]:
    """Yield the classes that are named in an annotation, as far as that can be told."""
    if isinstance(annotation, str):
        try:
            names = getattr(function, "__globals__", {})
            # most are a name alone; the others are the program's own text
            annotation = names[annotation] if annotation in names else eval(annotation, names)  # noqa: S307
        except Exception:  # a name for type checkers only, or a newer syntax
            return
    todo = [annotation]
    while todo:
        part = todo.pop()
        origin = getattr(part, "__origin__", None)
        found = part if origin is None else origin
        if isinstance(found, type):
            yield found
        if origin is None or not str(getattr(found, "__module__", "")).startswith("collections.abc"):
            todo += getattr(part, "__args__", ())


def _checked(serializer: Any) -> Serializer:
    allowed = '"json" or "pickle", or serializer objects with name, type, dump(value) -> bytes and load(data)'
    if isinstance(serializer, type) or not all(hasattr(serializer, part) for part in ("name", "type", "dump", "load")):
        raise StateOptionTypeError("serializer", serializer, allowed)
    if type(serializer.name) is not str or not isinstance(serializer.type, type):
        raise StateOptionTypeError("serializer", serializer, f"{allowed}; its name is a str, its type a class")
    return serializer  # type: ignore[no-any-return]
