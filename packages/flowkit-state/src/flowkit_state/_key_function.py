"""Check and call the `key` function of a `TaskCache`."""

from __future__ import annotations

import inspect
from difflib import get_close_matches

from flowkit_state.errors import CacheKeyError, StateOptionError, StateOptionTypeError
from flowkit_state.fingerprint import signature

_LONGEST = 200

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class _Dots:
    """Placeholder for a default in a signature; the `repr` of the default may be long or raise."""

    def __repr__(self) -> str:
        return "..."


def check_option(key: Any) -> None:
    """Check that `key` is a function whose result can be compared.

    Raises:
        StateOptionTypeError: it cannot be called.
        StateOptionError: it is `async` or a generator function.
    """
    if not callable(key):
        allowed = "a function of the arguments, such as key=lambda connection, query: query, or None"
        raise StateOptionTypeError("key", key, allowed)
    for function in (key, getattr(type(key), "__call__", None)):  # noqa: B004 - the kind of function matters
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise StateOptionError("key", key, "a plain function: the result of an async one is never awaited")
        if inspect.isgeneratorfunction(function):
            raise StateOptionError("key", key, "a function that returns its result: a generator cannot be compared")


def check_fit(
    key: Callable[..., Any],
    function: Callable[..., Any],
    name: str,
    *,
    ignore: Collection[str] = (),
    by_position: bool = False,
) -> None:
    """Check that `key` accepts the arguments of at least one valid call of `function`.

    Args:
        key: the key function.
        function: the function whose results are cached.
        name: its name, for the error.
        ignore: names of parameters that `key` may omit.
        by_position: whether positional parameters are always passed by position, as pipelines do.

    Raises:
        CacheKeyError: it accepts those of none.
    """
    function_signature, key_signature = _signature(function), _signature(key)
    if function_signature is None or key_signature is None:
        return
    for call in (function_signature, _without_ignored(function_signature, ignore)):
        positional = _positional(call)
        fewest = sum(map(_is_required, positional)) if by_position else 0
        for count in range(fewest, max(len(positional), len(_positional(key_signature))) + 1):
            args = (None,) * count
            kwargs = dict.fromkeys([*_required(call, count), *_required(key_signature, count)])
            if not _bind_error(call, args, kwargs) and not _mismatch(key_signature, call, args, kwargs):
                return
    call = _without_ignored(function_signature, ignore)
    args = (None,) * len(_positional(call))
    raise _error(
        name,
        key_signature,
        function_signature,
        _mismatch(key_signature, call, args, dict.fromkeys(_required(call, len(args)))),
    )


def evaluate(
    key: Callable[..., Any],
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    name: str,
    *,
    ignore: Collection[str] = (),
) -> Any:
    """Return the result of `key` for the arguments of a valid call of `function`.

    Raises:
        CacheKeyError: `key` does not accept these arguments.
        StateOptionError: it returns a coroutine, another awaitable or a generator.
        Exception: whatever `key` raises, with a note.
    """
    function_signature, key_signature = _signature(function), _signature(key)
    if function_signature is not None and key_signature is not None:
        mismatch = _mismatch(key_signature, function_signature, args, kwargs)
        if mismatch and ignore:
            names = [each.name for each in _positional(function_signature)]
            args = [value for place, value in enumerate(args) if place >= len(names) or names[place] not in ignore]
            kwargs = {each: value for each, value in kwargs.items() if each not in ignore}
            mismatch = _mismatch(key_signature, _without_ignored(function_signature, ignore), args, kwargs)
        if mismatch:
            raise _error(name, key_signature, function_signature, mismatch)
    try:
        value = key(*args, **kwargs)
    except Exception as error:
        error.add_note(f"flowkit: the key function of {name!r}, TaskCache(key=...), raised this")
        raise
    if inspect.isawaitable(value) or inspect.isgenerator(value) or inspect.isasyncgen(value):
        if inspect.iscoroutine(value):
            value.close()  # without it, Python warns that it was never awaited
        allowed = "a value that can be compared, such as a text or a tuple"
        raise StateOptionError(f"the result of the key function of {name!r}", value, allowed)
    return value


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return signature(function)
    except (TypeError, ValueError):  # some builtins have none
        return None


def _without_ignored(function_signature: inspect.Signature, ignore: Collection[str]) -> inspect.Signature:
    return function_signature.replace(
        parameters=[each for each in function_signature.parameters.values() if each.name not in ignore]
    )


def _positional(of: inspect.Signature) -> list[inspect.Parameter]:
    return [each for each in of.parameters.values() if each.kind in _POSITIONAL]


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in _VARIADIC


def _required(of: inspect.Signature, count: int = 0) -> list[str]:
    """Return the names of the required parameters that are not among the first positional ones."""
    first = _positional(of)[:count]
    return [each.name for each in of.parameters.values() if _is_required(each) and each not in first]


def _bind_error(of: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return why a function does not accept arguments; empty if it does."""
    try:
        of.bind(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return ""


def _mismatch(
    key_signature: inspect.Signature, call: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str:
    """Return why a key function cannot be called with the arguments of a call; empty if it can."""
    if bind_error := _bind_error(key_signature, args, kwargs):
        return _difference(key_signature, call) or bind_error
    for _, own, other in zip(args, _positional(key_signature), _positional(call)):
        if own.kind is own.POSITIONAL_OR_KEYWORD and own.name != other.name and own.name in call.parameters:
            return f"it takes {own.name!r} in the place of {other.name!r}, and arguments are passed in order"
    return ""


def _difference(key_signature: inspect.Signature, function_signature: inspect.Signature) -> str:
    """Return the unaccepted or missing parameters of a key function, as text; empty if there are none."""
    if unaccepted := _unaccepted(key_signature, function_signature):
        left = [each for each in function_signature.parameters if each not in key_signature.parameters]
        near = get_close_matches(unaccepted[0], left, n=1)
        guess = f" (did you mean {near[0]!r}?)" if near else ""
        return f"it takes {_listed(unaccepted)}, which the function does not{guess}"
    if missing := _unaccepted(function_signature, key_signature):
        return f"it does not take {_listed(missing)}"
    return ""


def _unaccepted(one: inspect.Signature, other: inspect.Signature) -> list[str]:
    """Return the required parameters of one function that the other one does not accept."""
    kinds = {each.kind for each in other.parameters.values()}
    required = [each.name for each in _positional(one) if _is_required(each)]
    count = 0 if inspect.Parameter.VAR_POSITIONAL in kinds else len(required) - len(_positional(other))
    odd = [name for name in required if name not in other.parameters]
    found = [] if count <= 0 else odd if len(odd) == count else required[-count:]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        found += [name for name in _required(one) if name not in required and name not in other.parameters]
    return found


def _listed(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names))


def _text(of: inspect.Signature) -> str:
    """Return the parameters as they would be written, without annotations and defaults."""
    bare = [
        each.replace(annotation=each.empty, default=each.empty if each.default is each.empty else _Dots())
        for each in of.parameters.values()
    ]
    text = str(of.replace(parameters=bare, return_annotation=of.empty))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...)"


def _error(
    name: str, key_signature: inspect.Signature, function_signature: inspect.Signature, reason: str
) -> CacheKeyError:
    return CacheKeyError(name, _text(key_signature), _text(function_signature), reason)
