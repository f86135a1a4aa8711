"""Where tasks and runs run, on every executor."""

from __future__ import annotations

import gc
import itertools
import os
import threading

import conformance_tasks as p
import pytest
from conformance_checks import SECONDS, copies, fresh

from flowkit_core import (
    DAG,
    Task,
)


def test_task_may_run_a_pipeline(executor):
    nested, threads = fresh(p.nested, p.nested_threads)
    results = DAG("outer", tasks=[nested, threads]).run(executor)
    assert results == {"nested": {"start": 1, "inner": 2}, "nested_threads": (2, 2, 2)}


def test_task_may_run_its_own_dag(local_executor):
    depth = itertools.count()

    def again():
        return ["deep"] if next(depth) == 3 else [*dag.run(local_executor)["again"], "up"]

    dag = DAG("self", tasks=[Task(again)])
    assert dag.run(local_executor) == {"again": ["deep", "up", "up", "up"]}


def test_tasks_run_in_the_process_that_the_executor_names(executor):
    pid, thread = DAG("where", tasks=fresh(p.place)).run(executor)["place"]
    assert (pid == os.getpid()) == (executor.name != "process")
    if executor.name == "serial":
        assert thread == threading.get_ident()


@pytest.fixture
def no_collection():
    """Disable the garbage collector: an interrupt in one of its callbacks, as hypothesis has, would be lost."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_ctrl_c_ends_a_run_and_the_executor_runs_again(executor):
    tasks = [*fresh(p.interrupt), *copies(p.one, *(f"task_{number}" for number in range(50)))]
    with pytest.raises(KeyboardInterrupt) as caught:
        DAG("etl", tasks=tasks).run(executor, params={"pid": os.getpid()})
    assert set(caught.value.flowkit_results.states) == {task.name for task in tasks}
    assert DAG("next", tasks=fresh(p.one)).run(executor) == {"one": 1}


def test_concurrent_runs_of_one_dag(executor):
    start, end = fresh(p.one, p.add_one)
    start >> end
    dag = DAG("twice", tasks=[end])
    barrier = threading.Barrier(3, timeout=SECONDS)
    seen = []

    def work():
        barrier.wait()
        seen.extend(dag.run(executor) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert seen == [{"one": 1, "add_one": 2}] * 15
    assert len({results.run_id for results in seen}) == 15


def test_run_in_a_thread_other_than_the_main_thread(executor):
    seen = []

    def work():
        seen.append(DAG("there", tasks=fresh(p.one)).run(executor))
        with pytest.raises(p.OwnError) as caught:
            DAG("there", tasks=fresh(p.fail)).run(executor)
        seen.append(caught.value.code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(SECONDS)
    assert seen == [{"one": 1}, 7]
