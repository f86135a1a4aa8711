"""Class `ResultCache`: looks up and stores results of functions, by fingerprints of their code and arguments."""

from __future__ import annotations

from flowkit_state.errors import StateClosedError, StateError, UnsupportedValueError, comma_list, short_repr
from flowkit_state.storage.base import CACHE_PREFIX, DIGEST_KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from logging import Handler, Logger
    from typing import Any

    from flowkit_state.key_value_store import KeyValueStore

MISSING: Any = object()
_LAST = f"{CACHE_PREFIX}.last"  # prefix of the entries that describe the last result of a function, expired or not
_KEY_RESULT = "the result of key()"
_KEY_LABEL = "result of key()"
_MOST_CODES = 8  # versions of the code of a function that are compared to find results of the same inputs
_FORMAT_REPORTED = ("", "format")
_logged_by_path: dict[str, set[tuple[str, str]]] = {}  # path of a state -> functions and subjects that were logged


class Found:
    """The answer of `TaskCache.find`.

    Attributes:
        known: whether there is a result.
        value: the result.
        token: identifies the call for `TaskCache.keep`; `None` if its result cannot be cached.
        why: the reason why there is a result or none.
        why_element: the same for one of several calls, whose inputs always differ: what else has changed.
    """

    __slots__ = ("known", "token", "value", "why", "why_element")

    def __init__(self, known: bool, value: Any, token: Any, why: str, why_element: str | None = None) -> None:
        self.known, self.value, self.token, self.why = known, value, token, why
        self.why_element = why if why_element is None else why_element

    def __repr__(self) -> str:
        return f"<Found known={self.known} why={self.why!r}>"


class CallKey:
    """The key of one call.

    Attributes:
        prefix: what the keys of all calls of the function begin with.
        key: the key of the entry.
        code: the digest of the code and of what it reads.
        inputs: the digest of the arguments, or of what `key` returns.
        components: label -> digest of everything that the key is made of.
        codes: `code` of earlier results of the function, the newest first; `None` if they were not looked up.
    """

    __slots__ = ("code", "codes", "components", "inputs", "key", "prefix")

    def __init__(self, prefix: str, code: str, inputs: str, components: dict[str, str]) -> None:
        self.prefix, self.code, self.inputs, self.components = prefix, code, inputs, components
        self.codes: list[str] | None = None
        self.key = self.key_with(code)

    def key_with(self, code: str) -> str:
        """Return the key of the entry of the same inputs with other code."""
        from flowkit_state.fingerprint import digest

        return self.prefix + digest([code, self.inputs])


