"""Frames of calls: walk the stack, find the first frame outside flowkit, and read local variables."""

from __future__ import annotations

import sys

from flowkit_core._stack_frames import PACKAGES, module_name
from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from flowkit_core._typing import Any

LOCAL_KEY = "<flowkit>"  # not an identifier: cannot collide with a local variable
"""Key of the entry of ``frame.f_locals`` that holds the token of a call."""
CO_OPTIMIZED = 0x1
"""inspect.CO_OPTIMIZED: the code of a function, not of a module or a class body."""
CO_GENERATORS = 0x20 | 0x200
"""inspect.CO_GENERATOR and CO_ASYNC_GENERATOR."""
CO_COROUTINES = 0x80 | 0x100 | 0x200
"""Coroutines, coroutines made of generators, async generators."""

# Packages that start threads, jobs and callbacks: tasks and edges are not passed to their frames.
_STARTERS = frozenset(("asyncio", "concurrent", "multiprocessing", "threading"))
# flowkit code that is executed while users build pipelines
_BUILDERS = ("flowkit_core.graphs.", "flowkit_core.pipelines.", "flowkit_flow.")
_LIKE_USERS = (*_BUILDERS, "flowkit_core.conformance.checks.")  # flowkit code through which tasks are passed on


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and its callers, nearest first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def callers(frame: FrameType) -> Iterator[FrameType]:
    """Yield a frame and its callers, up to the start of the thread, job or event-loop task."""
    for each in frames(frame):
        if is_start(each):
            return
        yield each
        above = each.f_back
        if each.f_code.co_flags & CO_COROUTINES and not (above is not None and above.f_code.co_flags & CO_COROUTINES):
            return


def on_stack(current: FrameType, frame_id: int) -> FrameType | None:
    """Return the executing frame with an id, or None."""
    return next((frame for frame in frames(current) if id(frame) == frame_id), None)


def is_start(frame: FrameType) -> bool:
    """Return whether a frame belongs to code that starts threads, jobs or event-loop tasks."""
    name = module_name(frame)
    package = name.partition(".")[0]
    return package in _STARTERS or (package in PACKAGES and not name.startswith(_LIKE_USERS))


def outside_builders(frame: FrameType | None) -> FrameType | None:
    """Return the first frame outside the flowkit code that builds pipelines; None if there is none."""
    while frame is not None and module_name(frame).startswith(_BUILDERS):
        frame = frame.f_back
    return frame


def user_frame(frame: FrameType | None) -> FrameType:
    """Return what :func:`outside_builders` returns, for functions that users call.

    Raises:
        RuntimeError: there is no such frame.
    """
    found = outside_builders(frame)
    if found is None:
        raise RuntimeError("no Python frame calls flowkit: create tasks and pipelines from a Python function or module")
    return found


def creating_frame(frame: FrameType | None, made: object) -> FrameType | None:
    """Return the first frame outside flowkit that is not one of a constructor of an object; None if there is none."""
    found = outside_builders(frame)
    while found is not None and is_constructor_of(found, made):
        found = found.f_back
    return found


def is_constructor_of(frame: FrameType, made: object) -> bool:
    """Return whether a frame executes the constructor of an object."""
    code = frame.f_code
    if code.co_name not in ("__init__", "__post_init__") or not code.co_varnames:
        return False
    first = local_variable(frame, code.co_varnames[0 if code.co_argcount else code.co_kwonlyargcount])
    if not code.co_argcount and isinstance(first, tuple) and first:  # of *args
        first = first[0]
    return first is made


def local_variable(frame: FrameType, name: str) -> Any:
    """Return the value of a local variable of a frame; None if it is not set."""
    names: Any = frame.f_locals
    found = names.get(name)
    clear_locals(names)
    return found


def variables(frame: FrameType) -> list[Any]:
    """Return the values of the local variables of a frame, without keeping them alive after the call."""
    names: Any = frame.f_locals
    found = list(names.values())
    if frame.f_code.co_flags & CO_OPTIMIZED:
        clear_locals(names)
    return found


def clear_locals(names: Any) -> None:
    """Remove all but the token from ``frame.f_locals``, unless tracing is on.

    Until Python 3.12 it is a copy of the local variables, which would keep each of them alive. When a trace function
    returns, the interpreter assigns the copy to the variables of the traced frame, so then it must be complete.
    """
    # a higher count: another reference uses the dict
    if type(names) is dict and sys.getrefcount(names) <= 4 and sys.gettrace() is None:
        token = names.get(LOCAL_KEY)
        names.clear()
        if token is not None:
            names[LOCAL_KEY] = token
