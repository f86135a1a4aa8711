"""Classes `Call`, `Outcome` and `Retry`: what a run and an executor exchange for each attempt at a node."""

from __future__ import annotations

from time import time

from flowkit_core._text import escape_control_chars, short_repr
from flowkit_core._typing import TYPE_CHECKING, Protocol
from flowkit_core.context import find, variable
from flowkit_core.coroutines import CoroutineType, awaited, special_types
from flowkit_core.failures import add_note, refuse_skip, skip_reason

from .handle import fetched, is_handle, prefetch
from .states import FAILED, PENDING, SKIPPED, STATES
from .time_limit import Abandonment, TimeLimit, call_in_time

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.context import TaskContext
    from flowkit_core.graphs.node import Node

    from .event_loop.caller import AsyncCaller


class Outcome:
    """How a node ended, or how one attempt at it failed. A call that returns has its value as outcome instead.

    Attributes:
        state: FAILED, SKIPPED, UPSTREAM_FAILED or CANCELLED; SUCCEEDED for a result from a cache.
        reason: why the node did not run or was stopped.
        error: the exception of the attempt, for FAILED.
        retryable: whether the task's retries apply, for FAILED.
        started: whether the call had started, for CANCELLED; for SUCCEEDED, whether the function was called.
        goes_on: whether the call was abandoned and goes on, for FAILED and CANCELLED: it keeps its slots of pools.
        value: the result from the cache, for SUCCEEDED.
    """

    __slots__ = ("error", "goes_on", "reason", "retryable", "started", "state", "value")

    def __init__(
        self,
        state: int,
        reason: str = "",
        error: BaseException | None = None,
        *,
        retryable: bool = True,
        started: bool = False,
        goes_on: bool = False,
        value: Any = None,
    ) -> None:
        self.state = state
        self.reason = reason
        self.error = error
        self.retryable = retryable
        self.started = started
        self.goes_on = goes_on
        self.value = value

    def or_skip(self) -> Outcome:
        """Return this outcome; for an exception `Skip`, the outcome of a skipped node."""
        reason = skip_reason(self.error) if self.state == FAILED and self.error is not None else None
        return self if reason is None else Outcome(SKIPPED, reason)

    def __repr__(self) -> str:
        return f"<Outcome {STATES[self.state]} {self.error if self.error is not None else self.reason!r}>"


special_types.add(Outcome)

PARKED = Outcome(PENDING, "it waits for a pool")
"""Outcome of a node that is not called now: it is returned again when it may start; see `Run.admit`."""


class Ref:
    """The result of a node that is not known yet, as an argument of a call that is made ahead; see `Run.ahead`.

    Attributes:
        index: index of the node.
    """

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __repr__(self) -> str:
        return f"<Ref {self.index}>"


