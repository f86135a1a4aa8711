"""Class `VirtualLoop`: an event loop in virtual time, whose callbacks a `VirtualClock` runs."""

from __future__ import annotations

import asyncio
import atexit
from _thread import allocate_lock
from contextlib import contextmanager, suppress
from contextvars import Context
from math import ceil, ulp

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.coroutines import awaited
from flowkit_core.runs.time_limit import CANCEL_GRACE

from .clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from typing import NoReturn

    from flowkit_core._typing import Any

    from .clock import Action


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time: a wait takes none, because its clock jumps from one callback to the next.

    It has no thread. Its callbacks are actions of its clock, and run in the thread that waits for the clock. There is
    no input and output; functions for other threads and processes are called at once.
    """

    _ready: Any  # of the base class: the callbacks that are due

    def __init__(self) -> None:
        super().__init__()
        self._selector = _NoEvents()
        self._virtual_clock = VirtualClock(lambda: 0.0)
        self._offset = 0  # time of this loop at the start of its clock: whole seconds, so that sums are rounded less
        self._step_action: Action | None = None

    def use(self, clock: VirtualClock) -> None:
        """Run the callbacks with another clock from now on; the time of the loop does not go back."""
        self._offset = ceil(self.time() - clock.now())
        self._virtual_clock = clock
        self._step_action = None

    def time(self) -> float:
        """Return the virtual time of the loop in seconds."""
        return self._offset + self._virtual_clock.now()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Schedule a callback for now."""
        handle: asyncio.Handle = super().call_soon(callback, *args, context=context)
        if self._step_action is None:
            self._step_action = self._virtual_clock.schedule(0.0, self._step)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Schedule a callback for a number of seconds from now, which is not rounded to the time of the loop."""
        handle: asyncio.TimerHandle = super().call_at(self.time() + delay, callback, *args, context=context)
        self._virtual_clock.schedule(max(0.0, delay), self._step)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Schedule a callback for a time."""
        handle: asyncio.TimerHandle = super().call_at(when, callback, *args, context=context)
        self._virtual_clock.schedule(max(0.0, when - self.time()), self._step)
        return handle

    def _step(self) -> None:
        """Run the callbacks that are due, and those that they schedule for now."""
        self._step_action = _STEPPING
        self._clock_resolution = 4 * ulp(self.time())  # the times of the callbacks are sums, which were rounded
        try:
            with _no_running_loop():
                is_first = True
                while is_first or self._ready:
                    is_first = False
                    super().call_soon(self.stop)
                    with suppress(SystemExit):  # of a task that a coroutine has created: as in the loop of the process
                        self.run_forever()
        finally:
            self._step_action = None

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call a function at once, in this thread, and return a future with its result."""
        del executor
        future = self.create_future()
        try:
            with _no_running_loop():
                value = func(*args)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(value)
        return future

    def cancel_tasks(self) -> bool:
        """Cancel the tasks that are left; return whether there were any."""
        tasks = asyncio.all_tasks(self)
        for task in tasks:  # after its first step: without that, its coroutine would never start
            self.call_soon(task.cancel)
        return bool(tasks)

    def end_tasks(self) -> None:
        """Cancel the tasks that are left, and let them end; they have `CANCEL_GRACE` virtual seconds."""
        if self.cancel_tasks():
            self._virtual_clock.run_until(self._virtual_clock.now() + CANCEL_GRACE)

    def _process_events(self, event_list: Sequence[Any]) -> None:
        """Do nothing: there are none."""

    def _write_to_self(self) -> None:
        """Do nothing: the loop does not wait."""


class _NoEvents:
    """Selector of a loop without input and output."""

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return no events."""
        del timeout
        return []

    def close(self) -> None:
        """Do nothing."""


_STEPPING: Any = object()
"""In place of the next step of a loop, while it runs callbacks."""


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise RuntimeError(
            f"{name}() of an event loop in virtual time is not possible, because waits for input and output take real "
            f"time: replace the client or the file by a stand-in, or run the test with another executor"
        )

    refuse.__name__ = name
    return refuse


for _name in (
    *("add_reader", "add_writer", "getaddrinfo", "getnameinfo", "create_connection", "create_server"),
    *("create_datagram_endpoint", "create_unix_connection", "create_unix_server", "sock_accept", "sock_connect"),
    *("sock_recv", "sock_recv_into", "sock_sendall", "connect_read_pipe", "connect_write_pipe", "start_tls"),
    *("subprocess_exec", "subprocess_shell", "add_signal_handler"),
):
    setattr(VirtualLoop, _name, _refusal(_name))


@contextmanager
def _no_running_loop() -> Iterator[None]:
    """Let this thread run an event loop, although it may be inside of another."""
    outer = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(outer)


_lock = allocate_lock()
_idle: list[VirtualLoop] = []
"""Loops that no run uses. A later run uses them again: locks of the user at the top of a module belong to a loop."""


@contextmanager
def virtual_loop(clock: VirtualClock) -> Iterator[VirtualLoop]:
    """Lend a loop that runs with a clock; end its tasks after that."""
    with _lock:
        loop = _idle.pop() if _idle else Context().run(VirtualLoop)
    loop.use(clock)
    try:
        yield loop
    finally:
        loop.end_tasks()
        with _lock:
            _idle.append(loop)


@atexit.register
def _close_loops() -> None:
    while _idle:
        _idle.pop().close()


def run_virtually(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in virtual time, and return its result.

    Raises:
        StuckError: it awaits what nothing ends.
        BaseException: its exception.
    """
    clock = VirtualClock(lambda: 0.0)
    with virtual_loop(clock) as loop:
        task = loop.create_task(awaited(coroutine))
        while not task.done():
            clock.wait()
        return task.result()
