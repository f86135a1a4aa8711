"""`TaskCache`: remembers what functions returned, by their code and their arguments."""

from __future__ import annotations

from flowkit_state._single_flight import Flights
from flowkit_state._validation import seconds
from flowkit_state.errors import (
    StateClosedError,
    StateError,
    StateOptionError,
    StateOptionTypeError,
    UnsupportedValueError,
)
from flowkit_state.manager import StateManager
from flowkit_state.storage.base import CACHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping, Sequence
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

        def explain(self, *args: P.args, **kwargs: P.kwargs) -> str:
            """Return since when the result of a call is remembered, or why it is not."""

        def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
            """Forget the result of one call. Returns whether it was remembered."""

        def clear(self) -> int:
            """Forget every result of the function. Returns how many there were."""


_LAST = f"{CACHED}.last"  # what the last result of each function was made of, also when that has expired
_NOT_PLAIN = 0x20 | 0x80 | 0x200  # code flags of generators, coroutines and asynchronous generators
_KEY_RESULT = "the result of key()"
_MISSING: Any = object()
_told: dict[str, set[tuple[str, str]]] = {}  # path of a state -> what the log has been told of functions, once


class Found:
    """The answer of `TaskCache.find`.

    Attributes:
        known: whether there is a result.
        value: it.
        token: for `TaskCache.keep`, with the new result; `None` where that cannot be kept.
        why: in words, why there is one or none.
    """

    __slots__ = ("known", "token", "value", "why")

    def __init__(self, known: bool, value: Any, token: Any, why: str) -> None:
        self.known, self.value, self.token, self.why = known, value, token, why

    def __repr__(self) -> str:
        return f"<Found known={self.known} why={self.why!r}>"


class _Call:
    """A call that can be remembered: `prefix` of the function, `key` of the call, and its components."""

    __slots__ = ("components", "key", "prefix")

    def __init__(self, prefix: str, key: str, components: dict[str, str]) -> None:
        self.prefix, self.key, self.components = prefix, key, components