class Condition:
    """The condition of a task (``when``), bound to its arguments. Calling it evaluates it.

    Attributes:
        func: the function.
        args: positional arguments.
        kwargs: keyword arguments.
    """

    __slots__ = ("args", "func", "kwargs")

    def __init__(self, func: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs

    def __call__(self) -> object:
        """Evaluate the condition."""
        return self.func(*self.args, **self.kwargs)

    def outcome(self, task: str) -> Outcome | None:
        """Evaluate the condition; return how its task ends without being called, or None if the condition is true.

        Args:
            task: name of the task.
        """
        try:
            answer = _check_truth(task, self())
            if answer:  # may raise, as for an array of two elements
                return None
        except BaseException as error:
            add_note(error, f"flowkit: the condition (when=) of task {task!r} raised this")
            return Outcome(FAILED, error=error, retryable=False)
        return Outcome(SKIPPED, "its condition returned None" if answer is None else "its condition was false")


class Retry:
    """Request for another attempt: :meth:`Run.finish` returns it for a failed attempt.

    Attributes:
        node: the node to run again.
        delay: seconds to wait before that.
    """

    __slots__ = ("delay", "node")

    def __init__(self, node: Node, delay: float) -> None:
        self.node = node
        self.delay = delay

    def __repr__(self) -> str:
        return f"<Retry {escape_control_chars(self.node.name)} in {self.delay:.3g} s>"


class ContextMaker(Protocol):
    """What a call uses of its run.

    Attributes:
        caller: the coroutine that waits for the run; None if there is none.
    """

    caller: AsyncCaller | None

    def context_of(self, node: Node, attempt: int | None = None) -> TaskContext:
        """Return what ``current()`` returns in a call of a node."""

    def end_abandoned(self, node: Node, attempt: int) -> None:
        """Note that an abandoned attempt has ended."""


class Call:
    """One attempt at a node: the function, its arguments and its condition.

    Attributes:
        node: the node.
        func: the function.
        args: positional arguments.
        kwargs: keyword arguments.
        when: the condition, bound to its arguments; None if there is none. :meth:`precheck` evaluates it.
        attempt: number of the attempt, from 1.
        lookup: looks up the result of the call in a cache; None if the task has no cache.
        run: the run, for the context of the call; None if there is none.
    """

    __slots__ = ("args", "attempt", "func", "kwargs", "lookup", "node", "run", "when")

    def __init__(
        self,
        node: Node,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        when: Condition | None,
        attempt: int,
        lookup: Callable[[Node, Sequence[Any], dict[str, Any]], Outcome | None] | None = None,
        run: ContextMaker | None = None,
    ) -> None:
        self.node = node
        self.func = node.func
        self.args = args
        self.kwargs = kwargs
        self.when = when
        self.attempt = attempt
        self.lookup = lookup
        self.run = run

    def context(self) -> TaskContext | None:
        """Return what ``current()`` returns in the call."""
        return self.run.context_of(self.node, self.attempt) if self.run is not None else None

    @property
    def has_precheck(self) -> bool:
        """Whether there is a condition to evaluate, or a cache to look the result up in."""
        return self.when is not None or self.lookup is not None

    def local(self) -> Call | Outcome:
        """Return this call with handles among its arguments replaced by their values, which may take long.

        Returns an :class:`Outcome` if a value is lost.
        """
        when = self.when
        values = [*self.args, *self.kwargs.values()]
        if when is not None:
            values += *when.args, *when.kwargs.values()
        if not any(map(is_handle, values)):
            return self
        prefetch(values)
        try:
            if when is not None:
                when = Condition(when.func, [*map(fetched, when.args)], {k: fetched(v) for k, v in when.kwargs.items()})
            kwargs = {name: fetched(value) for name, value in self.kwargs.items()}
            call = Call(self.node, [*map(fetched, self.args)], kwargs, when, self.attempt, self.lookup, self.run)
        except BaseException as error:
            return Outcome(FAILED, error=error)
        call.func = self.func
        return call

    def precheck(self) -> Outcome | None:
        """Evaluate the condition, then look for a cached result; return None if the function is to be called."""
        if self.when is not None and (outcome := self._evaluate(self.when)) is not None:
            return outcome
        try:
            return self.lookup(self.node, self.args, self.kwargs) if self.lookup is not None else None
        except BaseException as error:
            return Outcome(FAILED, error=error, retryable=False)

    def _evaluate(self, condition: Condition) -> Outcome | None:
        """Evaluate the condition; return None if it is true."""
        token = variable.set(self.context())
        try:
            return condition.outcome(self.node.name)
        finally:
            variable.reset(token)

    @property
    def timeout(self) -> float | None:
        """Seconds that the attempt may take; None means no limit. :meth:`invoke` applies it."""
        timeout: float | None = self.node.task.timeout
        return timeout

    def invoke(self) -> Any:
        """Call the function; return its value, or an :class:`Outcome` if it raises.

        It is called in this thread; with a timeout, in a thread of its own, which is abandoned if it takes longer.
        """
        if self.timeout is not None:
            return self._invoke_in_time(self.timeout)
        token = variable.set(self.context())
        try:
            return self.invoke_in_worker()
        finally:
            variable.reset(token)

    def invoke_without_limit(self) -> Any:
        """Do what :meth:`invoke` does, in this thread, for executors that apply the timeout themselves."""
        token = variable.set(self.context())
        try:
            return self._invoke_here()
        finally:
            variable.reset(token)

    def invoke_in_worker(self) -> Any:
        """Do what :meth:`invoke` does, in the thread of a `Worker`, which ``current()`` finds the context by."""
        return self._invoke_here() if self.timeout is None else self._invoke_in_time(self.timeout)

    def _invoke_in_time(self, timeout: float) -> Any:
        context = self.context()
        if context is not None:
            context.deadline = time() + timeout
        token = variable.set(context)
        abandonment = Abandonment(self._end_abandoned)
        try:
            return call_in_time(self._invoke_here, self.node.name, timeout, abandonment)
        except BaseException as error:
            return Outcome(FAILED, error=error, goes_on=abandonment.has_happened)
        finally:
            variable.reset(token)

    def _end_abandoned(self) -> None:
        if self.run is not None:
            self.run.end_abandoned(self.node, self.attempt)

    def _invoke_here(self, limit: TimeLimit | None = None) -> Any:
        """Call the function in this thread."""
        try:
            if self.node.parameters.copies_context:
                find()  # sets the context variable
            value = self.func(*self.args, **self.kwargs)
            if type(value) is CoroutineType:
                find()
                value = self._await(value) if limit is None else limit.run_coroutine(value, self._await)
        except BaseException as error:
            return Outcome(FAILED, error=error)
        return value

    def _await(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of a coroutine, which runs in the event loop of the run while this thread waits."""
        from .event_loop.shared_loop import run_in_loop

        return run_in_loop(coroutine, None if self.run is None else self.run.caller)

    async def invoke_async(self) -> Any:
        """Do what :meth:`invoke` does, in a task of an event loop.

        A coroutine that takes longer than the timeout is cancelled. A CancelledError is the error of the outcome.
        """
        context = self.context()
        timeout = self.node.task.timeout
        if timeout is not None and context is not None:
            context.deadline = time() + timeout
        variable.set(context)
        try:
            value = self.func(*self.args, **self.kwargs)
            if type(value) is CoroutineType:
                limit = None if timeout is None else _time_limit(self.node.name, timeout)
                value = await (awaited(value) if limit is None else limit.wait_for(value))
        except BaseException as error:
            return Outcome(FAILED, error=error)
        finally:
            del self, context  # an error refers to this frame by its traceback, and an element to its error
        return value


def _time_limit(task: str, timeout: float) -> TimeLimit:
    """Return the time limit of a coroutine, by the clock of its event loop."""
    from asyncio import get_running_loop

    return TimeLimit(task, timeout, get_running_loop().time)


def fetch_and_release(handle: Any) -> Any:
    """Return the value of a handle, which is not needed any more; an :class:`Outcome` if the value is lost."""
    try:
        value = handle.fetch()
    except Exception as error:
        value = Outcome(FAILED, error=error)
    handle.release()
    return value


def _check_truth(task: str, value: Any) -> Any:
    """Return the result of a condition.

    Raises:
        TypeError: it is an iterator or an awaitable, whose truth value is always true.
    """
    kind = type(value)
    refuse_skip(task, value)
    if hasattr(kind, "__next__") or hasattr(kind, "__await__") or hasattr(kind, "__anext__"):
        if kind is CoroutineType:
            value.close()
        raise TypeError(
            f"the condition (when=) of task {task!r} returned {short_repr(value)}, of type {kind.__name__}, which is"
            f" neither true nor false: return a bool, for a generator any(...) or all(...) of it"
        )
    return value
