"""Warnings that are shown by default, with the line of the user's code; and errors and warnings that are collected.

Each rule about pipelines calls `warn`, or `raise_or_collect` in place of ``raise``, and goes on with what is left after
it. While ``Pipeline.check()`` runs, within `Collected`, both add to a list of findings.
"""

from __future__ import annotations

import sys
from _contextvars import ContextVar

from ._stack_frames import user_level
from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import FlowkitError


def warn(message: str, kind: str = "option", task: str | None = None) -> None:
    """Issue a :class:`RuntimeWarning` at the first frame outside flowkit.

    Use it while a pipeline is built; during a run, use :func:`safe_warn`. While ``Pipeline.check()`` runs, the warning
    is one of its problems, and is not issued.

    Args:
        message: the text.
        kind: the kind of problem, for ``check()``.
        task: name of the task concerned, for ``check()``.

    Raises:
        RuntimeWarning: the warning filters turn warnings into errors.
    """
    found = _findings.get()
    if found is not None:
        found.append(Finding(kind, task, message, None))
        return
    import warnings

    warnings.warn(message, RuntimeWarning, stacklevel=user_level())


def safe_warn(message: str) -> None:
    """Issue a :class:`RuntimeWarning` at the first frame outside flowkit, and never raise.

    If the warning filters turn warnings into errors, the warning is printed to standard error instead.
    """
    import warnings

    try:
        try:
            warnings.warn(message, RuntimeWarning, stacklevel=user_level())
        except RuntimeWarning as warning:
            sys.excepthook(RuntimeWarning, warning, None)
    except Exception:  # noqa: S110 - standard error is closed, or a hook of the user's failed
        pass


def safe_warn_at(message: str, filename: str, line: int) -> None:
    """Do what :func:`safe_warn` does, for a line of code that another thread executes."""
    import warnings

    try:
        try:
            warnings.warn_explicit(message, RuntimeWarning, filename, line)
        except RuntimeWarning as warning:
            sys.excepthook(RuntimeWarning, warning, None)
    except Exception:  # noqa: S110 - standard error is closed, or a hook of the user's failed
        pass


# ---- collected errors and warnings -----------------------------------------------------------------------------------


class Finding:
    """One error or warning that was collected.

    Attributes:
        kind: the kind of problem; empty if it follows from the class of the error.
        task: name of the task concerned, or None.
        message: the text.
        error: the error that would have been raised; None for a warning.
    """

    __slots__ = ("error", "kind", "message", "task")

    def __init__(self, kind: str, task: str | None, message: str, error: FlowkitError | None) -> None:
        self.kind = kind
        self.task = task
        self.message = message
        self.error = error


_findings: ContextVar[list[Finding] | None] = ContextVar("flowkit_findings", default=None)


def raise_or_collect(error: FlowkitError, kind: str = "", task: str | None = None) -> None:
    """Raise an error; or, within `Collected`, add it to the findings and return.

    Args:
        error: the error.
        kind: the kind of problem; empty if it follows from the class of the error.
        task: name of the task concerned; None if the error has it as an attribute.
    """
    found = _findings.get()
    if found is None:
        try:
            raise error
        finally:
            del error  # the traceback refers to this frame, which would form a reference cycle with the error
    found.append(Finding(kind, task, str(error), error))


class Collected:
    """Context manager: in it, errors and warnings about pipelines are collected; returns the list of findings."""

    __slots__ = ("_token",)

    def __enter__(self) -> list[Finding]:
        found: list[Finding] = []
        self._token = _findings.set(found)
        return found

    def __exit__(self, *_error: object) -> None:
        _findings.reset(self._token)
