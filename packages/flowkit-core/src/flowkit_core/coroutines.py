"""Whether a callable returns a coroutine or a generator, and awaiting a coroutine from synchronous code."""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType

from ._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ._typing import Any


CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR = 0x20, 0x80, 0x200
"""Flags of code objects, as in the module inspect, whose import would take longer than that of the core."""


async def _do_nothing() -> None:
    """Do nothing."""


_coroutine = _do_nothing()
CoroutineType = type(_coroutine)
"""The type of coroutine objects, without importing :mod:`types`."""
special_types: set[type] = {CoroutineType}
"""Types that are not results if a function returns them: also `Outcome`, `Skip` and its subclasses in modules."""
_coroutine.close()
del _coroutine


async def awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine. If that is a coroutine, too, it is awaited as well."""
    value = await coroutine
    while type(value) is CoroutineType:
        value = await value  # type: ignore[func-returns-value]
    return value


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a new event loop, and return its result: see `awaited`.

    If this thread is already running an event loop, the new loop runs in another thread.
    """
    import asyncio

    if asyncio._get_running_loop() is None:
        return asyncio.run(awaited(coroutine))
    return _run_in_thread(coroutine)


def _run_in_thread(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio
    from contextvars import copy_context
    from threading import Thread

    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(awaited(coroutine)))
        except BaseException as error:
            outcome.extend((None, error))

    thread = Thread(target=copy_context().run, args=(run,), name="flowkit-async", daemon=True)
    thread.start()
    thread.join()
    if len(outcome) == 2:
        raise outcome.pop()  # pop(): the traceback refers to this frame and its list: a reference cycle otherwise
    return outcome[0]


def code_flags(func: Any) -> int:
    """Return ``co_flags`` of the function that a call executes, through partials, methods and ``__call__``."""
    if type(func) is FunctionType:
        return func.__code__.co_flags
    while True:
        if isinstance(func, partial):
            func = func.func
        elif type(func) is MethodType:
            func = func.__func__
        else:
            break
    if type(func) is not FunctionType and not isinstance(func, type):
        from inspect import getattr_static

        func = getattr_static(type(func), "__call__", None)
    return func.__code__.co_flags if type(func) is FunctionType else 0


def is_coroutine_function(func: Any) -> bool:
    """Return whether a callable is an ``async def`` function, or a partial, method or object that calls one."""
    return bool(code_flags(func) & CO_COROUTINE)


def is_generator_function(func: Any) -> bool:
    """Return whether a call returns a generator."""
    return bool(code_flags(func) & CO_GENERATOR)


def is_async_generator_function(func: Any) -> bool:
    """Return whether a call returns an asynchronous generator."""
    return bool(code_flags(func) & CO_ASYNC_GENERATOR)
