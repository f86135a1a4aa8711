"""Time limits of attempts: calls in threads of their own, and coroutines that are cancelled.

Three constants limit how long a run waits for code that does not end. `STOP_GRACE` is the grace of a run without
``grace``: during it, running calls may end by themselves. `CANCEL_GRACE` begins when a coroutine is cancelled, also if
the run goes on. `JOIN_TIMEOUT` begins when the run is over or was interrupted, and applies to threads, which nothing
can end: those that remain are abandoned. Executors may have constants for what they can end, such as worker processes.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock
from contextvars import Context, copy_context
from time import monotonic

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.coroutines import awaited, run_coroutine
from flowkit_core.errors import TaskTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from flowkit_core._typing import Any

STOP_GRACE = 2.0
"""Seconds that running calls may take to end after SystemExit or the timeout of a run without ``grace``."""
JOIN_TIMEOUT = 2.0
"""Seconds that threads, of lanes, tasks and iterators, may take to end when the run is over or was interrupted."""
CANCEL_GRACE = 2.0
"""Seconds that a coroutine may take to end after it was cancelled; then its thread or its process is given up."""


class TimeLimit:
    """The time limit of one attempt, which begins now.

    Args:
        task: name of the task.
        timeout: seconds that the attempt may take.
        clock: returns the current time in seconds.

    Attributes:
        cancels: whether the attempt awaits a coroutine, which is cancelled at the end of the time.
    """

    __slots__ = ("_clock", "_ends_at", "_task", "_timeout", "cancels")

    def __init__(self, task: str, timeout: float, clock: Callable[[], float] = monotonic) -> None:
        self._task = task
        self._timeout = timeout
        self._clock = clock
        self._ends_at = clock() + timeout
        self.cancels = False

    def left(self, grace: float = 0.0) -> float:
        """Return the seconds that are left, 0 or more, with a grace period."""
        return min(max(0.0, self._ends_at + grace - self._clock()), TIMEOUT_MAX)

    def error(self, fate: str) -> TaskTimeoutError:
        """Return the error of the attempt; ``fate`` is described there."""
        return TaskTimeoutError(self._task, self._timeout, fate)

    def run_coroutine(
        self, coroutine: Coroutine[Any, Any, Any], run: Callable[[Coroutine[Any, Any, Any]], Any] = run_coroutine
    ) -> Any:
        """Run a coroutine, and return its result in time.

        Args:
            coroutine: the coroutine.
            run: runs it in an event loop, and returns its result; by default in a new one.

        Raises:
            TaskTimeoutError: it took longer, and was cancelled.
        """
        self.cancels = True
        return run(self.wait_for(coroutine))

    async def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of a coroutine in time.

        Raises:
            TaskTimeoutError: it took longer, and was cancelled.
        """
        from asyncio import get_running_loop, timeout

        scope = timeout(None)
        try:
            try:
                async with scope:
                    # The loop keeps a cancelled timer until its time, with its context, which refers to the params.
                    Context().run(scope.reschedule, get_running_loop().time() + self.left())
                    value = await awaited(coroutine)
            except Exception as error:
                if not scope.expired():
                    raise
                raise self.error("cancelled") from (None if type(error) is TimeoutError else error)
            if scope.expired():  # it has suppressed the cancellation
                raise self.error("cancelled")
            return value
        finally:
            del scope  # an error refers to this frame by its traceback, and the scope to the task of the event loop


class Abandonment:
    """Whether a call was abandoned, and what to do when it ends after all.

    Args:
        on_end: called when an abandoned call has ended, in its thread; perhaps twice.

    Attributes:
        on_end: see above.
        has_happened: whether the call was abandoned.
    """

    __slots__ = ("has_happened", "on_end")

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.on_end = on_end
        self.has_happened = False


def call_in_time(
    function: Callable[[TimeLimit], Any], task: str, timeout: float, abandonment: Abandonment | None = None
) -> Any:
    """Call a function in a thread of its own, in a copy of the current context, and return its result in time.

    Nothing can stop a thread: a call that takes longer is abandoned. It goes on, and its result is ignored.

    Args:
        function: the function; it runs coroutines with the limit that it is given.
        task: name of the task.
        timeout: seconds that the call may take.
        abandonment: its ``has_happened`` is set if the call is abandoned; then its ``on_end`` is called when the call
            ends.

    Raises:
        TaskTimeoutError: it took longer.
        BaseException: the exception that the function raised.
    """
    from threading import Thread, current_thread

    limit = TimeLimit(task, timeout)
    outcome: list[Any] = []
    ended = allocate_lock()
    ended.acquire()

    def run() -> None:
        try:
            outcome.append(function(limit))
        except BaseException as error:
            outcome.extend((None, error))
        finally:
            ended.release()
            if abandonment is not None and abandonment.has_happened:
                abandonment.on_end()

    name = f"{current_thread().name}-timed"
    thread = Thread(target=copy_context().run, args=(run,), name=name, daemon=True)
    thread.start()
    in_time = ended.acquire(timeout=limit.left())
    if not in_time and limit.cancels:
        in_time = ended.acquire(timeout=limit.left(CANCEL_GRACE))
    if not in_time:
        if abandonment is not None:
            abandonment.has_happened = True
            if ended.acquire(blocking=False):  # it has ended meanwhile, and may not have seen that
                abandonment.on_end()
        raise limit.error("abandoned")
    thread.join()
    if len(outcome) == 2:
        raise outcome.pop()  # pop(): the traceback refers to this frame and its list: a reference cycle otherwise
    return outcome[0]
