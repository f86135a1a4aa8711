"""Registry of executors by name: registered in this process, or provided by an installed distribution."""

from __future__ import annotations

from functools import cache

from ._text import did_you_mean, short_repr
from ._typing import TYPE_CHECKING
from ._warnings import warn
from .errors import ExecutorError, UnknownExecutorError
from .executor import SerialExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ._typing import Any
    from .executor import Executor
    from .pipelines.node import Node
    from .runs.run import Run
    from .runs.session import Lane

ENTRY_POINT_GROUP = "flowkit.executors"
PROVIDED_BY = {"thread": "flowkit-exec", "process": "flowkit-exec"}
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
        factory = _find_factory("thread") or SerialExecutor
        return factory(max_workers=max_workers), True
    if isinstance(executor, str):
        named = _find_factory(executor)
        if named is None:
            _find_factory("thread")  # registers the executors of flowkit-exec, for the list in the message
            raise UnknownExecutorError(executor, _names(), _hint(executor))
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


class RunExecutors:
    """The executors of one run: the default, and those that tasks name.

    Args:
        executor: the argument of ``run()``: a name, an executor, None, or a mapping of names to these, in which
            ``"default"`` is the executor of all tasks that name none.
        max_workers: maximum number of workers of each executor given by name; None means its default.
        placed: the nodes whose tasks name an executor.

    Attributes:
        default: the executor of nodes that are not in ``others``.
        others: index of a node -> its executor, if that is not the default.

    Raises:
        UnknownExecutorError: there is no executor of a name.
        TypeError: a value is neither a name nor an executor.
    """

    def __init__(self, executor: Any, max_workers: int | None, placed: Sequence[Node] = ()) -> None:
        self._owned: list[Executor] = []
        self._max_workers = max_workers
        self.others: dict[int, Executor] = {}
        try:
            given = _checked_mapping(executor) if hasattr(executor, "keys") else {"default": executor}
            known = {"default": self._resolve(given.get("default"))}
            self.default = known["default"]
            if isinstance(self.default, SerialExecutor) and not hasattr(executor, "keys"):
                return  # run("serial") runs everything in the calling thread
            for node in placed:
                name = node.task.executor
                if name not in known:
                    same = name not in given and name == getattr(self.default, "name", None)
                    known[name] = self.default if same else self._resolve(given.get(name, name), node, given)
                if isinstance(known[name], SerialExecutor):  # there is one calling thread
                    known[name] = next(each for each in known.values() if isinstance(each, SerialExecutor))
                if known[name] is not self.default:
                    self.others[node.index] = known[name]
            self._check_unused(given, known)
        except BaseException:
            self.close()
            raise

    def _check_unused(self, given: Mapping[str, Any], known: Mapping[str, Executor]) -> None:
        """Check the executors that no task names: a misspelt name, or values that are meant for tasks."""
        for name, executor in given.items():
            if name in known:
                continue
            if isinstance(executor, str) and _find_factory(executor) is None:
                hint = f"No task names {name!r}: values for tasks are given by run(params={{{name!r}: ...}})"
                raise UnknownExecutorError(executor, _names(), hint)
            if guess := did_you_mean(name, list(known)):
                warn(f"run(executor=...) has an executor {name!r}, but no task of the pipeline names it{guess}")

    def _resolve(self, executor: Any, node: Node | None = None, given: Iterable[str] = ()) -> Executor:
        try:
            found, owned = resolve_executor(executor, self._max_workers)
        except UnknownExecutorError as error:
            if node is None:
                raise
            names = sorted({*error.available, *given} - {"default", executor})
            wanted = node.task.executor
            guess = did_you_mean(executor, names)
            hint = f"Task {node.name!r} is to run there: give it to the run, run(executor={{{wanted!r}: ...}}){guess}"
            raise UnknownExecutorError(error.name, names, hint) from None
        if owned:
            self._owned.append(found)
        return found

    @property
    def name(self) -> str:
        """The names of the executors, for logs."""
        return ", ".join(dict.fromkeys(map(_name, (self.default, *self.others.values()))))

    def execute(self, run: Run) -> None:
        """Drive a run to its end."""
        if not self.others:
            self.default.execute(run)
            return
        from .runs.session import Session

        lane_of = {id(executor): _lane(executor) for executor in (self.default, *self.others.values())}
        lane_by_index = {index: lane_of[id(executor)] for index, executor in self.others.items()}
        Session(run, list(lane_of.values()), lane_by_index).drive()

    def close(self) -> None:
        """Close the executors that were created for this run."""
        while self._owned:
            self._owned.pop().close()


def _names() -> list[str]:
    return sorted({*_factories, *_entry_points()})


def _name(executor: Executor) -> str:
    return getattr(executor, "name", type(executor).__name__)


def _lane(executor: Executor) -> Lane:
    lane = getattr(executor, "lane", None)
    if not callable(lane):
        raise ExecutorError(
            f"executor {_name(executor)!r} cannot share a run with others, because it has no lane(): use it for the "
            f"whole run, run(executor=...), or give it a lane()"
        )
    return lane()  # type: ignore[no-any-return]


def _checked_mapping(given: Any) -> dict[str, Any]:
    for name, executor in given.items():
        if not isinstance(name, str):
            raise TypeError(f"run(executor=...) has the key {short_repr(name)}, but its keys are names of executors")
        if not (executor is None or isinstance(executor, str) or callable(getattr(executor, "execute", None))):
            raise TypeError(
                f"run(executor={{{name!r}: ...}}) is {short_repr(executor)}, but must be a name such as 'thread', or "
                f"an executor object; values for tasks are given by run(params={{...}})"
            )
    return dict(given)


def _find_factory(name: str) -> Callable[..., Executor] | None:
    """Return the factory of an executor by name; None if there is none."""
    if name not in _factories and name in PROVIDED_BY:
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
        return f"Install the distribution {PROVIDED_BY[name]!r}, which provides it"
    if name == "dask":
        return "An executor for Dask, in the distribution 'flowkit-dask', is planned and does not exist yet"
    guess = did_you_mean(name, [*_factories, *PROVIDED_BY])
    ways = f"Register one with register_executor(), or under the entry-point group {ENTRY_POINT_GROUP!r}"
    return f"{ways}, or pass an executor object{guess}"
