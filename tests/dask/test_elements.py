"""Elements of mapped tasks on a cluster: in blocks, with the context of each, and blamed one by one."""

from __future__ import annotations

from functools import partial

import dask_tasks as tasks
import pytest

from flowkit_core import DAG, Task, WorkerDiedError
from flowkit_dask import DaskExecutor

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


def test_element_that_kills_its_worker_is_blamed_alone(client):
    die = Task(tasks.die_if_negative, name="die")
    dag = DAG("d", tasks=[die.map("x", errors="drop")])
    results = dag.run(DaskExecutor(client), params={"x": [*range(300), -1, *range(20)]})
    (number,) = results.elements["die"].failed
    assert (number, type(results.elements["die"].failed[number])) == (300, WorkerDiedError)
    assert len(results["die"]) == 320


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
