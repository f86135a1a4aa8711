"""Refusal of runs while a module is imported for what it defines: by a worker, or by a command."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

from flowkit_core._stack_frames import PACKAGES, package_name
from flowkit_core.pipelines import pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class RunDuringImport(BaseException):
    """Raised by ``run()`` while a module is imported for what it defines. No ``except Exception`` catches it.

    Args:
        reason: message of the exception.

    Attributes:
        file: file of the top-level statement that led to ``run()``.
        line: number of its line.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        frame = sys._getframe(1)
        while frame.f_back is not None and (frame.f_code.co_name != "<module>" or package_name(frame) in PACKAGES):
            frame = frame.f_back
        self.file, self.line = frame.f_code.co_filename, frame.f_lineno


_importing_threads: WeakSet[threading.Thread] = WeakSet()


@contextmanager
def runs_forbidden(reason: str) -> Iterator[None]:
    """Make ``run()`` raise `RunDuringImport` in the block, and later in the threads that the block has started.

    Args:
        reason: message of the exception.
    """
    before, outer = set(threading.enumerate()), pipeline.forbidden
    pipeline.forbidden = lambda: RunDuringImport(reason)
    hook, threading.excepthook = threading.excepthook, _without_forbidden_runs(threading.excepthook)
    try:
        yield
    finally:
        _importing_threads.update(set(threading.enumerate()) - before)
        pipeline.forbidden = outer or (
            lambda: RunDuringImport(reason) if threading.current_thread() in _importing_threads else None
        )
        if not _importing_threads:
            threading.excepthook = hook


def _without_forbidden_runs(
    hook: Callable[[threading.ExceptHookArgs], object],
) -> Callable[[threading.ExceptHookArgs], object]:
    """Return a ``threading.excepthook`` that does not print `RunDuringImport`."""
    return lambda args: None if args.exc_type is RunDuringImport else hook(args)
