"""References that a run leaves: results refer to nothing else, and there are no reference cycles."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
import traceback
import weakref

import pytest
from reference_cycles import garbage_of_runs

from flowkit_core import DAG, MissingResultError, Results, Task
from flowkit_core.results import RaisedError

RAISED = {}, {"fail_fast": False}
RETURNED = {"raise_on_failure": False}, {"raise_on_failure": False, "fail_fast": False}


class Big:
    """A value that a weak reference can follow."""


class Boom(Exception):
    """An error that a weak reference can follow."""


class Exit(SystemExit):
    """An exception that ends the program."""


class Watch:
    """Weak references to what the tasks of a test make, by kind."""

    def __init__(self):
        self.references = {}

    def __call__(self, kind, thing):
        self.references.setdefault(kind, []).append(weakref.ref(thing))
        return thing

    def alive(self):
        """Return what is alive, by kind and number."""
        counts = {kind: sum(one() is not None for one in found) for kind, found in self.references.items()}
        return {kind: count for kind, count in counts.items() if count}


@pytest.fixture
def watch():
    """A watch, while the cyclic garbage collector is off."""
    gc.collect()
    gc.disable()
    yield Watch()
    gc.enable()


def garbage():
    return garbage_of_runs(Boom, Exit)


def failing(watch, error=Boom, name="broken", **options):
    """Return a task that fails with a watched object in its frame."""

    def broken(value=None):
        local = watch("local", Big())
        raise watch("error", error(f"{name} of {type(local).__name__}"))

    return Task(broken, name=name, **options)


def start(watch):
    """Return a task that takes a parameter and makes a watched value."""
    return Task(lambda param: watch("value", Big()), name="value")


def retried(watch):
    """Return one task that fails three times, and one that succeeds at the third attempt."""
    attempts = []

    def flaky(value):
        local = watch("local", Big())
        attempts.append(1)
        if len(attempts) % 3:
            raise watch("error", Boom(type(local).__name__))
        return watch("value", Big())

    return [Task(flaky, retries=2, delay=0), failing(watch, retries=2, delay=0)]


def waiting(watch):
    async def deeper(value):
        local = watch("local", Big())
        await asyncio.sleep(0)
        raise watch("error", Boom(type(local).__name__))

    async def broken(value):
        await deeper(value)

    return [Task(broken)]


def conditional(watch):
    def condition(value):
        local = watch("local", Big())
        raise watch("error", Boom(type(local).__name__))

    return [Task(lambda value: 1, name="task", when=condition)]


def nested(watch):
    def outer(value):
        DAG("inner", tasks=[failing(watch, name="inner")]).run("serial", params={"value": watch("param", Big())})

    def group(value):
        inner = DAG("inner", tasks=[failing(watch, name="inner")])
        inner.run("serial", params={"value": watch("param", Big())}, fail_fast=False)

    return [Task(outer), Task(group)]


def followed(watch):
    broken, skipped = failing(watch), Task(lambda value: 1, name="skipped", when=lambda value: False)
    below = Task(lambda broken, skipped: 0, name="below")
    clean_up = Task(lambda broken=None: watch("value", Big()), name="clean_up", trigger="all_done")
    [broken, skipped] >> below
    broken >> clean_up
    return [broken, skipped, below, clean_up]


SHAPES = {
    "one failure": lambda watch: [failing(watch)],
    "two failures": lambda watch: [failing(watch, name="first"), failing(watch, name="second")],
    "a clean-up task that fails, too": lambda watch: [
        failing(watch),
        failing(watch, name="clean_up", trigger="all_done"),
    ],
    "exit": lambda watch: [failing(watch, Exit)],
    "retries": retried,
    "async": waiting,
    "condition": conditional,
    "nested": nested,
    "upstream-failed and skipped": followed,
}


def pipeline(watch, shape):
    """Return a DAG of a value and the tasks of a shape, which take it."""
    value, tasks = start(watch), SHAPES[shape](watch)
    for task in tasks:
        if task.name != "below":
            value >> task
    return DAG("memory", tasks=tasks)


def run_and_drop(dag, watch, **options):
    """Run a pipeline that fails, and drop its error or its results."""
    param = watch("param", Big())
    try:
        results = dag.run("serial", params={"param": param}, **options)
    except (Boom, Exit, BaseExceptionGroup) as error:
        assert Results.from_error(error).states["value"] == "succeeded"
        assert error.flowkit_results.failed
    else:
        assert results.failed
        del results


@pytest.mark.parametrize("options", [*RAISED, *RETURNED], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_failed_run_is_freed_without_the_collector(watch, shape, options):
    """Parameters, values, errors, and local variables of tasks."""
    dag = pipeline(watch, shape)
    run_and_drop(dag, watch, **options)
    assert {"param", "value", "local", "error"} <= set(watch.references)
    assert watch.alive() == {}
    assert garbage() == []


@pytest.mark.parametrize("fail_fast", [True, False])
def test_async_failure_in_a_running_loop_is_freed_without_the_collector(watch, fail_fast):
    """The task runs in an event loop of another thread."""
    dag = pipeline(watch, "async")

    async def main():
        run_and_drop(dag, watch, fail_fast=fail_fast)

    asyncio.run(main())
    assert watch.alive() == {}


def test_error_that_is_kept_is_freed_when_it_is_dropped(watch):
    """Its traceback refers to the frame of the task; its results do not refer to it."""
    dag = pipeline(watch, "one failure")
    kept = []
    try:
        dag.run("serial", params={"param": watch("param", Big())})
    except Boom as error:
        kept.append(error)
    assert watch.alive()["error"] == 1
    kept.clear()
    assert watch.alive() == {}


def test_results_of_an_error_outlive_it(watch):
    """They have the values, and no reference to the error."""
    dag = pipeline(watch, "one failure")
    try:
        dag.run("serial", params={"param": watch("param", Big())})
    except Boom as error:
        results = error.flowkit_results
    assert list(results) == ["value"]
    assert watch.alive() == {"value": 1}


def test_error_of_an_executor_is_freed_without_the_collector(watch):

    class Broken:
        name = "broken"

        def execute(self, run):
            raise watch("error", Boom())

        def close(self):
            pass

    dag = pipeline(watch, "one failure")
    with pytest.raises(Boom):
        dag.run(Broken(), params={"param": watch("param", Big())})
    assert watch.alive() == {}
    assert garbage() == []


def test_run_that_cannot_be_recorded_is_freed_without_the_collector(watch):
    """The error of the store is raised instead of that of the task."""

    class Store:
        run_id, done, outdated = "1", {}, {}

        def open_run(self, *_facts):
            return self

        def prepare(self, place, value):
            return None

        def record(self, outcomes):
            if any(outcome.state == "failed" for outcome in outcomes):
                raise watch("error", Boom("the disk is full"))

        def cache(self, own=None):
            return None

        def close(self, *_facts):
            pass

    dag = pipeline(watch, "one failure")
    try:
        dag.run("serial", params={"param": watch("param", Big())}, state=Store(), state_errors="raise")
    except Boom as error:
        assert str(error) == "the disk is full"
        assert list(error.flowkit_results.failed) == ["broken"]
    assert len(watch.references["error"]) == 2
    assert watch.alive() == {}
    assert garbage() == []


# Results


def reachable(thing):
    """Return everything that an object refers to, but for classes, and what those refer to."""
    found, left = {}, [thing]
    while left:
        one = left.pop()
        if id(one) not in found and not isinstance(one, type):
            found[id(one)] = one
            left += gc.get_referents(one)
    return [*found.values()]


def test_results_hold_neither_parameters_nor_tasks(watch):
    """Before and after facts such as the states are read."""
    value, skipped = start(watch), Task(lambda value: 1, name="skipped", when=lambda value: False)
    value >> skipped
    results = DAG("memory", tasks=[skipped]).run("serial", params={"param": watch("param", Big())})
    assert watch.alive() == {"value": 1}
    for _ in range(2):
        modules = {type(one).__module__ for one in reachable(results)}
        assert {name for name in modules if name.startswith("flowkit_")} <= {
            "flowkit_core.results",
            "flowkit_core.runs.run_state",
        }
        assert results.states == {"value": "succeeded", "skipped": "skipped"}
        assert set(results.attempts) == set(results.durations) == {"value"}
    assert results.skipped == {"skipped": "its condition was false"}
    assert garbage() == []


def test_results_with_failures_do_not_hold_parameters(watch):
    """The traceback of a failure refers to the arguments of its task only."""
    value, broken = start(watch), Task(lambda: [].pop(), name="broken")
    results = DAG("memory", tasks=[value, broken]).run(
        "serial", params={"param": watch("param", Big())}, raise_on_failure=False, fail_fast=False
    )
    assert isinstance(results.failed["broken"], IndexError)
    assert results.failed["broken"].__traceback__ is not None
    assert watch.alive() == {"value": 1}
    del results["value"]
    assert watch.alive() == {}


def test_results_of_an_error_have_a_placeholder_for_it():
    """The error itself would form a reference cycle; from_error() restores it."""
    first, second = ValueError("boom"), OSError("no")

    def raising(error):
        def function(*_inputs):
            raise error

        return function

    broken, clean_up = Task(raising(first), name="broken"), Task(raising(second), name="clean_up", trigger="all_done")
    broken >> clean_up
    with pytest.raises(ValueError) as caught:
        DAG("etl", tasks=[clean_up]).run("serial")
    carried, whole = first.flowkit_results, Results.from_error(caught.value)
    assert list(carried.failed) == list(whole.failed) == ["broken", "clean_up"]
    assert isinstance(carried.failed["broken"], RaisedError)
    assert str(carried.failed["broken"]).startswith("ValueError: boom (placeholder: ")
    assert carried.failed["clean_up"] is second
    assert whole.failed == {"broken": first, "clean_up": second}
    assert (whole, whole.states, whole.attempts, whole.run_id) == (
        carried,
        carried.states,
        carried.attempts,
        carried.run_id,
    )
    for results in (carried, whole, pickle.loads(pickle.dumps(carried))):
        with pytest.raises(MissingResultError, match=r"'broken'.* ended as failed \(ValueError\W+boom"):
            results["broken"]


def test_results_that_a_group_carries_have_every_failure():
    """The group itself is not among them."""
    errors = [ValueError("one"), ValueError("two")]

    def raising(error):
        def function():
            raise error

        return function

    tasks = [Task(raising(error), name=f"task_{number}") for number, error in enumerate(errors)]
    with pytest.raises(ExceptionGroup) as caught:
        DAG("etl", tasks=tasks).run("serial", fail_fast=False)
    assert [*caught.value.flowkit_results.failed.values()] == errors
    assert Results.from_error(caught.value) is caught.value.flowkit_results


# Tracebacks


def functions(error):
    """Return the names of the functions in a traceback."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_traceback_of_a_failure_has_run_and_the_functions_of_the_user():
    """It has no other frame of flowkit."""

    def deeper():
        raise ValueError("boom")

    def broken():
        deeper()

    async def awaited():
        deeper()

    def condition():
        deeper()

    here = "test_traceback_of_a_failure_has_run_and_the_functions_of_the_user"
    for task in (Task(broken), Task(awaited), Task(lambda: 1, name="task", when=condition)):
        inner = task.when.__name__ if task.when else task.name
        with pytest.raises(ValueError) as caught:
            DAG("etl", tasks=[task]).run("serial")
        assert functions(caught.value) == [here, "run", inner, "deeper"]
        results = DAG("etl", tasks=[task]).run("serial", raise_on_failure=False)
        assert functions(results.failed[task.name]) == [inner, "deeper"]


