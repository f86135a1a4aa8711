"""Traces of runs: spans of runs and attempts by the SDK of OpenTelemetry, and spans of tasks as their children."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from flowkit_core import DAG, RunStarted, RunTrace, Skip, Task, current, task
from flowkit_exec import FuturesExecutor, ProcessExecutor
from flowkit_view import OpenTelemetry, nest_spans
from flowkit_view.opentelemetry import TaskRuntimeContext

TASKS = '''
"""Tasks that make spans, and a tracer provider for worker processes, which writes to a file."""
from pathlib import Path
from flowkit_core import DAG, current, task
from flowkit_view import nest_spans
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

def set_up_tracing(path):
    out = Path(path).open("a", buffering=1)
    exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\\n")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    nest_spans()

@task
def extract():
    with trace.get_tracer("user").start_as_current_span("query"):
        carrier = {}
        propagate.inject(carrier)
    return [current().traceparent, carrier["traceparent"]]

@task
async def load(extract):
    with trace.get_tracer("user").start_as_current_span("insert"):
        return len(extract)

@task
def parse(text):
    trace.get_tracer("user").start_span("read").end()
    return current().traceparent

extract >> load
extract >> parse.map()
dag = DAG("etl", tasks=[load, parse])
'''


class Spans:
    """The spans that a provider has exported."""

    def __init__(self, provider):
        self.exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def by_name(self):
        found = {}
        for span in self.exporter.get_finished_spans():
            name = span.name
            if span.attributes.get("flowkit.attempt", 1) > 1:
                name += f" {span.attributes['flowkit.attempt']}"
            found[name] = span
        return found


@pytest.fixture
def provider():
    provider = TracerProvider()
    yield provider
    provider.shutdown()


@pytest.fixture
def spans(provider):
    return Spans(provider)


@pytest.fixture(autouse=True)
def runtime_context():
    before = otel_context._RUNTIME_CONTEXT
    yield
    otel_context._RUNTIME_CONTEXT = before


def parent_of(span):
    return span.parent.span_id if span.parent else None


def traceparent_of(span):
    found = span.context
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}"


def test_run_and_attempts_have_spans(provider, spans):
    def extract():
        return [1]

    def load(extract):
        if current().attempt == 1:
            raise ValueError("locked")
        return extract

    first, second = Task(extract), Task(load, retries=1, delay=0)
    first >> second
    results = DAG("etl", tasks=[second]).run("serial", observers=[OpenTelemetry(provider)])
    found = spans.by_name()
    assert [*found] == ["extract", "load", "load 2", "etl"]
    run = found["etl"]
    assert run.parent is None
    assert {parent_of(found[name]) for name in ("extract", "load", "load 2")} == {run.context.span_id}
    assert {span.context.trace_id for span in found.values()} == {run.context.trace_id}
    assert run.attributes["flowkit.run_id"] == results.run_id
    assert run.attributes["flowkit.executor"] == "serial"
    assert run.attributes["flowkit.tasks.succeeded"] == 2
    facts = dict(found["load 2"].attributes)
    assert facts.pop("flowkit.worker") == threading.main_thread().name
    assert facts == {
        "flowkit.run_id": results.run_id,
        "flowkit.pipeline": "etl",
        "flowkit.task": "load",
        "flowkit.attempt": 2,
        "flowkit.max_attempts": 2,
    }


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_runs_one_after_the_other_have_a_trace_each(provider, spans, executor):
    for name in ("one", "two"):
        DAG(name, tasks=[Task(list, name="only")]).run(executor, observers=[OpenTelemetry(provider)])
    found = spans.by_name()
    assert (found["one"].parent, found["two"].parent) == (None, None)
    assert found["one"].context.trace_id != found["two"].context.trace_id
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_spans_have_times_of_the_calls(provider, spans):
    DAG("etl", tasks=[Task(lambda: None, name="only")]).run(observers=[OpenTelemetry(provider)])
    run, only = spans.by_name()["etl"], spans.by_name()["only"]
    assert run.start_time <= only.start_time <= only.end_time <= run.end_time


def test_spans_have_links_to_upstreams(provider, spans):
    first, flaky, last = Task(list, name="first"), Task(lambda: None, name="flaky"), Task(lambda x: x, name="last")
    first >> last.after(flaky)
    DAG("etl", tasks=[last]).run(observers=[OpenTelemetry(provider)])
    found = spans.by_name()
    links = [(link.context.span_id, link.attributes["flowkit.task"]) for link in found["last"].links]
    assert links == [(found[name].context.span_id, name) for name in ("first", "flaky")]
    assert [*found["first"].links] == []


def test_failures_have_status_and_exception(provider, spans):
    def fail():
        raise ValueError("bad <row>")

    later = Task(lambda fail: fail, name="later")
    Task(fail) >> later
    dag = DAG("etl", tasks=[later])
    dag.run("serial", raise_on_failure=False, observers=[OpenTelemetry(provider)])
    found = spans.by_name()
    assert "later" not in found
    for name in ("fail", "etl"):
        assert not found[name].status.is_ok
        assert found[name].status.description.startswith("ValueError: bad <row>")
        (event,) = found[name].events
        assert (event.name, event.attributes["exception.type"]) == ("exception", "ValueError")
        assert "in fail" in event.attributes["exception.stacktrace"]
    assert found["etl"].attributes["flowkit.tasks.upstream_failed"] == 1


def test_skip_in_task_has_reason(provider, spans):
    def load():
        raise Skip("nothing new")

    DAG("etl", tasks=[Task(load)]).run(observers=[OpenTelemetry(provider)])
    found = spans.by_name()
    assert found["load"].status.is_unset
    assert found["load"].attributes["flowkit.reason"] == "nothing new"
    assert found["etl"].attributes["flowkit.tasks.skipped"] == 1


def elements_pipeline():
    def number(x):
        if x == 1:
            raise ValueError("odd")
        trace.get_current_span()
        return x

    numbers = Task(lambda: [0, 1, 2], name="numbers")
    mapped = Task(number, name="number")
    numbers >> mapped.map(errors="drop", label=lambda x: f"no {x}")
    return DAG("mapped", tasks=[mapped])


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_failed_element_is_event_of_mapped_task(provider, spans, executor):
    elements_pipeline().run(executor, observers=[OpenTelemetry(provider)])
    found = spans.by_name()
    assert sorted(found) == ["mapped", "number", "numbers"]
    (event,) = found["number"].events
    assert event.attributes["exception.type"] == "ValueError"
    assert (event.attributes["flowkit.element"], event.attributes["flowkit.label"]) == (1, "no 1")
    assert found["number"].attributes["flowkit.elements.succeeded"] == 2
    assert "flowkit.worker" not in found["number"].attributes


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_elements_have_spans_if_asked(provider, spans, executor):
    elements_pipeline().run(executor, observers=[OpenTelemetry(provider, elements=True)])
    found = spans.by_name()
    assert sorted(found) == ["mapped", "number", "number[0]", "number[1]", "number[2]", "numbers"]
    assert {parent_of(found[f"number[{each}]"]) for each in range(3)} == {found["number"].context.span_id}
    assert not found["number[1]"].status.is_ok
    assert found["number[1]"].attributes["flowkit.element"] == 1
    assert found["number"].status.is_unset


@pytest.mark.parametrize("executor", ["serial", "thread", FuturesExecutor(ThreadPoolExecutor(2))])
@pytest.mark.parametrize("elements", [False, True])
def test_spans_of_tasks_are_children_of_attempts(provider, spans, executor, elements):
    tracer = provider.get_tracer("user")

    def extract():
        with tracer.start_as_current_span("query"):
            tracer.start_span("row").end()
        carrier = {}
        propagate.inject(carrier)
        return [carrier["traceparent"], current().traceparent]

    async def load(extract):
        with tracer.start_as_current_span("insert"):
            await asyncio.to_thread(lambda: tracer.start_span("in thread").end())

    def parse(text):
        tracer.start_span("read").end()
        return current().traceparent

    first, second, mapped = Task(extract), Task(load), Task(parse)
    first >> second
    first >> mapped.map()
    dag = DAG("etl", tasks=[second, mapped])
    results = dag.run(executor, observers=[OpenTelemetry(provider, elements=elements)])
    found = spans.by_name()
    parents = {"row": "query", "query": "extract", "in thread": "insert", "insert": "load"}
    parents["read"] = "parse[1]" if elements else "parse"
    for child, parent in parents.items():
        readers = [span for span in spans.exporter.get_finished_spans() if span.name == child]
        assert found[parent].context.span_id in map(parent_of, readers)
    assert results["extract"] == [traceparent_of(found["extract"])] * 2
    expected = [found[f"parse[{number}]"] for number in range(2)] if elements else [found["parse"]] * 2
    assert results["parse"] == [*map(traceparent_of, expected)]


def test_span_of_caller_is_parent_of_run(provider, spans):
    def inner():
        trace.get_current_span()
        DAG("inner run", tasks=[Task(lambda: None, name="inmost")]).run("serial", observers=[OpenTelemetry(provider)])

    outer = DAG("outer", tasks=[Task(inner)])
    with provider.get_tracer("user").start_as_current_span("request") as request:
        outer.run("thread", observers=[OpenTelemetry(provider)])
        asyncio.run(DAG("async", tasks=[Task(lambda: None, name="x")]).arun(observers=[OpenTelemetry(provider)]))
    found = spans.by_name()
    names = {span.context.span_id: name for name, span in found.items()}
    assert names[parent_of(found["outer"])] == "request"
    assert names[parent_of(found["async"])] == "request"
    assert names[parent_of(found["inner run"])] == "inner"
    assert names[parent_of(found["inmost"])] == "inner run"
    assert request.get_span_context().trace_id == found["inmost"].context.trace_id


def test_span_that_task_has_extracted_is_kept(provider, spans):
    tracer = provider.get_tracer("user")
    remote = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

    def consume():
        with tracer.start_as_current_span("message", context=propagate.extract(remote)):
            tracer.start_span("handle").end()

    with tracer.start_as_current_span("request"):
        DAG("queue", tasks=[Task(consume)]).run(observers=[OpenTelemetry(provider)])
    found = spans.by_name()
    assert parent_of(found["handle"]) == found["message"].context.span_id
    assert parent_of(found["message"]) == 0xB7AD6B7169203331


def test_stopped_attempt_has_span(provider, spans):
    begun = threading.Event()

    async def wait():
        begun.set()
        await asyncio.Event().wait()

    def fail():
        begun.wait()
        raise ValueError

    dag = DAG("etl", tasks=[Task(wait), Task(fail)])
    dag.run("thread", grace=0, raise_on_failure=False, observers=[OpenTelemetry(provider)])
    assert spans.by_name()["wait"].attributes["flowkit.state"] == "cancelled"


def test_task_with_cached_result_has_no_span(provider, spans, folder):
    from flowkit_state import StateManager

    dag = DAG("etl", tasks=[Task(lambda: 1, name="cached", cache=StateManager("cache.db").cache())])
    for _ in range(2):
        spans.exporter.clear()
        dag.run(observers=[OpenTelemetry(provider)])
    assert [*spans.by_name()] == ["etl"]


def test_not_sampled_run_has_flags_of_its_span():
    seen = []
    dag = DAG("etl", tasks=[Task(lambda: seen.append(current().traceparent), name="x")])
    dag.run(observers=[OpenTelemetry(TracerProvider(sampler=ALWAYS_OFF))])
    flags = int(seen[0].rpartition("-")[2], 16)
    assert flags & 1 == 0


def test_run_without_observer_has_no_trace(provider, spans):
    nest_spans()

    @task
    def lonely():
        provider.get_tracer("user").start_span("alone").end()
        return current().traceparent

    assert DAG("etl", tasks=[lonely]).run() == {"lonely": None}
    assert spans.by_name()["alone"].parent is None


def test_provider_without_ids_makes_no_trace():
    observer = OpenTelemetry(trace.NoOpTracerProvider())
    dag = DAG("etl", tasks=[Task(lambda: current().traceparent, name="x")])
    assert dag.run(observers=[observer]) == {"x": None}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("http://localhost",), "must be a tracer provider"), ((), "must be True or False")],
)
def test_wrong_arguments_are_explained(arguments, words):
    with pytest.raises(TypeError, match=words):
        OpenTelemetry(*arguments, **({} if arguments else {"elements": "all"}))


def test_other_runtime_context_is_kept_with_a_warning():
    class Other(ContextVarsRuntimeContext):
        pass

    otel_context._RUNTIME_CONTEXT = Other()
    with pytest.warns(RuntimeWarning, match="OTEL_PYTHON_CONTEXT"):
        nest_spans()
    otel_context._RUNTIME_CONTEXT = ContextVarsRuntimeContext()
    nest_spans()
    nest_spans()
    assert type(otel_context._RUNTIME_CONTEXT) is TaskRuntimeContext


def test_failing_run_trace_is_a_warning():
    class Observer:
        events = (RunStarted,)

        def run_trace(self, run_id):
            raise LookupError(run_id)

        def __call__(self, event):
            """Ignore the event."""

    dag = DAG("etl", tasks=[Task(lambda: current().traceparent, name="x")])
    with pytest.warns(RuntimeWarning, match=r"failed in run_trace\(\): LookupError"):
        assert dag.run(observers=[Observer()]) == {"x": None}


def test_run_trace_derives_ids_of_spans():
    run = RunTrace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1)
    ids = {run.span_id_of(task, attempt) for task in ("a", "b") for attempt in (1, 2)}
    assert len(ids) == 4
    assert run.span_id_of("a", 3, element=5) == run.span_id_of("a", 1)
    detailed = RunTrace(run.trace_id, run.span_id, 1, elements=True)
    assert len({detailed.span_id_of("a", 1, element) for element in (None, 0, 1)}) == 3


# ---- other processes -------------------------------------------------------------------------------------------------


def spans_of_file(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def traced(folder):
    (folder / "traced_tasks.py").write_text(TASKS)
    sys.path.insert(0, str(folder))
    return importlib.import_module("traced_tasks")


@pytest.mark.parametrize("kind", ["process", "futures"])
@pytest.mark.parametrize("elements", [False, True])
def test_spans_in_worker_processes_are_children_of_attempts(folder, traced, provider, spans, kind, elements):
    path = folder / "spans.jsonl"
    if kind == "process":
        executor = ProcessExecutor(max_workers=1, initializer=traced.set_up_tracing, initargs=(str(path),))
    else:
        import multiprocessing

        pool = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=traced.set_up_tracing, initargs=(str(path),)
        )
        executor = FuturesExecutor(pool)
    with provider.get_tracer("user").start_as_current_span("request"):
        results = traced.dag.run(executor, observers=[OpenTelemetry(provider, elements=elements)])
    if kind == "futures":
        pool.shutdown()
    executor.close()
    found = spans.by_name()
    made = spans_of_file(path)
    parents = {(span["name"], int(span["parent_id"], 16)) for span in made}
    expected = {("query", "extract")}
    expected |= {("read", name) for name in (("parse[0]", "parse[1]") if elements else ("parse",))}
    assert {(name, found[parent].context.span_id) for name, parent in expected} <= parents
    assert results["extract"][0] == traceparent_of(found["extract"])
    assert results["extract"][1].split("-")[2] == made[0]["context"]["span_id"].removeprefix("0x")
    if kind == "process":
        assert found["extract"].attributes["flowkit.worker"].startswith("process ")


OTLP = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
import sys
import flowkit_view
from traced_tasks import dag

provider = TracerProvider(resource=Resource.create({"service.name": "nightly"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(sys.argv[1])))
trace.set_tracer_provider(provider)
dag.run(observers=[flowkit_view.OpenTelemetry()])
provider.shutdown()
"""


