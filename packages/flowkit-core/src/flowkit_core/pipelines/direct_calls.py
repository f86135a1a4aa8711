"""Class `DirectCalls`: what happens when a user calls a task like a function, ``extract()``, outside of a run."""

from __future__ import annotations

from time import sleep

from flowkit_core._text import escape_control_chars
from flowkit_core._typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar
from flowkit_core.coroutines import CoroutineType, awaited, is_coroutine_function
from flowkit_core.failures import add_note, refuse_skip
from flowkit_core.retry import own_random, warn_of_iterator

from . import wiring

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.retry import RetryPolicy

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class DirectCalls(Generic[P, R_co]):
    """Base class of `Task` that makes it callable, with retries and timeout; conditions and triggers have no effect."""

    if TYPE_CHECKING:
        func: Callable[P, R_co]
        name: str
        retry: RetryPolicy
        timeout: float | None
    _used = False
    _was_called = False
    _warned_of_iterator = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function, with its retries, and return its result; for an ``async def``, return a coroutine.

        With a timeout, the function runs in a thread of its own, which is abandoned if it takes longer; a coroutine is
        cancelled.

        Raises:
            Exception: the exception of the last attempt, the same object.
        """
        self._used = self._was_called = wiring.task_was_called = True
        if (
            self.retry.retries
            and not self._warned_of_iterator
            and warn_of_iterator(self.name, (*args, *kwargs.values()))
        ):
            self._warned_of_iterator = True
        if is_coroutine_function(self.func):
            return self._call_async(None, 1, args, kwargs)  # type: ignore[return-value]
        attempt = 1
        while True:
            try:
                if self.timeout is None:
                    value: Any = self.func(*args, **kwargs)
                else:
                    from flowkit_core.runs.time_limit import call_in_time

                    value = call_in_time(lambda _limit: self.func(*args, **kwargs), self.name, self.timeout)
                refuse_skip(self.name, value)
                break
            except Exception as error:
                pause = self._pause(attempt, error)
                if pause is None:
                    self._add_hint(error, (*args, *kwargs.values()))
                    raise
            sleep(pause)
            attempt += 1
        if type(value) is CoroutineType and (self.retry.retries or self.timeout is not None):
            return self._call_async(value, attempt, args, kwargs)  # type: ignore[return-value]
        return value  # type: ignore[no-any-return]

    def _add_hint(self, error: Exception, given: Sequence[Any]) -> None:
        """Add a note to the error of a direct call if the call was probably meant to wire the task."""
        own = escape_control_chars(self.name)
        for value in given:
            if isinstance(value, DirectCalls):
                other = escape_control_chars(value.name)
                hint = f"wire them, {other} >> {own}, or pass its result, {other}()"
                add_note(error, f"flowkit: task {self.name!r} was called with the task {value.name!r} itself: {hint}")
        trace = error.__traceback__
        if not given and isinstance(error, TypeError) and trace is not None and trace.tb_next is None:
            hint = f"to wire it, write its name without parentheses, upstream >> {own}"
            add_note(error, f"flowkit: task {self.name!r} was called: {hint}")

    async def _call_async(self, made: Any, attempt: int, args: Any, kwargs: Any) -> Any:
        """Await the result of each call, with retries; ``made`` is the coroutine of the current attempt, or None."""
        from asyncio import sleep as pause_for

        function: Callable[..., Any] = self.func
        while True:
            try:
                value = function(*args, **kwargs) if made is None else made
                if type(value) is CoroutineType:
                    limit = self.timeout
                    value = await (awaited(value) if limit is None else _in_time(self.name, limit, value))
                return refuse_skip(self.name, value)
            except Exception as error:
                pause = self._pause(attempt, error)
                if pause is None:
                    raise
            made = None
            await pause_for(pause)
            attempt += 1

    def _pause(self, attempt: int, error: Exception) -> float | None:
        """Return the seconds before the next attempt of a direct call; None if there is none."""
        return self.retry.pause(error, attempt, self.name, own_random())


def _in_time(name: str, timeout: float, coroutine: Any) -> Any:
    """Return a coroutine that awaits another one, and cancels it after its timeout."""
    from flowkit_core.runs.time_limit import TimeLimit

    return TimeLimit(name, timeout).wait_for(coroutine)
