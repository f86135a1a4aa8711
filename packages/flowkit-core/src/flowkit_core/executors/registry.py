"""Registry of executors by name: registered in this process, or provided by an installed distribution."""

from __future__ import annotations

from functools import cache

from flowkit_core._text import did_you_mean, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import UnknownExecutorError, install_command

from .executor import SerialExecutor

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_core._typing import Any

    from .executor import Executor

ENTRY_POINT_GROUP = "flowkit.executors"
PROVIDED_BY = {"thread": "flowkit-exec", "process": "flowkit-exec", "dask": "flowkit-dask"}
"""Name of an executor -> distribution of this project that registers it when it is imported."""

_factories: dict[str, Callable[..., Executor]] = {"serial": SerialExecutor}


def register_executor(name: str, factory: Callable[..., Executor]) -> None:
    """Register an executor by name in this process; no packaging metadata is needed.

    Args:
        name: the name, for ``run(executor=...)``.
        factory: function that returns an executor; called with ``max_workers`` (an integer of at least 1, or None).
    """
    _factories[name] = factory


def resolve_executor(executor: str | Executor | None, max_workers: int | None = None) -> tuple[Executor, bool]:
    """Return an executor, and whether it was created here, so that the caller has to close it.

    Args:
        executor: an executor; or a name; or None, which means threads if ``flowkit-exec`` is installed, else serial.
        max_workers: maximum number of workers of an executor given by name; None means its default.

    Raises:
        UnknownExecutorError: there is no executor of that name; the message lists those there are.
        TypeError: the value is neither a name nor an executor.
    """
    if executor is None:
        factory = find_factory("thread") or SerialExecutor
        return factory(max_workers=max_workers), True
    if isinstance(executor, str):
        named = find_factory(executor)
        if named is None:
            find_factory("thread")  # registers the executors of flowkit-exec, for the list in the message
            raise UnknownExecutorError(executor, executor_names(), _hint(executor))
        return named(max_workers=max_workers), True
    if callable(getattr(executor, "execute", None)) and not isinstance(executor, type):
        return executor, False
    hint = ""
    if isinstance(executor, type):
        hint = f": write {executor.__name__}(), with parentheses"
    elif callable(getattr(executor, "submit", None)):
        hint = ": write FuturesExecutor(pool), from flowkit-exec, for a pool"
    raise TypeError(
        f"executor is {short_repr(executor)}, but must be a name such as 'thread', or an executor object with "
        f"execute(run){hint}"
    )


def executor_names() -> list[str]:
    """Return the names of all executors, sorted."""
    return sorted({*_factories, *_entry_points()})


def name_of(executor: Executor) -> str:
    """Return the name of an executor, for logs and messages."""
    return getattr(executor, "name", type(executor).__name__)


def find_factory(name: str) -> Callable[..., Executor] | None:
    """Return the factory of an executor by name; None if there is none."""
    factory = _factories.get(name)
    if factory is not None:
        return factory
    if name in PROVIDED_BY:
        _import(PROVIDED_BY[name])  # registers it, also in applications without metadata, such as frozen ones
    if name not in _factories:
        points = _entry_points().get(name, [])
        if not points:
            return None
        if len(points) > 1:
            owners = ", ".join(sorted(point.dist.name for point in points))
            hint = f"Several distributions provide an executor of that name: {owners}; uninstall all but one"
            raise UnknownExecutorError(name, sorted(_factories), hint)
        _factories[name] = points[0].load()
    return _factories[name]


@cache
def _import(distribution: str) -> None:
    """Import the package of a distribution, if it is installed."""
    from importlib import import_module

    module = distribution.replace("-", "_")
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise


@cache
def _entry_points() -> dict[str, list[Any]]:
    """Return the entry points of executors by name; cached, because this reads all installed distributions."""
    from importlib.metadata import entry_points

    points: dict[str, list[Any]] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        points.setdefault(point.name, []).append(point)
    return points


def _hint(name: str) -> str:
    """Return what to do to get an executor of a name."""
    if name in PROVIDED_BY:
        distribution = PROVIDED_BY[name]
        return f"Install {distribution!r}, which provides it, with {install_command(distribution)}"
    if "://" in name:
        return f"For a Dask scheduler, pass DaskExecutor({name!r}), or set DASK_SCHEDULER_ADDRESS for 'dask'"
    guess = did_you_mean(name, [*_factories, *PROVIDED_BY])
    ways = f"Register one with register_executor(), or under the entry-point group {ENTRY_POINT_GROUP!r}"
    return f"{ways}, or pass an executor object{guess}"
