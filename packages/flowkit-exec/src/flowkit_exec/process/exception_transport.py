"""Exceptions on their way from a worker process to the run: as themselves, or as near to that as they allow.

An exception travels with all that belongs to it, its causes and the members of groups: as a list of exceptions, each
once, that refer to one another by their numbers. So what is shared stays shared, and no depth is too deep.
Nothing that fails to pickle or to unpickle gets out as anything but the outcome of the one task that it belongs to.
"""

from __future__ import annotations

import contextlib
import pickle
from functools import partial
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple

from .missing_globals import Used, explain, used
from .protocol import PROTOCOL, dumps
from .safe_text import LONGEST_TEXT, clipped, described, safe, shown, tried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MOST = 1000
"""How many exceptions of one error travel; of what there is beyond that, a note tells."""

ROOM = 1 << 26
"""How many bytes they may take; when these are used up, the rest travels as text."""

_APART = (  # slots that need no copy; what an attribute was missing from may be anything, and large
    vars(BaseException)["__suppress_context__"],
    vars(BaseExceptionGroup)["message"],
    vars(BaseExceptionGroup)["exceptions"],
    vars(AttributeError)["obj"],
)

_HEADER = "Traceback (most recent call last):\n"
_BETWEEN = {
    "cause": "\nThe above exception was the direct cause of the following exception:\n\n",
    "context": "\nDuring handling of the above exception, another exception occurred:\n\n",
}


class RemoteTraceback(Exception):  # noqa: N818 - it is shown as a cause, and names what it shows
    """Shows, as the cause of an exception, the traceback that it had in the worker process."""

    def __init__(self, text: str) -> None:
        super().__init__(text)

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _Packed(NamedTuple):
    """One exception; the defaults are for one of which nothing can be known."""

    type_name: str = "an exception"
    text: str = "<unprintable>"
    traceback_text: str = ""
    notes: tuple[str, ...] = ()
    whole: bytes | None = None
    reason: str = "it cannot be described"
    kinds: tuple[bytes, ...] = ()
    follow: str = ""
    following: int | None = None
    message: str = ""
    members: tuple[int, ...] = ()
    used: Used | None = None


class _Members:
    """Stands for the members of a group among its arguments."""


# ---- in the worker ---------------------------------------------------------------------------------------------------


def pack_error(error: BaseException) -> bytes:
    """Return an exception as bytes that :func:`unpack_error` can surely read."""
    try:
        return _pack(error)
    except BaseException:  # memory is short
        return pickle.dumps([_Packed()], PROTOCOL)


