"""Executors by name: those of this package, registered ones, and those that installed distributions provide."""

from __future__ import annotations

from functools import cache

from ._text import did_you_mean, short_repr
from ._typing import TYPE_CHECKING
from .errors import UnknownExecutorError
from .executor import SerialExecutor

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._typing import Any
    from .executor import Executor

GROUP = "flowkit.executors"
PROVIDED_BY = {"thread": "flowkit-exec", "process": "flowkit-exec"}

_factories: dict[str, Callable[..., Executor]] = {"serial": SerialExecutor}


def register_executor(name: str, factory: Callable[..., Executor]) -> None:
    """Make an executor known by name in this process, without packaging metadata.

    Args:
        name: what ``run(executor=...)`` will call it.
        factory: called with ``max_workers`` (an integer of at least 1, or None).
    """
    _factories[name] = factory


def resolve_executor(executor: str | Executor | None, max_workers: int | None = None) -> tuple[Executor, bool]:
    """Return the executor that a user means, and whether it was made here and is the caller's to close.

    Args:
        executor: an object; or a name; or None, which means threads where ``flowkit-exec`` is installed, else serial.
        max_workers: how many workers a named executor should use at most; None leaves it to the executor.

    Raises:
        UnknownExecutorError: there is none of that name; the message says what there is and what to install.
        TypeError: it is neither a name nor an executor.
    """
    if executor is None:
        factory = _found("thread") or SerialExecutor
        return factory(max_workers=max_workers), True
    if isinstance(executor, str):
        found = _found(executor)
        if found is None:
            _found("thread")
            raise UnknownExecutorError(executor, sorted({*_factories, *_advertised()}), _hint(executor))
        return found(max_workers=max_workers), True
    if callable(getattr(executor, "execute", None)) and not isinstance(executor, type):
        return executor, False
    hint = f": write {executor.__name__}(), with parentheses" if isinstance(executor, type) else ""
    raise TypeError(
        f"executor is {short_repr(executor)}, but must be a name such as 'thread', or an executor object with "
        f"execute(run){hint}"
    )


def _found(name: str) -> Callable[..., Executor] | None:
    """Return the factory of that name; what is installed is asked only for a name that is not known yet, once."""
    if name not in _factories and name in PROVIDED_BY:
        _import(
            PROVIDED_BY[name]
        )  # our own layers make themselves known, also where there is no metadata: frozen applications
    if name not in _factories:
        points = _advertised().get(name, [])
        if not points:
            return None
        if len(points) > 1:
            owners = ", ".join(sorted(point.dist.name for point in points))
            raise UnknownExecutorError(name, sorted(_factories), f"several distributions claim the name: {owners}")
        _factories[name] = points[0].load()
    return _factories[name]


@cache
def _import(distribution: str) -> None:
    from importlib import import_module

    module = distribution.replace("-", "_")
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise


@cache
def _advertised() -> dict[str, list[Any]]:
    """Return the entry points of executors, by name: looked up once, because it reads every installed distribution."""
    from importlib.metadata import entry_points

    points: dict[str, list[Any]] = {}
    for point in entry_points(group=GROUP):
        points.setdefault(point.name, []).append(point)
    return points


def _hint(name: str) -> str:
    if name in PROVIDED_BY:
        return f"It comes with the distribution {PROVIDED_BY[name]!r}: install that"
    if name == "dask":
        return "It is meant for a distribution of its own, 'flowkit-dask', which does not exist yet"
    guess = did_you_mean(name, [*_factories, *PROVIDED_BY])
    ways = f"Register one with register_executor(), or under the entry-point group {GROUP!r}"
    return f"{ways}, or pass an executor object{guess}"
