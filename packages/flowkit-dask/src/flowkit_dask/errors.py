"""Exceptions that pass from workers to the client: those of tasks, packed, and those of workers that cannot run any."""

from __future__ import annotations

import pickle
import traceback
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from flowkit_core import RemoteTaskError
from flowkit_core._text import escape_control_chars
from flowkit_core.failures import describe_error

from .pickling import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CHAIN = 20
"""Maximum number of causes and contexts that are sent with an exception."""


class CallFailedError(Exception):
    """Raised on a worker in place of the exception of a task: it can always be sent.

    Args:
        packed: the exception, from :func:`pack_error`.
        retryable: whether the retries of the task apply.
        text: what the log of the worker and the dashboard show.
    """

    def __init__(self, packed: bytes, retryable: bool, text: str) -> None:
        super().__init__(packed, retryable, text)
        self.packed, self.retryable, self.text = packed, retryable, text

    def __str__(self) -> str:
        return self.text


class WorkerMismatchError(Exception):
    """Raised on a worker that has another version of Python or of flowkit than the client."""


class RemoteTraceback(Exception):  # noqa: N818 - the name is shown in tracebacks, and says what follows
    """The traceback that an exception had on the worker, as text; the cause of the exception."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def pack_error(error: BaseException, task: str) -> bytes:
    """Return an exception with its causes and contexts as bytes for :func:`unpack_error`. Does not raise."""
    chain = list(_chain(error))
    text = _text(lambda: "".join(traceback.format_exception(error)))
    packed = [(link, _packed(each, task, text)) for link, each in chain]
    return pickle.dumps((packed, text))


def _chain(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """Yield an exception and those that led to it, each with ``"cause"`` or ``"context"``: what the next one is."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen and len(seen) < MAX_CHAIN:
        seen.add(id(each))
        following = each.__cause__
        link = "cause"
        if following is None and not each.__suppress_context__:
            link, following = "context", each.__context__
        yield link, each
        each = following


def _packed(error: BaseException, task: str, traceback_text: str) -> bytes:
    """Return the pickle of an exception without causes; of a `RemoteTaskError` if it cannot be unpickled."""
    try:
        data = dumps(error)
        found = pickle.loads(data)
        if type(found).__qualname__ == type(error).__qualname__ and str(found) == str(error):
            return data
        reason = "its pickle is another exception"
    except BaseException as problem:
        reason = summary(problem)
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    remote = RemoteTaskError(task, name, _text(lambda: str(error)), traceback_text, reason)
    for note in getattr(error, "__notes__", ()):
        remote.add_note(str(note))
    return pickle.dumps(_Rebuilt(remote))


class _Rebuilt:
    """A `RemoteTaskError` with its notes, pickled by its parts."""

    def __init__(self, error: RemoteTaskError) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        error = self.error
        facts = error.task, error.type_name, error.text, error.traceback_text, error.reason
        return _rebuild, (facts, list(getattr(error, "__notes__", ())))


def _rebuild(facts: tuple[str, str, str, str, str], notes: list[str]) -> RemoteTaskError:
    error = RemoteTaskError(*facts)
    for note in notes:
        error.add_note(note)
    return error


def unpack_error(data: bytes, task: str) -> BaseException:
    """Return the exception that :func:`pack_error` has packed, with its traceback as text."""
    packed, text = pickle.loads(data)
    errors: list[tuple[str, BaseException]] = []
    for link, pickled in packed:
        try:
            error = pickle.loads(pickled)
        except BaseException as problem:
            error = RemoteTaskError(task, "an exception", "", text, summary(problem))
        errors.append((link, error))
    for (link, error), (_, following) in pairwise(errors):
        setattr(error, f"__{link}__", following)
    last = errors[-1][1]
    if not isinstance(last, RemoteTaskError):
        last.__cause__ = RemoteTraceback(text)
    return errors[0][1]


def summary(error: BaseException) -> str:
    """Return type and message of an exception on one line. Never raises."""
    return escape_control_chars(_text(lambda: describe_error(error)))


def _text(make: Any) -> str:
    try:
        return str(make())
    except BaseException:
        return "<unprintable>"
