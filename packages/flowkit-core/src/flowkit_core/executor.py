"""Where calls run: the executor protocol, looking one up by name, and the serial executor."""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from functools import cache
from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic, perf_counter, sleep

from ._typing import TYPE_CHECKING, Protocol
from .errors import UnknownExecutorError, did_you_mean, shown
from .outcome import Ending, Later
from .pipelines.node import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context

    from ._typing import Any
    from .run import Run

GROUP = "flowkit.executors"
SOLD_WITH = {"thread": "flowkit-exec", "process": "flowkit-exec"}


class Executor(Protocol):
    """Carries the calls of a run to where they run, and their outcomes back. It decides nothing about their meaning.

    A minimal executor takes the nodes of ``run.start()``, and for each node in hand: asks ``run.call(node)``; makes the
    call, unless the answer is an :class:`~flowkit_core.Ending`; hands the outcome to ``run.finish(node, outcome,
    seconds)``; and adds the nodes that this returns to those in hand. A :class:`~flowkit_core.Later` asks for its node
    to be taken in hand again after a delay. :func:`carry` does one such step in the calling thread. As long as a run is
    ``recorded``, a worker should be given its next call when the outcome of the last was handed in: so a crash leaves
    no more than one task per worker in doubt.

    Attributes:
        name: what logs call it.
    """

    name: str

    def execute(self, run: Run) -> None:
        """Drive a run to its end. Failures of tasks are outcomes and are not raised here."""

    def close(self) -> None:
        """Let go of whatever the executor keeps between runs. Calling it twice is fine."""


def carry(run: Run, node: Node, context: Context) -> Sequence[Node] | Later:
    """Make the call of one ready node in this thread, in a copy of a context, and tell the run how it ended.

    Args:
        run: the run.
        node: a node that the run handed out.
        context: context variables of whoever started the run.

    Returns:
        What :meth:`Run.finish` returns.
    """
    call = run.call(node)
    if isinstance(call, Ending):
        return run.finish(node, call)
    own = context.copy()
    began = perf_counter()
    outcome: Any = own.run(call.judge) if call.when is not None or call.recall is not None else None
    if outcome is None:
        outcome = run.begun(node)
    if outcome is None:
        began = perf_counter()
        outcome = own.run(call.perform)
    try:
        return run.finish(node, outcome, perf_counter() - began)
    finally:
        del outcome  # the traceback of an error leads to this frame, which would lead to the error: a cycle


class Timers:
    """Nodes that wait for a time to come: retries.

    Examples:
        >>> timers = Timers(clock=lambda: 10.0)
        >>> timers.wait()
        0.0
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Node]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, later: Later) -> None:
        """Wait for a node's delay."""
        heappush(self._heap, (self._clock() + later.delay, next(self._order), later.node))

    def wait(self) -> float:
        """Return the seconds until the first node is due, an hour at most; 0 if one is, or none waits."""
        return min(max(0.0, self._heap[0][0] - self._clock()), 3600.0) if self._heap else 0.0

    def due(self, run: Run) -> list[Node]:
        """Take out the nodes whose time has come, and those that the run would not let start any more anyway."""
        now = self._clock()
        nodes = []
        if run.halted and (idle := [entry for entry in self._heap if not run.allows(entry[2])]):
            nodes = [entry[2] for entry in idle]
            self._heap = [entry for entry in self._heap if run.allows(entry[2])]
            heapify(self._heap)
        while self._heap and self._heap[0][0] <= now:
            nodes.append(heappop(self._heap)[2])
        return nodes


class SerialExecutor:
    """Runs every task in the calling thread, one after the other, in topological order.

    The simplest executor, the one that debuggers like, and the only one of ``flowkit-core``.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def one(): return 1
        >>> DAG("numbers", tasks=[one]).run(executor=SerialExecutor())
        {'one': 1}
    """

    name = "serial"

    def __init__(self, max_workers: int | None = None) -> None:
        checked_workers(max_workers)

    def execute(self, run: Run) -> None:
        """Drive a run to its end."""
        context = copy_context()
        ready = deque(run.start())
        timers = Timers()
        while True:
            rest = run.sprint(ready.popleft, ready.append, context, perf_counter)
            step = carry(run, rest, context) if isinstance(rest, Node) else rest
            if isinstance(step, Later):
                timers.add(step)
            elif step:
                ready.extend(step)
            if timers:
                ready.extend(timers.due(run))
                if not ready:
                    sleep(timers.wait())
            elif not ready:
                return

    def close(self) -> None:
        """Do nothing: nothing is kept between runs."""

    def __enter__(self) -> SerialExecutor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "SerialExecutor()"


def checked_workers(max_workers: Any, owner: str = "max_workers") -> int | None:
    """Return ``max_workers`` if it is an integer of at least 1, or None.

    Raises:
        TypeError: it is no integer.
        ValueError: it is less than 1.
    """
    if max_workers is None:
        return None
    if type(max_workers) is not int:
        raise TypeError(
            f"{owner} is {shown(max_workers)}, but must be an integer of at least 1, or None for a sensible default"
        )
    if max_workers < 1:
        raise ValueError(
            f"{owner} is {shown(max_workers)}, but must be an integer of at least 1, or None for a sensible default"
        )
    return max_workers


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
        f"executor is {shown(executor)}, but must be a name such as 'thread', or an executor object with "
        f"execute(run){hint}"
    )


def _found(name: str) -> Callable[..., Executor] | None:
    """Return the factory of that name; what is installed is asked only for a name that is not known yet, once."""
    if name not in _factories and name in SOLD_WITH:
        _import(
            SOLD_WITH[name]
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
    if name in SOLD_WITH:
        return f"It comes with the distribution {SOLD_WITH[name]!r}: install that"
    if name == "dask":
        return "It is meant for a distribution of its own, 'flowkit-dask', which does not exist yet"
    guess = did_you_mean(name, [*_factories, *SOLD_WITH])
    ways = f"Register one with register_executor(), or under the entry-point group {GROUP!r}"
    return f"{ways}, or pass an executor object{guess}"
