"""Faults that a simulation injects into a run, given explicitly or drawn at random."""

from __future__ import annotations

from flowkit_core._text import did_you_mean, short_repr
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.runs.states import SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.run import Run


class Fault:
    """Base class of faults. Faults are equal if their classes and attributes are."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *map(repr, vars(self).values())))

    def __repr__(self) -> str:
        given = {name: value for name, value in vars(self).items() if name != "element" or value is not None}
        values = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return f"{type(self).__name__}({values})"


class _TaskFault(Fault):
    """A fault of attempts at one task, or at elements of a mapped one."""

    def __init__(self, task: str, attempt: int | None = 1, *, element: int | None = None) -> None:
        kind = type(self).__name__
        self.task = task
        self.attempt = _checked_number(f"attempt of a {kind}", attempt, 1)
        self.element = _checked_number(f"element of a {kind}", element, 0)

    def hits(self, task: str, attempt: int, element: int | None) -> bool:
        return task == self.task and self.attempt in (None, attempt) and self.element in (None, element)


class Fail(_TaskFault):
    """An attempt at a task raises an exception instead of calling its function.

    Args:
        task: name of the task.
        attempt: number of the attempt, from 1; None means every attempt.
        error: the exception; None means a :class:`SimulatedError`.
        element: number of the element of a mapped task; None means every element.
    """

    def __init__(
        self,
        task: str,
        attempt: int | None = 1,
        error: BaseException | None = None,
        *,
        element: int | None = None,
    ) -> None:
        super().__init__(task, attempt, element=element)
        self.error = error


class Slow(_TaskFault):
    """An attempt at a task takes longer.

    Args:
        task: name of the task.
        attempt: number of the attempt, from 1; None means every attempt.
        factor: number by which the duration is multiplied.
        seconds: seconds that are added.
        element: number of the element of a mapped task; None means every element.
    """

    def __init__(
        self,
        task: str,
        attempt: int | None = 1,
        factor: float = 1.0,
        seconds: float = 0.0,
        *,
        element: int | None = None,
    ) -> None:
        super().__init__(task, attempt, element=element)
        self.factor = _checked_seconds("factor of a Slow", factor)
        self.seconds = _checked_seconds("seconds of a Slow", seconds)


class Crash(_TaskFault):
    """The worker of an attempt dies before the attempt ends: the attempt fails with :class:`WorkerDiedError`.

    The function has been called by then, so its side effects have taken place.

    Args:
        task: name of the task.
        attempt: number of the attempt, from 1; None means every attempt.
        element: number of the element of a mapped task; None means every element.
    """


class Timeout(_TaskFault):
    """An attempt is given up with :class:`TaskTimeoutError` before it ends. Its late result has to be ignored.

    Args:
        task: name of the task.
        attempt: number of the attempt, from 1; None means every attempt.
        element: number of the element of a mapped task; None means every element.
    """


class _TimedFault(Fault):
    """A fault at a time."""

    def __init__(self, at: float) -> None:
        self.at = _checked_seconds(f"at of a {type(self).__name__}", at)


class Lose(_TimedFault):
    """An executor fails and cannot go on: the run ends with :class:`ExecutorError`.

    Args:
        executor: its name, as in ``@task(executor=...)``; ``"default"`` for the tasks that name none.
        at: virtual time in seconds.
    """

    def __init__(self, executor: str, at: float) -> None:
        self.executor = executor
        super().__init__(at)


class Interrupt(_TimedFault):
    """Ctrl-C: the run ends with :class:`KeyboardInterrupt`.

    Args:
        at: virtual time in seconds.
    """


class SimulatedError(Exception):
    """The exception that a simulated failure raises."""


RANDOM_TASK_FAULTS = (Fail, Slow, Crash, Timeout)
"""Kinds of faults that are drawn at random by default."""
_KINDS = (*RANDOM_TASK_FAULTS, Lose, Interrupt)


class FaultPlan:
    """The faults of one simulated run.

    Args:
        faults: faults that are always injected.
        rate: probability of a random fault of each attempt, and of each kind of fault of the whole run.
        kinds: kinds of random faults.
        executors: names of the executors of the run.
        random: returns numbers in [0, 1).

    Attributes:
        injected: the faults that have been injected, in the order of their injection.
        timed: the faults of the whole run.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        rate: float,
        kinds: Sequence[type[Fault]],
        executors: Sequence[str],
        random: Callable[[], float],
    ) -> None:
        self._faults = [fault for fault in faults if isinstance(fault, _TaskFault)]
        self._rate = rate
        self._kinds = [kind for kind in kinds if issubclass(kind, _TaskFault)]
        self._random = random
        self.injected: list[Fault] = []
        self.timed = [fault for fault in faults if isinstance(fault, _TimedFault)]
        if Lose in kinds and random() < rate:
            self.timed.append(Lose(executors[int(random() * len(executors))], random() * 3))
        if Interrupt in kinds and random() < rate:
            self.timed.append(Interrupt(random() * 3))

    def of_attempt(self, task: str, attempt: int, element: int | None = None) -> list[Fault]:
        """Return the faults of an attempt that starts."""
        found: list[Fault] = [fault for fault in self._faults if fault.hits(task, attempt, element)]
        if self._rate and self._kinds and self._random() < self._rate:
            kind: Any = self._kinds[int(self._random() * len(self._kinds))]
            options = {"factor": 1 + 9 * self._random()} if kind is Slow else {}
            found.append(kind(task, attempt, element=element, **options))
        self.injected += found
        return found


