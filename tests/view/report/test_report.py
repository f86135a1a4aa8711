"""Reports: what is in them, for every kind of run, and that nothing in them is code but the script of the report."""

from __future__ import annotations

import base64
import gc
import hashlib
import json
import os
import pickle
import re
import sqlite3
import time
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flowkit_core import DAG, FlowkitError, Results, RunStarted, Task, task
from flowkit_state import StateManager
from flowkit_view.report.observer import INTERVAL, ReportObserver
from flowkit_view.report.page import render_page, write_page
from flowkit_view.report.run_model import AttemptModel, ExecutionModel, RunModel, TaskModel

HOSTILE = "</script><img src=x onerror=alert(1)>&amp;\x1b[31m\u202e\udcff"


class Page(HTMLParser):
    """The elements of a page: their tags and attributes, and the texts in them."""

    def __init__(self, text):
        super().__init__()
        self.text = text
        self.elements = []
        self.texts = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.texts).split())

    @property
    def data(self):
        (found,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', self.text, re.DOTALL)
        return json.loads(found)

    def column(self, name):
        number = self.data["columns"].index(name)
        return [row[number] for row in self.data["tasks"]]


@task
def extract():
    return [1, 2]


@task(retries=1, delay=0)
def load(extract):
    raise ValueError(HOSTILE)


@task
def report(load):
    pass


def failing():
    first, second, third = extract.with_options(), load.with_options(), report.with_options()
    first >> second >> third
    return DAG("etl <b>", tasks=[third])


def page_of(path):
    return Page(path.read_text("utf-8"))


def test_report_of_observed_run_that_failed(tmp_path):
    path = tmp_path / "run.html"
    with pytest.raises(ValueError, match="script"):
        failing().run("serial", report=path, params=None)
    page = page_of(path)
    assert page.data["status"] == "failed"
    assert [page.data["states"][state] for state in page.column("state")] == ["succeeded", "failed", "upstream_failed"]
    assert page.column("attempts") == [1, 2, 0]
    assert "executor serial, 1 worker" in page.words
    assert "2 attempts, " in page.words
    assert "test_report.py:" in page.words
    assert 'upstream "load" failed' in page.column("reason")


def test_report_of_recorded_run_that_failed(tmp_path):
    with StateManager(tmp_path / "runs.db") as state:
        results = failing().run("serial", state=state, raise_on_failure=False)
        assert results.report(tmp_path / "run.html") == str(tmp_path / "run.html")
    page = page_of(tmp_path / "run.html")
    assert page.data["run_id"] == results.run_id
    assert page.column("attempts") == [1, 2, 0]
    assert "Traceback (most recent call last)" in page.words


def test_report_of_results_from_path_error_and_pickle(tmp_path):
    with pytest.raises(ValueError, match="script") as caught:
        failing().run("serial", state=tmp_path / "runs.db")
    results = Results.from_error(caught.value)
    for each in (results, results.copy()):
        assert page_of(Path(each.report(tmp_path / "a.html"))).data["status"] == "failed"
    good = DAG("good", tasks=[extract.with_options()]).run("serial", state=tmp_path / "runs.db")
    copied = pickle.loads(pickle.dumps(good))
    assert page_of(Path(copied.report(tmp_path / "b.html"))).data["status"] == "succeeded"


def test_results_of_run_without_record_have_no_report(tmp_path):
    results = DAG("good", tasks=[extract.with_options()]).run("serial")
    with pytest.raises(FlowkitError, match="this one was not recorded"):
        results.report(tmp_path / "run.html")
    with pytest.raises(TypeError, match="takes the path of the file to write"):
        results.report(None)


@pytest.mark.parametrize(
    ("path", "kind"), [("no/run.html", FileNotFoundError), (".", IsADirectoryError), ("run.pdf", ValueError)]
)
def test_impossible_file_is_an_error_before_anything_runs(folder, path, kind):
    called = []
    with pytest.raises(kind, match="run\\(report="):
        DAG("good", tasks=[Task(lambda: called.append(1), name="call")]).run("serial", report=path)
    assert called == []


def test_write_keeps_the_umask_of_the_process(tmp_path, monkeypatch):
    """Which holds for all threads: a task may create a file at the same time."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("umask() was called"))
    write_page(RunModel("etl", "r1", "running", [], []), tmp_path / "run.html")
    (tmp_path / "other").touch()
    assert (tmp_path / "run.html").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert len([*tmp_path.iterdir()]) == 2


def test_report_is_no_path():
    with pytest.raises(TypeError, match=r"run\(report=\.\.\.\) takes the path"):
        DAG("good", tasks=[extract.with_options()]).run("serial", report=True)


def test_report_of_interrupted_run(tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DAG("stopped", tasks=[Task(stop)]).run("serial", report=tmp_path / "run.html")
    assert page_of(tmp_path / "run.html").data["status"] == "interrupted"


def test_report_names_skips_and_worker_processes(tmp_path):
    DAG("skips", tasks=[Task(list, name="none", when=lambda: False)]).run("serial", report=tmp_path / "run.html")
    assert page_of(tmp_path / "run.html").column("reason") == ["its condition was false"]
    many = [Task(list, name=f"part {number}") for number in range(4)]
    DAG("parts", tasks=many).run("process", max_workers=2, report=tmp_path / "run.html")
    assert all(worker.startswith("process ") for worker in page_of(tmp_path / "run.html").column("worker"))


def test_resumed_run_shows_executions_and_reused_tasks(tmp_path):
    broken = [True]

    def flaky(extract):
        if broken:
            raise OSError("broken")

    first, second = extract.with_options(), Task(flaky)
    first >> second
    dag = DAG("resumed", tasks=[second])
    state = tmp_path / "runs.db"
    dag.run("serial", state=state, raise_on_failure=False)
    broken.clear()
    results = dag.run("serial", state=state, resume=True, report=tmp_path / "observed.html")
    assert "it was done before the run was resumed" in page_of(tmp_path / "observed.html").column("reason")
    results.report(tmp_path / "recorded.html")
    page = page_of(tmp_path / "recorded.html")
    assert page.column("attempts") == [1, 2]
    assert page.text.count('<td><span class="state ') == 2


def test_recorded_report_has_history_and_changes(tmp_path):
    dag = DAG("daily", tasks=[Task(lambda day: day, name="load")])
    with StateManager(tmp_path / "runs.db") as state:
        for day in ("monday", "tuesday", "wednesday"):
            results = dag.run("serial", params={"day": day}, state=state)
        results.report(tmp_path / "run.html")
    page = page_of(tmp_path / "run.html")
    assert [len(values) for values in page.column("history")] == [2]
    assert "parameter day: tuesday → wednesday" in page.words
    assert "other results of load" in page.words
    since = r"Since the run of .*, which succeeded: parameter day: tuesday → wednesday; other results of load"
    assert re.search(since, page.words)


def test_report_has_only_some_changes_at_the_top(tmp_path):
    names = [f"task {number}" for number in range(7)]
    with StateManager(tmp_path / "runs.db") as state:
        for chosen in (names[:1], names):
            dag = DAG("growing", tasks=[Task(int, name=name) for name in chosen])
            results = dag.run("serial", state=state)
        results.report(tmp_path / "run.html")
    page = page_of(tmp_path / "run.html")
    assert ("a", {"href": "#changes"}) in page.elements
    assert "task task 5 was added; 1 more" in page.words
    assert page.words.count("task task 6 was added") == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_as_before_a_report(tmp_path, enabled):
    with StateManager(tmp_path / "runs.db") as state:
        results = DAG("one", tasks=[Task(int, name="one")]).run("serial", state=state)
        if not enabled:
            gc.disable()
        try:
            results.report(tmp_path / "run.html")
            assert gc.isenabled() == enabled
        finally:
            gc.enable()


def test_wait_for_retry_is_in_the_row_of_the_retry():
    first = AttemptModel(0.0, 1.0, 0.0, "one", "failed", error="ConnectionError: reset")
    other, second = AttemptModel(1.0, 4.0, 0.0, "one"), AttemptModel(3.0, 4.0, 3.0, "two")
    tasks = [TaskModel("fetch", (), "succeeded", [first, second]), TaskModel("other", (), "succeeded", [other])]
    run = RunModel("etl", "1", "succeeded", [ExecutionModel(0.0, 4.0, "succeeded")], tasks)
    page = render_page(run)
    bars = re.findall(r'<rect class="bar (\w+)[^>]* y="([\d.]+)"[^>]*><title>([^<]*)</title>', page)
    rows = {title: float(y) for _, y, title in bars}
    assert rows["fetch: waits 2.00 s for a retry"] == rows["fetch, attempt 2: succeeded, 1.00 s"]
    assert rows["other: succeeded, 3.00 s"] == rows["fetch, attempt 1: failed, 1.00 s, ConnectionError: reset"]
    assert "attempt 1 failed: ConnectionError: reset" in page


def test_recorded_report_has_changed_states_and_elements(tmp_path):
    invert = Task(lambda number: 1 / number, name="invert").map("number", errors="drop")
    work = Task(lambda fast: None if fast else 1 / 0, name="work", retries=1, delay=0)
    with StateManager(tmp_path / "runs.db") as state:
        for number, fast in ((1, True), (0, False)):
            params = {"number": [2, number], "fast": fast}
            results = DAG("daily", tasks=[invert, work]).run(
                "serial", params=params, state=state, raise_on_failure=False
            )
        results.report(tmp_path / "run.html")
    words = page_of(tmp_path / "run.html").words
    assert "task work: succeeded → failed" in words
    assert "elements of invert: 2 succeeded → 1 succeeded, 1 failed" in words


def test_recorded_report_has_the_durations_that_changed_most(tmp_path):
    dag = DAG("daily", tasks=[Task(list, name="load"), Task(dict, name="other")])
    for _ in range(2):
        results = dag.run("serial", state=tmp_path / "runs.db")
    with closing(sqlite3.connect(tmp_path / "runs.db")) as database, database:
        database.execute("UPDATE attempts SET seconds = run * 2 WHERE name = 'load'")
        database.execute("UPDATE attempts SET seconds = 1 WHERE name = 'other'")
    results.report(tmp_path / "run.html")
    words = page_of(tmp_path / "run.html").words
    assert "task load took 2.00 s → 4.00 s" in words
    assert "task other took" not in words


def test_running_run_is_written_as_it_goes(tmp_path):
    seen = []
    path = tmp_path / "run.html"
    look = Task(lambda: seen.append(page_of(path).data["status"]), name="look")
    DAG("long", tasks=[look]).run("serial", report=path)
    assert (seen, page_of(path).data["status"]) == (["running"], "succeeded")


def test_hostile_texts_are_data_only(tmp_path):
    hostile = DAG(HOSTILE, tasks=[Task(lambda p: 1 / 0, name=HOSTILE)])
    hostile.run("serial", params={"p": HOSTILE}, report=tmp_path / "run.html", raise_on_failure=False)
    page = page_of(tmp_path / "run.html")
    assert {tag for tag, _ in page.elements} & {"img", "b", "iframe", "link", "object", "base", "form"} == set()
    assert [attributes for tag, attributes in page.elements if tag == "script"] == [
        {"id": "data", "type": "application/json"},
        {},
    ]
    assert not any(name.startswith("on") or name == "style" for _, given in page.elements for name in given)
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text
    assert r"\x1b[31m\u202e\udcff" in page.words


def test_policy_allows_only_the_style_and_the_script_of_the_report(tmp_path):
    DAG("good", tasks=[extract.with_options()]).run("serial", report=tmp_path / "run.html")
    page = page_of(tmp_path / "run.html")
    (policy,) = [given["content"] for tag, given in page.elements if given.get("http-equiv")]
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert re.findall(r"https?://|//[a-z]", page.text) == []


def large_run(count=10_000, workers=8):
    ends = [0.0] * workers
    tasks = []
    for number in range(count):
        worker = number % workers
        start, ends[worker] = ends[worker], ends[worker] + 0.01 + number % 7 / 100
        upstream = (number - 50, number - 1) if number >= 50 else ()
        attempt = AttemptModel(start, ends[worker], start, f"process {worker}")
        tasks.append(TaskModel(f"load_part_{number}", upstream, "succeeded", [attempt], history=(0.0123,) * 10))
    return RunModel("large", "1", "succeeded", [ExecutionModel(0.0, max(ends), "succeeded")], tasks)


def test_ten_thousand_tasks_fit_in_a_second_and_one_and_a_half_mebibytes():
    run = large_run()
    began = time.process_time()
    text = render_page(run)
    seconds = time.process_time() - began
    assert len(text.encode()) < 1.5 * 2**20
    assert seconds < 3  # on an idle machine less than 0.7; the limit must hold on any
    assert text.count("<rect") < 200


def test_graph_of_many_equal_tasks_is_folded():
    many = [TaskModel(f"part {number}", (), "succeeded") for number in range(500)]
    many[3].state = "failed"
    run = RunModel("folded", "1", "failed", [], [*many, TaskModel("total", tuple(range(500)), "upstream_failed")])
    assert "part # x 500" in Page(render_page(run)).words
    assert 'class="box failed"' in render_page(run)


def test_observer_writes_seldom(tmp_path):
    count = 200
    tasks = [Task(lambda: 1, name=f"t{number}") for number in range(count)]
    dag = DAG("many", tasks=tasks)
    observer = ReportObserver(tmp_path / "run.html", dag.graph(), {})
    writes = []
    write = observer._write
    observer._write = lambda: (writes.append(1), write())
    began = time.monotonic()
    dag.run("serial", observers=[observer])
    assert len(writes) <= 2 + (time.monotonic() - began) / INTERVAL


def test_calls_at_the_same_time_on_one_worker_give_rows_and_no_prediction():
    attempts = [AttemptModel(0.0, 1.0, 0.0, "event loop") for _ in range(4)]
    tasks = [TaskModel(f"t{number}", (), "succeeded", [attempt]) for number, attempt in enumerate(attempts)]
    page = Page(render_page(RunModel("async", "1", "succeeded", [ExecutionModel(0.0, 1.0, "succeeded")], tasks)))
    assert 'aria-label="Timeline of 4 rows' in page.text
    assert "faster" not in page.words
    assert "instead of" not in page.words


def test_first_write_does_not_count_as_time_of_the_run(tmp_path):
    times = iter([100.0, 102.0, 103.0])  # the event; the first write; its end
    observer = ReportObserver(tmp_path / "run.html", DAG("slow", tasks=[extract]).graph(), {}, times.__next__)
    observer(RunStarted("id", "slow", tasks=1, executor="serial", done=0))
    assert observer.model.executions[0].started == 103.0


def test_file_that_cannot_be_written_is_one_warning(tmp_path):
    """The folder is removed when the run has started."""
    folder = tmp_path / "reports"
    folder.mkdir()
    path = folder / "run.html"
    dag = DAG("good", tasks=[Task(lambda: 1, name="call")])
    observer = ReportObserver(path, dag.graph(), {})
    folder.rmdir()
    with pytest.warns(RuntimeWarning) as warned:
        assert dag.run("serial", observers=[observer]) == {"call": 1}
    (message,) = [str(each.message) for each in warned]
    assert (
        message == f"the report {str(path)!r} cannot be written: No such file or directory; the run goes on without it"
    )


def test_tasks_that_did_not_run_have_no_slack():
    run = RunModel("etl", "1", "failed", [], [TaskModel("skipped", (), "skipped")])
    data = Page(render_page(run)).data
    assert data["tasks"][0][data["columns"].index("slack")] is None
