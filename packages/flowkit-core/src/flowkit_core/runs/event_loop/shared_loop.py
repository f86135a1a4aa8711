"""The event loop of the process, which the async tasks of all runs share; `run_in_loop` awaits a coroutine there."""

from __future__ import annotations

import asyncio
import atexit
import os
from _thread import allocate_lock
from contextlib import suppress
from contextvars import Context, copy_context
from threading import Thread
from time import monotonic

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.coroutines import awaited
from flowkit_core.errors import ExecutorError
from flowkit_core.failures import describe_error
from flowkit_core.runs.time_limit import CANCEL_GRACE
from flowkit_core.runs.wake_up import WakeUp

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Coroutine

    from flowkit_core._typing import Any

    from .caller import AsyncCaller

CLOSE_TIMEOUT = 5.0
"""Seconds that tasks may take to end after they were cancelled because their loop is to be closed."""


class LoopThread:
    """An event loop in a daemon thread of its own.

    The thread ends only when the loop is closed or parked. An exception that leaves the loop, such as SystemExit of a
    task that a coroutine has created, does not end it.

    Args:
        is_shared: whether it is the loop of the process; another one is closed after its last use.

    Attributes:
        loop: the event loop.
        users: number of runs and calls that use the loop now.
        is_shared: see above.
    """

    def __init__(self, *, is_shared: bool) -> None:
        self.users = 0
        self.is_shared = is_shared
        self._process = os.getpid()
        # in an empty context: the loop keeps it, and that of a task would refer to its run
        self.loop: AbstractEventLoop = Context().run(asyncio.new_event_loop)
        self._thread: Thread | None = None  # the last one that was started
        self._has_started = False  # whether its start() has returned, which Ctrl-C may interrupt
        self._turn = allocate_lock()  # held by the thread that runs the loop
        self._is_stopping = False

    def start(self) -> None:
        """Start the thread, unless it runs.

        Raises:
            RuntimeError: the system cannot start more threads, or the interpreter is exiting.
        """
        if not self._has_started:
            self._is_stopping = False
            self._thread = Thread(target=self._run, name="flowkit-async", daemon=True)
            self._thread.start()
            self._has_started = True

    def _run(self) -> None:
        with self._turn:  # a thread whose start was interrupted may have begun nevertheless
            asyncio.set_event_loop(self.loop)
            while not self._is_stopping:
                with suppress(BaseException):
                    self.loop.run_forever()

    def park(self) -> None:
        """End the thread, and keep the loop: :meth:`start` continues it."""
        if self._thread is not None:
            self._is_stopping = True
            self.loop.call_soon_threadsafe(self.loop.stop)
            if self._thread.ident is not None:
                self._thread.join()
            self._thread, self._has_started = None, False

    def is_idle(self) -> bool:
        """Return whether no run uses the loop, and no task is left on it."""
        return not self.users and not asyncio.all_tasks(self.loop)

    def close(self) -> None:
        """Cancel all tasks, close asynchronous generators and the default executor, and close the loop."""
        loop = self.loop
        if loop.is_closed() or self._process != os.getpid():
            return
        if self._thread is None or self._thread.ident is None:
            loop.run_until_complete(_shut_down())
            loop.close()
            return
        ended = asyncio.run_coroutine_threadsafe(_shut_down(), loop)
        with suppress(Exception):  # a task that does not end is left alone, with its thread
            ended.result(CLOSE_TIMEOUT)
            self.park()
            loop.close()


async def _shut_down() -> None:
    """End what the loop of this coroutine runs, in the order of :func:`asyncio.run`."""
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    for error in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(error, Exception):
            loop.call_exception_handler({"message": "exception while the event loop is closed", "exception": error})
    await loop.shutdown_asyncgens()
    with suppress(RuntimeError):  # no thread can start any more; those of the executor have ended
        await loop.shutdown_default_executor()


_lock = allocate_lock()
_shared: LoopThread | None = None
_inherited: list[LoopThread] = []  # in a fork: the loop of the process that was forked


