"""Exceptions on their way from a worker process to the run: as themselves, or as near to that as they allow.

Nothing that fails to pickle or to unpickle gets out as anything but the outcome of the one task that it belongs to.
"""

from __future__ import annotations

import contextlib
import pickle
from typing import TYPE_CHECKING, Any

from ._wire import PROTOCOL, dumps
from ._words import clipped, described, safe, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class RemoteTraceback(Exception):  # noqa: N818 - it is shown as a cause, and names what it shows
    """Shows, as the cause of an exception, the traceback that it had in the worker process."""

    def __init__(self, text: str) -> None:
        super().__init__(text)

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def pack_error(error: BaseException) -> bytes:
    """Return an exception as bytes that :func:`unpack_error` can surely read."""
    try:
        return _pack(error)
    except BaseException:  # there is no end to what an exception's class may do, or memory is short
        return pickle.dumps(
            ([(None, "", ())], (), "an exception", "<unprintable>", "", "it cannot be described"), PROTOCOL
        )


def _pack(error: BaseException) -> bytes:
    chain: list[tuple[bytes | None, str, tuple[str, ...]]] = []
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen and len(chain) < 20:
        seen.add(id(current))
        packed = _packed(current)
        follow = "cause" if current.__cause__ is not None else "context" if not current.__suppress_context__ else ""
        notes = getattr(current, "__notes__", ())
        chain.append((packed, follow, tuple(note for note in notes if type(note) is str)))
        current = current.__cause__ if follow == "cause" else current.__context__ if follow else None
    kind = type(error)
    text = safe(lambda: str(error))
    type_name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("__mp_")
    type_name = f"__{type_name}" if type_name.startswith("main__.") else type_name
    return pickle.dumps((chain, tuple(_kinds(kind)), type_name, text, _traceback(error), _why(error)), PROTOCOL)


def unpack_error(data: bytes, task: str) -> BaseException:
    """Return the exception, as itself or, where that cannot be, as a :class:`RemoteTaskError`."""
    from flowkit_core import RemoteTaskError

    chain, kinds, type_name, text, traceback_text, reason = pickle.loads(data)
    errors: list[BaseException] = []
    follows: list[str] = []
    for packed, follow, notes in chain:
        try:
            error = _rebuilt(packed, notes, task)
        except BaseException:
            error = None
        if error is None:
            if errors:
                break
            error = _stand_in(
                RemoteTaskError, kinds, (task, type_name.removeprefix("builtins."), text, traceback_text, reason)
            )
        errors.append(error)
        follows.append(follow)
    for one, following, follow in zip(errors, errors[1:], follows, strict=False):
        if follow == "cause":
            _set(one, "__cause__", following)
        else:
            _set(one, "__context__", following)
    if not isinstance(errors[0], RemoteTaskError):
        _set(errors[-1], "__cause__", RemoteTraceback(traceback_text))
    return errors[0]


def _kinds(kind: type[BaseException]) -> Iterator[bytes]:
    """Yield the classes of an exception that can be found elsewhere, as pickles, its own or the nearest above first."""
    for base in kind.__mro__:
        if issubclass(base, Exception) and base is not Exception:
            data = _verified(base, lambda other, base=base: other is base)  # type: ignore[misc]
            if data is not None:
                yield data


def _packed(error: BaseException) -> bytes | None:
    """Return the pickle of an exception if it unpickles to the same; else its parts, else None."""
    kind = type(error)

    def same(other: Any) -> bool:
        return type(other) is kind and len(other.args) == len(error.args) and _sound(other)

    def equal(other: Any) -> bool:  # an __init__ that puts its message together would do so again; slots may be lost
        return same(other) and _contents(other) == _contents(error)

    group = isinstance(error, BaseExceptionGroup)
    if not group and (whole := _verified(error, equal)) is not None:
        return whole
    # many exceptions have an __init__ that pickle cannot call again, or hold a lock or a socket: put them together
    # without the one, and without the other; and the members of a group are exceptions like any other
    args: list[Any] = []
    lost: list[str] = []
    for position, value in enumerate(error.args):
        if isinstance(error, BaseExceptionGroup) and position == 1:
            args.append(_Members(map(pack_error, error.exceptions)))
            continue
        travels = _verified(value, lambda _: True) is not None
        args.append(value if travels else shown(value))
        lost += [] if travels else [f"args[{position}]"]
    attributes, slots = _state(error)
    for kept in (attributes, slots):
        for name in [name for name, value in kept.items() if _verified(value, lambda _: True) is None]:
            lost.append(name)
            kept[name] = None  # not missing: a __getattr__ may count on it
    parts = ("parts", kind, tuple(args), attributes, slots, tuple(lost))
    return _verified(parts, lambda other: same(_assembled(other, ""))) or (_verified(error, equal) if group else None)


