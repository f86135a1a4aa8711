"""What travels between a run and its worker processes: frames, values, large values in shared memory, exceptions.

Everything here is used on both sides. Nothing that fails to pickle or to unpickle gets out as anything but the outcome
of the one task that it belongs to.

A large value goes into an anonymous segment of shared memory whose file descriptor is sent along. It has no name, so
the operating system frees it with its last user, whatever way that one ended. It is mapped copy-on-write: every task
sees a value of its own, and only the pages that a task changes are ever copied.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import struct
import sys
import weakref
from io import BytesIO
from typing import TYPE_CHECKING, Any

from flowkit_core import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PROTOCOL = 5
DEPTH = "FLOWKIT_DEPTH"
"""The environment variable that says how deep process workers are nested in one another."""

LARGE = 64 * 1024
"""Values whose pickle has at least so many bytes travel in shared memory."""

HEADER = struct.Struct("<QBBxxQd")
"""Length of what follows, kind, number of file descriptors, ticket, seconds."""

TICKET = struct.Struct("<Q")

# to a worker
RUN, FUNCTION, BATCH = range(3)
# items of a batch: how the arguments are given
BY_POSITION, BY_NAME, SHARED, PREVIOUS, AFTER = range(5)
# from a worker
READY, STARTED, VALUE, SEGMENT, ERROR, UNFIT, VOID, LOG, ASTRAY = range(10, 19)

MOST_DESCRIPTORS = 64
"""How many file descriptors are sent with one call; further large values go the ordinary way."""

Layout = tuple[int, tuple[tuple[int, int], ...]]


def frame(kind: int, payload: bytes = b"", ticket: int = 0, seconds: float = 0.0, descriptors: int = 0) -> bytes:
    """Return a frame."""
    return HEADER.pack(len(payload), kind, descriptors, ticket, seconds) + payload


# ---- surroundings ----------------------------------------------------------------------------------------------------


def folder() -> str | None:
    """Return the current folder; None if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def environment() -> dict[bytes, bytes]:
    """Return the environment variables, as they are kept: a copy of ``os.environ`` takes fifty times as long."""
    kept: dict[bytes, bytes] = os.environb._data  # type: ignore[attr-defined]
    return kept


# ---- values ----------------------------------------------------------------------------------------------------------

interactive = False
"""Whether this is a worker of an interactive session: there is no script to import the session's classes from."""