class ResultCache:
    """The results of functions in a store.

    Args:
        state: the store.
        owns_state: whether the store was chosen for this cache; if not, `over` replaces it.
        ttl: time to live in seconds; `None`: the `default_ttl` of the store.
        key: a function of the same arguments that returns what identifies the result.
        version: any value; it is a part of every key.
        logged: functions and subjects that were logged before; `None`: those of the file of `state`.
    """

    def __init__(
        self,
        state: KeyValueStore,
        *,
        owns_state: bool = True,
        ttl: float | None = None,
        key: Callable[..., Any] | None = None,
        version: object = None,
        logged: set[tuple[str, str]] | None = None,
    ) -> None:
        self._state = state
        self._owns_state = owns_state
        self._ttl = ttl
        self._key = key
        self._version = version
        if logged is None:
            logged = set() if state.path is None else _logged_by_path.setdefault(state.path, set())
        self._logged = logged
        self._secret: bytes | None = None

    @property
    def state(self) -> KeyValueStore:
        """The store of the results."""
        return self._state

    @property
    def argument_digest(self) -> Callable[[Any], Any] | None:
        """The function that returns the digest of an argument of a call for :meth:`find`, in whatever process that is.

        None if values are needed: with ``key``, and with serializers of the store.
        """
        if self._key is not None or self.state._serialization.serializers:
            return None
        from flowkit_state.fingerprint import argument_digest

        return argument_digest

    def over(self, state: KeyValueStore) -> ResultCache:
        """Return this cache if it has a state of its own, else one with the same options over `state`."""
        if self._owns_state:
            return self
        return ResultCache(state, ttl=self._ttl, key=self._key, version=self._version, logged=self._logged)

    def check(self, function: Callable[..., Any], name: str | None = None, *, ignore: Collection[str] = ()) -> None:
        """Check that the key function accepts the arguments of a task. Does nothing without a key function.

        Args:
            function: the function of the task. It is not called.
            name: the name of the task, for the error; `None`: the name of the function.
            ignore: names of parameters that the key function may omit.

        Raises:
            CacheKeyError: the key function does not accept the arguments, passed by position as pipelines do.

            >>> from flowkit_state import TaskCache
            >>> TaskCache(key=lambda query: query).check(lambda connection, query: None, "ask")  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            flowkit_state.errors.CacheKeyError: TaskCache(key=...) of 'ask': the key function takes (query), ...
        """
        if self._key is not None:
            from flowkit_state._key_function import check_fit

            check_fit(self._key, function, name or name_of(function), ignore=ignore, by_position=True)

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
        """Look up the result of a call, without calling the function.

        Args:
            function: the function. It may be `async`: then its results are those of awaiting it.
            args: its positional arguments.
            kwargs: its keyword arguments.
            name: the name in the keys of results; `None`: the name of the function.
            ignore: names of parameters that are not part of the key.
            refresh: whether to skip the look-up, because the function is always called.

        Returns:
            the result if there is one, the reason, and the token for `keep` to store a new result.

            >>> from flowkit_state import TaskCache
            >>> cache = TaskCache()
            >>> found = cache.find(len, ["abc"], {})
            >>> found.known, found.why
            (False, 'never computed before')
            >>> cache.keep(found.token, len("abc"))
            >>> cache.find(len, ["abc"], {}).value
            3
        """
        call = self._call_key(function, args, kwargs, name, ignore)
        if isinstance(call, str):
            return Found(False, None, None, f"it cannot be cached: {call}")
        if refresh:
            return Found(False, None, call, "refresh was requested")
        value = self._look_up(call)
        if value is not MISSING:
            return Found(True, value, None, "its code and its inputs are the same")
        return Found(False, None, call, *self._miss_reasons(call))

    def keep(self, token: Any, value: object) -> None:
        """Store the result of the call that `find` returned `token` for. Errors are logged, never raised."""
        if token is None:
            return
        state, now = self.state, self._now()
        made_of = {"components": token.components}
        ttl = self._ttl if self._ttl is not None else state.default_ttl
        expires = None if ttl is None or ttl == float("inf") else now + ttl
        try:
            with state.batch():
                codes = _codes(state.get(last_key(token.prefix))) if token.codes is None else token.codes
                codes = [token.code, *(code for code in codes if code != token.code)][:_MOST_CODES]
                last = {"key": token.key, "expires": expires, "codes": codes}
                state.set(token.key, value, ttl=self._ttl, metadata={**made_of, "since": now})
                state.set(last_key(token.prefix), last, ttl=float("inf"), metadata=made_of)
        except UnsupportedValueError as error:
            reason = f"its result is of type {error.type_name}, {error.reason}. {error.hint}"
            self._log_once(token.prefix, "result", reason)
        except StateError as error:  # the result is computed: it is returned even if it cannot be stored
            self._log_once(token.prefix, "store", str(error))

    def _call_key(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        name: str | None = None,
        ignore: Collection[str] = (),
    ) -> CallKey | str:
        """Return the key of a call, or the reason why it has none."""
        from flowkit_state import fingerprint
        from flowkit_state.fingerprint.process_reads import ProcessReads
        from flowkit_state.serialization.json_encoder import encode

        prefix = key_prefix(function, name)
        own = self.state._serialization.serializers
        policy = fingerprint.CONSTANTS if self._version is None else fingerprint.VERSIONED
        try:
            signature = fingerprint.signature(function)
            given = signature.bind(*args, **kwargs).arguments
        except (TypeError, ValueError) as error:
            return str(error)  # the call will raise the same error
        content: object = None
        if self._key is not None:
            from flowkit_state._key_function import evaluate

            content = evaluate(self._key, function, args, kwargs, name or name_of(function), ignore=ignore)
        reads = ProcessReads(self._digest_key)
        try:
            if self._key is None:
                parts = fingerprint.call_components(
                    function, signature, given, ignore, policy=policy, own=own, reads=reads
                )
            else:
                parts = fingerprint.components(function, policy, own, reads=reads)
                parts[_KEY_LABEL] = fingerprint.digest(encode(content, root=_KEY_RESULT))
        except UnsupportedValueError as error:
            hint = error.hint[:1].lower() + error.hint[1:]
            if error.path.startswith(_KEY_RESULT):
                hint = "return plain data from it, such as a text or a tuple of texts and numbers"
            reason = f"{error.path} is of type {error.type_name}, {error.reason}; {hint}"
            self._log_once(prefix, "arguments", reason)
            return reason
        except StateClosedError:
            raise
        except StateError as error:  # the key of digests cannot be read
            self._log_once(prefix, "look-up", str(error))
            return str(error)
        if reads.clock and not self._limits_age():
            reason = (
                f"it reads the clock ({comma_list(reads.clock)}); pass the time as an argument, or limit the lifetime"
                f" of results: TaskCache(ttl=3600), or TaskCache(ttl=float('inf')) if they do not depend on the time"
            )
            self._log_once(prefix, "clock", reason)
            return reason
        if self._version is not None:
            parts["version of the cache"] = fingerprint.digest(encode(self._version))
        code, inputs = dict(parts), {}
        for label in [label for label in parts if label == _KEY_LABEL or fingerprint.is_input(label)]:
            inputs[label] = code.pop(label)
        return CallKey(prefix, fingerprint.key(code), fingerprint.key(inputs), fingerprint.shortened(parts))

    def _limits_age(self) -> bool:
        """Return whether an option limits how long results of code that reads the clock are valid."""
        options = self._ttl, self._key, self._version, self.state.default_ttl
        return any(option is not None for option in options)

    def _digest_key(self) -> bytes:
        """Return the key for digests of environment variables, which is made when it is first needed."""
        if self._secret is None:
            state = self.state
            secret = state.get(DIGEST_KEY)
            if type(secret) is not bytes:
                from secrets import token_bytes

                with state.batch():
                    secret = state.get(DIGEST_KEY)
                    if type(secret) is not bytes:
                        secret = token_bytes(32)
                        state.set(DIGEST_KEY, secret, ttl=float("inf"))
            self._secret = secret
        return self._secret

    def _look_up(self, call: CallKey) -> Any:
        try:
            value = self.state.get(call.key, MISSING)
            if value is MISSING:
                self._report_old_format(call)
        except StateClosedError:
            raise
        except StateError as error:
            self._log_once(call.prefix, "look-up", str(error))
            return MISSING
        return value

    def _report_old_format(self, call: CallKey) -> None:
        """Warn once for each store that its results were stored under fingerprints of another format."""
        from flowkit_state.fingerprint import has_same_format

        if _FORMAT_REPORTED in self._logged or (call.prefix, "format") in self._logged:
            return
        self._logged.add((call.prefix, "format"))
        stored = _components(self.state.get_metadata(last_key(call.prefix)))
        if stored and not has_same_format(stored, call.components):
            self._logged.add(_FORMAT_REPORTED)
            from flowkit_state._warnings import safe_warn

            safe_warn(
                f"the results cached in {short_repr(self.state.path)} are not used: another version of flowkit-state "
                "stored them, and its fingerprints of code have another format. Each call is computed once more; there "
                "is nothing to do. clear() deletes the old results."
            )

    def _miss_reasons(self, call: CallKey) -> Sequence[str]:
        """Return why there is no result: what has changed since a result of the same inputs, or the last one.

        If there is no result of the same inputs, there is a second text, without what has changed in the inputs.
        """
        from flowkit_state.fingerprint import changes_by_label

        key = last_key(call.prefix)
        try:
            last, stored = self.state.get(key), _components(self.state.get_metadata(key))
            call.codes = _codes(last)
            same_inputs = self._components_of_same_inputs(call)
        except StateClosedError:
            raise
        except StateError as error:
            return (str(error),)
        if same_inputs and (changed := changes_by_label(same_inputs, call.components)):
            return ("; ".join(changed.values()),)
        expires = last.get("expires") if type(last) is dict else None
        if last is None or not stored:
            return ("never computed before",)
        expired = type(expires) is float and expires <= self._now()
        changed = changes_by_label(stored, call.components)
        if not changed:
            return ("expired" if expired else "its result was deleted",)
        of_inputs = [sentence for label, sentence in changed.items() if _is_input(label)]
        of_code = [sentence for label, sentence in changed.items() if not _is_input(label)]
        if expired and not of_code:
            return ("expired, or never computed with these inputs",)
        if call.code in call.codes and of_inputs:  # there are results of this code, but none for these inputs
            of_code = []
        return "; ".join(of_inputs + of_code), "; ".join(["there is no result for its inputs", *of_code])

    def _components_of_same_inputs(self, call: CallKey) -> dict[str, str]:
        """Return the components of the newest result of the same inputs with other code; none if there is no such."""
        for code in call.codes or ():
            if code != call.code and (found := _components(self.state.get_metadata(call.key_with(code)))):
                return found
        return {}

    def _now(self) -> float:
        return self.state._now()

    def _log_once(self, prefix: str, subject: str, reason: str) -> None:
        if (prefix, subject) not in self._logged:
            self._logged.add((prefix, subject))
            import logging

            name = prefix[len(CACHE_PREFIX) + 1 : -1].lstrip(":").replace(":", ".")
            logger = logging.getLogger("flowkit.state")
            logger.warning('A call of "%s" is not cached: %s', name, reason)
            if _is_silent(logger):
                from flowkit_state._warnings import safe_warn

                safe_warn(f'A call of "{name}" is not cached: {reason}')