class TaskCache:
    """Remembers the results of functions, by their code and their arguments.

    Args:
        state: where the results are kept: a `StateManager`, the path of one (`.json`, `.db`), or `None` for memory.
        ttl: for how many seconds a result is good. `None`: the `default_ttl` of the state; infinity: for ever.
        key: a function that takes the same arguments, in the same order, and returns the part that identifies the
            result; for arguments that cannot be compared by content (a connection) or should not be (a logger). An
            exception of this function is raised by the call.
        version: any value; results of another version are not used. Where it is given, what the function uses and has
            no content to compare (a client at the top of the module) is left to it: change it when that changes.

    Raises:
        StateOptionError, StateOptionTypeError: an argument cannot be meant.
        StateFileError: the file of the state cannot be opened.
        CacheKeyError: `key` does not take the arguments of the function; raised at decoration if no call fits.

    Calls are the same if their arguments, bound to the parameters, are the same by content and type: `f(1, b=2)` is
    `f(1, 2)`, but not `f(True, 2)`; and if the function is: its code without comments, docstrings and formatting, its
    defaults, what its closure holds, and all of that for the code of the project that it uses, with the constants of
    its modules. Packages count by version. What the code itself changes (a counter, a list of what was seen) does not
    count. A call that cannot be compared or whose result cannot be kept is made each time, and the logger
    "flowkit.state" says so once. Exceptions are not remembered. Threads that ask for one result at once wait for the
    first of them.

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

        from flowkit_state.serialization.json_codec import encode

        seconds("ttl", ttl)
        if key is not None:
            from flowkit_state._key_function import check_option

            check_option(key)
        given: object = state
        if given is not None and not isinstance(given, (StateManager, str, os.PathLike)):
            allowed = "a StateManager, a path, or None (and the decorator is written with parentheses: @TaskCache())"
            raise StateOptionTypeError("state", given, allowed)
        encode(version, root="version")
        self._version = version
        self._state = state if state is None or isinstance(state, StateManager) else StateManager(state)
        self._memory: dict[str, StateManager] = {}
        self._ttl = ttl
        self._key = key
        self._flights = Flights()
        self._prefixes: set[str] = set()
        path = None if self._state is None else self._state.path
        self._told: set[tuple[str, str]] = set() if path is None else _told.setdefault(path, set())

    @property
    def state(self) -> StateManager:
        """Where the results are kept."""
        if self._state is not None:
            return self._state
        return self._memory.get("state") or self._memory.setdefault("state", StateManager())

    def __repr__(self) -> str:
        return f"TaskCache({self.state!r}, ttl={self._ttl})"

    def over(self, state: StateManager) -> TaskCache:
        """Return this cache if it was given a state of its own, else one with the same options over `state`."""
        if self._state is not None:
            return self
        other = TaskCache(state, ttl=self._ttl, key=self._key, version=self._version)
        other._told = self._told
        return other

    def check(self, function: Callable[..., Any], name: str | None = None, *, ignore: Collection[str] = ()) -> None:
        """Check that the key function takes the arguments of a task. Without a key function, do nothing.

        Args:
            function: the function of the task. It is not called.
            name: the name of the task, for the error; `None`: that of the function.
            ignore: names of parameters that the key function may leave out.

        Raises:
            CacheKeyError: the key function does not take the arguments, passed by position as pipelines do.

            >>> TaskCache(key=lambda query: query).check(lambda connection, query: None, "ask")  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            flowkit_state.errors.CacheKeyError: TaskCache(key=...) of 'ask': the key function takes (query), ...
        """
        if self._key is not None:
            from flowkit_state._key_function import check_fit

            check_fit(self._key, function, name or _name_of(function), ignore=ignore, by_position=True)

    def find(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        name: str | None = None,
        ignore: Collection[str] = (),
        refresh: bool = False,
    ) -> Found:
        """Look for the result of a call, without making it.

        Args:
            function: what would be called. It may be `async`: then results are what awaiting it gives.
            args: its positional arguments.
            kwargs: its keyword arguments.
            name: under which name results are kept; `None`: that of the function.
            ignore: names of parameters that do not count.
            refresh: whether to look at all: the call is to be made in any case.

        Returns:
            what there is, why, and the token under which `keep` will remember a new result.

            >>> cache = TaskCache()
            >>> found = cache.find(len, ["abc"], {})
            >>> found.known, found.why
            (False, 'never computed before')
            >>> cache.keep(found.token, len("abc"))
            >>> cache.find(len, ["abc"], {}).value
            3
        """
        call = self._call(function, args, kwargs, name, ignore)
        if isinstance(call, str):
            return Found(False, None, None, f"it cannot be cached: {call}")
        if refresh:
            return Found(False, None, call, "refresh was asked for")
        value = self._look_up(call)
        if value is not _MISSING:
            return Found(True, value, None, "its code and its inputs are the same")
        return Found(False, None, call, self._why(call))

    def keep(self, token: Any, value: object) -> None:
        """Remember the result of a call that `find` gave the `token` for. What goes wrong is logged, never raised."""
        if token is None:
            return
        state, now = self.state, self._now()
        made_of = {"components": token.components}
        ttl = self._ttl if self._ttl is not None else state.default_ttl
        last = {"key": token.key, "expires": None if ttl is None or ttl == float("inf") else now + ttl}
        try:
            with state.batch():
                state.set(token.key, value, ttl=self._ttl, metadata={**made_of, "since": now})
                state.set(_last(token.prefix), last, ttl=float("inf"), metadata=made_of)
        except UnsupportedValueError as error:
            reason = f"its result is of type {error.type_name}, {error.reason}. {error.hint}"
            self._tell_once(token.prefix, "result", reason)
        except StateError as error:  # the work is done: that it could not be kept is no reason to lose it
            self._tell_once(token.prefix, "store", str(error))

    def __call__(self, function: Callable[P, R]) -> CachedFunction[P, R]:
        """Return `function` with a memory, the same in name, signature and documentation."""
        import functools
        from typing import cast

        plain = _plain(function)
        if self._key is not None:
            from flowkit_state._key_function import check_fit

            check_fit(self._key, plain, _name_of(plain))
        self._prefixes.add(_prefix(plain, None))

        @functools.wraps(function)
        def cached(*args: P.args, **kwargs: P.kwargs) -> R:
            call = self._call(plain, args, kwargs)
            if isinstance(call, str):
                return function(*args, **kwargs)
            found = self._look_up(call)
            if found is _MISSING:
                with self._flights.only_one(call.key):
                    found = self._look_up(call)
                    if found is _MISSING:
                        found = function(*args, **kwargs)
                        self.keep(call, found)
            return cast("R", found)

        def explain(*args: P.args, **kwargs: P.kwargs) -> str:
            call = self._call(plain, args, kwargs)
            if isinstance(call, str):
                return f"it cannot be cached: {call}"
            since = (self.state.get_metadata(call.key) or {}).get("since")
            return self._why(call) if since is None else f"remembered since {_moment(since)}"

        def invalidate(*args: P.args, **kwargs: P.kwargs) -> bool:
            call = self._call(plain, args, kwargs)
            return not isinstance(call, str) and self.state.delete(call.key)

        def clear() -> int:
            return self._forget({_prefix(plain, None)})

        vars(cached).update(explain=explain, invalidate=invalidate, clear=clear, __flowkit_cached__=plain)
        return cast("CachedFunction[P, R]", cached)

    def clear(self) -> int:
        """Forget every result of the functions that this cache decorates. Returns how many there were."""
        return self._forget(self._prefixes)

    def _forget(self, prefixes: set[str]) -> int:
        state = self.state
        with state.batch():
            ours = [key for key in state.keys() if key.startswith(tuple(prefixes))]  # noqa: SIM118
            for prefix in prefixes:
                state.delete(_last(prefix))
            return sum(map(state.delete, ours))

    def _call(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        name: str | None = None,
        ignore: Collection[str] = (),
    ) -> _Call | str:
        """Return what a call is remembered by, or why there is nothing to remember it by."""
        from flowkit_state import fingerprint
        from flowkit_state.serialization.json_codec import encode

        prefix = _prefix(function, name)
        own = self.state._serialization.own
        mode = fingerprint.NORMAL if self._version is None else fingerprint.LENIENT
        try:
            signature = fingerprint.signature(function)
            given = signature.bind(*args, **kwargs).arguments
        except (TypeError, ValueError) as error:
            return str(error)  # the call itself says what is wrong with it
        content: object = None
        if self._key is not None:
            from flowkit_state._key_function import evaluate

            content = evaluate(self._key, function, args, kwargs, name or _name_of(function), ignore=ignore)
        try:
            if self._key is None:
                parts = fingerprint.whole(function, signature, given, ignore, mode=mode, own=own)
            else:
                parts = fingerprint.components(function, mode, own)
                parts["result of key()"] = fingerprint.digest(encode(content, root=_KEY_RESULT))
        except UnsupportedValueError as error:
            way = error.hint[:1].lower() + error.hint[1:]
            if error.path.startswith(_KEY_RESULT):
                way = "let it return plain data, such as a text or a tuple of texts and numbers"
            reason = f"{error.path} is of type {error.type_name}, {error.reason}; {way}"
            self._tell_once(prefix, "arguments", reason)
            return reason
        if self._version is not None:
            parts["version of the cache"] = fingerprint.digest(encode(self._version))
        return _Call(prefix, prefix + fingerprint.key(parts), fingerprint.short(parts))

    def _look_up(self, call: _Call) -> Any:
        try:
            return self.state.get(call.key, _MISSING)
        except StateClosedError:
            raise
        except StateError as error:
            self._tell_once(call.prefix, "look-up", str(error))
            return _MISSING

    def _why(self, call: _Call) -> str:
        """Return why there is no result of a call: what has changed since the last one of the same function."""
        from flowkit_state.fingerprint import changes

        key = _last(call.prefix)
        try:
            last, metadata = self.state.get(key), self.state.get_metadata(key)
        except StateClosedError:
            raise
        except StateError as error:
            return str(error)
        if last is None or not metadata:
            return "never computed before"
        expired = last["expires"] is not None and last["expires"] <= self._now()
        told = changes(metadata["components"], call.components)
        if not told:
            return "expired" if expired else "it was forgotten"
        if expired and all(sentence.startswith("input ") for sentence in told):
            return "expired, or never computed with these inputs"
        return "; ".join(told)

    def _now(self) -> float:
        return float(self.state._clock())

    def _tell_once(self, prefix: str, subject: str, reason: str) -> None:
        if (prefix, subject) not in self._told:
            self._told.add((prefix, subject))
            import logging

            name = prefix[len(CACHED) + 1 : -1].lstrip(":").replace(":", ".")
            logging.getLogger("flowkit.state").warning('A call of "%s" is not cached: %s', name, reason)


def _prefix(function: Any, name: str | None) -> str:
    """Return what the keys of all results of a function begin with; nothing else begins with it."""
    from flowkit_state.module_names import named_label

    if name is not None:
        return f"{CACHED}::{name}:"
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{CACHED}:{named_label(getattr(function, '__module__', None))}:{name}:"


def _name_of(function: Any) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _last(prefix: str) -> str:
    return _LAST + prefix[len(CACHED) :]


def _moment(since: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(since, UTC).isoformat(" ", "seconds")


def _plain(function: Any) -> FunctionType:
    from types import FunctionType

    if not isinstance(function, FunctionType):
        allowed = "a plain function (put @task above the cache, and wrap other callables in a function)"
        raise StateOptionTypeError("what TaskCache decorates", function, allowed)
    if function.__code__.co_flags & _NOT_PLAIN:
        allowed = "a function that returns its result, neither async nor a generator"
        raise StateOptionError("what TaskCache decorates", function, allowed)
    return function
