"""Function `export_run`: makes the OpenTelemetry spans of a recorded run, with the recorded times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, Status, StatusCode

from .opentelemetry import MAX_FAILURES, MAX_LINKS, NAME
from .report.from_record import end_of

if TYPE_CHECKING:
    from datetime import datetime

    from opentelemetry.trace import Span, SpanContext, Tracer, TracerProvider

    from flowkit_state import AttemptRecord, RunRecord, TaskError, TaskRecord


def export_run(run: RunRecord, provider: TracerProvider | None = None) -> None:
    """Make a span of a recorded run and of each attempt at a task, with the recorded times.

    They are like those of `OpenTelemetry`, which observes a run; but the ids are new, and spans that tasks have made
    are not their children. The trace is one of its own, whatever span is current.

    Args:
        run: the record of a run that has ended.
        provider: the tracer provider; None means the global one.

    Raises:
        ValueError: the run has not ended.

    Examples:
        >>> from opentelemetry.sdk.trace import TracerProvider
        >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        >>> from flowkit_core import DAG, task
        >>> from flowkit_state import StateManager
        >>> exporter, provider = InMemorySpanExporter(), TracerProvider()
        >>> provider.add_span_processor(SimpleSpanProcessor(exporter))
        >>> @task
        ... def hello():
        ...     return "hi"
        >>> with StateManager() as state:
        ...     results = DAG("greet", tasks=[hello]).run(state=state)
        ...     export_run(state.run(results.run_id), provider)
        >>> [span.name for span in exporter.get_finished_spans()]
        ['hello', 'greet']
    """
    if run.status == "running":
        raise ValueError(f"run {run.run_id} of {run.pipeline!r} has not ended: export it when it has")
    tracer = (provider or trace.get_tracer_provider()).get_tracer(NAME)
    attributes: dict[str, Any] = {
        "flowkit.run_id": run.run_id,
        "flowkit.pipeline": run.pipeline,
        "flowkit.tasks": len(run.tasks),
        "flowkit.status": run.status,
        "flowkit.executions": len(run.executions),
    }
    last = run.executions[-1]
    facts = {"flowkit.executor": last.executor, "process.pid": last.process, "host.name": last.host}
    attributes |= {name: value for name, value in facts.items() if value is not None}
    attributes |= {f"flowkit.tasks.{state}": number for state, number in run.counts.items()}
    root = tracer.start_span(run.pipeline, otel_context.Context(), attributes=attributes, start_time=_ns(run.started))
    ended: dict[str, SpanContext] = {}  # the last attempt at each task
    for task in run.tasks.values():
        links = [Link(ended[name], {"flowkit.task": name}) for name in task.upstream if name in ended][:MAX_LINKS]
        for attempt in task.attempts:
            span = _start_attempt(tracer, root, run, task, attempt, links)
            if attempt is task.attempts[-1]:
                _note_elements(span, task)
            _end(span, attempt.error, _ns(attempt.ended))
            ended[task.name] = span.get_span_context()
    if run.status != "succeeded":
        root.set_status(Status(StatusCode.ERROR, run.error or run.status))
    root.end(int(end_of(run, len(run.executions) - 1, 0.0) * 1e9))


def _start_attempt(
    tracer: Tracer, root: Span, run: RunRecord, task: TaskRecord, attempt: AttemptRecord, links: list[Link]
) -> Span:
    attributes: dict[str, Any] = {
        "flowkit.run_id": run.run_id,
        "flowkit.pipeline": run.pipeline,
        "flowkit.task": task.name,
        "flowkit.attempt": attempt.number,
        "flowkit.execution": attempt.execution,
    }
    if attempt.worker is not None and task.elements is None:  # elements have several workers
        attributes["flowkit.worker"] = attempt.worker
    parent = trace.set_span_in_context(root, otel_context.Context())
    return tracer.start_span(task.name, parent, attributes=attributes, links=links, start_time=_ns(attempt.started))


def _note_elements(span: Span, task: TaskRecord) -> None:
    """Add the numbers of elements of a mapped task, and an event for each of the first that have failed."""
    elements = task.elements
    if elements is None:
        return
    for state, number in elements.counts.items():
        span.set_attribute(f"flowkit.elements.{state}", number)
    labels, ended = elements.labels, elements.ended
    for number, error in [*elements.failed.items()][:MAX_FAILURES]:
        attributes = {"flowkit.element": number, "flowkit.label": labels.get(number)}
        when = None if number not in ended else int(ended[number] * 1e9)
        _add_exception(span, error, when, {name: value for name, value in attributes.items() if value is not None})


def _end(span: Span, error: TaskError | None, when: int) -> None:
    if error is not None:
        _add_exception(span, error, when, {})
        span.set_status(Status(StatusCode.ERROR, str(error)))
    span.end(when)


def _add_exception(span: Span, error: TaskError, when: int | None, attributes: dict[str, Any]) -> None:
    """Add what `Span.record_exception` adds of an exception."""
    facts = {
        "exception.type": error.type,
        "exception.message": error.message,
        "exception.stacktrace": error.traceback,
    }
    span.add_event("exception", facts | attributes, when)


def _ns(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)
