"""Class `OpenTelemetry`: an observer that makes a span of each run and of each attempt at a task.

Spans that tasks make are children of the span of their attempt: `TaskRuntimeContext` finds that span when a task asks
OpenTelemetry for the current one, by `flowkit_core.current()`, so it is the same with every executor.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

from flowkit_core import (
    ContextError,
    ElementEvent,
    ElementFailed,
    ElementNotRun,
    ElementRetrying,
    ElementSucceeded,
    RunFinished,
    RunStarted,
    RunTrace,
    TaskFailed,
    TaskNotRun,
    TaskRetrying,
    TaskReused,
    TaskStarted,
    TaskSucceeded,
)
from flowkit_core.context import find
from flowkit_core.failures import describe_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from flowkit_core import Event
    from flowkit_core.events import TaskEvent

NAME = "flowkit"
"""Name of the instrumentation scope of the spans."""
MAX_LINKS = MAX_FAILURES = 128
"""Maximum number of links, and of failed elements, of a span: by default also those of the SDK."""

_span_of_caller: dict[str, int] = {}
"""Id of a run that goes on -> id of the span that was current where it was called; 0 if there was none."""


class TaskRuntimeContext(ContextVarsRuntimeContext):
    """The current context of OpenTelemetry: in a task, its current span is that of the attempt.

    A span that the task itself has made current takes precedence.
    """

    def get_attached(self) -> Context:
        """Return the context that was attached last, whatever task is running."""
        return super().get_current()

    def get_current(self) -> Context:
        """Return the current context."""
        known = self.get_attached()
        try:
            call = find()
            traceparent = None if call is None else call.traceparent
        except ContextError:  # the call has ended
            return known
        if call is None or traceparent is None:
            return known
        span_id = trace.get_current_span(known).get_span_context().span_id
        if span_id not in (0, _span_of_caller.get(call.run_id, 0)):
            return known
        return _context_of(traceparent, known)


def nest_spans() -> None:
    """Make spans that tasks make in this process children of the spans of their attempts.

    `OpenTelemetry` does this for the process that calls ``run()``. Call it where worker processes set up their tracer
    provider, for example in ``ProcessExecutor(initializer=...)``.
    """
    current = otel_context._RUNTIME_CONTEXT
    if type(current) is ContextVarsRuntimeContext:
        nested = TaskRuntimeContext()
        nested._current_context = current._current_context  # what is attached now can be detached later
        otel_context._RUNTIME_CONTEXT = nested
    elif not isinstance(current, TaskRuntimeContext):
        warnings.warn(
            f"spans of tasks are not children of the spans of their attempts, because the context of OpenTelemetry is a"
            f" {type(current).__name__}: remove the environment variable OTEL_PYTHON_CONTEXT",
            RuntimeWarning,
            stacklevel=2,
        )


class OpenTelemetry:
    """An observer that makes a span of each run and of each attempt at a task, for ``run(observers=[...])``.

    The span of a run is a child of the span that is current where ``run()`` is called, and has the spans of the
    attempts as children. They have links to the spans of the tasks whose results they take or wait for. A failure sets
    the status and adds an exception event. Tasks that do not run have no span; the span of the run has their number.
    Spans are exported by the tracer provider that the program has set up; without one, nothing happens.

    One observer may be used for several runs, also at the same time.

    Args:
        provider: the tracer provider; None means the global one when the run starts.
        elements: whether each attempt at an element of a mapped task has a span, as a child of that of the mapped task.
            Otherwise only the mapped task has one, with an event for each failed attempt at an element, of which the
            last 128 are kept.

    Examples:
        >>> from opentelemetry.sdk.trace import TracerProvider
        >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        >>> from flowkit_core import DAG, task
        >>> exporter, provider = InMemorySpanExporter(), TracerProvider()
        >>> provider.add_span_processor(SimpleSpanProcessor(exporter))
        >>> @task
        ... def hello():
        ...     return "hi"
        >>> DAG("greet", tasks=[hello]).run(observers=[OpenTelemetry(provider)])
        {'hello': 'hi'}
        >>> [span.name for span in exporter.get_finished_spans()]
        ['hello', 'greet']
    """

    def __init__(self, provider: TracerProvider | None = None, *, elements: bool = False) -> None:
        if provider is not None and not hasattr(provider, "get_tracer"):
            raise TypeError(
                f"provider is {provider!r}, but must be a tracer provider, such as opentelemetry.sdk.trace"
                f".TracerProvider(), or None for the global one"
            )
        if not isinstance(elements, bool):
            raise TypeError(f"elements is {elements!r}, but must be True or False")
        self._provider = provider
        self._elements = elements
        self._runs: dict[str, _TracedRun] = {}
        kinds: list[type[Event]] = [RunStarted, TaskStarted, TaskSucceeded, TaskRetrying, TaskReused, TaskFailed]
        kinds += [TaskNotRun, ElementRetrying, ElementFailed]
        if elements:
            kinds += [ElementSucceeded, ElementNotRun]
        self.events = (*kinds, RunFinished)
        nest_spans()

    def __call__(self, event: Event) -> None:
        """Take an event, and make the spans that it ends."""
        if isinstance(event, RunStarted):
            tracer = (self._provider or trace.get_tracer_provider()).get_tracer(NAME)
            self._runs[event.run_id] = _TracedRun(event, tracer, elements=self._elements)
        elif event.run_id in self._runs:
            self._runs[event.run_id].take(event)
            if isinstance(event, RunFinished):
                del self._runs[event.run_id]

    def run_trace(self, run_id: str) -> RunTrace | None:
        """Return the trace of a run, which `flowkit_core.TaskContext.traceparent` is computed from."""
        return self._runs[run_id].trace


class _TracedRun:
    """The spans of one run."""

    def __init__(self, event: RunStarted, tracer: Tracer, *, elements: bool) -> None:
        self._tracer = tracer
        self._graph = event.graph
        self._elements = elements
        current = otel_context._RUNTIME_CONTEXT
        known = current.get_attached() if isinstance(current, TaskRuntimeContext) else current.get_current()
        _span_of_caller[event.run_id] = trace.get_current_span(known).get_span_context().span_id
        attributes = {
            "flowkit.run_id": event.run_id,
            "flowkit.pipeline": event.pipeline,
            "flowkit.executor": event.executor,
            "flowkit.tasks": event.tasks,
            "process.pid": os.getpid(),
            "host.name": socket.gethostname(),
        }
        self._span = tracer.start_span(event.pipeline, attributes=attributes)
        self._context = trace.set_span_in_context(self._span)
        found = self._span.get_span_context()
        self.trace: RunTrace | None = None
        if found.is_valid and _PresetIds.install(tracer):
            trace_id, span_id = trace.format_trace_id(found.trace_id), trace.format_span_id(found.span_id)
            self.trace = RunTrace(trace_id, span_id, int(found.trace_flags), elements=elements)
        self._started: dict[str, tuple[TaskStarted, int]] = {}
        self._failures: dict[str, deque[tuple[BaseException, Mapping[str, Any], int]]] = {}  # of elements
        self._ended: dict[str, SpanContext] = {}  # the last attempt at each task that has ended

    def take(self, event: Event) -> None:
        now = time.time_ns()
        match event:
            case ElementEvent():
                self._take_element(event, now)
            case TaskStarted():
                self._started[event.task] = event, now
            case TaskSucceeded():
                self._end(event, now, event.duration, None)
            case TaskRetrying():
                self._end(event, now, event.duration, event.error, {"flowkit.retry_delay": float(event.delay)})
            case TaskFailed():
                self._end(event, now, event.duration, event.error)
            case TaskReused():  # a cache had the result
                self._started.pop(event.task, None)
            case TaskNotRun():
                self._end(event, now, None, None, {"flowkit.state": event.state, "flowkit.reason": event.reason})
            case RunFinished():
                self._finish(event, now)

    def _end(
        self,
        event: TaskEvent,
        now: int,
        seconds: float | None,
        error: BaseException | None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the span of the running attempt at a task, if there is one."""
        found = self._started.pop(event.task, None)
        if found is None:
            return
        started, began = found
        attributes = {
            "flowkit.run_id": event.run_id,
            "flowkit.pipeline": event.pipeline,
            "flowkit.task": event.task,
            "flowkit.attempt": started.attempt,
            "flowkit.max_attempts": started.max_attempts,
            **(more or {}),
        }
        if started.worker:
            attributes["flowkit.worker"] = started.worker
        for state, number in (getattr(event, "elements", None) or {}).items():
            attributes[f"flowkit.elements.{state}"] = number
        if seconds is not None:  # of the call itself, in its process
            began = max(began, now - int(seconds * 1e9))
        number = self._span_number(event.task, started.attempt)
        span = self._make(event.task, number, attributes, self._links(event.task), began, self._context)
        for failure, facts, when in self._failures.pop(event.task, ()):
            span.record_exception(failure, facts, when)
        self._close(span, error, now)
        self._ended[event.task] = span.get_span_context()

    def _take_element(self, event: ElementEvent, now: int) -> None:
        """Make the span of an attempt at an element, or note its failure for the span of the mapped task."""
        error = getattr(event, "error", None)
        attempt = getattr(event, "attempt", None)
        attributes: dict[str, Any] = {"flowkit.element": event.element}
        if attempt is not None:
            attributes["flowkit.attempt"] = attempt
        if event.label is not None:
            attributes["flowkit.label"] = event.label
        if not self._elements:
            if error is not None:
                failures = self._failures.setdefault(event.task, deque(maxlen=MAX_FAILURES))
                failures.append((error, attributes, now))
        elif attempt is not None:
            attributes |= {"flowkit.run_id": event.run_id, "flowkit.pipeline": event.pipeline}
            attributes["flowkit.task"] = event.task
            began = now - int(getattr(event, "duration", 0.0) * 1e9)
            number = self._span_number(event.task, attempt, event.element)
            task = self._context if self.trace is None else _context_of(self.trace.traceparent(event.task, 1))
            span = self._make(f"{event.task}[{event.element}]", number, attributes, (), began, task)
            self._close(span, error, now)

    def _finish(self, event: RunFinished, now: int) -> None:
        """End the span of the run, and those of attempts that have not ended, because they were abandoned."""
        for started, _ in list(self._started.values()):
            self._end(started, now, None, None, {"flowkit.state": "cancelled"})
        for state, number in event.counts.items():
            self._span.set_attribute(f"flowkit.tasks.{state}", number)
        self._close(self._span, event.error, now)
        _span_of_caller.pop(event.run_id, None)

    def _span_number(self, task: str, attempt: int, element: int | None = None) -> int | None:
        return None if self.trace is None else int(self.trace.span_id_of(task, attempt, element), 16)

    def _make(
        self,
        name: str,
        number: int | None,
        attributes: Mapping[str, Any],
        links: Sequence[Link],
        began: int,
        parent: Context,
    ) -> Span:
        """Start a span with an id, as a child of that of a context."""
        with _PresetIds.preset(number):
            return self._tracer.start_span(name, parent, attributes=dict(attributes), links=links, start_time=began)

    def _links(self, task: str) -> list[Link]:
        """Return links to the spans of the direct upstreams of a task."""
        graph = self._graph
        names = [graph.names[index] for index in graph[task].upstream]
        found = [(name, self._ended[name]) for name in names if name in self._ended]
        return [Link(span, {"flowkit.task": name}) for name, span in found[:MAX_LINKS]]

    def _close(self, span: Span, error: BaseException | None, now: int) -> None:
        if error is not None:
            span.record_exception(error, timestamp=now)
            span.set_status(Status(StatusCode.ERROR, describe_error(error)))
        span.end(now)


class _PresetIds:
    """An id generator whose next id of a span can be set; else it does what that of the tracer provider does."""

    _next = threading.local()

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def generate_span_id(self) -> int:
        """Return the id that was set, or a new one."""
        number: int = getattr(self._next, "number", None) or self._generator.generate_span_id()
        return number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    @classmethod
    def install(cls, tracer: Tracer) -> bool:
        """Have a tracer use this generator; return whether it can."""
        found: Any = tracer
        generator = getattr(found, "id_generator", None)
        if generator is None:
            return False
        if not isinstance(generator, cls):
            found.id_generator = cls(generator)
        return True

    @classmethod
    @contextmanager
    def preset(cls, number: int | None) -> Iterator[None]:
        """Set the id of the span that this thread starts in a block."""
        cls._next.number = number
        try:
            yield
        finally:
            cls._next.number = None


def _context_of(traceparent: str, context: Context | None = None) -> Context:
    """Return a context whose current span is that of a header ``traceparent``."""
    _, trace_id, span_id, flags = traceparent.split("-")
    found = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return trace.set_span_in_context(NonRecordingSpan(found), context)
