"""Exceptions from a worker in another process to the process of the run, for every executor.

An exception is sent with its causes, contexts and the members of groups, as a list in which each exception occurs once
and refers to others by index. So shared exceptions stay shared, and the depth of a chain is not limited. An exception
that cannot be pickled and unpickled is rebuilt from its parts, or replaced by a `RemoteTaskError`. Exceptions raised by
the user's exception classes meanwhile are caught, so they affect the outcome of their own task only.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from functools import partial
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple

from flowkit_core.failures import describe_error
from flowkit_core.safe_text import MAX_TEXT, clip, safe_repr, safe_str, try_or

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Dumps = Callable[[Any], bytes]

PICKLE_PROTOCOL = 5

MAX_EXCEPTIONS = 1000
"""Maximum number of exceptions that are sent for one error; a note lists further ones."""

MAX_BYTES = 1 << 26
"""Bytes of pickles after which further exceptions are sent as text."""

_UNCOPIED_SLOTS = (  # set otherwise; AttributeError.obj is the object without the attribute, which may be large
    vars(BaseException)["__suppress_context__"],
    vars(BaseExceptionGroup)["message"],
    vars(BaseExceptionGroup)["exceptions"],
    vars(AttributeError)["obj"],
)

_this_thread = threading.local()
"""Attribute ``packs``: whether the thread runs `pack_error`, which `reduce_error` must not call again then."""

_LAYERS = ("flowkit_core.", "flowkit_exec.", "flowkit_dask.")

_HEADER = "Traceback (most recent call last):\n"
_BETWEEN = {
    "cause": "\nThe above exception was the direct cause of the following exception:\n\n",
    "context": "\nDuring handling of the above exception, another exception occurred:\n\n",
}


class RemoteTraceback(Exception):  # noqa: N818 - the name is shown in tracebacks, and says what follows
    """The traceback that an exception had in the worker, as text; the cause of the exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _PackedError(NamedTuple):
    """One exception, as it is sent. The defaults are for one that cannot be examined.

    Attributes:
        type_name: qualified name of its class.
        text: ``str()`` of it.
        traceback_text: its own traceback, without causes and contexts.
        notes: its notes.
        pickled: pickle of the exception or of its parts; None if there is none.
        reason: why there is none.
        bases: pickles of its base classes, nearest first, for a stand-in that ``except`` catches.
        link: ``"cause"`` or ``"context"``: what the next exception in the chain is; empty if it is the last.
        next_index: index of that exception.
        message: message of a group.
        members: indices of the members of a group.
        facts: what the executor found out about it, for a note.
    """

    type_name: str = "an exception"
    text: str = "<unprintable>"
    traceback_text: str = ""
    notes: tuple[str, ...] = ()
    pickled: bytes | None = None
    reason: str = "it cannot be examined"
    bases: tuple[bytes, ...] = ()
    link: str = ""
    next_index: int | None = None
    message: str = ""
    members: tuple[int, ...] = ()
    facts: Any = None


class _Members:
    """Placeholder for the members of a group in its arguments and attributes."""


# ---- in the worker ---------------------------------------------------------------------------------------------------


def dumps_by_name(value: Any) -> bytes:
    """Return the pickle of a value."""
    return pickle.dumps(value, PICKLE_PROTOCOL)


def pack_error(
    error: BaseException,
    *,
    dumps: Dumps = dumps_by_name,
    find_facts: Callable[[BaseException], Any] | None = None,
) -> bytes:
    """Return an exception as bytes for :func:`unpack_error`. Does not raise.

    Args:
        error: the exception.
        dumps: returns the pickle of a value, or raises if there is none.
        find_facts: returns what is to be passed to ``explain`` of :func:`unpack_error` for an exception, or None.
    """
    outer, _this_thread.packs = getattr(_this_thread, "packs", False), True
    try:
        return _pack(error, dumps, find_facts or (lambda _: None))
    except BaseException:  # for example MemoryError
        return pickle.dumps([_PackedError()], PICKLE_PROTOCOL)
    finally:
        _this_thread.packs = outer