def acquire_loop() -> LoopThread:
    """Return the loop of the process, started; :func:`release_loop` must follow.

    In the thread of that loop, where a task calls ``run()`` and blocks it, return a loop that is closed when it is
    released.

    Raises:
        ExecutorError: the loop cannot be started, for example because the program ends.
    """
    global _shared
    with _lock:
        try:
            if _shared is None:
                _shared = LoopThread(is_shared=True)
                atexit.register(_close_shared)
            found = _shared
            if asyncio._get_running_loop() is found.loop:
                found = LoopThread(is_shared=False)
            found.start()
        except Exception as error:
            raise ExecutorError(f"the event loop for async tasks cannot be started: {describe_error(error)}") from error
        found.users += 1
        return found


def release_loop(found: LoopThread) -> None:
    """Declare that a run or a call does not use a loop any more."""
    with _lock:
        found.users -= 1
        is_over = not (found.is_shared or found.users)
    if is_over:
        found.close()


def park_loop() -> bool:
    """End the thread of the loop of the process, if no run uses it; the next async task continues it.

    Returns:
        Whether there is no such thread now, so that it does not keep this process from being forked.
    """
    with _lock:
        if _shared is None:
            return True
        if not _shared.is_idle():
            return False
        _shared.park()
        return True


def _close_shared() -> None:
    global _shared
    with _lock:
        found, _shared = _shared, None
    if found is not None:
        found.close()


def _forget_loop() -> None:
    """In a fork: keep the loop of the process that was forked open, because both share its selector."""
    global _lock, _shared
    _lock = allocate_lock()
    if _shared is not None:
        with suppress(Exception):
            _shared.loop._closed = True  # type: ignore[attr-defined] # else its finalizer closes it
        _inherited.append(_shared)
        _shared = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_loop)


# ---- from synchronous code -------------------------------------------------------------------------------------------


def run_in_loop(coroutine: Coroutine[Any, Any, Any], caller: AsyncCaller | None = None) -> Any:
    """Run a coroutine in an event loop of another thread, wait for it, and return its result.

    Args:
        coroutine: the coroutine. It is cancelled if the wait is interrupted.
        caller: the coroutine that waits for the run, whose loop it is and whose cancellation cancels this one, too;
            None means the loop of the process.

    Raises:
        BaseException: the exception of the coroutine.
        ExecutorError: the loop cannot be started.
    """
    if caller is not None:
        call = _WaitingCall(coroutine, caller.loop)
        try:
            return call.result(caller)
        finally:
            caller.remove_waiting(call.cancel)
    try:
        found = acquire_loop()
    except BaseException:
        coroutine.close()
        raise
    try:
        return _WaitingCall(coroutine, found.loop).result()
    finally:
        release_loop(found)


class _WaitingCall:
    """A coroutine that a thread waits for.

    Args:
        coroutine: the coroutine.
        loop: the event loop, which runs in another thread.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], loop: AbstractEventLoop) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._context: Context = copy_context()
        self._task: asyncio.Task[None] | None = None
        self._outcome: list[Any] = []
        self._ended = WakeUp()

    def result(self, caller: AsyncCaller | None = None) -> Any:
        """Return the result of the coroutine, or raise its exception; a caller cancels it."""
        before = 0 if caller is None else caller.cancellations
        try:
            self._loop.call_soon_threadsafe(self._start)
            # only now, because `_start` must come first in the loop
            if caller is not None and caller.add_waiting(self.cancel) > before:
                self.cancel()
            self._wait(None)
        except BaseException:  # an interrupt; or the loop is closed
            if self._loop.is_closed():
                self._coroutine.close()
            else:
                self._loop.call_soon_threadsafe(self._cancel)
                self._wait(CANCEL_GRACE)
            raise
        if len(self._outcome) == 2:
            raise self._outcome.pop()  # pop(): the traceback refers to this object: a reference cycle otherwise
        return self._outcome[0]

    def cancel(self) -> None:
        """Cancel the coroutine, from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._cancel)

    def _wait(self, timeout: float | None) -> None:
        until = None if timeout is None else monotonic() + timeout
        while not self._outcome:
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                return
            self._ended.wait(left)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._run(), context=self._context)

    def _cancel(self) -> None:
        if self._task is not None:
            self._loop.call_soon(self._task.cancel)  # after its first step: without that, `_run` never runs
        else:  # the interrupt came before `_start` was scheduled
            self._coroutine.close()
            self._outcome.append(None)
            self._ended.set()

    async def _run(self) -> None:
        try:
            self._outcome.append(await awaited(self._coroutine))
        except BaseException as error:
            self._outcome.extend((None, error))
        finally:
            self._ended.set()
