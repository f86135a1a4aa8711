"""Exceptions of failed runs: the one to raise, its notes, its traceback and its description."""

from __future__ import annotations

from ._text import counted, escape_control_chars, short_repr
from ._typing import TYPE_CHECKING
from .errors import RemoteTaskError, Skip

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import FrameType

    from ._typing import Any

CALLERS = ("flowkit_core.", "flowkit_exec.", "asyncio.")
"""Prefixes of the modules that call users' functions during a run."""

_TRACEBACK: Any = vars(BaseException)["__traceback__"]  # bypasses an attribute ``__traceback__`` of a subclass
_CONTEXT: Any = vars(BaseException)["__context__"]
_CAUSE: Any = vars(BaseException)["__cause__"]
_MEMBERS: Any = vars(BaseExceptionGroup)["exceptions"]
_MAY_BE_SUSPENDED = 0x20 | 0x80 | 0x200  # CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR


class Failure:
    """One failed task of a run.

    Attributes:
        task: name of the task.
        error: exception of the last attempt.
        attempts: number of attempts.
        retries: the option ``retries`` of the task.
    """

    __slots__ = ("attempts", "error", "retries", "task")

    def __init__(self, task: str, error: BaseException, attempts: int, retries: int) -> None:
        self.task = task
        self.error = error
        self.attempts = attempts
        self.retries = retries

    def note(self, pipeline: str) -> str:
        """Return a note with the task, the pipeline and the number of attempts."""
        if self.attempts <= self.retries:
            after = f"on attempt {self.attempts} of {self.retries + 1}"
        else:
            after = f"after {self.attempts} attempts" if self.attempts > 1 else "on its only attempt"
        return f"flowkit: task {self.task!r} of {pipeline!r} failed {after}"


def first_of(pipeline: str, failures: Sequence[Failure], circumstances: str) -> BaseException:
    """Return the exception that a stopped run raises: that of the first failure, with notes on the others.

    A KeyboardInterrupt or SystemExit takes precedence over an earlier failure.

    Args:
        pipeline: name of the pipeline.
        failures: the failures, in order.
        circumstances: how many of the other tasks had succeeded, were running and did not start.
    """
    first = next((failure for failure in failures if not isinstance(failure.error, Exception)), failures[0])
    add_note(first.error, f"{first.note(pipeline)}; {circumstances}")
    for other in failures:
        if other is not first:
            add_note(first.error, f"{other.note(pipeline)} too: {describe_error(other.error)}")
    return first.error


def all_of(pipeline: str, failures: Sequence[Failure]) -> ExceptionGroup:
    """Return the exception that a run with ``fail_fast=False`` raises: a group of all failures."""
    for failure in failures:
        add_note(failure.error, failure.note(pipeline))
    names = [repr(failure.task) for failure in failures]
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    errors = [failure.error for failure in failures if isinstance(failure.error, Exception)]
    return ExceptionGroup(f"{counted(len(names), 'task')} of {pipeline!r} failed: {listed}", errors)


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, unless it has the same note or accepts none."""
    try:
        notes = getattr(error, "__notes__", None)
        if notes is None:
            BaseException.__setattr__(error, "__notes__", [note])  # also of a frozen dataclass
        elif note not in notes:
            BaseException.add_note(error, note)
    except Exception:  # noqa: S110 - an exception that accepts no notes is raised without it
        pass


def strip_traceback(error: BaseException) -> None:
    """Remove the leading frames of flowkit and asyncio from the traceback of an error.

    The traceback then begins with the frame of a task, a condition or a store. The removed frames are the same for
    every error; their local variables refer to the run, which refers to the error: a reference cycle.
    """
    trace = _TRACEBACK.__get__(error)
    while trace is not None and _is_caller(trace.tb_frame):
        trace = trace.tb_next
    _TRACEBACK.__set__(error, trace)


def drop_tracebacks(error: BaseException) -> None:
    """Remove the tracebacks of an error, and of the errors that it refers to.

    The function that raised an error may have it in a local variable: then the frames of the traceback and the error
    form a reference cycle, which only the garbage collector frees.
    """
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        _TRACEBACK.__set__(each, None)
        left += _CONTEXT.__get__(each), _CAUSE.__get__(each)
        if issubclass(type(each), BaseExceptionGroup):
            left += _MEMBERS.__get__(each)


def clear_frames(errors: Iterable[BaseException]) -> None:
    """Clear the local variables of the flowkit frames that called the functions which raised these errors.

    A frame refers to its caller even after both have ended, so a traceback keeps frames alive that it does not show.
    Frames that are still executing, and their callers, are not cleared.
    """
    for error in errors:
        trace = _TRACEBACK.__get__(error)
        frame = None if trace is None else trace.tb_frame.f_back
        try:
            while frame is not None and _is_caller(frame):
                if not frame.f_code.co_flags & _MAY_BE_SUSPENDED:  # clear() would close a suspended one
                    frame.clear()
                frame = frame.f_back
        except RuntimeError:  # the frame is executing
            continue


def _is_caller(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and name.startswith(CALLERS)


def describe_error(error: BaseException) -> str:
    """Return class and message of an exception, such as ``"ValueError: no rows"``, shortened. Never raises."""
    name, text = "an exception", "<unprintable>"
    try:
        name = str.__str__(type(error).__name__)  # of a metaclass, which may return anything
        if isinstance(error, RemoteTaskError):  # its own message has the traceback
            name, text = error.type_name.rpartition(".")[2], error.text
        else:
            text = str.__str__(str(error))  # str() may return an instance of a subclass
        if len(text) > 500:
            text = f"{text[:400]}...{text[-80:]}"
    except BaseException:  # noqa: S110 - code of the exception's class failed: use what is known
        pass
    return f"{name}: {text}" if text else name


def skip_reason(error: BaseException) -> str | None:
    """Return why an exception of a task skips it; None if it is a failure. Never raises."""
    kind = type(error)  # isinstance() would read __class__, which may be overridden
    if not issubclass(kind, (Skip, BaseExceptionGroup)):
        return None
    try:
        if isinstance(error, BaseExceptionGroup):
            reasons = [skip_reason(each) for each in _members(error)]
            return None if None in reasons else reasons[0]
        text = escape_control_chars(error.text if isinstance(error, RemoteTaskError) else str(error))
    except Exception:  # of a subclass
        text = ""
    return (text or "it raised Skip") if issubclass(kind, Skip) else None


def returned_skip(task: str, value: Skip) -> TypeError:
    """Return the error of a task that returned a `Skip`."""
    how = short_repr(value)
    return TypeError(f"task {task!r} returned {how}, which skips nothing: write raise {how}")


def refuse_skip(task: str, value: Any) -> Any:
    """Return what a task or its condition returned; raise a TypeError if it is a `Skip`."""
    if issubclass(type(value), Skip):
        raise returned_skip(task, value)
    return value


def _members(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return the exceptions in a group and in its groups, each once: groups may share members."""
    found: list[BaseException] = [group]
    for error in found:  # grows while it is read
        if isinstance(error, BaseExceptionGroup):
            known = set(map(id, found))
            found += {id(each): each for each in error.exceptions if id(each) not in known}.values()
    return [error for error in found if not isinstance(error, BaseExceptionGroup)]
