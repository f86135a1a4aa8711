"""Mapped tasks in reports: a row in the timeline, failed and slowest elements, predictions with other workers."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import textwrap
from time import sleep

import pytest

from flowkit_core import DAG, Task
from flowkit_state import StateManager
from flowkit_view.report.elements import MAX_POINTS, add_progress, density
from flowkit_view.report.from_record import model_of
from flowkit_view.report.page import render_page
from flowkit_view.report.run_model import AttemptModel, ExecutionModel, RunModel, TaskModel
from flowkit_view.report.schedule import MAX_CALLS, Schedule


def parse(number):
    if number % 10 == 7:
        raise ValueError(f"<bad> {number}")
    return number


def pipeline():
    """Return a pipeline: 20 numbers, of which 2 are dropped, in a chain of two mapped tasks."""
    numbers, last = Task(lambda: list(range(20)), name="numbers"), Task(lambda number: -number, name="clean").map()
    numbers >> Task(parse).map(errors="drop", label=lambda number: f"row {number}") >> last
    return DAG("mapped", tasks=[last])


@pytest.fixture(params=["observer", "record"])
def text(request, tmp_path):
    path = tmp_path / "run.html"
    if request.param == "observer":
        pipeline().run("thread", max_workers=2, report=path)
    else:
        pipeline().run("thread", max_workers=2, state=tmp_path / "runs.db").report(path)
    return path.read_text("utf-8")


def data_of(text):
    (found,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_failed_elements_have_name_error_and_traceback(text):
    assert "<strong>parse[7] (row 7)</strong>" in text
    assert "ValueError: &lt;bad&gt; 17" in text
    assert "test_report_mapped.py:" in text
    assert text.count("in parse\n") >= 2


def test_slowest_elements_are_listed(text):
    (section,) = re.findall(r'<h2 id="mapped">(.*?)</section>', text, re.DOTALL)
    for part in section.split("<summary><strong>")[1:]:
        assert len(re.findall(r"<td>(?:parse|clean)\[\d+\]", part)) == 10
    assert "parse</strong>: 18 succeeded, 2 failed" in section


def test_elements_can_be_searched_in_the_table(text):
    data = data_of(text)
    name, state, reason = (data["columns"].index(column) for column in ("name", "state", "reason"))
    failed = [row for row in data["elements"] if data["states"][row[state]] == "failed"]
    assert [(row[name], row[reason]) for row in failed] == [
        ("parse[7] (row 7)", "ValueError: <bad> 7"),
        ("parse[17] (row 17)", "ValueError: <bad> 17"),
    ]
    assert all(len(row) == len(data["columns"]) for row in data["elements"])


def test_timeline_has_a_row_for_each_mapped_task(text):
    rows = re.findall(r'<text class="worker"[^>]*>(.*?)<title>', text)
    assert {"parse", "clean"} <= {*rows}
    assert 'class="bar density4"' in text


def test_table_predicts_other_numbers_of_workers(text):
    assert "Duration with other numbers of workers" in text


def test_unfinished_mapped_task_is_shown(tmp_path):
    path = tmp_path / "run.html"

    def stop(number):
        if number == 3:
            raise KeyboardInterrupt
        return number

    numbers, last = Task(lambda: list(range(5)), name="numbers"), Task(stop).map()
    numbers >> last
    with pytest.raises(KeyboardInterrupt):
        DAG("mapped", tasks=[last]).run("serial", report=path)
    text = path.read_text("utf-8")
    assert "<title>mapped: interrupted</title>" in text
    assert "stop</strong>: " in text


def test_killed_run_lasts_until_its_last_recorded_element(tmp_path):
    script = """
        import os, signal, sys, time
        from flowkit_core import DAG, Task

        def stop(number):
            if number == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.01)  # so that it is committed on its own

        numbers, last = Task(lambda: list(range(5)), name="numbers"), Task(stop).map()
        numbers >> last
        DAG("killed", tasks=[last]).run("serial", state=sys.argv[1])
    """
    path = tmp_path / "runs.db"
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), path], timeout=60, check=False)
    with StateManager(path) as state:
        run = next(iter(state.runs("killed")))
        model = model_of(state, run)
    assert run.status == "interrupted"
    ended = run.tasks["stop"].elements.ended
    assert sorted(ended) == [0, 1, 2]
    assert model.executions[0].ended == ended[2]


@pytest.mark.parametrize("kind", ["observer", "record"])
@pytest.mark.parametrize("limit", ["map", "pool"])
def test_limits_are_said_not_to_be_counted(kind, limit, tmp_path):
    numbers = Task(lambda: [1, 2], name="numbers")
    work = Task(lambda number: number, name="work", pool="db" if limit == "pool" else None)
    numbers >> (work.map(limit=1) if limit == "map" else work.map())
    dag = DAG("limited", tasks=[work], pools={"db": 1} if limit == "pool" else {})
    path = tmp_path / "run.html"
    if kind == "observer":
        dag.run("thread", max_workers=2, report=path)
    else:
        dag.run("thread", max_workers=2, state=tmp_path / "runs.db").report(path)
    text = path.read_text("utf-8")
    assert "work is limited: what more workers would do is not predicted." in text
    assert "More workers" not in text
    assert "Duration with other numbers of workers" not in text


# ---- predictions -----------------------------------------------------------------------------------------------------


def mapped(*spans, upstream=()):
    total = sum(spans)
    return TaskModel(
        "map", upstream, "succeeded", [AttemptModel(0, total, 0)], elements="elements", spans=dict(enumerate(spans))
    )


def single(seconds, *upstream):
    return TaskModel("task", upstream, "succeeded", [AttemptModel(0, seconds, 0)])


@pytest.mark.parametrize(("workers", "seconds"), [(1, 12), (2, 7), (3, 5), (9, 4)])
def test_elements_are_calls_of_their_own(workers, seconds):
    tasks = [single(1), mapped(3, 1, 2, 2, 2, upstream=(0,)), single(1, 0)]
    assert Schedule(tasks).predict(workers) == seconds


def test_longest_element_is_on_the_critical_path():
    schedule = Schedule([single(1), mapped(3, 1, 2, upstream=(0,)), single(1, 1)])
    assert (schedule.path, schedule.seconds) == ((0, 1, 2), 5)


def test_elements_go_through_a_chain_without_waiting_for_each_other():
    schedule = Schedule([mapped(1, 3), mapped(3, 1, upstream=(0,)), single(1, 1)])
    assert (schedule.seconds, schedule.predict(2)) == (5, 5), "3 + 3 if all elements of the first task ended first"
    assert schedule.path == (0, 1, 2)
    assert schedule.predict(1) == 9


def test_elements_of_other_number_are_no_chain():
    assert Schedule([mapped(1, 3), mapped(3, 1, 1, upstream=(0,))]).seconds == 6


def test_chain_lacks_elements_that_were_dropped():
    first, second = mapped(1, 3, 2), mapped(3, 1, upstream=(0,))
    second.spans = {0: 3, 2: 1}
    assert Schedule([first, second]).seconds == 4


def test_many_elements_are_scheduled_in_bundles():
    schedule = Schedule([mapped(*[0.001] * (3 * MAX_CALLS))])
    assert schedule.predict(4) == pytest.approx(3 * MAX_CALLS * 0.001 / 4, rel=0.01)
    assert [count for count, _ in schedule.worker_table(3)][:3] == [1, 2, 3]


def test_advice_counts_workers_of_mapped_tasks():
    attempt = AttemptModel(0, 5, 0, "mapped tasks")
    spans = dict.fromkeys(range(10), 1.0)
    task = TaskModel("map", (), "succeeded", [attempt], elements="10 succeeded", spans=spans, busy=[(0, 5, 10.0)])
    run = RunModel("etl", "id", "succeeded", [ExecutionModel(0, 5, "succeeded")], [task], executor="thread")
    assert run.workers_used() == 2
    assert "With 10 workers instead of 2, it would take about 1.00 s instead of 5.00 s." in render_page(run)


def sleepy(seconds):
    numbers, last = Task(lambda: list(seconds), name="numbers"), Task(sleep, name="nap").map()
    numbers >> last >> Task(lambda *_: sleep(0.05), name="end")
    return DAG("sleepy", tasks=[last])


def test_time_in_which_an_iterator_is_pulled_while_elements_run_is_counted_once():
    """Ten elements of 1 s with one worker: the generator that they pull has ended after the last one started."""
    tasks = [
        TaskModel("rows", attempts=[AttemptModel(0, 9.5)]),
        TaskModel(
            "parse", (0,), attempts=[AttemptModel(0.5, 10.5)], elements="10", spans=dict.fromkeys(range(10), 1.0)
        ),
    ]
    schedule = Schedule(tasks)
    assert [schedule.predict(workers) for workers in (1, 10)] == [10.5, 1.5]


@pytest.mark.parametrize("recorded", [False, True])
def test_mapped_coroutines_give_no_prediction(tmp_path, recorded):
    async def wait(number):
        await asyncio.sleep(0.01)

    path, wait_task = tmp_path / "run.html", Task(wait).map("number")
    options = {"state": tmp_path / "runs.db"} if recorded else {"report": path}
    results = DAG("waits", tasks=[wait_task]).run(params={"number": range(6)}, max_async=2, **options)
    if recorded:
        results.report(path)
    assert "predicted duration" not in path.read_text("utf-8")


def test_prediction_from_one_run_is_that_of_another_run():
    """Of five pairs of runs, one must agree within 10 %: a busy machine delays single runs."""
    dag = sleepy([0.08, 0.02, 0.05, 0.05, 0.1, 0.02, 0.06, 0.08])
    ratios = []
    while len(ratios) < 5 and not any(0.9 <= ratio <= 1.1 for ratio in ratios):
        with StateManager() as state:
            dag.run("thread", max_workers=1, state=state)
            dag.run("thread", max_workers=3, state=state)
            three, one = state.runs()
            ratios.append(Schedule(model_of(state, one).tasks).predict(3) / three.duration)
    assert any(0.9 <= ratio <= 1.1 for ratio in ratios), ratios


# ---- density ---------------------------------------------------------------------------------------------------------


def test_density_counts_elements_in_parts_of_the_time():
    task = TaskModel("map", progress=[(12.0, 4), (14.0, 4), (20.0, 10)])
    assert density(task, 10.0, 20.0, 5) == pytest.approx([4, 0, 2, 2, 2])
    assert density(TaskModel("map"), 0.0, 1.0, 2) == [0, 0]


def test_points_of_progress_are_bounded():
    task = TaskModel("map")
    for number in range(5 * MAX_POINTS):
        add_progress(task, float(number), number)
    assert len(task.progress) <= MAX_POINTS
    assert (task.progress[0], task.progress[-1]) == ((0.0, 0), (5.0 * MAX_POINTS - 1, 5 * MAX_POINTS - 1))
    assert task.progress == sorted(task.progress)


def test_hundred_thousand_elements_make_a_small_report(tmp_path):
    numbers, last = Task(lambda: list(range(100_000)), name="numbers"), Task(abs, name="absolute").map()
    numbers >> last
    DAG("mapped", tasks=[last]).run("thread", report=tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text("utf-8")
    assert "100000 succeeded" in text
    assert len(text) < 60_000


def test_attempts_and_waits_of_a_retried_element_count():
    """Three attempts of 0.5 s with waits of 0.5 s, beside a task of 1 s: the element bounds the run."""
    retried = mapped(0.5)
    retried.retried = {0: [(0.0, 0.5), (0.5, 0.5), (0.5, 0.5)]}
    schedule = Schedule([retried, single(1), single(1, 0, 1)])
    assert (schedule.path, schedule.seconds, schedule.slack[1]) == ((0, 2), 3.5, 1.5)
    assert [schedule.predict(workers) for workers in (1, 2)] == [4.0, 3.5]


def test_retry_of_an_element_holds_no_worker_while_it_waits():
    retried = mapped(1, 1, 1)
    retried.retried = {0: [(0.0, 1.0), (5.0, 1.0)]}
    assert Schedule([retried]).predict(1) == 7


def test_retry_of_an_element_in_a_chain_counts():
    first, second = mapped(1, 1), mapped(1, 1, upstream=(0,))
    second.retried = {1: [(0.0, 1.0), (2.0, 1.0)]}
    schedule = Schedule([first, second])
    assert (schedule.work, schedule.seconds, schedule.predict(2)) == ([1, 4], 5, 5)


def test_many_retried_elements_are_scheduled_in_bundles():
    retried = mapped(*[0.001] * (2 * MAX_CALLS))
    retried.retried = {number: [(0.0, 0.001), (0.001, 0.001)] for number in range(2 * MAX_CALLS)}
    assert Schedule([retried]).predict(4) == pytest.approx(4 * MAX_CALLS * 0.001 / 4, rel=0.01)


@pytest.mark.parametrize("kind", ["observer", "record"])
def test_run_whose_elements_were_retried(kind, tmp_path):
    """Two waits of 0.1 s: more than the rest of the run takes."""
    calls = []

    def flaky(number):
        calls.append(number)
        if calls.count(number) < 3:
            raise ConnectionError(503)

    numbers = Task(lambda: [0, 1], name="numbers")
    last = Task(flaky, retries=2, delay=0.1, backoff=1, jitter=0).map()
    numbers >> last
    dag = DAG("retried", tasks=[last])
    if kind == "observer":
        dag.run("thread", max_workers=2, report=tmp_path / "run.html")
        data = data_of((tmp_path / "run.html").read_text("utf-8"))
        name, critical = (data["columns"].index(column) for column in ("name", "critical"))
        assert [row[name] for row in data["tasks"] if row[critical]][-1] == "flaky"
        (seconds,) = re.findall(r"flaky \((\d+\.\d+) s\)", (tmp_path / "run.html").read_text("utf-8"))
        assert float(seconds) >= 0.2
        return
    with StateManager() as state:
        dag.run("thread", max_workers=2, state=state)
        model = model_of(state, state.runs()[0])
    assert {number: len(parts) for number, parts in model.tasks[1].retried.items()} == {0: 3, 1: 3}
    assert 0.2 <= Schedule(model.tasks).seconds <= model.seconds


def test_elements_of_each_execution_count_for_its_workers(tmp_path):
    """20 elements: 14 in the first execution and 6 in the second, with a single worker."""
    broken = [True]

    def nap(number):
        sleep(0.005)
        if number == 13 and broken:
            raise OSError("broken")

    dag = DAG("resumed", tasks=[Task(nap).map("number")])
    with StateManager() as state:
        for _ in range(2):
            dag.run("serial", params={"number": list(range(20))}, state=state, resume=True, raise_on_failure=False)
            broken.clear()
        model = model_of(state, state.runs()[0])
    assert len(model.executions) == len(model.tasks[0].busy) == 2
    assert model.workers_used() == 1


def test_workers_of_executions_are_not_added_up():
    attempts = [AttemptModel(0, 1, 0, "process 1"), AttemptModel(8, 9, 8, "process 2", execution=2)]
    run = RunModel("etl", "id", "failed", [], [TaskModel("load", (), "failed", attempts)])
    assert run.workers_used() == 1


def test_time_between_executions_is_not_counted():
    executions = [ExecutionModel(100, 102, "interrupted"), ExecutionModel(200, 203, "succeeded")]
    attempt = AttemptModel(201, 202, 200, execution=2)
    run = RunModel("etl", "id", "succeeded", executions, [TaskModel("load", (), "succeeded", [attempt])])
    data = data_of(render_page(run))
    assert [row[data["columns"].index("start")] for row in data["tasks"]] == [3]


def test_workers_that_the_duration_requires_are_counted():
    """A mapped task and another task at the same time: one worker would take 4 s."""
    schedule = Schedule([mapped(2), single(2)])
    assert [schedule.least_workers(1, seconds) for seconds in (4.0, 2.1)] == [1, 2]
