"""Generators and coroutines: find the one that a frame belongs to."""

from __future__ import annotations

import gc
import sys
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from weakref import ref

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from flowkit_core._typing import Any

_FRAMES = {GeneratorType: "gi_frame", CoroutineType: "cr_frame", AsyncGeneratorType: "ag_frame"}


def coroutine_of_event_loop(frame: FrameType) -> ref[Any] | None:
    """Return a weak reference to the coroutine of a frame, if the current task of an event loop awaits it."""
    asyncio = sys.modules.get("asyncio")
    try:
        each = asyncio.current_task().get_coro() if asyncio is not None else None
    except (AttributeError, RuntimeError):  # no task, no loop, or asyncio is being imported
        return None
    while isinstance(each, CoroutineType):
        if each.cr_frame is frame:
            return ref(each)
        each = each.cr_await
    return None


def generator_of(code: CodeType, frame_id: int) -> Any:
    """Return the generator or coroutine that has not ended of a code object, given the id of its frame; else None."""
    found = (each for each in gc.get_referrers(code) if type(each) in _FRAMES)
    return next((each for each in found if id(frame_in(each)) == frame_id), None)


def frame_in(generator: Any) -> FrameType | None:
    """Return the frame of a generator or coroutine; None if it has ended."""
    return None if generator is None else getattr(generator, _FRAMES[type(generator)])
