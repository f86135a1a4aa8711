"""What a run says about itself, and who may listen.

A run makes an event only where some observer wants events of that class; with no observer it makes none.
"""

from __future__ import annotations

from ._typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._typing import Any


class Event:
    """Something that happened in a run.

    Attributes:
        run_id: which run.
        pipeline: name of the pipeline.
    """

    __slots__ = ("pipeline", "run_id")

    def __init__(self, run_id: str, pipeline: str, **facts: Any) -> None:
        self.run_id = run_id
        self.pipeline = pipeline
        for fact, value in facts.items():
            setattr(self, fact, value)

    def __repr__(self) -> str:
        names = [name for kind in reversed(type(self).__mro__) for name in getattr(kind, "__slots__", ())]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


class RunStarted(Event):
    """A run begins.

    Attributes:
        tasks: how many tasks it has.
        executor: name of the executor.
        done: how many of its tasks were done before, in the part of the run that is resumed.
    """

    __slots__ = ("done", "executor", "tasks")
    tasks: int
    executor: str
    done: int


class RunFinished(Event):
    """A run is over.

    Attributes:
        counts: state -> number of tasks.
        duration: seconds from start to end.
    """

    __slots__ = ("counts", "duration")
    counts: Mapping[str, int]
    duration: float


class TaskEvent(Event):
    """Something that happened to one task.

    Attributes:
        task: name of the task.
    """

    __slots__ = ("task",)
    task: str


class TaskStarted(TaskEvent):
    """A task, or another attempt at it, begins.

    Attributes:
        attempt: which attempt, from 1.
        max_attempts: how many it has.
    """

    __slots__ = ("attempt", "max_attempts")
    attempt: int
    max_attempts: int


class TaskSucceeded(TaskEvent):
    """A task returned.

    Attributes:
        attempt: which attempt it was.
        duration: seconds it took.
    """

    __slots__ = ("attempt", "duration")
    attempt: int
    duration: float


class TaskReused(TaskEvent):
    """A task did not run, because its result was known.

    Attributes:
        source: "cache", or "resume" for what was recorded before the run was resumed.
    """

    __slots__ = ("source",)
    source: str


class TaskRetrying(TaskEvent):
    """An attempt failed and another will follow.

    Attributes:
        attempt: which attempt failed.
        max_attempts: how many there are.
        delay: seconds until the next.
        error: what it raised.
    """

    __slots__ = ("attempt", "delay", "error", "max_attempts")
    attempt: int
    max_attempts: int
    delay: float
    error: BaseException


class TaskFailed(TaskEvent):
    """The last attempt at a task failed.

    Attributes:
        attempt: which attempt it was.
        duration: seconds it took.
        error: what it raised.
    """

    __slots__ = ("attempt", "duration", "error")
    attempt: int
    duration: float
    error: BaseException


class TaskNotRun(TaskEvent):
    """A task ended without running, or without running to its end.

    Attributes:
        state: "skipped", "upstream_failed" or "cancelled".
        reason: why.
        started: whether it had begun to run, and was stopped.
    """

    __slots__ = ("reason", "started", "state")
    state: str
    reason: str
    started: bool


class Observer(Protocol):
    """Whatever wants to know what happens: a callable that takes an event.

    It is called by one thread at a time, in the order in which things happened, and should return quickly. An exception
    that it raises is reported through :mod:`warnings` and changes nothing for the run. An attribute ``events``, a tuple
    of event classes, limits what it is called with; asking for less costs less.

    Examples:
        >>> from flowkit_core import DAG, task
        >>> @task
        ... def hello():
        ...     return "hi"
        >>> seen = []
        >>> DAG("greet", tasks=[hello]).run(observers=[lambda event: seen.append(type(event).__name__)])
        {'hello': 'hi'}
        >>> seen
        ['RunStarted', 'TaskStarted', 'TaskSucceeded', 'RunFinished']
    """

    def __call__(self, event: Event, /) -> object:
        """Take note of an event."""
