"""Class `Watchdog`, which warns of tasks that block their event loop; and a warning of ``run()`` in an event loop."""

from __future__ import annotations

import asyncio
import sys

from flowkit_core._stack_frames import module_name, package_name
from flowkit_core._text import counted
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core._warnings import safe_warn, safe_warn_at
from flowkit_core.context import variable

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Callable
    from types import FrameType

    from flowkit_core._typing import Any

INTERVAL = 0.5
"""Seconds between two checks."""
BLOCKED_AFTER = 1.0
"""Duration, in seconds, of one step of a task from which the watchdog warns that it blocks its loop."""

_CALLERS = (
    ("asyncio.events", "_run"),
    ("flowkit_core.runs.call", "invoke_async"),
    ("flowkit_core.runs.event_loop.lane", "_make_call"),
    ("flowkit_core.runs.event_loop.shared_loop", "_run"),
)
"""Modules and functions that call the first function of a task."""


class Watchdog:
    """Checks, from another thread, whether an event loop goes on.

    Args:
        loop: the event loop.

    Attributes:
        thread: id of the thread of the loop; None as long as it is not known.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.thread: int | None = None
        self._loop = loop
        self._has_answered = True
        self._suspect: Task[Any] | None = None  # the task that ran at the last check, if the loop had not gone on
        self._since = 0.0
        self._warned: Task[Any] | None = None

    def check(self, now: float, name_of: Callable[[Any], str | None]) -> None:
        """Schedule a callback in the loop; warn if one task has kept it from running for `BLOCKED_AFTER` seconds.

        Args:
            now: the time in seconds.
            name_of: returns the name of the flowkit task that a task of the loop belongs to; None if there is none.

        Raises:
            RuntimeError: the loop is closed.
        """
        if self._has_answered:
            self._has_answered = False
            self._suspect = None
            self._loop.call_soon_threadsafe(self._answer)
            return
        task = asyncio.current_task(self._loop)
        if task is None or task is not self._suspect:
            self._suspect, self._since = task, now
        elif now - self._since >= BLOCKED_AFTER and task is not self._warned:
            self._warned = task
            self._warn(name_of(task) or _name_in_context(task))

    def close(self) -> None:
        """Drop the references to tasks."""
        self._suspect = self._warned = None

    def _answer(self) -> None:
        self._has_answered = True

    def _warn(self, name: str | None) -> None:
        frame = sys._current_frames().get(self.thread or 0)
        if name is None or frame is None:
            return
        found, calls_run = _user_frame(frame)
        remedy = "write await pipeline.arun()" if calls_run else "await it, or call it in a thread: asyncio.to_thread()"
        safe_warn_at(
            f"async task {name!r} blocks its event loop: what this line calls has not returned for more than "
            f"{BLOCKED_AFTER:g} s, and no other async task can go on meanwhile; {remedy}",
            found.f_code.co_filename,
            found.f_lineno,
        )


def _name_in_context(task: Any) -> str | None:
    """Return the name of the flowkit task that has started a task of a loop, from Python 3.12 on."""
    get_context = getattr(task, "get_context", None)
    context = get_context().get(variable) if get_context is not None else None
    return None if context is None else context.task


def _user_frame(frame: FrameType) -> tuple[FrameType, bool]:
    """Return the frame of the function that the event loop called, and whether it calls ``run()``."""
    each: FrameType | None = frame
    found, calls_run = frame, False
    while each is not None:
        caller = module_name(each), each.f_code.co_name
        if caller in _CALLERS:
            break
        calls_run |= caller == ("flowkit_core.pipelines.pipeline", "run")
        if package_name(each) != "flowkit_core":
            found = each
        each = each.f_back
    return found, calls_run


def warn_of_run_in_loop(loop: AbstractEventLoop, seconds: float) -> None:
    """Warn that ``run()`` has blocked the event loop of the calling thread, if other tasks have waited in it for long.

    There is no warning in a notebook, whose loop waits for each cell anyway.

    Args:
        loop: the event loop.
        seconds: how long the run has taken.
    """
    if seconds < BLOCKED_AFTER or "ipykernel" in sys.modules:
        return
    others = len(asyncio.all_tasks(loop)) - 1
    if others > 0:
        safe_warn(
            f"run() has blocked the event loop of this thread for {seconds:.1f} s, in which "
            f"{counted(others, 'other task')} could not go on: write await pipeline.arun()"
        )