def reduce_error(error: BaseException, dumps: Dumps = dumps_by_name) -> Any:
    """Return what ``reducer_override()`` of a pickler returns for an exception that is a value.

    It is NotImplemented for an exception that pickle can load, and while :func:`pack_error` pickles parts of one.
    Others are packed like those that tasks raise.

    Args:
        error: the exception.
        dumps: see :func:`pack_error`.
    """
    kind, args = type(error), _get(BaseException, "args", error)
    is_builtin = _get(type, "__module__", kind) == "builtins" and not issubclass(kind, BaseExceptionGroup)
    if is_builtin or getattr(_this_thread, "packs", False):
        return NotImplemented
    plain = _pickled_if(error, lambda other: type(other) is kind and len(other.args) == len(args), dumps_by_name)
    return NotImplemented if plain is not None else (unpack_error, (pack_error(error, dumps=dumps), "an earlier one"))


def _pack(error: BaseException, dumps: Dumps, find_facts: Callable[[BaseException], Any]) -> bytes:
    found, seen = [error], {id(error)}
    for one in found:  # breadth first; it grows
        for other in (_next_in_chain(one)[1], *_members(one)):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                found.append(other)
    indices = {id(one): index for index, one in enumerate(found[:MAX_EXCEPTIONS])}
    max_text, bytes_left, packed = max(MAX_TEXT // len(found), 1 << 14), MAX_BYTES, []
    for one in found[:MAX_EXCEPTIONS]:
        pack = partial(_packed, one, indices, max_text, dumps, with_pickle=bytes_left > 0)
        packed.append(try_or(pack, _PackedError())._replace(facts=try_or(partial(find_facts, one), None)))
        bytes_left -= len(packed[-1].pickled or b"")
    if left_out := found[MAX_EXCEPTIONS:]:
        note = f"flowkit: {len(left_out)} more exceptions belong to this one, too many to be sent from the worker:\n"
        listed = clip("\n".join(map(describe_error, left_out)), 1 << 14)
        packed[0] = packed[0]._replace(notes=(*packed[0].notes, note + listed))
    return pickle.dumps(packed, PICKLE_PROTOCOL)


def _packed(
    error: BaseException, indices: Mapping[int, int], max_text: int, dumps: Dumps, *, with_pickle: bool
) -> _PackedError:
    """Return one exception as it is sent.

    Args:
        error: the exception.
        indices: id of an exception -> its index.
        max_text: maximum length of each text, in characters.
        dumps: see :func:`pack_error`.
        with_pickle: whether it may be pickled, or is sent as text.
    """
    kind, group, (link, following) = type(error), _members(error), _next_in_chain(error)
    type_name = safe_str(lambda: f"{_get(type, '__module__', kind)}.{_get(type, '__qualname__', kind)}")
    type_name = type_name.removeprefix("builtins.").removeprefix("__mp_")
    type_name = f"__{type_name}" if type_name.startswith("main__.") else type_name
    text = safe_str(lambda: str(error), max_text)
    members = tuple(indices[id(member)] for member in group if id(member) in indices)
    reason, data, lost = "it is too large", None, ""
    if with_pickle and (members or not group):
        data, lost = try_or(lambda: _pickled_error(error, dumps), (data, lost))
        reason = "" if data else _reason_not_picklable(kind if group else error)
    notes: list[str] = try_or(lambda: _notes(error), [])
    if lost:
        notes.append(f"flowkit: not sent from the worker process, because it cannot be pickled: {lost}")
    return _PackedError(
        type_name=type_name,
        text=text,
        traceback_text=try_or(lambda: clip(_traceback(error, type_name, text), max_text), ""),
        notes=tuple(notes),
        pickled=data,
        reason=reason,
        bases=tuple(_picklable_bases(kind, dumps)),
        link=link,
        next_index=indices.get(id(following)),
        message=str.__str__(_get(BaseExceptionGroup, "message", error)) if group else "",
        members=members,
    )


def _notes(error: BaseException) -> list[str]:
    notes = _get(BaseException, "__dict__", error).get("__notes__")
    return [safe_str(partial(str, note)) for note in notes] if issubclass(type(notes), (list, tuple)) else []


def _next_in_chain(error: BaseException) -> tuple[str, BaseException | None]:
    """Return ``"cause"`` or ``"context"`` and that exception, as a traceback shows it; an empty text and None."""
    if (cause := _get(BaseException, "__cause__", error)) is not None:
        return "cause", cause
    if _get(BaseException, "__suppress_context__", error):
        return "", None
    return "context", _get(BaseException, "__context__", error)


def _members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the members of a group; none for other exceptions."""
    members: tuple[BaseException, ...] = ()
    if issubclass(type(error), BaseExceptionGroup):  # isinstance() would read its __class__
        members = _get(BaseExceptionGroup, "exceptions", error)
    return members


def _picklable_bases(kind: type[BaseException], dumps: Dumps) -> Iterator[bytes]:
    """Yield pickles of a class of exceptions and of those base classes that can be pickled, nearest first."""
    for base in type.mro(kind):
        if issubclass(base, Exception) and base is not Exception:
            data = _pickled_if(base, lambda other, base=base: other is base, dumps)  # type: ignore[misc]
            if data is not None:
                yield data


def _pickled_error(error: BaseException, dumps: Dumps) -> tuple[bytes | None, str]:
    """Return the pickle of an exception, if it unpickles to an equal one; else the pickle of its parts.

    Returns:
        The pickle, or None; and the names of the parts that cannot be pickled, separated by commas.
    """
    kind, args, members = type(error), _get(BaseException, "args", error), _members(error)

    def is_similar(other: Any) -> bool:
        return type(other) is kind and len(_get(BaseException, "args", other)) == len(args) and _is_usable(other)

    def is_equal(other: Any) -> bool:  # an __init__ that formats its message would format it twice; slots may be lost
        mine, its = (
            pickle.dumps((_get(BaseException, "args", one), _slots(one)), PICKLE_PROTOCOL) for one in (error, other)
        )
        return is_similar(other) and mine == its

    if not members and (whole := _pickled_if(error, is_equal, dumps)) is not None:
        return whole, ""
    # many exceptions have an __init__ that pickle cannot call, or hold a lock or a socket: rebuild them without calling
    # the one, and without the other
    attributes = {name: value for name, value in _get(BaseException, "__dict__", error).items() if name != "__notes__"}
    parts: tuple[dict[Any, Any], ...] = (dict(enumerate(args)), attributes, _slots(error))
    lost: list[str] = []
    for part in parts:
        is_args = part is parts[0]
        for name, value in part.items():
            if members and type(value) in (list, tuple) and [*map(id, value)] == [*map(id, members)]:
                part[name] = _Members
            elif _pickled_if(value, lambda _: True, dumps) is None:
                lost.append(f"args[{name}]" if is_args else name)
                part[name] = safe_repr(value) if is_args else None  # not removed: its __getattr__ may need it
    pieces = (kind, tuple(parts[0].values()), *parts[1:])
    others = [Exception() if issubclass(kind, Exception) else BaseException()] * len(members)
    return _pickled_if(pieces, lambda found: is_similar(_rebuilt(found, "", others)), dumps), ", ".join(lost)


def _slots(error: BaseException) -> dict[str, Any]:
    """Return the attributes of an exception in slots of its class or of builtin classes."""
    found = {}
    for name, slot in _slot_descriptors(type(error)):
        with contextlib.suppress(AttributeError):
            found[name] = slot.__get__(error)
    return found


def _pickled_if(value: Any, test: Callable[[Any], bool], dumps: Dumps) -> bytes | None:
    """Return the pickle of a value, if a test is true of what it unpickles to; else None."""
    try:
        data = dumps(value)
        return data if test(pickle.loads(data)) else None
    except BaseException:
        return None


def _reason_not_picklable(value: Any) -> str:
    try:
        pickle.loads(pickle.dumps(value, PICKLE_PROTOCOL))
    except BaseException as reason:  # pickling runs the user's code
        return describe_error(reason)
    return ""


def _traceback(error: BaseException, type_name: str, text: str) -> str:
    """Return the traceback of an exception, without causes and contexts."""
    import traceback

    trace = _get(BaseException, "__traceback__", error)
    trace = _of_the_task(trace) or trace
    try:
        return "".join(_traceback_lines(error, trace))
    except BaseException:  # its class raises when it is formatted
        return "".join((_HEADER, *traceback.format_tb(trace), f"{type_name}: {text}\n"))


def _of_the_task(trace: Any) -> Any:
    """Return a traceback without its leading frames of flowkit; None if it has no others."""
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith(_LAYERS):
        trace = trace.tb_next
    return trace


# ---- in the calling process ------------------------------------------------------------------------------------------


def unpack_error(data: bytes, task: str, explain: Callable[[Any], str] | None = None) -> BaseException:
    """Return the exception that :func:`pack_error` has packed, or a `RemoteTaskError` in place of it.

    Args:
        data: the packed exception.
        task: name of the task that raised it.
        explain: returns a note, or an empty text, for facts of ``find_facts`` of :func:`pack_error`.
    """
    packed: list[_PackedError] = pickle.loads(data)
    errors: dict[int, BaseException] = {}
    pending = [*range(len(packed))]
    while pending:
        one = packed[pending[-1]]
        if missing := [member for member in one.members if member not in errors]:
            pending += missing  # members before their group
        elif (index := pending.pop()) not in errors:
            errors[index] = _unpacked(one, [errors[member] for member in one.members], task, explain)
    _link(packed, errors)
    return errors[0]


def _link(packed: Sequence[_PackedError], errors: Mapping[int, BaseException]) -> None:
    """Set causes and contexts, and give the last exception of each chain the tracebacks of the chain as its cause."""
    from flowkit_core.errors import RemoteTaskError

    links: dict[int, int] = {}

    def last_of(index: int) -> int:
        while index in links:
            index = links[index]
        return index

    for index, one in enumerate(packed):
        if one.next_index is not None and last_of(one.next_index) != index:  # a cycle is cut
            links[index] = one.next_index
            _set(errors[index], f"__{one.link}__", errors[one.next_index])
    left, texts = set(errors), dict[int, list[str]]()
    for start in range(len(packed)):
        chain, index = [], start
        while index in left:  # else its traceback is part of another text
            left.remove(index)
            chain.append(index)
            index = links.get(index, -1)
        if not all(issubclass(type(errors[index]), RemoteTaskError) for index in chain):  # these have the text already
            text = packed[chain[-1]].traceback_text
            for index in chain[-2::-1]:
                text += _BETWEEN[packed[index].link] + packed[index].traceback_text
            texts.setdefault(last_of(start), []).append(text)
    for last, found in texts.items():
        _set(errors[last], "__cause__", RemoteTraceback("\n".join(found)))


def _unpacked(
    one: _PackedError, members: Sequence[BaseException], task: str, explain: Callable[[Any], str] | None
) -> BaseException:
    """Return one exception, with its notes, without cause and context.

    Args:
        one: the packed exception.
        members: its members, if it is a group.
        task: name of the task.
        explain: see :func:`unpack_error`.
    """
    reason, notes, error = one.reason, [*one.notes], None
    try:
        if one.pickled is not None:
            found = pickle.loads(one.pickled)
            error = found if isinstance(found, BaseException) else _rebuilt(found, one.message, members)
    except BaseException as problem:
        reason = describe_error(problem)
    if error is None:
        error = _stand_in(one, members, (task, one.type_name, one.text, one.traceback_text, reason))
        if members:
            notes.append(f"flowkit: it replaces {one.type_name}, which cannot be sent from the worker: {reason}")
    if explain is not None and one.facts is not None and (note := try_or(partial(explain, one.facts), "")):
        notes.append(note)
    attributes = _get(BaseException, "__dict__", error)
    if notes or "__notes__" in attributes:
        attributes["__notes__"] = notes
    _set(error, "__traceback__", None)  # there is one of the worker, with frames of flowkit, if tblib is installed
    return error


def _stand_in(one: _PackedError, members: Sequence[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Return the exception that replaces one that cannot be unpickled: a `RemoteTaskError` or a group.

    It is also an instance of the nearest base class that allows it, so that ``except`` catches it.

    Args:
        one: the packed exception.
        members: its members, if it is a group.
        args: arguments of the `RemoteTaskError`.
    """
    from flowkit_core.errors import RemoteTaskError as Base

    plain = BaseExceptionGroup(one.message, members) if members else Base(*args)
    own = {"__reduce__": lambda _: (Base, args), "__str__": lambda self: self.args[0]}
    for data in one.bases:
        with contextlib.suppress(BaseException):  # incompatible layouts, metaclasses, a class that is not found here
            kind = pickle.loads(data)
            if members:
                error: BaseException = BaseExceptionGroup.__new__(kind, one.message, members)
            else:
                error = kind.__new__(type(Base.__name__, (Base, kind), own))
            error.__dict__.update(plain.__dict__)
            error.args = plain.args
            error.__dict__.setdefault("__notes__", [])
            if _is_usable(error):
                return error
    return plain


# ---- on both sides ---------------------------------------------------------------------------------------------------


def _get(holder: type, name: str, value: Any) -> Any:
    """Return an attribute by the descriptor of a builtin class: the class of the value may override it."""
    return vars(holder)[name].__get__(value)


def _set(error: BaseException, name: str, value: Any) -> None:
    """Set an attribute of an exception: its class may override ``__setattr__``."""
    BaseException.__setattr__(error, name, value)


def _slot_descriptors(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield name and descriptor of the slots of a class of exceptions and of builtin classes."""
    for base in type.mro(kind):
        attributes = _get(type, "__dict__", base)
        if "__slots__" not in attributes and _get(type, "__module__", base) != "builtins":
            continue
        for name, slot in attributes.items():
            if type(slot) is MemberDescriptorType and slot not in _UNCOPIED_SLOTS:
                yield name, slot


def _rebuilt(parts: Any, message: str, members: Sequence[BaseException]) -> BaseException:
    """Return an exception made of its parts, without calling its ``__init__``."""
    kind, args, attributes, slots = parts
    new = partial(BaseExceptionGroup.__new__, kind, message, members) if members else partial(kind.__new__, kind, *args)
    error: BaseException = new()
    _set(error, "args", tuple([*members] if arg is _Members else arg for arg in args))
    _get(BaseException, "__dict__", error).update(attributes)
    for name, slot in _slot_descriptors(kind):
        if name in slots and try_or(lambda slot=slot: slot.__get__(error), _Members) is not slots[name]:  # type: ignore[misc]
            slot.__set__(error, slots[name])
    return error


def _is_usable(error: BaseException) -> bool:
    """Return whether an exception can be formatted, and reading an attribute that it does not have works as usual."""
    return try_or(lambda: bool([*_traceback_lines(error, None)]) and not hasattr(error, "__flowkit__"), otherwise=False)


def _traceback_lines(error: BaseException, trace: Any) -> Iterator[str]:
    """Yield the traceback of one exception, without causes, contexts and members."""
    import traceback

    alone = traceback.TracebackException(type(error), error, trace, _seen=set())
    alone.exceptions = None
    if trace is not None:
        yield _HEADER
        yield from alone.stack.format()
    yield from alone.format_exception_only()
