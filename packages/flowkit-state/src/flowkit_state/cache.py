"""Class `TaskCache`: a decorator that stores the results of functions, by their code and their arguments."""

from __future__ import annotations

from flowkit_state._validation import seconds
from flowkit_state.errors import StateOptionError, StateOptionTypeError
from flowkit_state.manager import StateManager
from flowkit_state.result_cache import MISSING, ResultCache, innermost, key_prefix, last_key, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable
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
            """Return the cached result, or call the function and store its result."""

        def explain(self, *args: P.args, **kwargs: P.kwargs) -> str:
            """Return since when the result of a call is cached, or why it is not."""

        def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
            """Delete the result of one call. Returns whether there was one."""

        def clear(self) -> int:
            """Delete every result of the function. Returns how many there were."""


MEMORY_LIMIT = 1 << 28
"""Bytes of results that a cache in memory keeps; the core has the same limit for tasks without a state."""

_NOT_PLAIN = 0x20 | 0x80 | 0x200  # code flags of generators, coroutines and asynchronous generators


class TaskCache(ResultCache):
    """A decorator that caches the results of functions, by their code and their arguments.

    Args:
        state: where the results are stored: a `StateManager`, the path of a state file (`.json`, `.db`), or `None` for
            memory: then the results that were used least recently are removed when all take more than 256 MiB.
            `StateManager(max_bytes=...)` sets another limit.
        ttl: time to live of a result in seconds. `None`: the `default_ttl` of the state; infinity: results do not
            expire.
        key: a function of the same arguments, in the same order, that returns what identifies the result; for arguments
            whose content cannot be compared (a connection) or is irrelevant (a logger). An exception that it raises
            is raised by the call.
        version: any value; results of other versions are not used. If it is given, objects without comparable content
            that the function uses (a client at the top of the module) are not part of the cache key: change the
            version when they change.

    Raises:
        StateOptionError, StateOptionTypeError: an argument is invalid.
        StateFileError: the file of the state cannot be opened.
        CacheKeyError: `key` does not accept the arguments of the function; raised by the decorator if no call fits.

    The cache key of a call is made of two parts. The first is the arguments, bound to the parameters, by type and
    content: `f(1, b=2)` has the key of `f(1, 2)`, but not that of `f(True, 2)`. The second is the function: its code
    without comments, docstrings and formatting, its defaults, the values in its closure, and the same of all code of
    the project that it uses, with the constants of its modules. Packages count by their versions. Variables that the
    code itself changes (a counter, a list of seen items) do not count. A function that reads the clock is cached only
    with `ttl`, `key` or `version`, and one that reads the context of its task with `flowkit.current()` is not cached.
    If the key cannot be computed or the result cannot be stored, the function is called each time, and the logger
    "flowkit.state" gets one warning. Exceptions are not cached. Threads that need the same missing result at the same
    time wait for one of them to compute it.

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
        >>> area.explain(2, 4)
        "input 'height' has changed"
    """

    def __init__(
        self,
        state: StateManager | str | os.PathLike[str] | None = None,
        *,
        ttl: float | None = None,
        key: Callable[..., Any] | None = None,
        version: object = None,
    ) -> None:
        import os

        from flowkit_state._single_flight import SingleFlight
        from flowkit_state.serialization.json_encoder import encode

        seconds("ttl", ttl)
        if key is not None:
            from flowkit_state._key_function import check_option

            check_option(key)
        given: object = state
        if given is not None and not isinstance(given, (StateManager, str, os.PathLike)):
            allowed = "a StateManager, a path, or None (and the decorator is written with parentheses: @TaskCache())"
            raise StateOptionTypeError("state", given, allowed)
        encode(version, root="version")
        limit = MEMORY_LIMIT if state is None else None
        self._manager = state if isinstance(state, StateManager) else StateManager(state, max_bytes=limit)
        super().__init__(self._manager, owns_state=state is not None, ttl=ttl, key=key, version=version)
        self._flights = SingleFlight()
        self._prefixes: set[str] = set()

    @property
    def state(self) -> StateManager:
        """The store of the results."""
        return self._manager

    def __repr__(self) -> str:
        return f"TaskCache({self.state!r}, ttl={self._ttl})"

    def __call__(self, function: Callable[P, R]) -> CachedFunction[P, R]:
        """Return a cached version of `function`, with its name and docstring.

        It may also be a bound method, whose object is a part of the key, or a `functools.partial`.
        """
        import functools
        from typing import cast

        plain = _checked_function(function)
        if self._key is not None:
            from flowkit_state._key_function import check_fit

            check_fit(self._key, plain, name_of(plain))
        self._prefixes.add(key_prefix(plain, None))

        @functools.wraps(innermost(plain))
        def cached(*args: P.args, **kwargs: P.kwargs) -> R:
            call = self._call_key(plain, args, kwargs)
            if isinstance(call, str):
                return function(*args, **kwargs)
            result = self._look_up(call)
            if result is MISSING:
                with self._flights.lock(call.key):
                    result = self._look_up(call)
                    if result is MISSING:
                        result = function(*args, **kwargs)
                        self.keep(call, result)
            return cast("R", result)

        def explain(*args: P.args, **kwargs: P.kwargs) -> str:
            call = self._call_key(plain, args, kwargs)
            if isinstance(call, str):
                return f"it cannot be cached: {call}"
            since = (self.state.get_metadata(call.key) or {}).get("since")
            return f"cached since {_time_text(since)}" if type(since) is float else self._miss_reasons(call)[0]

        def invalidate(*args: P.args, **kwargs: P.kwargs) -> bool:
            call = self._call_key(plain, args, kwargs)
            return not isinstance(call, str) and self.state.delete(call.key)

        def clear() -> int:
            return self._delete({key_prefix(plain, None)})

        cached.__wrapped__ = function
        vars(cached).update(explain=explain, invalidate=invalidate, clear=clear, __flowkit_wrapped__=plain)
        return cast("CachedFunction[P, R]", cached)

    def clear(self) -> int:
        """Delete every result of the functions that this cache decorates. Returns how many there were."""
        return self._delete(self._prefixes)

    def _delete(self, prefixes: set[str]) -> int:
        state = self.state
        with state.batch():
            keys = [key for key in state.keys() if key.startswith(tuple(prefixes))]  # noqa: SIM118
            for prefix in prefixes:
                state.delete(last_key(prefix))
            return sum(map(state.delete, keys))


def _time_text(since: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(since, UTC).isoformat(" ", "seconds")


def _checked_function(function: Any) -> Callable[..., Any]:
    """Return a function that can be decorated: a plain one, a bound method, or a `functools.partial` of these."""
    from types import FunctionType

    inner = innermost(function)
    if not isinstance(inner, FunctionType):
        allowed = (
            "a function, a bound method or a functools.partial of these (put @task above the cache, and wrap other "
            "callables in a function)"
        )
        raise StateOptionTypeError("what TaskCache decorates", function, allowed)
    if inner.__code__.co_flags & _NOT_PLAIN:
        allowed = "a function that returns its result, neither async nor a generator"
        raise StateOptionError("what TaskCache decorates", function, allowed)
    checked: Callable[..., Any] = function
    return checked
