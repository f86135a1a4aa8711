"""Decisions about tasks whose arguments stay on the cluster: look-ups in caches, and conditions."""

from __future__ import annotations

from functools import partial

import dask_tasks as tasks
import pytest

from flowkit_core import DAG, Task
from flowkit_dask import DaskExecutor
from flowkit_state import StateManager, TaskCache

MIB = 1 << 20


def dag_of(path, *, make=tasks.make, numbers=(1,), **options):
    """Return a DAG that makes 8 MiB several times, and a task that takes them all and counts its calls."""
    made = [Task(partial(make, number, 8 * MIB), name=f"made_{place}") for place, number in enumerate(numbers)]
    measure = Task(partial(tasks.measure, path), name="measure", **options)
    for each in made:
        each >> measure
    return DAG("d", tasks=[measure])


@pytest.mark.parametrize("make", [tasks.make, tasks.make_row])
@pytest.mark.parametrize("numbers", [(1,), (1, 2)])
def test_arguments_of_a_cached_task_stay_on_the_cluster(client, sent, tmp_path, make, numbers):
    """Their digests are made there, also of `*args` and of instances of a class of a module that is compared here."""
    path = tmp_path / "calls"
    cache = TaskCache()
    for _ in range(2):
        dag = dag_of(path, make=make, numbers=numbers, cache=cache)
        results = dag.run(DaskExecutor(client), keep=["measure"])
        assert results["measure"] == [8 * MIB] * len(numbers)
    assert results.cached == ("measure",)
    assert path.stat().st_size == 1
    assert sent[0] < MIB


def test_other_arguments_are_another_call(client, tmp_path):
    path = tmp_path / "calls"
    cache = TaskCache()
    for numbers in ((1, 2), (2, 1), (1,), (1, 2)):
        dag_of(path, numbers=numbers, cache=cache).run(DaskExecutor(client), keep=["measure"])
    assert path.stat().st_size == 3


@pytest.mark.parametrize("make", [tasks.make, tasks.make_row])
def test_digests_are_the_same_here_and_on_the_cluster(client, tmp_path, make):
    path = tmp_path / "calls"
    cache = TaskCache()
    dag_of(path, make=make, numbers=(1, 2), cache=cache).run("serial")
    results = dag_of(path, make=make, numbers=(1, 2), cache=cache).run(DaskExecutor(client), keep=["measure"])
    assert results.cached == ("measure",)
    assert path.stat().st_size == 1


def test_key_function_gets_the_values(client, tmp_path):
    path = tmp_path / "calls"
    cache = TaskCache(key=lambda *data: [len(each) for each in data])
    for number in (1, 2):
        results = dag_of(path, numbers=(number,), cache=cache).run(DaskExecutor(client), keep=["measure"])
    assert results.cached == ("measure",)


def test_value_without_a_digest_is_looked_at_here(client, tmp_path, caplog):
    """A class of the script travels by value: the worker does not know the module that it belongs to."""

    class Local:
        pass

    made = Task(lambda: Local(), name="made")
    measure = Task(lambda made: type(made).__name__, name="measure", cache=TaskCache())
    made >> measure
    results = DAG("d", tasks=[measure]).run(DaskExecutor(client), keep=["measure"])
    assert results["measure"] == "Local"
    assert 'argument "made" is of type' in caplog.text


@pytest.mark.parametrize("is_true", [True, False])
@pytest.mark.parametrize("options", [{"pool": "one"}, {"cache": True}, {"pool": "one", "cache": True}])
def test_condition_with_a_pool_or_a_cache_is_evaluated_on_the_cluster(client, sent, tmp_path, options, is_true):
    path = tmp_path / "calls"
    when = tasks.is_long if is_true else tasks.is_short
    dag = dag_of(path, when=when, **options)
    results = dag.run(DaskExecutor(client), pools={"one": 1} if "pool" in options else None, keep=["measure"])
    assert results == ({"measure": [8 * MIB]} if is_true else {})
    assert (results.skipped == {"measure": "its condition was false"}) is not is_true
    assert path.exists() == is_true
    assert sent[0] < MIB


def test_error_of_such_a_condition_is_that_of_its_task(client, tmp_path):
    dag = dag_of(tmp_path / "calls", when=tasks.fail_on, pool="one", retries=2, delay=0)
    with pytest.raises(ValueError, match="not that") as caught:
        dag.run(DaskExecutor(client), pools={"one": 1})
    assert "condition" in caught.value.__notes__[0]


def test_recorded_result_that_is_returned_travels_once(client, sent):
    make = Task(partial(tasks.make, 7, 8 * MIB), name="make")
    measure = Task(tasks.size_of, name="measure")
    make >> measure
    with StateManager() as state:
        results = DAG("d", tasks=[measure]).run(DaskExecutor(client), state=state)
    assert len(results["make"]) == 8 * MIB
    assert sent[0] < 9 * MIB


def test_whole_argument_of_cached_elements_stays_on_the_cluster(client, sent):
    table = Task(partial(tasks.make, 7, 8 * MIB), name="table")
    item = Task(tasks.item_of, name="item", cache=TaskCache())
    table >> item.map("x")
    for _ in range(2):
        results = DAG("d", tasks=[item]).run(DaskExecutor(client), params={"x": [1, 2, 3]}, keep=["item"])
    assert results["item"] == [7, 7, 7]
    assert results.elements["item"].cached == [0, 1, 2]
    assert sent[0] < MIB