# Direct calls


@pytest.mark.parametrize("retries", [0, 2])
def test_failed_direct_call_is_freed_without_the_collector(watch, retries):
    """After each attempt."""
    task = failing(watch, retries=retries, delay=0)
    try:
        task(watch("param", Big()))
    except Boom as error:
        assert functions(error)[-1] == "broken"
    assert len(watch.references["error"]) == retries + 1
    assert watch.alive() == {}
    assert garbage() == []


def test_direct_call_whose_error_is_not_retried_is_freed_without_the_collector(watch):
    """retry_on= excludes the error."""
    task = failing(watch, retries=2, delay=0, retry_on=OSError)
    with pytest.raises(Boom):
        task(watch("param", Big()))
    assert watch.alive() == {}


@pytest.mark.parametrize("retries", [0, 2])
def test_failed_direct_call_of_an_async_task_is_freed_without_the_collector(watch, retries):
    """The event loop of the caller continues."""

    async def broken(value):
        local = watch("local", Big())
        await asyncio.sleep(0)
        raise watch("error", Boom(type(local).__name__))

    task = Task(broken, retries=retries, delay=0)

    async def main():
        with contextlib.suppress(Boom):
            await task(watch("param", Big()))
        assert watch.alive() == {}
        return garbage()

    assert asyncio.run(main()) == []
    assert len(watch.references["error"]) == retries + 1
