"""Calls of the elements of a block, in any process: one after the other, each through a chain of functions."""

from __future__ import annotations

import pickle
from array import array
from contextvars import copy_context
from time import perf_counter

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import find
from flowkit_core.coroutines import CoroutineType, run_coroutine, special_types
from flowkit_core.errors import SerializationError, Skip, WorkerDiedError
from flowkit_core.failures import returned_skip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flowkit_core._typing import Any, Protocol
    from flowkit_core.runs.event_loop.caller import AsyncCaller

    class RunInLoop(Protocol):
        """What the coroutines of a run use of it."""

        @property
        def caller(self) -> AsyncCaller | None:
            """The coroutine that waits for the run, if there is one."""

    BlockResult = tuple[list[list[Any]], list[array[float]], tuple[int, Any] | None]

BLOCK_SECONDS = 2e-3
"""Seconds of calls that a block is made for."""
MAX_BLOCK_SECONDS = 10e-3
"""Seconds of calls after which a worker returns the rest of a block, which other workers may take."""
UNBOUNDED = float("inf")
MAX_BLOCK = 4096
"""Maximum number of elements in a block."""
_IMMUTABLE = frozenset((int, float, bool, complex, str, bytes, type(None)))


class Template:
    """How a function is called for an element: the arguments that all elements have in common, and the mapped ones.

    Args:
        count: number of mapped values of an element; one is given as it is, several as a tuple.
        args: positional arguments; those at ``places`` are replaced.
        kwargs: keyword arguments; those in ``names`` are replaced.
        places: number of a mapped value, and its position.
        names: number of a mapped value, and its keyword.
    """

    __slots__ = ("args", "count", "kwargs", "names", "places")

    def __init__(
        self,
        count: int,
        args: list[Any],
        kwargs: dict[str, Any],
        places: Sequence[tuple[int, int]],
        names: Sequence[tuple[int, str]],
    ) -> None:
        self.count = count
        self.args = args
        self.kwargs = kwargs
        self.places = places
        self.names = names

    def caller(self, func: Callable[..., Any]) -> Callable[[Any], Any]:
        """Return a function of the mapped value, or of a tuple of several, that calls a function."""
        count, args, kwargs, places, names = self.count, self.args, self.kwargs, self.places, self.names
        if count == 1 and places and not kwargs:
            before, after = tuple(args[: places[0][1]]), tuple(args[places[0][1] + 1 :])
            if not before and not after:
                return func
            return lambda value: func(*before, value, *after)
        if count > 1 and not kwargs and [place for _, place in places] == list(range(len(args))):
            return lambda values: func(*values)

        def call(values: Any) -> Any:
            values = (values,) if count == 1 else values
            own, own_names = args.copy(), kwargs.copy()
            for number, place in places:
                own[place] = values[number]
            for number, name in names:
                own_names[name] = values[number]
            return func(*own, **own_names)

        return call

    def __reduce__(self) -> Any:
        return Template, (self.count, self.args, self.kwargs, self.places, self.names)


def call_block(
    callers: Sequence[Callable[[Any], Any]],
    names: Sequence[str],
    start: int,
    given: Sequence[Any],
    note: Callable[[int, int], object],
    *,
    max_seconds: float = MAX_BLOCK_SECONDS,
    dumps: Callable[[Any], bytes] = pickle.dumps,
) -> BlockResult:
    """Call the functions of a chain for consecutive elements, until one fails or the time is over.

    Each call has context variables of its own: a copy of those of the caller.

    Args:
        callers: the functions of the chain, of one mapped value each.
        names: names of the tasks.
        start: number of the first element.
        given: the mapped values of the first function.
        note: is called with the number of the task in the chain and that of the element, before each call.
        max_seconds: seconds of calls after which the rest is not called; infinity for no limit.
        dumps: returns the pickle of a result that the next task of the chain gets, and may change.

    Returns:
        The results by task and element, for a pickle; their durations in seconds; and the number of the task that has
        failed for the first element without results, with the exception, or None.
    """
    values: list[list[Any]] = [[] for _ in callers]
    seconds = [array("d") for _ in callers]
    stages = list(zip(range(len(callers)), callers, names, values, seconds, strict=True))
    last = len(callers) - 1
    number, started = start, perf_counter()
    until = started + max_seconds
    stage = 0
    for value in given:
        try:
            for stage, call, name, found, spent in stages:
                note(stage, number)
                context = copy_context()
                value = context.run(call, value)  # noqa: PLW2901
                if type(value) in special_types:
                    value = context.run(final_value, value, f"{name}[{number}]")  # noqa: PLW2901
                now = perf_counter()
                spent.append(now - started)
                started = now
                if stage == last or type(value) in _IMMUTABLE:
                    found.append(value)
                else:
                    found.append(_snapshot(value, dumps))
                    started = perf_counter()
        except BaseException as error:
            return values, seconds, (stage, error)
        number += 1
        if started > until:
            break
    return values, seconds, None


class Snapshot:
    """The pickle of a result, made before the next call of the chain can change the object.

    Unpickling gives the result.

    Attributes:
        data: the pickle of the result.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return pickle.loads, (self.data,)


def _snapshot(value: Any, dumps: Callable[[Any], bytes]) -> Any:
    try:
        return Snapshot(dumps(value))
    except Exception:  # pickling the results of the block raises it again, and the element fails
        return value


def final_value(value: Any, name: str, run: RunInLoop | None = None) -> Any:
    """Return the result of a coroutine, or another value as it is.

    Args:
        value: what the function returned.
        name: name of the element.
        run: the `Run`, whose event loop runs coroutines; None for an event loop of their own, in a worker process.

    Raises:
        TypeError: the function returned an exception `Skip`, which was probably to be raised.
    """
    if type(value) is CoroutineType:
        find()  # sets the context variable, for threads that the coroutine starts
        if run is None:
            value = run_coroutine(value)
        else:
            from flowkit_core.runs.event_loop.shared_loop import run_in_loop

            value = run_in_loop(value, run.caller)
    if issubclass(type(value), Skip):
        raise returned_skip(name, value)
    return value


def was_called(error: BaseException | None) -> bool:
    """Return whether elements of a block may have been called, given the exception of the block."""
    if isinstance(error, SerializationError):
        return error.what == "result"
    return isinstance(error, WorkerDiedError)