def checked_faults(
    faults: Any, rate: Any, kinds: Any, graph: Graph, executors: Sequence[str]
) -> tuple[list[Fault], float, tuple[type[Fault], ...]]:
    """Return the options of faults.

    Raises:
        TypeError: one of them has the wrong type.
        ValueError: a fault names a task, an attempt, an element or an executor that does not exist, or the rate is not
            from 0 to 1.
    """
    if isinstance(faults, (Fault, str)) or not hasattr(faults, "__iter__"):
        raise TypeError(f"faults is {short_repr(faults)}, but must be a list, such as [Fail('load', attempt=1)]")
    given = list(faults)
    for fault in given:
        if not isinstance(fault, Fault):
            names = ", ".join(kind.__name__ for kind in _KINDS)
            raise TypeError(f"faults has the item {short_repr(fault)}, but its items must be faults: {names}")
        if isinstance(fault, _TaskFault):
            check_names("a fault", [fault.task], graph.names)
            _check_possible(fault, graph[fault.task])
        if isinstance(fault, Lose):
            check_names("a fault", [fault.executor], executors, "executor")
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise TypeError(f"fault_rate is {short_repr(rate)}, but must be a number from 0 to 1")
    if not 0 <= rate <= 1:
        raise ValueError(f"fault_rate is {rate!r}, but must be from 0 to 1")
    kinds = (kinds,) if isinstance(kinds, type) else tuple(kinds)
    for kind in kinds:
        if kind not in _KINDS:
            names = ", ".join(kind.__name__ for kind in _KINDS)
            raise TypeError(f"fault_kinds has the item {short_repr(kind)}, but its items must be of: {names}")
    return given, float(rate), kinds


def _check_possible(fault: _TaskFault, node: Node) -> None:
    """Raise ValueError if a task never makes the attempt of a fault, or has no elements."""
    retries = node.task.retry.retries
    if fault.attempt is not None and fault.attempt > retries + 1:
        last = f"has retries={retries}, so that its last attempt is attempt {retries + 1}"
        raise ValueError(f"the fault {fault!r} never occurs: task {node.name!r} {last}")
    if fault.element is not None and node.mapped is None:
        raise ValueError(f"the fault {fault!r} never occurs: task {node.name!r} is not mapped: leave out element")


def check_elements(faults: Iterable[Fault], run: Run) -> None:
    """Raise ValueError if a fault names an element that a mapped task did not have in a run."""
    for fault in faults:
        if not isinstance(fault, _TaskFault) or fault.element is None:
            continue
        node = run.graph[fault.task]
        region = run.mapping.region_of(node)
        if region is None:
            continue
        has_ended = run.state.codes[node.index] == SUCCEEDED
        size = len(run.state.stages[node.index].codes) if has_ended else region.size
        if size is not None and fault.element >= size:
            numbers = f"has the elements 0 to {size - 1}" if size else "has no elements"
            raise ValueError(f"the fault {fault!r} never occurs: task {node.name!r} {numbers} in this run")


def check_names(owner: str, given: Iterable[object], known: Sequence[str], kind: str = "task") -> None:
    """Raise ValueError if a name is not that of a task, or of an executor."""
    for name in given:
        if name not in known:
            guess = did_you_mean(name, known) if isinstance(name, str) else ""
            listed = "" if guess else f"; there are: {', '.join(known[:12])}"
            raise ValueError(f"{owner} names the {kind} {name!r}, which the pipeline does not have{guess}{listed}")


def _checked_number(what: str, value: Any, least: int) -> int | None:
    if value is None:
        return None
    if type(value) is not int:
        raise TypeError(
            f"{what} is {short_repr(value)}, but must be an integer, {least} or more, or None for every one"
        )
    if value < least:
        raise ValueError(f"{what} is {value!r}, but must be an integer, {least} or more: the first one is {least}")
    return value


def _checked_seconds(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is {short_repr(value)}, but must be a number, 0 or more")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{what} is {value!r}, but must be a number, 0 or more")
    return float(value)
