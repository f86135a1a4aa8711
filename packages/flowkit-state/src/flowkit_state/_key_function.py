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
    """Check that there are calls of `function` whose arguments `key` takes.

    Args:
        key: the key function.
        function: the function whose calls are remembered.
        name: its name, for the error.
        ignore: names of parameters that `key` may leave out.
        by_position: whether positional parameters are always passed by position, as pipelines do.

    Raises:
        CacheKeyError: there is no such call.
    """
    takes, asks = _signature(function), _signature(key)
    if takes is None or asks is None:
        return
    for call in (takes, _without(takes, ignore)):
        positional = _positional(call)
        fewest = sum(map(_is_required, positional)) if by_position else 0
        for count in range(fewest, max(len(positional), len(_positional(asks))) + 1):
            args = (None,) * count
            kwargs = dict.fromkeys([*_required(call, count), *_required(asks, count)])
            if not _refusal(call, args, kwargs) and not _misfit(asks, call, args, kwargs):
                return
    call = _without(takes, ignore)
    args = (None,) * len(_positional(call))
    raise _error(name, asks, takes, _misfit(asks, call, args, dict.fromkeys(_required(call, len(args)))))


def evaluate(
    key: Callable[..., Any],
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    name: str,
    *,
    ignore: Collection[str] = (),
) -> Any:
    """Return what `key` returns for the arguments of a call of `function`, which takes them.

    Raises:
        CacheKeyError: `key` does not take these arguments.
        StateOptionError: it returns a coroutine, another awaitable or a generator.
        Exception: whatever `key` raises, with a note.
    """
    takes, asks = _signature(function), _signature(key)
    if takes is not None and asks is not None:
        misfit = _misfit(asks, takes, args, kwargs)
        if misfit and ignore:
            names = [each.name for each in _positional(takes)]
            args = [value for place, value in enumerate(args) if place >= len(names) or names[place] not in ignore]
            kwargs = {each: value for each, value in kwargs.items() if each not in ignore}
            misfit = _misfit(asks, _without(takes, ignore), args, kwargs)
        if misfit:
            raise _error(name, asks, takes, misfit)
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


def _without(takes: inspect.Signature, ignore: Collection[str]) -> inspect.Signature:
    return takes.replace(parameters=[each for each in takes.parameters.values() if each.name not in ignore])


def _positional(of: inspect.Signature) -> list[inspect.Parameter]:
    return [each for each in of.parameters.values() if each.kind in _POSITIONAL]


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in _VARIADIC


def _required(of: inspect.Signature, count: int = 0) -> list[str]:
    """Return the names of the required parameters that are not among the first positional ones."""
    first = _positional(of)[:count]
    return [each.name for each in of.parameters.values() if _is_required(each) and each not in first]


def _refusal(of: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return why a function does not take arguments; empty if it does."""
    try:
        of.bind(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return ""


def _misfit(asks: inspect.Signature, call: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return why a key function must not be called with the arguments of a call; empty if it may."""
    if refusal := _refusal(asks, args, kwargs):
        return _difference(asks, call) or refusal
    for _, mine, its in zip(args, _positional(asks), _positional(call)):
        if mine.kind is mine.POSITIONAL_OR_KEYWORD and mine.name != its.name and mine.name in call.parameters:
            return f"it takes {mine.name!r} in the place of {its.name!r}, and arguments are passed in order"
    return ""


def _difference(asks: inspect.Signature, takes: inspect.Signature) -> str:
    """Return the surplus or missing parameters of a key function, as text; empty if there are none."""
    if surplus := _surplus(asks, takes):
        left = [each for each in takes.parameters if each not in asks.parameters]
        near = get_close_matches(surplus[0], left, n=1)
        guess = f" (did you mean {near[0]!r}?)" if near else ""
        return f"it takes {_listed(surplus)}, which the function does not{guess}"
    if lacking := _surplus(takes, asks):
        return f"it does not take {_listed(lacking)}"
    return ""


def _surplus(one: inspect.Signature, other: inspect.Signature) -> list[str]:
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


def _shown(of: inspect.Signature) -> str:
    """Return the parameters as they would be written, without annotations and defaults."""
    bare = [
        each.replace(annotation=each.empty, default=each.empty if each.default is each.empty else _Dots())
        for each in of.parameters.values()
    ]
    text = str(of.replace(parameters=bare, return_annotation=of.empty))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...)"


def _error(name: str, asks: inspect.Signature, takes: inspect.Signature, reason: str) -> CacheKeyError:
    return CacheKeyError(name, _shown(asks), _shown(takes), reason)
