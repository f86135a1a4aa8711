"""`TaskCache`: a decorator that remembers what a function returned, by its arguments."""

from __future__ import annotations

import os

from flowkit_state._options import seconds
from flowkit_state.errors import (
    StateClosedError,
    StateError,
    StateOptionError,
    StateOptionTypeError,
    UnsupportedValueError,
)
from flowkit_state.manager import StateManager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType
    from typing import Any, ParamSpec, Protocol, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")
    R_co = TypeVar("R_co", covariant=True)

    class CachedFunction(Protocol[P, R_co]):
        """A function decorated with a `TaskCache`."""

        __name__: str
        __qualname__: str
        __wrapped__: Callable[..., Any]

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
            """Return the remembered result, or call the function and remember it."""

        def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
            """Forget the result of one call. Returns whether it was remembered."""

        def clear(self) -> int:
            """Forget every result of the function. Returns how many there were."""


_PREFIX = "flowkit.cache"
_NOT_PLAIN = 0x20 | 0x80 | 0x200  # code flags of generators, coroutines and asynchronous generators
_MISSING: Any = object()


class TaskCache:
    """Remembers the results of functions, by their arguments.

    Args:
        state: where the results are kept: a `StateManager`, the path of one (`.json`, `.db`), or `None` for memory.
        ttl: for how many seconds a result is good. `None`: the `default_ttl` of the state; infinity: for ever.
        key: a function that takes the same arguments and returns what counts of them, for arguments that cannot be
            compared by content (a connection) or should not be (a logger).
        version: any value; results of another version are not used. Change it when something that the function calls
            has changed its meaning.

    Raises:
        StateOptionError, StateOptionTypeError: an argument cannot be meant.
        StateFileError: the file of the state cannot be opened.

    Calls are the same if their arguments, bound to the parameters, are the same by content and type: `f(1, b=2)` is
    `f(1, 2)`, but not `f(True, 2)`. A function is its module and name, its own code, and what its closure held at its
    first call; what it calls and what it reads from its module do not count (see `version`). A call whose arguments or
    result cannot be kept faithfully is made each time, and the logger "flowkit.state" says so once. Exceptions are not
    remembered. Threads that ask for one result at once wait for the first of them.

        >>> cache = TaskCache(ttl=60)
        >>> @cache
        ... def area(width, height=1):
        ...     print("measuring")
        ...     return width * height
        >>> area(2, 3)
        measuring
        6
        >>> area(width=2, height=3)
        6
    """

    def __init__(
        self,
        state: StateManager | str | os.PathLike[str] | None = None,
        *,
        ttl: float | None = None,
        key: Callable[..., Any] | None = None,
        version: object = None,
    ) -> None:
        from flowkit_state._codec import encode

        seconds("ttl", ttl)
        if key is not None and not callable(key):
            raise StateOptionTypeError("key", key, "a function of the arguments, or None")
        given: object = state
        if given is not None and not isinstance(given, (StateManager, str, os.PathLike)):
            allowed = "a StateManager, a path, or None (and the decorator is written with parentheses: @TaskCache())"
            raise StateOptionTypeError("state", given, allowed)
        self._version = encode(version, root="version")
        self._state = state if isinstance(state, StateManager) else StateManager(state)
        self._ttl = ttl
        self._key = key
        self._flights = _Flights()
        self._prefixes: set[str] = set()
        self._told: set[tuple[str, str]] = set()

    @property
    def state(self) -> StateManager:
        """Where the results are kept."""
        return self._state

    def __repr__(self) -> str:
        return f"TaskCache({self._state!r}, ttl={self._ttl})"

    def __call__(self, function: Callable[P, R]) -> CachedFunction[P, R]:
        """Return `function` with a memory, the same in name, signature and documentation."""
        import functools
        import inspect
        from typing import cast

        plain = _plain(function)
        signature = inspect.signature(plain)
        prefix = f"{_PREFIX}:{plain.__module__}:{plain.__qualname__}:"
        self._prefixes.add(prefix)

        @functools.wraps(function)
        def cached(*args: P.args, **kwargs: P.kwargs) -> R:
            key = self._key_of(plain, signature, prefix, args, kwargs)
            if key is None:
                return function(*args, **kwargs)
            found = self._look_up(key, prefix)
            if found is _MISSING:
                with self._flights.only_one(key):
                    found = self._look_up(key, prefix)
                    if found is _MISSING:
                        found = function(*args, **kwargs)
                        self._remember(key, prefix, found)
            return cast("R", found)

        def invalidate(*args: P.args, **kwargs: P.kwargs) -> bool:
            key = self._key_of(plain, signature, prefix, args, kwargs)
            return key is not None and self._state.delete(key)

        def clear() -> int:
            return self._forget((prefix,))

        vars(cached).update(invalidate=invalidate, clear=clear, __flowkit_cached__=plain)
        return cast("CachedFunction[P, R]", cached)

    def clear(self) -> int:
        """Forget every result of the functions that this cache decorates. Returns how many there were."""
        return self._forget(tuple(self._prefixes))

    def _forget(self, prefixes: tuple[str, ...]) -> int:
        with self._state.batch():
            ours = [key for key in self._state.keys() if key.startswith(prefixes)]  # noqa: SIM118
            return sum(map(self._state.delete, ours))

    def _key_of(
        self, function: FunctionType, signature: Any, prefix: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str | None:
        """Return the key of a call, or None if there can be none."""
        from flowkit_state import _fingerprint
        from flowkit_state._codec import encode

        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return None  # the call itself says what is wrong with it
        try:
            if self._key is None:
                content = _fingerprint.arguments(signature, given)
            else:
                content = encode(self._key(*args, **kwargs), root="the result of key()")
        except UnsupportedValueError as error:
            fact = f"{error.path} is of type {error.type_name}, {error.reason}"
            self._tell_once(prefix, "arguments", f"{fact}; give TaskCache(key=...) a function of what counts")
            return None
        return prefix + _fingerprint.digest(_fingerprint.identity(function), self._version, content)

    def _look_up(self, key: str, prefix: str) -> Any:
        try:
            return self._state.get(key, _MISSING)
        except StateClosedError:
            raise
        except StateError as error:
            self._tell_once(prefix, "look-up", str(error))
            return _MISSING

    def _remember(self, key: str, prefix: str, result: object) -> None:
        try:
            self._state.set(key, result, ttl=self._ttl)
        except UnsupportedValueError as error:
            self._tell_once(prefix, "result", f"its result is of type {error.type_name}, {error.reason}. {error.hint}")
        except StateError as error:  # the work is done: that it could not be kept is no reason to lose it
            self._tell_once(prefix, "store", str(error))

    def _tell_once(self, prefix: str, subject: str, reason: str) -> None:
        if (prefix, subject) not in self._told:
            self._told.add((prefix, subject))
            import logging

            name = prefix[len(_PREFIX) + 1 : -1].replace(":", ".")
            logging.getLogger("flowkit.state").warning('A call of "%s" is not cached: %s', name, reason)


def _plain(function: Any) -> FunctionType:
    from types import FunctionType

    if not isinstance(function, FunctionType):
        allowed = "a plain function (put @task above the cache, and wrap other callables in a function)"
        raise StateOptionTypeError("what TaskCache decorates", function, allowed)
    if function.__code__.co_flags & _NOT_PLAIN:
        allowed = "a function that returns its result, neither async nor a generator"
        raise StateOptionError("what TaskCache decorates", function, allowed)
    return function


class _Flights:
    """Lets one thread at a time work on a key. A forked child starts with none: its threads are gone."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        from threading import Lock

        self._lock = Lock()
        self._under_way: dict[str, _Flight] = {}
        self._pid = os.getpid()

    def only_one(self, key: str) -> _Flight:
        """Return the context manager to compute `key` in, shared by all who want to."""
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            flight = self._under_way.setdefault(key, _Flight(self, key))
            flight.wanted += 1
            return flight

    def leave(self, flight: _Flight) -> None:
        with self._lock:
            flight.wanted -= 1
            if not flight.wanted:
                self._under_way.pop(flight.key, None)


class _Flight:
    """One computation, and how many threads want it."""

    __slots__ = ("_flights", "_turn", "key", "wanted")

    def __init__(self, flights: _Flights, key: str) -> None:
        from threading import RLock

        self._flights = flights
        self._turn = RLock()
        self.key = key
        self.wanted = 0

    def __enter__(self) -> None:
        self._turn.acquire()

    def __exit__(self, *_: object) -> None:
        self._turn.release()
        self._flights.leave(self)
