"""Observers, nested runs and context variables in worker threads."""

from __future__ import annotations

import contextvars
import decimal
import threading

import pytest
from subprocess_harness import guarded
from thread_checks import SECONDS, living_helpers, nothing, run

from flowkit_core import DAG, Task, TaskStarted
from flowkit_exec import ThreadExecutor

pytestmark = pytest.mark.slow


variable = contextvars.ContextVar("variable", default="untouched")


@pytest.mark.parametrize("workers", [1, 4])
@guarded
def test_observer_that_raises_changes_nothing(workers):
    def observer(event):
        raise StopIteration(event)

    tasks = [Task(nothing, name=f"task_{number}") for number in range(20)]
    with pytest.warns(RuntimeWarning, match="observer"):
        assert len(run(workers, *tasks, observers=[observer])) == 20


@guarded
def test_observer_may_run_a_pipeline():
    inner = []

    def observer(event):
        if isinstance(event, TaskStarted):
            inner.append(DAG("inner", tasks=[Task(lambda: 1, name=name) for name in "xyz"]).run(executor))

    executor = ThreadExecutor(4)
    tasks = [Task(nothing, name=f"task_{number}") for number in range(20)]
    DAG("outer", tasks=tasks).run(executor, observers=[observer])
    assert inner == [{"x": 1, "y": 1, "z": 1}] * 20


@guarded
def test_edges_created_during_a_run_do_not_affect_it():
    def meddle(*_inputs):
        extra = Task(nothing, name="extra")
        tasks[0] >> extra
        extra >> tasks[-1]
        Task.clear_registry()
        return "meddled"

    tasks = [Task(meddle, name=f"task_{number}") for number in range(30)]
    for number in range(1, 30):
        tasks[number // 2] >> tasks[number]
    results = run(4, *tasks)
    assert list(results.values()) == ["meddled"] * 30


@guarded
def test_pipelines_are_wired_and_run_in_many_threads_at_once():
    shared = Task(lambda: 1, name="shared")
    problems = []

    def work(letter):
        try:
            for turn in range(30):
                end = Task(lambda shared: shared + 1, name=f"{letter}_{turn}")
                shared >> end
                assert run(2, end) == {"shared": 1, end.name: 2}
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not problems


@guarded
def test_nested_runs_with_one_worker():
    executor = ThreadExecutor(1)

    def nested(depth):
        if depth:
            return DAG("nested", tasks=[Task(lambda: nested(depth - 1), name="inner")]).run(executor)["inner"] + 1
        return 0

    assert nested(15) == 15


def clean(*_inputs):
    """Return the value of the context variable, and set it."""
    found = variable.get()
    variable.set("changed")
    return found


def restored(*_inputs):
    """Set and reset the context variable: the context is empty again."""
    found = variable.get()
    variable.reset(variable.set("changed"))
    return found


def broken(*_inputs):
    """Set the context variable, and fail."""
    variable.set("changed")
    raise ValueError("boom")


def precise(*_inputs):
    """Change the decimal context: a context variable that is created when it is read."""
    found = decimal.getcontext().prec
    decimal.getcontext().prec = 3
    return found


@pytest.mark.parametrize("inherited", [False, True])
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("workers", [1, 4])
@guarded
def test_context_changes_of_a_task_are_not_visible_to_others(inherited, watched, workers):
    functions = [clean, restored, clean, restored, restored] + [precise] * (not inherited)
    functions = functions * 5 + [broken, clean] * 5
    tasks = [Task(function, name=f"{function.__name__}_{turn}") for turn, function in enumerate(functions)]

    def go():
        if inherited:
            variable.set("inherited")
        expected = variable.get()
        observers = [nothing] if watched else []
        results = run(workers, *tasks, fail_fast=False, raise_on_failure=False, observers=observers)
        for name, found in results.items():
            assert found == (decimal.DefaultContext.prec if name.startswith("precise") else expected), name
        assert variable.get() == expected
        assert len(results.failed) == 5

    contextvars.Context().run(go)


@pytest.mark.parametrize("workers", [1, 4])
@guarded
def test_fan_in_of_ten_thousand_conditions(workers):
    keep = [Task(lambda: 1, name=f"task_{number}", when=lambda number=number: number % 3) for number in range(10_000)]
    total = Task(lambda *values: sum(values), name="total")
    keep >> total
    results = run(workers, total)
    assert results["total"] == sum(number % 3 > 0 for number in range(10_000))
    assert len(results.skipped) == 3334


@guarded
def test_concurrent_runs_of_one_executor():
    executor = ThreadExecutor(4)
    tasks = [Task(lambda *values: 1 + sum(values), name=f"task_{number}") for number in range(60)]
    for number in range(1, 60):
        tasks[number // 2] >> tasks[number]
    dag = DAG("shared", tasks=tasks)
    expected, outcomes = dag.run("serial"), []

    def work():
        for _ in range(10):
            told = []
            results = dag.run(executor, observers=[told.append])
            outcomes.append(results == expected and told[-1].counts == {"succeeded": 60})

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert outcomes == [True] * 60
    assert not living_helpers()
