"""Spans of a recorded run: the same as those of the observer, with the recorded times."""

from __future__ import annotations

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from flowkit_core import DAG, Task, current
from flowkit_state import StateManager
from flowkit_view import OpenTelemetry, export_run


class Trace:
    """What a tracer provider has exported."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self):
        return {
            (span.name, span.attributes.get("flowkit.attempt")): span for span in self.exporter.get_finished_spans()
        }


@pytest.fixture
def state():
    before = otel_context._RUNTIME_CONTEXT
    with StateManager() as state:
        yield state
    otel_context._RUNTIME_CONTEXT = before


def extract():
    return [1, 0, 2]


def load(extract):
    if current().attempt == 1:
        raise ConnectionError("reset")
    return len(extract)


def pipeline():
    first = Task(extract)
    invert = Task(lambda number: 1 / number, name="invert").map(errors="drop", label=str)
    second = Task(load, retries=1, delay=0)
    first >> [second, invert]
    return DAG("etl", tasks=[second, invert])


def facts(span):
    """Return what the spans of the observer and of the record have in common."""
    left_out = (
        "flowkit.max_attempts",
        "flowkit.status",
        "flowkit.executions",
        "flowkit.execution",
        "flowkit.retry_delay",
    )
    attributes = {name: value for name, value in span.attributes.items() if name not in left_out}
    events = [(event.name, event.attributes["exception.type"]) for event in span.events]
    links = [dict(link.attributes) for link in span.links]
    return attributes, events, links, span.status.status_code, span.parent is None


def test_spans_of_the_record_are_those_of_the_observer(state):
    observed, recorded = Trace(), Trace()
    results = pipeline().run("serial", state=state, observers=[OpenTelemetry(observed.provider)])
    export_run(state.run(results.run_id), recorded.provider)
    assert {*observed.spans} == {("extract", 1), ("load", 1), ("load", 2), ("invert", 1), ("etl", None)}
    assert {key: facts(span) for key, span in recorded.spans.items()} == {
        key: facts(span) for key, span in observed.spans.items()
    }


def test_spans_have_the_recorded_times_and_one_trace(state):
    recorded = Trace()
    run = state.run(pipeline().run("serial", state=state).run_id)
    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))):
        export_run(run, recorded.provider)
    root = recorded.spans["etl", None]
    assert root.parent is None
    assert (root.start_time, root.end_time) == tuple(int(each.timestamp() * 1e9) for each in (run.started, run.ended))
    attempt = run.tasks["load"].attempts[0]
    span = recorded.spans["load", 1]
    times = int(attempt.started.timestamp() * 1e9), int(attempt.ended.timestamp() * 1e9)
    assert (span.start_time, span.end_time) == times
    assert span.events[0].attributes["exception.message"] == "reset"
    assert "ConnectionError: reset" in span.events[0].attributes["exception.stacktrace"]
    assert {each.parent.span_id for each in recorded.spans.values() if each is not root} == {root.context.span_id}
    (failed,) = recorded.spans["invert", 1].events
    assert (failed.attributes["flowkit.element"], failed.attributes["flowkit.label"]) == (1, "0")
    assert failed.timestamp == int(run.tasks["invert"].elements.ended[1] * 1e9)


def test_failed_run_has_status_error(state):
    recorded = Trace()
    results = DAG("bad", tasks=[Task(load)]).run("serial", params={"extract": []}, state=state, raise_on_failure=False)
    export_run(state.run(results.run_id), recorded.provider)
    assert recorded.spans["bad", None].status.status_code == StatusCode.ERROR
    assert recorded.spans["bad", None].attributes["flowkit.tasks.failed"] == 1
    assert recorded.spans["load", 1].status.description == "ConnectionError: reset"


def test_run_that_goes_on_is_refused(state):
    def look(run_id):
        with pytest.raises(ValueError, match="has not ended: export it when it has"):
            export_run(state.run(run_id))
        return True

    tasks = [Task(lambda: look(current().run_id), name="look")]
    assert DAG("running", tasks=tasks).run("serial", state=state)["look"]