def _components(metadata: dict[str, Any] | None) -> dict[str, str]:
    """Return the components in the metadata of a result; none if the metadata is missing or damaged."""
    components: Any = (metadata or {}).get("components")
    if type(components) is not dict or not all(type(part) is str for item in components.items() for part in item):
        return {}
    return dict(components)


def _codes(last: Any) -> list[str]:
    """Return the versions of the code in the entry of the last result; none if it is missing or damaged."""
    codes: Any = last.get("codes") if type(last) is dict else None
    return codes if type(codes) is list and all(type(code) is str for code in codes) else []


def _is_input(label: str) -> bool:
    """Return whether a component is an argument of the call, or what `key` returns for the arguments."""
    from flowkit_state.fingerprint import is_input

    return is_input(label) or label == _KEY_LABEL


def _is_silent(logger: Logger) -> bool:
    """Return whether no handler prints the records of a logger, because logging is not configured."""
    from logging import NullHandler

    current: Logger | None = logger
    handlers: list[Handler] = []
    while current is not None:
        handlers += current.handlers
        current = current.parent if current.propagate else None
    return bool(handlers) and all(isinstance(handler, NullHandler) for handler in handlers)  # else it is `lastResort`


def key_prefix(function: Any, name: str | None) -> str:
    """Return what the keys of all results of a function begin with, and no other key does."""
    from flowkit_state.module_names import named_label

    if name is not None:
        return f"{CACHE_PREFIX}::{name}:"
    function = innermost(function)
    return f"{CACHE_PREFIX}:{named_label(getattr(function, '__module__', None))}:{name_of(function)}:"


def last_key(prefix: str) -> str:
    """Return the key of the entry that describes the last result of a function."""
    return _LAST + prefix[len(CACHE_PREFIX) :]


def name_of(function: Any) -> str:
    """Return the qualified name of a function, of that of a partial, or of the class of any other callable."""
    function = innermost(function)
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def innermost(function: Any) -> Any:
    """Return the function of a `functools.partial`, which may be nested, or of a bound method."""
    from functools import partial
    from types import MethodType

    while isinstance(function, (partial, MethodType)):
        function = function.func if isinstance(function, partial) else function.__func__
    return function
