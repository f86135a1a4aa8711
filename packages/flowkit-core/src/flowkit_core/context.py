"""Function `current` and class `TaskContext`: the run, the task and the attempt that the calling code is part of.

Class `RunTrace`: the span of that run in a distributed trace.

A call is found in one of three ways: by a context variable, which is set for every call but those of the fast path; by
the worker of the calling thread, for the fast path; or by a function that worker processes set, `find_in_process`.
"""

from __future__ import annotations

from _thread import get_ident
from contextvars import ContextVar, copy_context

from ._text import short_repr
from ._typing import TYPE_CHECKING, Protocol
from .errors import ContextError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from logging import Logger
    from random import Random

    from ._typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")


class RunFacts(Protocol):
    """What a :class:`TaskContext` uses of the run, in any process.

    Attributes:
        run_id: id of the run.
        pipeline: name of the pipeline.
        trace: the span of the run in a distributed trace; None if it has none.
    """

    run_id: str
    pipeline: str
    trace: RunTrace | None

    @property
    def params(self) -> Mapping[str, Any]:
        """The argument ``params`` of ``run()``."""

    def notes(self, index: int, element: int | None) -> Mapping[str, Any]:
        """Return the notes of a task, by its index and that of the element."""

    def remember(self, index: int, element: int | None, key: str, value: Any) -> None:
        """Keep a note of a task."""


class RunTrace:
    """The span of a run in a distributed trace: what an observer with a method ``run_trace`` returns.

    The id of the span of an attempt is computed from it, so that the process of the run and the process that makes the
    call need not agree on it. Ids are those of the W3C recommendation *Trace Context*.

    Args:
        trace_id: id of the trace, 32 hexadecimal digits.
        span_id: id of the span of the run, 16 hexadecimal digits.
        flags: flags of the trace, from 0 to 255; 1 means that it is sampled.
        elements: whether each attempt at an element of a mapped task has a span; else the mapped task has one.

    Attributes:
        trace_id, span_id, flags, elements: see above.

    Examples:
        >>> trace = RunTrace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1)
        >>> trace.traceparent("extract", 1)
        '00-0af7651916cd43dd8448eb211c80319c-c4092d064ac88672-01'
    """

    __slots__ = ("elements", "flags", "span_id", "trace_id")

    def __init__(self, trace_id: str, span_id: str, flags: int, *, elements: bool = False) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags
        self.elements = elements

    def span_id_of(self, task: str, attempt: int, element: int | None = None) -> str:
        """Return the id of the span of an attempt, 16 hexadecimal digits.

        Args:
            task: name of the task.
            attempt: number of the attempt, from 1.
            element: number of the element; None for a task that is not mapped.
        """
        from hashlib import sha256

        if element is not None and not self.elements:
            attempt, element = 1, None
        key = f"{self.trace_id}\n{self.span_id}\n{task}\n{attempt}\n{element}"
        found = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return found if found.strip("0") else "0" * 15 + "1"  # an id that is zero is invalid

    def traceparent(self, task: str, attempt: int, element: int | None = None) -> str:
        """Return the header ``traceparent`` for what an attempt calls; see `span_id_of`."""
        return f"00-{self.trace_id}-{self.span_id_of(task, attempt, element)}-{self.flags:02x}"


