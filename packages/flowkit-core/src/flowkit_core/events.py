"""Events of a run, and the protocol of the observers that get them.

An event is created only if an observer wants events of its class.
"""

from __future__ import annotations

from ._typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._typing import Any
    from .graphs.graph import Graph


class Event:
    """Base class of all events of a run.

    Attributes:
        run_id: id of the run.
        pipeline: name of the pipeline.
    """

    __slots__ = ("pipeline", "run_id")

    is_of_element = False
    """Whether it is of one element of a mapped task; an observer gets such events only if its ``events`` lists them."""
    _optional: tuple[str, ...] = ()  # attributes that are None if they are not given

    def __init__(self, run_id: str, pipeline: str, **facts: Any) -> None:
        self.run_id = run_id
        self.pipeline = pipeline
        for name in self._optional:
            setattr(self, name, None)
        for fact, value in facts.items():
            setattr(self, fact, value)

    def __repr__(self) -> str:
        names = [name for kind in reversed(type(self).__mro__) for name in getattr(kind, "__slots__", ())]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


class RunStarted(Event):
    """A run starts.

    Attributes:
        tasks: number of tasks.
        executor: name of the executor.
        done: number of tasks that ended before the run was resumed.
        graph: the graph of the run.
    """

    __slots__ = ("done", "executor", "graph", "tasks")
    tasks: int
    graph: Graph
    executor: str
    done: int


class RunFinished(Event):
    """A run has ended.

    Attributes:
        counts: state -> number of tasks in it.
        duration: seconds from start to end.
        error: the exception that ``run()`` raises, or would raise without ``raise_on_failure=False``; else None.
        failed: name of each failed task -> the exception that it raised; of elements of mapped tasks as ``"parse[3]"``.
    """

    __slots__ = ("counts", "duration", "error", "failed")
    counts: Mapping[str, int]
    duration: float
    error: BaseException | None
    failed: Mapping[str, BaseException]


class RunStopping(Event):
    """A run stops early and waits for tasks that are running. Not emitted if none runs, or if ``arun()`` is cancelled.

    Attributes:
        failed: name of the task that has failed; None if the run could not be recorded, or took too long.
        error: its exception, or the one that kept the run from being recorded, or the ``RunTimeoutError``.
        running: names of the running tasks, in topological order.
    """

    __slots__ = ("error", "failed", "running")
    failed: str | None
    error: BaseException
    running: tuple[str, ...]


class TaskEvent(Event):
    """Base class of events of one task.

    Attributes:
        task: name of the task.
        element: number of the element of a mapped task, in an `ElementEvent`; None in all other events.
        label: its label, if the task has labels; else None.
    """

    __slots__ = ("task",)
    element: int | None = None
    label: str | None = None
    task: str


class TaskWaiting(TaskEvent):
    """A task is ready, and its next attempt waits for slots of pools, or for a rate.

    Attributes:
        attempt: number of the attempt, from 1.
        pools: names of the pools that the task needs, a tuple of str.
    """

    __slots__ = ("attempt", "pools")
    attempt: int
    pools: tuple[str, ...]


class TaskStarted(TaskEvent):
    """An attempt at a task starts.

    Attributes:
        attempt: number of the attempt, from 1.
        max_attempts: maximum number of attempts.
        worker: name of the thread or the worker that makes the call; empty for a mapped task, which has several calls.
        elements: number of elements of a mapped task, if it is known; None for other tasks.
    """

    __slots__ = ("attempt", "elements", "max_attempts", "worker")
    _optional = ("elements",)
    attempt: int
    max_attempts: int
    worker: str
    elements: int | None


class TaskSucceeded(TaskEvent):
    """A task returned; if a mapped task pulls the iterator that it returned, no more elements are pulled.

    For a task that returned such an iterator, there is one event, before that of the mapped task: this one, or
    `TaskFailed` if the iterator raised an exception.

    Attributes:
        attempt: number of the attempt, from 1.
        duration: duration of the attempt, in seconds; of a mapped task, from its first element to the end of the last.
        elements: state -> number of elements of a mapped task in it; None for other tasks.
    """

    __slots__ = ("attempt", "duration", "elements")
    _optional = ("elements",)
    attempt: int
    duration: float
    elements: Mapping[str, int] | None