def _state(error: BaseException) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes of an exception, and apart from them those in slots, which pickle leaves out."""
    state: Any = object.__getstate__(error)
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    return dict(attributes or ()), dict(slots or ())


def _contents(error: BaseException) -> bytes:
    """Return what of an exception has to be the same in a copy."""
    return pickle.dumps((error.args, _state(error)[1]), PROTOCOL)


class _Members(list[bytes]):
    """The members of an exception group, each packed by itself."""


def _rebuilt(packed: bytes | None, notes: Sequence[str], task: str) -> BaseException | None:
    if packed is None:
        return None
    found = pickle.loads(packed)
    error = found if isinstance(found, BaseException) else _assembled(found, task)
    for note in notes:  # a __reduce__ of the user's leaves them out
        _note(error, note)
    return error


def _assembled(parts: Any, task: str) -> BaseException:
    _, kind, args, attributes, slots, lost = parts
    args = tuple([unpack_error(data, task) for data in arg] if type(arg) is _Members else arg for arg in args)
    error: BaseException = kind.__new__(kind, *args)
    _set(error, "args", args)
    error.__dict__.update(attributes)
    for name, value in slots.items():
        _set(error, name, value)
    if lost:
        _note(error, f"flowkit: what could not travel from the worker process: {', '.join(lost)}")
    return error


def _note(error: BaseException, note: str) -> None:
    """Add a note to an exception, whatever its class thinks of attributes that are not there."""
    notes = error.__dict__.setdefault("__notes__", [])
    if note not in notes:
        notes.append(note)


def _sound(error: BaseException) -> bool:
    """Say whether an exception can be shown, as it would be at the end of a program, and be asked for what it lacks."""
    import traceback

    traceback.format_exception_only(error)
    return not hasattr(error, "__flowkit__")


def _set(error: BaseException, name: str, value: Any) -> None:
    """Set an attribute of an exception, whatever its class thinks of that."""
    BaseException.__setattr__(error, name, value)


def _verified(thing: Any, same: Callable[[Any], bool]) -> bytes | None:
    """Return the pickle of something if what it unpickles to passes a test."""
    try:
        data = dumps(thing)
        return data if same(pickle.loads(data)) else None
    except BaseException:
        return None


def _why(error: BaseException) -> str:
    try:
        pickle.loads(pickle.dumps(error, PROTOCOL))
    except BaseException as reason:  # pickling runs the user's code
        return described(reason)
    return ""


def _stand_in(base: Any, kinds: Sequence[bytes], facts: tuple[Any, ...]) -> BaseException:
    """Return a RemoteTaskError that is also of the first type of these that allows it, so that ``except`` works."""
    plain: BaseException = base(*facts)
    own = {"__reduce__": lambda _: (base, facts), "__str__": lambda self: self.args[0]}
    for data in kinds:
        with contextlib.suppress(BaseException):  # incompatible layouts, hostile metaclasses, a class that is not here
            kind = pickle.loads(data)
            both: BaseException = kind.__new__(type(base.__name__, (base, kind), own))
            both.__dict__.update(plain.__dict__)
            both.args = plain.args
            both.__dict__.setdefault("__notes__", [])
            if _sound(both):
                return both
    return plain


def _traceback(error: BaseException) -> str:
    import traceback

    try:
        own = error.__traceback__
        if own is not None and own.tb_frame.f_globals.get("__name__") == "flowkit_exec._worker":
            own = own.tb_next  # the first frame is the worker's own, but for members of a group
        text = "".join(traceback.format_exception(type(error), error, own or error.__traceback__))
    except BaseException:
        text = "".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__name__}: <unprintable>"
    return clipped(text)
