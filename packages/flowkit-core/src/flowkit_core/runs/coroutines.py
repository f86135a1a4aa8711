"""Awaiting a coroutine from synchronous code."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from flowkit_core._typing import Any


async def _do_nothing() -> None:
    """Do nothing."""


_coroutine = _do_nothing()
CoroutineType = type(_coroutine)
"""The type of coroutine objects, without importing :mod:`types`."""
_coroutine.close()
del _coroutine


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a new event loop, and return its result.

    If this thread is already running an event loop, the new loop runs in another thread.
    """
    import asyncio

    if asyncio._get_running_loop() is None:
        return asyncio.run(coroutine)
    return _run_in_thread(coroutine)


def _run_in_thread(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio
    from contextvars import copy_context
    from threading import Thread

    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(coroutine))
        except BaseException as error:
            outcome.extend((None, error))

    thread = Thread(target=copy_context().run, args=(run,), name="flowkit-async", daemon=True)
    thread.start()
    thread.join()
    if len(outcome) == 2:
        raise outcome.pop()  # pop(): the traceback refers to this frame and its list: a reference cycle otherwise
    return outcome[0]