class TaskReused(TaskEvent):
    """A task did not run, because its result was in a cache or in the record of the run.

    Attributes:
        source: ``"cache"``, or ``"resume"`` for a task that ended before the run was resumed.
    """

    __slots__ = ("source",)
    source: str


class TaskRetrying(TaskEvent):
    """An attempt failed, and another will follow.

    Attributes:
        attempt: number of the failed attempt, from 1.
        max_attempts: maximum number of attempts.
        duration: seconds that the attempt took.
        delay: seconds until the next attempt.
        error: exception of the attempt.
    """

    __slots__ = ("attempt", "delay", "duration", "error", "max_attempts")
    attempt: int
    max_attempts: int
    duration: float
    delay: float
    error: BaseException


class TaskFailed(TaskEvent):
    """A task failed, and there are no more retries.

    Attributes:
        attempt: number of the last attempt, from 1.
        duration: duration of that attempt, in seconds.
        error: exception of that attempt; of a mapped task, of the first element that failed.
        elements: state -> number of elements of a mapped task in it; None for other tasks.
    """

    __slots__ = ("attempt", "duration", "elements", "error")
    _optional = ("elements",)
    attempt: int
    duration: float
    error: BaseException
    elements: Mapping[str, int] | None


class TaskNotRun(TaskEvent):
    """A task ended without running, or was stopped while it ran.

    Attributes:
        state: ``"skipped"``, ``"upstream_failed"`` or ``"cancelled"``.
        reason: why.
        started: whether it had started and was stopped.
    """

    __slots__ = ("reason", "started", "state")
    state: str
    reason: str
    started: bool


class ElementEvent(TaskEvent):
    """Base class of events of one element of a mapped task.

    Each class of them but `ElementStarted` is derived from the class of the same event of a task, and has its
    attributes: an `ElementFailed` is a `TaskFailed` with the attribute ``element``. Observers get events of elements
    only if their attribute ``events`` lists the class itself.

    Attributes:
        element: number of the element, from 0.
        label: its label, if the task has labels; else None.
    """

    __slots__ = ()
    is_of_element = True


class ElementStarted(ElementEvent):
    """An attempt at an element starts.

    Attributes:
        attempt: number of the attempt, from 1.
    """

    __slots__ = ("attempt", "element", "label")
    attempt: int


class ElementSucceeded(ElementEvent, TaskSucceeded):
    """The function returned for an element. Its attributes are those of `TaskSucceeded` and `ElementEvent`."""

    __slots__ = ("element", "label")


class ElementRetrying(ElementEvent, TaskRetrying):
    """An attempt at an element failed, and another will follow.

    Its attributes are those of `TaskRetrying` and `ElementEvent`.
    """

    __slots__ = ("element", "label")


class ElementFailed(ElementEvent, TaskFailed):
    """An element failed, and there are no more retries.

    Its other attributes are those of `TaskFailed` and `ElementEvent`.

    Attributes:
        outcome: the option ``errors`` of the task: ``"raise"``, ``"drop"`` or ``"return"``.
    """

    __slots__ = ("element", "label", "outcome")
    outcome: str


class ElementNotRun(ElementEvent, TaskNotRun):
    """An element ended without running, or was stopped while it ran.

    Its attributes are those of `TaskNotRun` and `ElementEvent`.
    """

    __slots__ = ("element", "label")


class Observer(Protocol):
    """A callable that takes events: an item of ``run(observers=[...])``.

    It is called by one thread at a time, in the order of the events, and should return quickly. If it raises, the
    exception is reported as a warning, and the run continues. An attribute ``events``, a tuple of event classes, limits
    the events that it gets; fewer events take less time. Events of single elements of
    mapped tasks, such as `ElementStarted`, are passed to observers that list their class in ``events`` only.

    An observer of elements has a method ``watch_run(run)``. If an observer wants `RunStarted`, it is called before that
    event with the :class:`Run`, whose methods ``progress()`` and ``elements()`` it may call until `RunFinished`.

    An observer that traces runs has a method ``run_trace(run_id)``, which is called after `RunStarted` and returns a
    :class:`RunTrace`: then `TaskContext.traceparent` of each call is that of a span of the trace.

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
        """Handle an event."""