def test_collector_gets_spans_by_otlp(folder, traced):
    trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    requests = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            requests.append((self.path, self.headers["Content-Type"], body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            """Print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        (folder / "program.py").write_text(OTLP)
        address = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
        subprocess.run([sys.executable, "program.py", address], check=True, cwd=folder)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    found = {}
    for path, kind, body in requests:
        assert (path, kind) == ("/v1/traces", "application/x-protobuf")
        for resource in trace_service.ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                found.update({(scope.scope.name, span.name): span for span in scope.spans})
    assert {name for scope, name in found if scope == "flowkit"} == {"extract", "load", "parse", "etl"}
    assert found["user", "query"].parent_span_id == found["flowkit", "extract"].span_id
    assert found["flowkit", "extract"].parent_span_id == found["flowkit", "etl"].span_id


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_span_of_an_attempt_that_is_repeated_lasts_as_long_as_the_attempt(provider, spans, executor):
    def flaky(x):
        time.sleep(0.02)
        if current().attempt == 1:
            raise ConnectionError

    options = {"retries": 1, "delay": 0}
    single, each = Task(flaky, name="single", **options), Task(flaky, name="each", **options)
    dag = DAG("retries", tasks=[single, each.map("x")])
    dag.run(executor, params={"each.x": [1], "single.x": 1}, observers=[OpenTelemetry(provider, elements=True)])
    for name in ("single", "single 2", "each[0]", "each[0] 2"):
        span = spans.by_name()[name]
        assert span.end_time - span.start_time >= 0.02e9
