"""The order in which tasks and elements start on a cluster that has one thread."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import dask_tasks as tasks
import pytest
from distributed import Client, LocalCluster

from flowkit_core import DAG, Task, TaskStarted
from flowkit_dask import DaskExecutor


@pytest.fixture(scope="module")
def single_client():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def started(single_client, tmp_path):
    """A function that runs tasks, and returns the names of the calls in the order of their starts."""
    path = tmp_path / "started"

    def started(make, **options):
        DAG("d", tasks=make(partial(tasks.note_start, path))).run(DaskExecutor(single_client), **options)
        return path.read_text().split()

    return started


@pytest.fixture
def ranked(single_client, tmp_path):
    """A function that runs tasks, and returns their names in the order in which Dask prefers them, while one runs."""
    released = tmp_path / "released"

    def ranked(make):
        found = []

        def observe(event):
            found.extend(single_client.run_on_scheduler(priorities))
            released.touch()

        observe.events = (TaskStarted,)
        DAG("d", tasks=make(partial(tasks.wait_for, released))).run(DaskExecutor(single_client), observers=[observe])
        count = len({name for _, name in found})
        return [name for _, name in sorted(found[:count])]

    return ranked


def priorities(dask_scheduler):
    """Return priority and name of all tasks of Dask; called on the scheduler."""
    return [(state.priority, key[0].rpartition("-")[0]) for key, state in dask_scheduler.tasks.items()]


def test_independent_tasks_start_in_the_order_of_the_graph(started):
    names = ["load", "alert", "zeta", "clean", "t10", "t2"]
    assert started(lambda func: [Task(func, name=name) for name in names]) == names


def test_tasks_of_high_priority_start_first(started):
    def make(func):
        return [Task(func, name=f"t{number}", priority=number % 3) for number in range(9)]

    assert started(make) == ["t2", "t5", "t8", "t1", "t4", "t7", "t0", "t3", "t6"]


def test_priority_counts_downstream_of_a_common_task(started):
    def make(func):
        first = Task(func, name="first")
        rest = [Task(func, name=f"t{number}", priority=number) for number in range(6)]
        first >> rest
        return rest

    assert started(make) == ["first", "t5", "t4", "t3", "t2", "t1", "t0"]


def test_critical_path_starts_first(ranked):
    def make(func):
        short = [Task(func, name=f"short_{number}") for number in range(5)]
        path = [Task(func, name=f"path_{number}") for number in range(4)]
        for before, after in pairwise(path):
            before >> after
        return [*short, *path]

    assert ranked(make) == [*[f"path_{number}" for number in range(4)], *[f"short_{number}" for number in range(5)]]


def test_result_is_used_before_the_next_is_made(ranked):
    """Else all loaded data would be in the memory of the cluster at once."""

    def make(func):
        last = Task(func, name="last")
        for number in range(10):
            load, size = Task(func, name=f"load_{number}"), Task(func, name=f"size_{number}")
            load >> size >> last
        return [last]

    expected = [name for number in range(10) for name in (f"load_{number}", f"size_{number}")]
    assert ranked(make) == [*expected, "last"]


@pytest.mark.parametrize("options", [{}, {"when": tasks.is_number}])
def test_elements_start_in_the_order_of_the_input(started, options):
    def make(func):
        return [Task(func, name="each", **options).map("x")]

    assert started(make, params={"x": list(range(30))}) == [f"each[{number}]" for number in range(30)]
