"""Elements of mapped tasks on a cluster: in blocks, with the context of each, and blamed one by one."""

from __future__ import annotations

from functools import partial

import dask_tasks as tasks
import pytest

from flowkit_core import DAG, Task
from flowkit_dask import DaskExecutor
from flowkit_state import StateManager

MIB = 1 << 20


def tasks_made(client, prefix):
    """Return how many tasks of Dask with a name have ended, since the scheduler was started."""
    return client.run_on_scheduler(
        lambda dask_scheduler: dask_scheduler.task_prefixes[prefix].state_counts.get("memory", 0)
    )


def test_short_elements_share_tasks_of_dask(client):
    dag = DAG("d", tasks=[Task(tasks.add_one, name="block of numbers").map("x")])
    results = dag.run(DaskExecutor(client), params={"x": range(100_000)})
    assert results["block of numbers"] == list(range(1, 100_001))
    assert tasks_made(client, "block of numbers") < 1000


def test_elements_in_blocks_have_their_contexts(client):
    """The elements of two tasks, in one block: task, number, parameters, and a note that both have made."""
    first, second = Task(tasks.describe_element, name="first"), Task(tasks.describe_element, name="second")
    first.map("x") >> second.map()
    results = DAG("d", tasks=[second]).run(DaskExecutor(client), params={"x": range(1000)})
    for name in ("first", "second"):
        assert [found[:3] for found in results[name]] == [(name, number, 1000) for number in range(1000)]
        assert [found[3] for found in results[name]] == [{"note": number} for number in range(1000)]


def test_failing_elements_of_blocks_are_named(client):
    odd = Task(tasks.fail_if_odd, name="odd", retries=1, delay=0)
    dag = DAG("d", tasks=[odd.map("x", errors="drop")])
    results = dag.run(DaskExecutor(client), params={"x": [*range(0, 4000, 2), 4001, *range(4002, 5000, 2)]})
    elements = results.elements["odd"]
    assert elements.counts == {"succeeded": 2499, "failed": 1}
    assert str(elements.failed[2000]) == "4001 is odd"
    assert elements.attempts[2000] == 2


def test_result_of_an_element_that_cannot_be_pickled_fails_it_alone(client):
    dag = DAG("d", tasks=[Task(tasks.generator_if_negative, name="made").map("x", errors="drop")])
    results = dag.run(DaskExecutor(client), params={"x": [*range(2000), -1]})
    assert list(results.elements["made"].failed) == [2000]
    assert "cannot be pickled" in str(results.elements["made"].failed[2000])


@pytest.mark.parametrize("count", [1, 1000])
def test_common_argument_stays_on_the_cluster(client, sent, count):
    """Elements share a result of 8 MiB, also if they are sent in blocks: it does not pass through the client."""
    table = Task(partial(tasks.make, 7, 8 * MIB), name="table")
    look = Task(tasks.item_of, name="look")
    table >> look.map("x")
    results = DAG("d", tasks=[look]).run(DaskExecutor(client), params={"x": range(count)}, keep=["look"])
    assert results["look"] == [7] * count
    assert sent[0] < MIB


def test_large_mapped_values_are_dropped_when_their_calls_have_ended(client, monkeypatch):
    """The cluster has those of the window, and the tasks that take them."""
    monkeypatch.setattr("flowkit_dask.lane.MIN_WINDOW", 1)
    seen = []

    def chunks():
        for number in range(100):
            seen.append(client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))
            yield bytes([number]) * 70_000

    size = Task(tasks.length, name="size", timeout=60)  # with a timeout, so that there are no blocks
    results = DAG("d", tasks=[size.map("data")]).run(DaskExecutor(client), params={"data": chunks()})
    assert results["size"] == [70_000] * 100
    assert seen[-1] < 60


def mapped(size):
    """Return a chain of two mapped tasks whose elements have results of a size, and a task that takes the list."""
    make, copy = Task(tasks.made_of_size, name="make"), Task(tasks.plain_copy, name="copy")
    whole = Task(tasks.measure_list, name="whole")
    make.map("x") >> copy.map() >> whole
    return DAG("d", tasks=[whole]), {"x": range(6), "size": size}


def test_large_results_of_elements_stay_on_the_cluster(client, sent):
    """They pass along the chain, and the task that takes the list gets it there."""
    dag, params = mapped(4 * MIB)
    results = dag.run(DaskExecutor(client), params=params, keep=["whole"])
    assert results == {"whole": [(4 * MIB, number) for number in range(6)]}
    assert results.elements["copy"].counts == {"succeeded": 6}
    assert sent[0] < MIB


def test_large_results_of_elements_are_returned(client):
    dag, params = mapped(MIB)
    results = dag.run(DaskExecutor(client), params=params)
    assert results["copy"] == [bytes([number]) * MIB for number in range(6)] == results["make"]


def test_large_results_of_elements_are_taken_elsewhere(client):
    make, here = Task(tasks.made_of_size, name="make", executor="cluster"), Task(tasks.length, name="here")
    whole = Task(tasks.measure_list, name="whole")
    make.map("x") >> [here.map(label=lambda data: f"of {data[0]}"), whole]
    params = {"x": [1, 2, 3], "size": MIB}
    dag = DAG("d", tasks=[here, whole])
    results = dag.run({"default": "thread", "cluster": DaskExecutor(client)}, params=params, keep=["here", "whole"])
    assert results == {"here": [MIB] * 3, "whole": [(MIB, 1), (MIB, 2), (MIB, 3)]}


@pytest.mark.parametrize("errors", ["drop", "return", "raise"])
def test_failed_elements_among_large_results(client, sent, errors):
    make, whole = Task(tasks.made_unless_three, name="make"), Task(tasks.count_items, name="whole")
    make.map("x", errors=errors) >> whole
    params = {"x": range(6), "size": 4 * MIB}
    results = DAG("d", tasks=[whole]).run(
        DaskExecutor(client), params=params, keep=["whole"], raise_on_failure=False, fail_fast=False
    )
    assert results == {"drop": {"whole": [5, 0]}, "return": {"whole": [6, 1]}, "raise": {}}[errors]
    assert results.elements["make"].counts == {"succeeded": 5, "failed": 1}
    assert sent[0] < MIB


def test_large_results_of_cached_and_recorded_elements_are_stored(client):
    with StateManager() as state:
        for cached in ([], [0, 1, 2]):
            make, whole = Task(tasks.made_of_size, name="make", cache=True), Task(tasks.measure_list, name="whole")
            make.map("x") >> whole
            params = {"x": [1, 2, 3], "size": MIB}
            results = DAG("d", tasks=[whole]).run(DaskExecutor(client), state=state, params=params)
            assert results["whole"] == [(MIB, 1), (MIB, 2), (MIB, 3)]
            assert results.elements["make"].cached == cached
        (_, run) = state.runs()
        assert len(run.tasks["make"].elements.result(1)) == MIB


def test_large_results_are_mapped_over_again(client, sent):
    """Elements of a later mapped task get pairs of them, which stay on the cluster."""
    one, other = Task(tasks.made_of_size, name="one"), Task(tasks.made_of_size, name="other")
    pair = Task(tasks.pair, name="pair")
    [one.map("x"), other.map("x")] >> pair.map("one", "other")
    results = DAG("d", tasks=[pair]).run(DaskExecutor(client), params={"x": range(4), "size": 2 * MIB}, keep=["pair"])
    assert results == {"pair": [(number, number) for number in range(4)]}
    assert sent[0] < MIB