class TaskContext:
    """The call of a task: what :func:`current` returns.

    Attributes:
        task: name of the task.
        ticket: number of the call in a worker process; 0 elsewhere.
        attempt: number of the attempt, from 1.
        element: index of the element that this call is for, if the task is mapped over a result; else None.
        deadline: when the attempt times out, as :func:`time.time` counts; None if it has no timeout.
    """

    __slots__ = ("_facts", "_index", "_random", "attempt", "deadline", "element", "task", "ticket")

    def __init__(
        self,
        facts: RunFacts,
        index: int,
        task: str,
        attempt: int = 1,
        element: int | None = None,
        deadline: float | None = None,
        ticket: int = 0,
    ) -> None:
        self._facts = facts
        self._index = index
        self.task = task
        self.attempt = attempt
        self.element = element
        self.deadline = deadline
        self.ticket = ticket
        self._random: Random | None = None

    @property
    def key(self) -> tuple[int, int | None]:
        """The indices of the task and of the element."""
        return self._index, self.element

    def move_to(self, index: int, task: str, element: int) -> None:
        """Make this the context of an element of another task: for calls that are made in blocks."""
        self._index, self.task, self.element = index, task, element

    @property
    def run_id(self) -> str:
        """Id of the run; a resumed run keeps the id of the run that it resumes."""
        return self._facts.run_id

    @property
    def pipeline(self) -> str:
        """Name of the pipeline."""
        return self._facts.pipeline

    @property
    def params(self) -> Mapping[str, Any]:
        """The argument ``params`` of ``run()``, read-only.

        Raises:
            ContextError: they cannot be transferred to this process.
        """
        from types import MappingProxyType

        return MappingProxyType(dict(self._facts.params))

    @property
    def idempotency_key(self) -> str:
        """A str that is the same in all attempts of this task in this run, also after a resume, and in no other call.

        Pass it to a service that ignores the second of two requests with the same key.
        """
        return idempotency_key(self.run_id, self.task if self.element is None else f"{self.task}[{self.element}]")

    @property
    def traceparent(self) -> str | None:
        """The header ``traceparent`` of W3C Trace Context, whose span is that of this attempt; None without a trace.

        Pass it to a service or a program that the task calls, so that its spans are part of the trace of the run. A run
        has a trace if one of its observers makes one, such as ``flowkit_view.OpenTelemetry()``.
        """
        trace = self._facts.trace
        return None if trace is None else trace.traceparent(self.task, self.attempt, self.element)

    @property
    def logger(self) -> Logger:
        """The standard logger ``flowkit.task``; its records carry run, pipeline, task, element and attempt."""
        from logging import getLogger

        return getLogger("flowkit.task")

    @property
    def random(self) -> Random:
        """Random numbers that are the same whenever this attempt at this task of this run is repeated."""
        if self._random is None:
            from random import Random

            self._random = Random(f"{self.run_id}\n{self.task}\n{self.element}\n{self.attempt}")
        return self._random

    @property
    def notes(self) -> Mapping[str, Any]:
        """The notes of this task in this run, read-only: those of :meth:`remember`, also by earlier attempts."""
        from types import MappingProxyType

        return MappingProxyType(dict(self._facts.notes(self._index, self.element)))

    def remember(self, key: str, value: Any) -> None:
        """Keep a note for the next attempts of this task in this run, and for the run that resumes it.

        With ``run(state=...)``, the note is committed when this returns. A note of the same key is replaced. Without
        ``state``, notes are kept as long as the run takes. In a pool of a ``FuturesExecutor`` whose workers are other
        processes, notes are passed on when the call ends, and lost if the worker dies before.

        Args:
            key: name of the note.
            value: anything that can be recorded, such as the id of a job that was started elsewhere.

        Raises:
            TypeError: the key is not a str.
            ContextError: the run has ended.
            Exception: the value cannot be stored.

        Examples:
            >>> from flowkit_core import DAG, current, task
            >>> @task(retries=1, delay=0)
            ... def submit():
            ...     job = current().notes.get("job")
            ...     if job is None:
            ...         current().remember("job", "job-17")
            ...         raise ConnectionError("no answer")
            ...     return f"went on with {job}"
            >>> DAG("jobs", tasks=[submit]).run()
            {'submit': 'went on with job-17'}
        """
        if not isinstance(key, str):
            raise TypeError(f"the key of a note is {short_repr(key)}, but must be a str")
        self._facts.remember(self._index, self.element, key, value)

    def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function, in any thread, in which ``current()`` returns this context.

        Examples:
            >>> from concurrent.futures import ThreadPoolExecutor
            >>> from functools import partial
            >>> from flowkit_core import DAG, current, task
            >>> def size(page):
            ...     return current().task, len(page)
            >>> @task
            ... def sizes():
            ...     with ThreadPoolExecutor(2) as pool:
            ...         return list(pool.map(partial(current().run, size), ["a", "bc"]))
            >>> DAG("pages", tasks=[sizes]).run()
            {'sizes': [('sizes', 1), ('sizes', 2)]}
        """
        return copy_context().run(self._run, function, args, kwargs)

    def _run(self, function: Callable[P, R], args: Any, kwargs: Any) -> R:
        variable.set(self)
        return function(*args, **kwargs)

    def attributes(self) -> dict[str, Any]:
        """Return the attributes that log records made during this call carry."""
        return {
            "run_id": self.run_id,
            "pipeline": self.pipeline,
            "task": self.task,
            "element": self.element,
            "attempt": self.attempt,
        }

    def __repr__(self) -> str:
        element = "" if self.element is None else f"[{self.element}]"
        return f"<TaskContext {self.task}{element} of {self.pipeline}, attempt {self.attempt}>"


variable: ContextVar[TaskContext | None] = ContextVar("flowkit_context", default=None)
"""The context of the call; None, or not set, outside of tasks and on the fast path."""

workers: dict[int, Any] = {}
"""Thread id -> the `Worker` that runs a node there; the inner one, if a task runs a pipeline."""

find_in_process: Callable[[TaskContext | None], TaskContext | None] | None = None
"""Set in worker processes: returns the context of the running call, given the one of the context variable."""


def current() -> TaskContext:
    """Return the context of the task that calls this: run, pipeline, task, element, attempt and more.

    It works in every executor, in what the function of a task calls, in its coroutines, and in its condition
    (``when``). In a run inside a task, it is the inner task. A thread that a task starts has a context of its own: call
    ``current()`` in the task, and :meth:`TaskContext.run` of what it returns in the thread; a copy of the context of
    the task, ``contextvars.copy_context()`` made after that call, serves as well.

    Returns:
        The context. In one call, it is always the same object.

    Raises:
        ContextError: no task is running here, as in a direct call of a task.

    Examples:
        >>> from flowkit_core import DAG, current, task
        >>> @task
        ... def report(day):
        ...     return f"{current().pipeline}.{current().task} of {day}"
        >>> DAG("nightly", tasks=[report]).run(params={"day": "Monday"})
        {'report': 'nightly.report of Monday'}
    """
    found = find()
    if found is None:
        raise ContextError
    return found


def find() -> TaskContext | None:
    """Return the context of the running call, and set the context variable to it; None outside of tasks."""
    found = variable.get()
    if found is None or found.ticket:
        known = found
        worker = workers.get(get_ident())
        if worker is not None and worker.node is not None:
            found = worker.context()
        elif find_in_process is not None:
            found = find_in_process(known)
        if found is not None and found is not known:
            variable.set(found)
    return found


def log_attributes() -> dict[str, Any]:
    """Return the attributes that a log record made here carries; empty outside of tasks."""
    found = variable.get()
    if found is None or found.ticket:  # the process of the run adds the attributes to records of worker processes
        worker = workers.get(get_ident())
        if worker is None or worker.node is None:
            return {}
        found = worker.context()
    return found.attributes()


def idempotency_key(run_id: str, task: str) -> str:
    """Return a key that is the same in each attempt at a task of a run, and different for other tasks and runs."""
    from hashlib import sha256

    return sha256(f"{run_id}\n{task}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
