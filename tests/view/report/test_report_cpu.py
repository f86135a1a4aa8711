"""The sentence about tasks that wait for each other in threads, and the CPU time that it is made from."""

from __future__ import annotations

from time import thread_time

import pytest

from flowkit_core import DAG, Task
from flowkit_view.report.cpu import cpu_hint
from flowkit_view.report.observer import ReportObserver
from flowkit_view.report.page import render_page
from flowkit_view.report.run_model import AttemptModel, ExecutionModel, RunModel, TaskModel


def run(*tasks, cpu=9.7, executor="thread"):
    execution = ExecutionModel(0, 10, "succeeded")
    return RunModel("etl", "id", "succeeded", [execution], [*tasks], executor=executor, cpu=cpu)


def task(name, seconds, cpu=None):
    return TaskModel(name, (), "succeeded", [AttemptModel(0, seconds, 0)], cpu=cpu)


def test_tasks_that_wait_for_each_other_are_named():
    hint = cpu_hint(run(task("parse", 10, 5.0), task("clean", 10, 4.5), task("save", 1, 0.1)))
    assert hint == (
        "The process used 97% of one CPU while 2.0 tasks ran at a time: Python code in threads waits for each other. "
        "Most of the CPU time was that of parse (52%), clean (46%); run(executor='process') runs them side by side."
    )


def test_without_cpu_time_of_tasks_the_sentence_is_conditional():
    hint = cpu_hint(run(task("parse", 10), task("clean", 10)))
    assert hint == (
        "The process used 97% of one CPU while 2.0 tasks ran at a time: if they are Python code, they wait for each "
        "other, as it does in threads; run(executor='process') runs them side by side."
    )


@pytest.mark.parametrize(
    "model",
    [
        run(task("parse", 10, 5.0), task("clean", 10, 4.5), cpu=2.0),
        run(task("parse", 10, 9.0), task("clean", 10, 9.0), cpu=18.0),
        run(task("parse", 10, 5.0), task("clean", 10, 4.5), executor="process"),
        run(task("parse", 10, 5.0), task("clean", 10, 4.5), cpu=None),
        run(task("parse", 10, 9.6), task("wait", 10, 0.0), task("sleep", 10, 0.0)),
        run(task("parse", 10, 9.6)),
        run(),
    ],
    ids=["waits", "several CPUs", "processes", "unknown", "one computes", "one task", "no tasks"],
)
def test_no_sentence(model):
    assert cpu_hint(model) == ""


def test_elements_of_mapped_task_count():
    elements = TaskModel(
        "parse", (), "succeeded", [AttemptModel(0, 10, 0)], elements="20 succeeded", spans=dict.fromkeys(range(20), 1.0)
    )
    assert "2.0 tasks ran at a time" in cpu_hint(run(elements))


def test_page_has_the_sentence():
    page = render_page(run(task("parse", 10, 5.0), task("clean", 10, 4.5)))
    assert "The process used 97% of one CPU" in page


@pytest.mark.parametrize("executor", ["serial", "thread"])
def test_observer_measures_cpu_time_of_tasks(tmp_path, executor):
    def work():
        until = thread_time() + 0.05
        while thread_time() < until:
            pass

    observed = []

    class Observer(ReportObserver):
        def _write(self):
            observed[:] = [self.model]

    first, second = Task(work, name="first"), Task(list, name="second")
    dag = DAG("etl", tasks=[first, second])
    dag.run(executor, observers=[Observer(tmp_path / "run.html", dag.graph(), {})])
    (model,) = observed
    cpu = {each.name: each.cpu for each in model.tasks}
    assert 0.05 <= cpu["first"] < 5
    assert cpu["second"] < cpu["first"]
    assert model.cpu >= cpu["first"]


def test_worker_processes_have_no_cpu_time(tmp_path):
    observed = []

    class Observer(ReportObserver):
        def _write(self):
            observed[:] = [self.model]

    dag = DAG("etl", tasks=[Task(list, name="a")])
    dag.run("process", max_workers=1, observers=[Observer(tmp_path / "run.html", dag.graph(), {})])
    assert [each.cpu for each in observed[0].tasks] == [None]