def dumps(value: Any, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
    """Return the pickle of a value: by value, where it needs to be and can be."""
    try:
        return pickle.dumps(value, PROTOCOL, buffer_callback=None if buffers is None else buffers.append)
    except Exception:
        if not interactive or (by_value := _cloudpickle()) is None:
            raise
    if buffers is None:
        return by_value(value, PROTOCOL)
    buffers.clear()
    return by_value(value, PROTOCOL, buffers.append)


def _cloudpickle() -> Callable[..., bytes] | None:
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ModuleNotFoundError:
        return None
    found: Callable[..., bytes] = cloudpickle.dumps
    return found


def encode(value: Any, dumps: Callable[..., bytes] = dumps) -> bytes | tuple[int, Layout]:
    """Return the pickle of a value; for a large one, the descriptor and layout of a segment that holds it."""
    buffers: list[pickle.PickleBuffer] = []
    data = dumps(value, buffers)
    if not buffers and len(data) < LARGE:
        return data
    try:
        views = [buffer.raw() for buffer in buffers]
    except BufferError:  # not contiguous: let pickle make a copy
        data, views = dumps(value), []
    if len(data) + sum(view.nbytes for view in views) < LARGE:
        return dumps(value) if views else data
    return write_segment(data, views)


def write_segment(data: bytes, views: Sequence[memoryview] = ()) -> tuple[int, Layout]:
    """Write a pickle and its buffers, each at a multiple of 64 bytes, into a new segment; return both facts of it."""
    descriptor = _anonymous()
    try:
        spans = []
        end = _write(descriptor, memoryview(data), 0)
        for view in views:
            start = (end + 63) & ~63
            end = _write(descriptor, view, start)
            spans.append((start, end))
        os.ftruncate(descriptor, max(end, 1))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, (len(data), tuple(spans))


def _anonymous() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("flowkit", os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write(descriptor: int, view: memoryview, start: int) -> int:
    view = view.cast("B") if view.nbytes else view[:0]
    done = 0
    while done < view.nbytes:
        done += os.pwrite(descriptor, view[done : done + (1 << 30)], start + done)
    return start + done


def read_segment(descriptor: int, layout: Layout) -> Any:
    """Return the value in a segment, backed by a private mapping of it. The descriptor may be closed afterwards."""
    length, spans = layout
    size = max([length, *(end for _, end in spans), 1])
    view = _mapped(descriptor, size)
    return pickle.loads(view[:length], buffers=[view[start:end] for start, end in spans])


_UNTRACKED: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
_mappings: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def _mapped(descriptor: int, size: int) -> memoryview:
    """Return the bytes of a segment: a private mapping, or a copy where every mapping would keep a descriptor open."""
    if _UNTRACKED or len(_mappings) < descriptor_budget():
        mapping = mmap.mmap(
            descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE, **_UNTRACKED
        )
        if not _UNTRACKED:
            _mappings.add(mapping)
        return memoryview(mapping)
    copy = memoryview(bytearray(size))
    done = 0
    while done < size:
        done += os.preadv(descriptor, [copy[done : done + (1 << 30)]], done) or size
    return copy


def descriptor_budget() -> int:
    """Return how many file descriptors may be spent on large values: a quarter of what this process may have open."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1024 if soft == resource.RLIM_INFINITY else max(8, min(1024, soft // 4))


class SharingPickler(pickle.Pickler):
    """Pickles arguments, and leaves out those that lie in segments: it notes which, to send their descriptors along."""

    def __init__(self, file: BytesIO, segments: dict[int, Any]) -> None:
        super().__init__(file, PROTOCOL)
        self._segments = segments
        self.used: list[Any] = []

    def persistent_id(self, value: Any) -> int | None:
        """Return the number of the segment that a value lies in."""
        segment = self._segments.get(id(value))
        if segment is None or len(self.used) == MOST_DESCRIPTORS:
            return None
        self.used.append(segment)
        return len(self.used) - 1


class SharingUnpickler(pickle.Unpickler):
    """Unpickles arguments, some of which lie in segments."""

    def __init__(self, data: bytes, descriptors: Sequence[int], layouts: Sequence[Layout]) -> None:
        super().__init__(BytesIO(data))
        self._shared = list(zip(descriptors, layouts, strict=True))

    def persistent_load(self, number: int) -> Any:
        """Return the value in the segment of that number."""
        return read_segment(*self._shared[number])


# ---- exceptions ------------------------------------------------------------------------------------------------------


class RemoteTraceback(Exception):  # noqa: N818 - it is shown as a cause, and names what it shows
    """Shows, as the cause of an exception, the traceback that it had in the worker process."""

    def __init__(self, text: str) -> None:
        super().__init__(text)

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


LONGEST_TEXT = 1 << 20


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
    text = _safe(lambda: str(error))
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
        return type(other) is kind and len(other.args) == len(error.args)

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
            del kept[name]
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
    there = getattr(error, "__notes__", ())
    for note in notes:
        if note not in there:  # a __reduce__ of the user's leaves them out
            BaseException.add_note(error, note)
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
        BaseException.add_note(error, f"flowkit: what could not travel from the worker process: {', '.join(lost)}")
    return error


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
    return _clipped(text)


def described(error: BaseException) -> str:
    """Return the type and the message of an exception, whatever its class does when it is asked."""
    return _safe(lambda: failure.described(error))


def kind_of(value: Any) -> str:
    """Return the name of the type of a value, whatever that does when it is asked."""
    return _safe(lambda: type(value).__name__)


def shown(value: Any) -> str:
    """Return ``repr(value)``, whatever it does."""
    return _safe(lambda: repr(value))


def _safe(text: Callable[[], str]) -> str:
    try:
        return _clipped(str(text()))
    except BaseException:
        return "<unprintable>"


def _clipped(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2
    return f"{text[:half]}\n... ({len(text) - LONGEST_TEXT} characters left out) ...\n{text[-half:]}"