def _pack(error: BaseException) -> bytes:
    found, seen = [error], {id(error)}
    for one in found:  # it grows, by what is near first
        for other in (_following(one)[1], *_members(one)):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                found.append(other)
    numbers = {id(one): number for number, one in enumerate(found[:MOST])}
    longest, room, packed = max(LONGEST_TEXT // len(found), 1 << 14), ROOM, []
    for one in found[:MOST]:
        packed.append(tried(partial(_packed, one, numbers, longest, whole=room > 0), _Packed()))
        room -= len(packed[-1].whole or b"")
    if left_out := found[MOST:]:
        note = f"flowkit: {len(left_out)} more exceptions belong to this one, too many to travel from the worker:\n"
        listed = clipped("\n".join(map(described, left_out)), 1 << 14)
        packed[0] = packed[0]._replace(notes=(*packed[0].notes, note + listed))
    return pickle.dumps(packed, PROTOCOL)


def _packed(error: BaseException, numbers: Mapping[int, int], longest: int, *, whole: bool) -> _Packed:
    kind, group, (follow, following) = type(error), _members(error), _following(error)
    type_name = safe(lambda: f"{_raw(type, '__module__', kind)}.{_raw(type, '__qualname__', kind)}")
    type_name = type_name.removeprefix("builtins.").removeprefix("__mp_")
    type_name = f"__{type_name}" if type_name.startswith("main__.") else type_name
    text = safe(lambda: str(error), longest)
    members = tuple(numbers[id(member)] for member in group if id(member) in numbers)
    reason, data, lost = "there is too much of it", None, ""
    if whole and (members or not group):
        data, lost = tried(lambda: _whole(error), (data, lost))
        reason = "" if data else _why(kind if group else error)
    notes: list[str] = tried(lambda: _notes(error), [])
    if lost:
        notes.append(f"flowkit: what could not travel from the worker process: {lost}")
    return _Packed(
        type_name=type_name,
        text=text,
        traceback_text=tried(lambda: clipped(_traceback(error, type_name, text), longest), ""),
        notes=tuple(notes),
        whole=data,
        reason=reason,
        kinds=tuple(_kinds(kind)),
        follow=follow,
        following=numbers.get(id(following)),
        message=str.__str__(_raw(BaseExceptionGroup, "message", error)) if group else "",
        members=members,
        used=tried(lambda: used(error), None),
    )


def _notes(error: BaseException) -> list[str]:
    notes = _raw(BaseException, "__dict__", error).get("__notes__")
    return [safe(partial(str, note)) for note in notes] if issubclass(type(notes), (list, tuple)) else []


def _following(error: BaseException) -> tuple[str, BaseException | None]:
    """Return what an exception is shown to come from, and whether that is its cause or its context."""
    if (cause := _raw(BaseException, "__cause__", error)) is not None:
        return "cause", cause
    if _raw(BaseException, "__suppress_context__", error):
        return "", None
    return "context", _raw(BaseException, "__context__", error)


def _members(error: BaseException) -> tuple[BaseException, ...]:
    members: tuple[BaseException, ...] = ()
    if issubclass(type(error), BaseExceptionGroup):  # isinstance() would ask the exception
        members = _raw(BaseExceptionGroup, "exceptions", error)
    return members


def _kinds(kind: type[BaseException]) -> Iterator[bytes]:
    """Yield the classes of an exception that can be found elsewhere, as pickles, its own or the nearest above first."""
    for base in type.mro(kind):
        if issubclass(base, Exception) and base is not Exception:
            data = _verified(base, lambda other, base=base: other is base)  # type: ignore[misc]
            if data is not None:
                yield data


def _whole(error: BaseException) -> tuple[bytes | None, str]:
    """Return the pickle of an exception if it unpickles to the same; else its parts, and the names of those lost."""
    kind, args, members = type(error), _raw(BaseException, "args", error), _members(error)

    def same(other: Any) -> bool:
        return type(other) is kind and len(_raw(BaseException, "args", other)) == len(args) and _sound(other)

    def equal(other: Any) -> bool:  # an __init__ that puts its message together would do so again; slots may be lost
        mine, its = (pickle.dumps((_raw(BaseException, "args", one), _slots(one)), PROTOCOL) for one in (error, other))
        return same(other) and mine == its

    if not members and (whole := _verified(error, equal)) is not None:
        return whole, ""
    # many exceptions have an __init__ that pickle cannot call again, or hold a lock or a socket: put them together
    # without the one, and without the other
    attributes = {name: value for name, value in _raw(BaseException, "__dict__", error).items() if name != "__notes__"}
    parts: tuple[dict[Any, Any], ...] = (dict(enumerate(args)), attributes, _slots(error))
    lost: list[str] = []
    for kept in parts:
        for name, value in kept.items():
            if members and type(value) in (list, tuple) and [*map(id, value)] == [*map(id, members)]:
                kept[name] = _Members
            elif _verified(value, lambda _: True) is None:
                lost.append(f"args[{name}]" if kept is parts[0] else name)
                kept[name] = shown(value) if kept is parts[0] else None  # not missing: a __getattr__ may count on it
    pieces = (kind, tuple(parts[0].values()), *parts[1:])
    others = [Exception() if issubclass(kind, Exception) else BaseException()] * len(members)
    return _verified(pieces, lambda found: same(_assembled(found, "", others))), ", ".join(lost)


def _slots(error: BaseException) -> dict[str, Any]:
    """Return the attributes of an exception in slots, its class's or those of builtin classes."""
    found = {}
    for name, slot in _descriptors(type(error)):
        with contextlib.suppress(AttributeError):
            found[name] = slot.__get__(error)
    return found


def _verified(thing: Any, same: Callable[[Any], bool]) -> bytes | None:
    """Return the pickle of something if what it unpickles to passes a test."""
    try:
        data = dumps(thing)
        return data if same(pickle.loads(data)) else None
    except BaseException:
        return None


def _why(thing: Any) -> str:
    try:
        pickle.loads(pickle.dumps(thing, PROTOCOL))
    except BaseException as reason:  # pickling runs the user's code
        return described(reason)
    return ""


def _traceback(error: BaseException, type_name: str, text: str) -> str:
    import traceback

    own = _raw(BaseException, "__traceback__", error)
    if own is not None and own.tb_frame.f_globals.get("__name__") == "flowkit_exec.process.worker":
        own = own.tb_next or own  # the first frame is the worker's own, but for members of a group
    try:
        return "".join(_lines(error, own))
    except BaseException:  # it cannot be shown, but where it was raised can
        return "".join((_HEADER, *traceback.format_tb(own), f"{type_name}: {text}\n"))


# ---- in the run ------------------------------------------------------------------------------------------------------


def unpack_error(data: bytes, task: str) -> BaseException:
    """Return the exception, as itself or, where that cannot be, as a :class:`RemoteTaskError`."""
    packed: list[_Packed] = pickle.loads(data)
    errors: dict[int, BaseException] = {}
    waiting = [*range(len(packed))]
    while waiting:
        one = packed[waiting[-1]]
        if missing := [member for member in one.members if member not in errors]:
            waiting += missing  # before the group
        elif (number := waiting.pop()) not in errors:
            errors[number] = _unpacked(one, [errors[member] for member in one.members], task)
    _link(packed, errors)
    return errors[0]


def _link(packed: Sequence[_Packed], errors: Mapping[int, BaseException]) -> None:
    """Give exceptions their causes and contexts, and the last of each such chain the tracebacks of all in it."""
    from flowkit_core import RemoteTaskError

    links: dict[int, int] = {}

    def end(number: int) -> int:
        while number in links:
            number = links[number]
        return number

    for number, one in enumerate(packed):
        if one.following is not None and end(one.following) != number:  # what goes in a circle is cut
            links[number] = one.following
            _set(errors[number], f"__{one.follow}__", errors[one.following])
    left, texts = set(errors), dict[int, list[str]]()
    for start in range(len(packed)):
        chain, number = [], start
        while number in left:  # else it is shown already
            left.remove(number)
            chain.append(number)
            number = links.get(number, -1)
        if not all(issubclass(type(errors[number]), RemoteTaskError) for number in chain):  # they show it themselves
            text = packed[chain[-1]].traceback_text
            for number in chain[-2::-1]:
                text += _BETWEEN[packed[number].follow] + packed[number].traceback_text
            texts.setdefault(end(start), []).append(text)
    for last, found in texts.items():
        _set(errors[last], "__cause__", RemoteTraceback("\n".join(found)))


def _unpacked(one: _Packed, members: Sequence[BaseException], task: str) -> BaseException:
    reason, notes, error = one.reason, [*one.notes], None
    try:
        if one.whole is not None:
            found = pickle.loads(one.whole)
            error = found if isinstance(found, BaseException) else _assembled(found, one.message, members)
    except BaseException as problem:
        reason = described(problem)
    if error is None:
        error = _stand_in(one, members, (task, one.type_name, one.text, one.traceback_text, reason))
        if members:
            notes.append(f"flowkit: it stands for {one.type_name}, which could not travel from the worker: {reason}")
    if one.used is not None and (note := tried(partial(explain, one.used), "")):
        notes.append(note)
    attributes = _raw(BaseException, "__dict__", error)
    if notes or "__notes__" in attributes:
        attributes["__notes__"] = notes
    return error


def _stand_in(one: _Packed, members: Sequence[BaseException], facts: tuple[Any, ...]) -> BaseException:
    """Return a group or a RemoteTaskError that is also of the first type of these that allows it, for ``except``."""
    from flowkit_core import RemoteTaskError as Base

    plain = BaseExceptionGroup(one.message, members) if members else Base(*facts)
    own = {"__reduce__": lambda _: (Base, facts), "__str__": lambda self: self.args[0]}
    for data in one.kinds:
        with contextlib.suppress(BaseException):  # incompatible layouts, hostile metaclasses, a class that is not here
            kind = pickle.loads(data)
            if members:
                near: BaseException = BaseExceptionGroup.__new__(kind, one.message, members)
            else:
                near = kind.__new__(type(Base.__name__, (Base, kind), own))
            near.__dict__.update(plain.__dict__)
            near.args = plain.args
            near.__dict__.setdefault("__notes__", [])
            if _sound(near):
                return near
    return plain


# ---- on both sides ---------------------------------------------------------------------------------------------------


def _raw(holder: type, name: str, thing: Any) -> Any:
    """Return an attribute that a builtin class provides, whatever the class of the thing makes of that."""
    return vars(holder)[name].__get__(thing)


def _set(error: BaseException, name: str, value: Any) -> None:
    """Set an attribute of an exception, whatever its class thinks of that."""
    BaseException.__setattr__(error, name, value)


def _descriptors(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the slots of a class of exceptions, its own and those of builtin classes, with their names."""
    for base in type.mro(kind):
        own = _raw(type, "__dict__", base)
        for name, slot in own.items() if "__slots__" in own or _raw(type, "__module__", base) == "builtins" else ():
            if type(slot) is MemberDescriptorType and slot not in _APART:
                yield name, slot


def _assembled(parts: Any, message: str, members: Sequence[BaseException]) -> BaseException:
    kind, args, attributes, slots = parts
    new = partial(BaseExceptionGroup.__new__, kind, message, members) if members else partial(kind.__new__, kind, *args)
    error: BaseException = new()
    _set(error, "args", tuple([*members] if arg is _Members else arg for arg in args))
    _raw(BaseException, "__dict__", error).update(attributes)
    for name, slot in _descriptors(kind):
        if name in slots and tried(lambda slot=slot: slot.__get__(error), _Members) is not slots[name]:  # type: ignore[misc]
            slot.__set__(error, slots[name])
    return error


def _sound(error: BaseException) -> bool:
    """Say whether an exception can be shown, as it would be at the end of a program, and be asked for what it lacks."""
    return tried(lambda: bool([*_lines(error, None)]) and not hasattr(error, "__flowkit__"), otherwise=False)


def _lines(error: BaseException, trace: Any) -> Iterator[str]:
    """Yield a traceback of one exception alone: with each that belongs to it, as often as it does, there is no end."""
    import traceback

    alone = traceback.TracebackException(type(error), error, trace, _seen=set())
    alone.exceptions = None
    if trace is not None:
        yield _HEADER
        yield from alone.stack.format()
    yield from alone.format_exception_only()
