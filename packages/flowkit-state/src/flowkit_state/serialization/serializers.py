"""Class `Serialization`: converts values to what a store keeps, JSON text or the bytes of a pickle, and back."""

from __future__ import annotations

from types import FunctionType, MethodType

from flowkit_state.errors import RestoreError, StateOptionError, StateOptionTypeError, UnsupportedValueError
from flowkit_state.serialization.builtin_types import ENCODERS
from flowkit_state.serialization.container import is_container, pack, unpack, with_inline_parts
from flowkit_state.serialization.data_types.forms import is_without_form
from flowkit_state.serialization.json_decoder import decode
from flowkit_state.serialization.json_encoder import encode
from flowkit_state.serialization.json_text import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from flowkit_state.serialization.data_types.forms import Buffer
    from flowkit_state.serialization.serializer_protocol import Serializer, SerializerOption

_WORDS = {None: "null", True: "true", False: "false"}
_NUMBERS = (int, float)  # their JSON text is their repr()
_MAX_PLAIN_INT = 1 << 62  # integers below it are the most frequent values, so they take no further look-up

# Names of classes, or the beginnings of such names, that annotations may contain.
_NEVER_SERIALIZABLE = (
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
_NOT_IN_JSON = ("torch", "scipy", "xarray")  # packages


class Serialization:
    """The serialization of one store.

    Args:
        choice: the option `serializer` of the user.
        check_trust: raises `UntrustedPickleError` if another user could have written the stored pickles. It is called
            before a pickle is loaded.
        additional: the option `serializers` of the user.
        binary: whether the store has bytes; if not, the bytes of arrays are stored as text.

    Raises:
        StateOptionError, StateOptionTypeError: `choice` is invalid.

    Attributes:
        choice: the option `serializer` of the user.
        pickled: whether values are stored as pickles.
        additional: the option `serializers` of the user.
        serializers: all serializers of the user.
    """

    def __init__(
        self,
        choice: SerializerOption,
        check_trust: Callable[[], None],
        additional: Sequence[Serializer] = (),
        *,
        binary: bool = True,
    ) -> None:
        self._binary = binary
        self.choice = choice
        self._check_trust = check_trust
        self.pickled = isinstance(choice, str) and choice == "pickle"
        given: list[Any] = []
        if isinstance(choice, str):
            if choice not in ("json", "pickle"):
                raise StateOptionError("serializer", choice, '"json" or "pickle", or serializer objects')
        else:
            given += choice if isinstance(choice, (list, tuple)) else (choice,)
        if not isinstance(additional, (list, tuple)):
            raise StateOptionTypeError("serializers", additional, "a list of serializer objects")
        if additional and self.pickled:
            raise StateOptionError("serializers", additional, 'empty with serializer="pickle", which stores all types')
        self.additional = tuple(_checked("serializers", serializer) for serializer in additional)
        self.serializers = (*self.additional, *(_checked("serializer", serializer) for serializer in given))
        self._by_name = {serializer.name: serializer for serializer in self.serializers}
        if len(self._by_name) < len(self.serializers):
            option = "serializers" if additional else "serializer"
            raise StateOptionError(option, additional or choice, "serializers of different names")

    def dump(self, key: str | None, value: Any, root: str = "value") -> str | bytes:
        """Return what to store for `value`. Raises `UnsupportedValueError`, whose path begins with `root`."""
        if self.pickled:
            return _to_pickle(key, value, root)
        kind = type(value)
        if kind is int and -_MAX_PLAIN_INT < value < _MAX_PLAIN_INT:
            return repr(value)
        if value is None or kind is bool:
            return _WORDS[value]
        leaf = ENCODERS.get(kind)
        if leaf is not None:
            form = leaf(value)
            return repr(form) if type(form) in _NUMBERS else dumps(form)
        parts: list[list[Buffer]] = []
        tree = encode(value, key=key, root=root, serializers=self.serializers, parts=parts)
        if not parts:
            return dumps(tree)
        return pack(tree, parts) if self._binary else dumps(with_inline_parts(tree, parts))

    def comparable(self, value: Any) -> str | bytes:
        """Return what is the same for equal values, also if parts of one of them are one object, and of the other not.

        Raises:
            UnsupportedValueError: the value cannot be stored.
        """
        if self.pickled and (pickled := _to_pickle_without_memo(value)) is not None:
            return pickled
        return self.dump(None, value)

    def load(self, key: str | None, payload: str | bytes) -> Any:
        """Return the value that was stored as `payload`.

        Raises `RestoreError`, and `UntrustedPickleError` if another user could have written the pickle.
        """
        if isinstance(payload, str):
            return from_json(key, payload, self._by_name)
        if is_container(payload):
            try:
                tree, parts = unpack(payload)
            except (OverflowError, RecursionError, TypeError, ValueError) as error:
                raise RestoreError(key, f"the stored entry is damaged ({error}).", damaged=True) from error
            return decode(tree, key=key, serializers=self._by_name, parts=parts)
        if not self.pickled:
            hint = 'open the file with StateManager(..., serializer="pickle") if you trust everyone who could write it.'
            raise RestoreError(key, f"it is a pickle, and loading a pickle can run any code; {hint}")
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

    def check_results(self, tasks: Sequence[tuple[str, Callable[..., Any]]]) -> dict[int, UnsupportedValueError]:
        """Return, by index, the errors of tasks whose return annotation names a type that cannot be stored."""
        errors = {}
        checked: set[int] = set()  # several tasks may have one function
        for index, (task, function) in enumerate(tasks):
            if id(function) not in checked:
                checked.add(id(function))
                try:
                    self.check_result(task, function)
                except UnsupportedValueError as error:
                    errors[index] = error
        return errors

    def check_result(self, task: str, function: Callable[..., Any]) -> None:
        """Raise `UnsupportedValueError` if the return annotation of a function names a type that cannot be stored."""
        plain: Any = function.__func__ if isinstance(function, MethodType) else function
        if not isinstance(plain, FunctionType):  # mocks and remote proxies seem to have every attribute
            return
        annotation = plain.__annotations__.get("return")
        if annotation is None:
            return
        root = f'the result of task "{task}"'
        for cls in _classes_in(annotation, function):
            name = f"{cls.__module__}.{cls.__qualname__}"
            if any(issubclass(cls, serializer.type) for serializer in self.serializers):
                continue
            if name.startswith(_NEVER_SERIALIZABLE):
                reason = "according to its annotation, which cannot be stored"
                raise UnsupportedValueError(None, root, name, reason, "Return a list, or other plain data.")
            if not self.pickled and (name.partition(".")[0] in _NOT_IN_JSON or is_without_form(cls)):
                reason = "according to its annotation, which cannot be restored exactly"
                hint = 'Use serializer="pickle" for the StateManager, a serializer for this type, or return plain data.'
                raise UnsupportedValueError(None, root, name, reason, hint)


def to_json(key: str | None, value: object, root: str = "value") -> str:
    """Return the JSON text of `value`. Raises `UnsupportedValueError`."""
    return dumps(encode(value, key=key, root=root))


def from_json(key: str | None, text: str, serializers: Mapping[str, Serializer] | None = None) -> Any:
    """Return the value of a JSON text. Raises `RestoreError`."""
    try:
        tree = loads(text)
    except RecursionError:  # values of earlier versions; encode() refuses them now
        reason = "it is nested more deeply than the json module of this Python supports; store a flatter value."
        raise RestoreError(key, reason) from None
    except ValueError as error:
        reason = f"the stored entry is damaged: it is not JSON text ({error})."
        raise RestoreError(key, reason, damaged=True) from error
    return decode(tree, key=key, serializers=serializers)


def _to_pickle(key: str | None, value: object, root: str) -> bytes:
    """Return the pickle of `value`, after loading it once as a check. Raises `UnsupportedValueError`."""
    import pickle

    try:
        payload = pickle.dumps(value, protocol=5)
        pickle.loads(payload)
    except Exception as error:
        reason = f"which pickle cannot store ({type(error).__name__}: {error})"
        raise UnsupportedValueError(
            key, root, type(value).__qualname__, reason, "Store something simpler that it can be made from."
        ) from error
    return payload


class _Limited:
    """A file in memory that refuses more than 1 MiB."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        if len(self.data) + len(data) > 2**20:
            raise OverflowError
        self.data += data


def _to_pickle_without_memo(value: object) -> bytes | None:
    """Return a pickle that has each object as often as it occurs; `None` if one contains itself, or it is large."""
    import pickle

    file = _Limited()
    pickler = pickle.Pickler(file, protocol=5)
    pickler.fast = True
    try:
        pickler.dump(value)
    except Exception:  # the usual way stores the value, or says why it cannot be stored
        return None
    return bytes(file.data)


def _classes_in(annotation: Any, function: Any) -> Iterator[type]:
    """Yield the classes that an annotation contains. Names that cannot be evaluated are skipped."""
    if isinstance(annotation, str):
        try:
            names = getattr(function, "__globals__", {})
            # Most annotations are a single name; the others are text of the user's own program.
            annotation = names[annotation] if annotation in names else eval(annotation, names)  # noqa: S307
        except Exception:  # a name that only type checkers see, or a newer syntax
            return
    todo = [annotation]
    while todo:
        part = todo.pop()
        origin = getattr(part, "__origin__", None)
        cls = part if origin is None else origin
        if isinstance(cls, type):
            yield cls
        if origin is None or not str(getattr(cls, "__module__", "")).startswith("collections.abc"):
            todo += getattr(part, "__args__", ())


def _checked(option: str, serializer: Any) -> Serializer:
    allowed = "" if option == "serializers" else '"json" or "pickle", or '
    allowed += "serializer objects with name, type, dump(value) -> bytes and load(data)"
    if isinstance(serializer, type) or not all(hasattr(serializer, part) for part in ("name", "type", "dump", "load")):
        raise StateOptionTypeError(option, serializer, allowed)
    if type(serializer.name) is not str or not isinstance(serializer.type, type):
        raise StateOptionTypeError(option, serializer, f"{allowed}; its name is a str, its type a class")
    return serializer  # type: ignore[no-any-return]
