"""Awaiting a coroutine from synchronous code."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from flowkit_core._typing import Any


async def _nothing() -> None:
    """Do nothing."""


_made = _nothing()
CoroutineType = type(_made)
"""The type of coroutine objects, without importing :mod:`types`."""
_made.close()
del _made


def run_coroutine(made: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a new event loop, and return its result.

    If this thread is already running an event loop, the new loop runs in another thread.
    """
    import asyncio

    if asyncio._get_running_loop() is None:
        return asyncio.run(made)
    return _run_in_thread(made)


def _run_in_thread(made: Coroutine[Any, Any, Any]) -> Any:
    import asyncio
    from contextvars import copy_context
    from threading import Thread

    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(asyncio.run(made))
        except BaseException as error:
            outcome.extend((None, error))

    thread = Thread(target=copy_context().run, args=(work,), name="flowkit-async", daemon=True)
    thread.start()
    thread.join()
    if len(outcome) == 2:
        raise outcome.pop()  # pop: the traceback refers to this frame and its list, which would form a reference cycle
    return outcome[0]
