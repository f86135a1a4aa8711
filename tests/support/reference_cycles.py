"""Objects in reference cycles, which only the cyclic garbage collector frees."""

from __future__ import annotations

import gc
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Tasks and their neighbors, which refer to each other, are of other modules.
_OF_RUNS = ("flowkit_exec.", "flowkit_core.runs.", "flowkit_core.results", "flowkit_core.executors.executor")


def find_garbage(is_wanted: Callable[[object], bool]) -> list[object]:
    """Return those of the wanted objects that only the collector can free, and free them."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return [thing for thing in gc.garbage if is_wanted(thing)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def garbage_of_runs(*errors: type[BaseException]) -> list[object]:
    """Return the errors, frames and objects of runs that only the collector can free.

    Args:
        errors: classes of exceptions that tasks have raised.
    """

    def is_of_a_run(thing: object) -> bool:
        if isinstance(thing, FrameType):
            return thing.f_globals["__name__"].startswith(("flowkit_core.", "flowkit_exec."))
        return isinstance(thing, (*errors, ExceptionGroup)) or type(thing).__module__.startswith(_OF_RUNS)

    return find_garbage(is_of_a_run)
