"""Class `Worker`: the node that runs in a thread, for log context and reports of interrupted runs."""

from __future__ import annotations

import threading
from contextvars import copy_context
from time import perf_counter

import pytest

from flowkit_core import DAG, Run, Task
from flowkit_core.context import log_attributes
from flowkit_core.runs.worker import Worker, current_worker

paths = pytest.mark.parametrize("observers", [[], [lambda event: None]], ids=["fast path", "one by one"])


def current_task():
    return log_attributes().get("task")


@paths
def test_current_worker_has_running_node(observers):
    first, second = Task(current_task, name="first"), Task(lambda first: current_task(), name="second")
    first >> second
    dag = DAG("etl", tasks=[second])
    assert dag.run("serial", observers=observers) == {"first": "first", "second": "second"}
    assert current_worker() is None


@paths
def test_log_attributes_have_run_and_pipeline(observers):
    results = DAG("etl", tasks=[Task(log_attributes, name="load")]).run("serial", observers=observers)
    assert results["load"] == {
        "run_id": results.run_id,
        "pipeline": "etl",
        "task": "load",
        "element": None,
        "attempt": 1,
    }


def test_log_attributes_outside_of_tasks_are_empty():
    assert log_attributes() == {}


@paths
def test_log_attributes_of_nested_run(observers):
    """Those of the outer task come back when the inner run ends."""

    def outer():
        before = current_task()
        inner = DAG("inner", tasks=[Task(current_task, name="inner task")]).run("serial")
        return before, inner["inner task"], current_task()

    results = DAG("outer", tasks=[Task(outer)]).run("serial", observers=observers)
    assert results["outer"] == ("outer", "inner task", "outer")


def test_log_attributes_in_coroutine():
    async def fetch():
        return current_task()

    assert DAG("etl", tasks=[Task(fetch)]).run("serial") == {"fetch": "fetch"}


def test_log_attributes_in_condition():
    seen = []
    DAG("etl", tasks=[Task(lambda: 1, name="load", when=lambda: seen.append(current_task()) or True)]).run("serial")
    assert seen == ["load"]


def test_log_attributes_in_another_thread_are_empty():
    def load():
        seen = []
        thread = threading.Thread(target=lambda: seen.append(log_attributes()))
        thread.start()
        thread.join()
        return seen

    assert DAG("etl", tasks=[Task(load)]).run("serial") == {"load": [{}]}


@paths
def test_failed_task_leaves_no_current_worker(observers):
    with pytest.raises(ZeroDivisionError):
        DAG("etl", tasks=[Task(lambda: 1 / 0, name="load")]).run("serial", observers=observers)
    assert current_worker() is None


def test_worker_runs_ready_nodes_on_fast_path():
    first, second = Task(lambda: 1, name="first"), Task(lambda x: x + 1, name="second")
    first >> second
    run = Run(DAG("etl", tasks=[second]).graph())
    ready = list(run.start())
    worker = Worker(run, copy_context())
    assert worker.run_fast_path(ready.pop, ready.append, perf_counter) is None
    assert (run.done, worker.node, run.state.succeeded()) == (True, None, {"first": 1, "second": 2})


def test_fast_path_returns_node_that_needs_checks():
    run = Run(DAG("etl", tasks=[Task(lambda: 1, name="load", when=lambda: False)]).graph())
    ready = list(run.start())
    worker = Worker(run, copy_context())
    node = worker.run_fast_path(ready.pop, ready.append, perf_counter)
    assert node.name == "load"
    assert list(worker.run_node(node)) == []
    assert run.state.states() == {"load": "skipped"}
