"""Runs leave no reference cycles, here or in a worker process."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
import tracked_objects as w
from reference_cycles import garbage_of_runs

from flowkit_core import DAG, Results, Task
from flowkit_exec import FuturesExecutor, ProcessExecutor


def garbage():
    return garbage_of_runs(w.Boom)


@pytest.fixture(autouse=True)
def _without_collector():
    w.turn_off()
    yield
    gc.enable()


SHAPES = {
    "success": lambda: [Task(w.succeed), Task(w.succeed, name="left_out", when=w.never)],
    "one failure": lambda: [Task(w.broken)],
    "three failures": lambda: [Task(w.broken, name=f"broken_{number}") for number in range(3)],
    "retries": lambda: [Task(w.broken, retries=2, delay=0)],
    "async": lambda: [Task(w.waiting)],
    "async with a timeout": lambda: [Task(w.waiting, retries=1, delay=0, timeout=60)],
    "condition": lambda: [Task(w.succeed, when=w.condition)],
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "options",
    [{}, {"fail_fast": False}, {"raise_on_failure": False}, {"raise_on_failure": False, "fail_fast": False}],
    ids=str,
)
@pytest.mark.parametrize("shape", SHAPES)
def test_run_is_freed_without_garbage_collection(executor, shape, options):
    first, tasks = Task(w.value), SHAPES[shape]()
    for task in tasks:
        first >> task
    if shape == "one failure":
        tasks[0] >> Task(w.below)
    dag = DAG("memory", tasks=tasks)
    param = w.note("param", w.Big())
    try:
        results = dag.run(executor, params={"param": param}, **options)
    except (w.Boom, ExceptionGroup) as error:
        assert Results.from_error(error).failed
    else:
        assert bool(results.failed) == (shape != "success")
        del results
    del param
    assert w.alive() == {}
    assert garbage() == []


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("is_mapped", [False, True])
def test_run_in_a_pool_of_another_library_is_freed_without_garbage_collection(shape, is_mapped):
    """The frames of the pool's threads have what they return."""
    first, tasks = Task(lambda param: [param], name="first"), SHAPES[shape]()
    for task in tasks:
        first >> (task.map(errors="drop") if is_mapped else task)
    dag = DAG("memory", tasks=tasks)
    with ThreadPoolExecutor(1) as pool:
        param = w.note("param", w.Big())
        results = dag.run(FuturesExecutor(pool), params={"param": param}, fail_fast=False, raise_on_failure=False)
        assert bool(results.failed) == (shape != "success")
        del results, param
        pool.submit(int).result()  # the thread has left what it did for the run
        assert w.alive() == {}
        assert garbage() == []


def test_results_do_not_reference_params(executor):
    dag = DAG("memory", tasks=[Task(w.value)])
    results = dag.run(executor, params={"param": w.note("param", w.Big())})
    assert isinstance(results["value"], w.Big)
    assert "param" not in w.alive()


@pytest.mark.parametrize("function", [w.broken, w.waiting])
def test_failure_in_a_worker_is_freed_there_without_garbage_collection(function):
    fail, before, after = Task(function, retries=2, delay=0), Task(w.turn_off), Task(w.alive)
    with ProcessExecutor(max_workers=1) as executor:
        DAG("before", tasks=[before]).run(executor)
        with pytest.raises(w.Boom):
            DAG("fail", tasks=[fail]).run(executor)
        assert DAG("after", tasks=[after]).run(executor) == {"alive": {}}
