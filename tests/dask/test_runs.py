"""Where results are, names on the dashboard, records, several executors, scripts, and the local cluster."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tracemalloc
import warnings
import weakref
from functools import partial
from itertools import pairwise

import dask_tasks as tasks
import pytest
from distributed import LocalCluster

from flowkit_core import DAG, Task, TaskStarted, TaskSucceeded
from flowkit_dask import DaskExecutor
from flowkit_state import StateManager

MIB = 1 << 20


def test_results_stay_on_the_cluster(client, sent):
    """Three stages over 64 MiB, with a condition: less than 1 MiB passes through the client."""
    size = 64 * MIB
    make = Task(partial(tasks.make, 7, size), name="make")
    scale = Task(tasks.plain_copy, name="scale", when=tasks.is_long)
    summary = Task(tasks.summary, name="summary")
    make >> scale >> summary
    results = DAG("d", tasks=[summary]).run(DaskExecutor(client), keep=["summary"])
    assert results == {"summary": (size, 7)}
    assert sent[0] < MIB


def test_returned_result_is_brought_here(client, sent):
    make = Task(partial(tasks.make, 7, MIB), name="make")
    assert len(DAG("d", tasks=[make]).run(DaskExecutor(client))["make"]) == MIB
    assert MIB < sent[0] < 2 * MIB


def test_large_argument_is_sent_once(client, sent):
    ends = [Task(tasks.size_of, name=f"end_{number}") for number in range(10)]
    made = Task(lambda: bytes(MIB), name="made", executor="serial")
    made >> ends
    run = DAG("d", tasks=ends).run({"default": DaskExecutor(client), "serial": "serial"})
    assert {str(run[end.name]) for end in ends} == {f"[{MIB}]"}
    assert sent[0] < 3 * MIB


def test_large_argument_is_dropped_after_its_last_use(client):
    made = []

    def make():
        made.append(weakref.ref(value := tasks.Bytes(MIB)))
        return value

    make, size = Task(make, executor="serial"), Task(len, name="size")
    last = Task(lambda size: (size, made[0]() is not None), name="last", executor="serial")
    make >> size >> last
    results = DAG("d", tasks=[last]).run({"default": DaskExecutor(client), "serial": "serial"}, keep=["last"])
    assert results == {"last": (MIB, False)}


def test_many_arguments_are_sent_in_several_graphs(client):
    """Dask warns of graphs of more than 10 MB: here are 18 MB."""
    many = [Task(tasks.length, name=f"t{number}") for number in range(300)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = DAG("d", tasks=many).run(DaskExecutor(client), params={"data": bytes(60_000)})
    assert set(results.values()) == {60_000}


def test_keys_have_names_of_tasks_and_are_grouped_by_run(client, tmp_path):
    released = tmp_path / "released"
    waiting = Task(partial(tasks.wait_for, released), name="load orders")
    seen = []

    def observe(event):
        seen.extend(client.run_on_scheduler(lambda dask_scheduler: sorted(dask_scheduler.task_prefixes)))
        released.touch()

    observe.events = (TaskStarted,)
    DAG("d", tasks=[waiting]).run(DaskExecutor(client), observers=[observe])
    assert "load orders" in seen


def test_many_names_share_the_prefix_of_their_function(client):
    many = [Task(tasks.one, name=f"many_{number}") for number in range(300)]
    assert len(DAG("d", tasks=many).run(DaskExecutor(client))) == 300
    prefixes = client.run_on_scheduler(lambda dask_scheduler: sorted(dask_scheduler.task_prefixes))
    assert [name for name in prefixes if name.startswith("many_")] == []
    assert "one" in prefixes


def test_record_has_workers_and_durations(client):
    first, second = Task(tasks.pid, name="first"), Task(tasks.pid, name="second")
    first >> second
    with StateManager() as state:
        results = DAG("d", tasks=[second]).run(DaskExecutor(client), state=state)
        (run,) = state.runs()
        for task in run.tasks.values():
            (attempt,) = task.attempts
            assert attempt.process == results[task.name]
            assert attempt.host == socket.gethostname()
            assert attempt.worker.startswith("tcp://") or attempt.worker
            assert attempt.ended >= attempt.started


def test_recorded_run_is_resumed(client, tmp_path):
    path = tmp_path / "calls"
    first = Task(partial(tasks.count, path), name="first")
    bad = Task(tasks.fail_if_alone, name="bad")
    first >> bad
    with StateManager() as state:
        with pytest.raises(ValueError, match="alone"):
            DAG("d", tasks=[bad]).run(DaskExecutor(client), state=state, params={"ready": str(tmp_path / "ready")})
        (tmp_path / "ready").touch()
        results = DAG("d", tasks=[bad]).run(
            DaskExecutor(client), state=state, params={"ready": str(tmp_path / "ready")}, resume=True
        )
    assert (results, path.stat().st_size) == ({"first": 1, "bad": 1}, 1)


def test_tasks_of_two_executors_share_a_run(client):
    here, there = Task(tasks.pid, name="here"), Task(tasks.pid, name="there", executor="cluster")
    back = Task(tasks.pid, name="back")
    here >> there >> back
    results = DAG("d", tasks=[back]).run(executor={"default": "serial", "cluster": DaskExecutor(client)})
    assert results["here"] == results["back"] == os.getpid() != results["there"]


def test_events_are_in_order_in_a_chain_sent_ahead(client):
    chain = [Task(tasks.one), *(Task(tasks.add_one, name=f"t{number}") for number in range(20))]
    for before, after in pairwise(chain):
        before >> after
    seen = []

    def observe(event):
        seen.append((type(event), event.task))

    observe.events = (TaskStarted, TaskSucceeded)
    DAG("d", tasks=[chain[-1]]).run(DaskExecutor(client), observers=[observe])
    assert seen == [(kind, task.name) for task in chain for kind in (TaskStarted, TaskSucceeded)]


def test_events_of_calls_sent_ahead_come_after_those_of_their_upstreams(client):
    """Workers report calls of two layers independently of each other."""
    functions = [tasks.one, *[tasks.total] * 5]
    layers = [[Task(func, name=f"t{layer}_{place}") for place in range(6)] for layer, func in enumerate(functions)]
    for before, after in pairwise(layers):
        for place, each in enumerate(after):
            before[place] >> each
            before[place - 1] >> each
    seen = []

    def observe(event):
        seen.append((type(event), event.task))

    observe.events = (TaskStarted, TaskSucceeded)
    results = DAG("d", tasks=layers[-1]).run(DaskExecutor(client), observers=[observe])
    assert sum(results.values()) == 6 * (2**6 - 1)
    assert len(seen) == 72
    for before, after in pairwise(layers):
        for place, each in enumerate(after):
            for upstream in (before[place], before[place - 1]):
                assert seen.index((TaskSucceeded, upstream.name)) < seen.index((TaskStarted, each.name))


def test_nothing_is_sent_ahead_of_a_cached_task(client, tmp_path):
    """Its result is brought here before it ends: a task downstream that was sent ahead could end first."""
    released = tmp_path / "released"
    first = Task(partial(tasks.wait_for, released), name="first", cache=True)
    second = Task(tasks.pid, name="second")
    first >> second
    seen = []

    def observe(event):
        if event.task == "first":
            seen.extend(client.run_on_scheduler(lambda dask_scheduler: [key[0] for key in dask_scheduler.tasks]))
            released.touch()

    observe.events = (TaskStarted,)
    DAG("d", tasks=[second]).run(DaskExecutor(client), observers=[observe])
    assert [key.partition("-")[0] for key in seen] == ["first"]


def test_closures_lambdas_and_tasks_of_modules_run(client):
    factor = 3
    scaled = Task(lambda: tasks.doubled(factor), name="scaled")
    twice = Task(tasks.doubled.func, name="twice")
    scaled >> twice
    assert DAG("d", tasks=[twice]).run(DaskExecutor(client)) == {"scaled": 6, "twice": 12}


SCRIPT = """
from flowkit_core import DAG, current, task
from flowkit_dask import DaskExecutor

class OwnError(Exception):
    pass

@task
def cleaned(text):
    return text.strip()

@task
def load():
    return [cleaned(" a "), current().task]

@task(retries=1, delay=0, retry_on=OwnError)
def fail(load):
    raise OwnError(load)

load >> fail
try:
    DAG("script", tasks=[fail]).run({executor})
except OwnError as error:
    print(error)
"""


@pytest.mark.parametrize("executor", ["'dask', max_workers=1", "DaskExecutor({address!r})"])
def test_script_needs_no_guard(cluster, tmp_path, executor):
    """Functions, tasks and exceptions of the script travel by value; exceptions are of its own classes here."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.replace("{executor}", executor.format(address=cluster.address)))
    env = {name: value for name, value in cluster.env.items() if not name.startswith("DASK_")}
    done = subprocess.run([sys.executable, path], env=env, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("['a', 'load']", "")


def test_current_client_is_used(client):
    with client.as_current():
        assert DAG("d", tasks=[Task(tasks.pid)]).run("dask")["pid"] in client.run(os.getpid).values()


def test_cluster_object_is_connected_to():
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as local:
        executor = DaskExecutor(local)
        assert DAG("d", tasks=[Task(tasks.one)]).run(executor) == {"one": 1}
        executor.close()


def peak_memory(client, size):
    """Return the peak of the memory that Python allocates here in a run with twenty results of a size."""
    last = Task(tasks.size_of, name="last")
    for number in range(10):
        make, copy = (
            Task(partial(tasks.make, 7, size), name=f"make_{number}"),
            Task(tasks.plain_copy, name=f"c{number}"),
        )
        make >> copy >> last
    tracemalloc.start()
    try:
        results = DAG("d", tasks=[last]).run(DaskExecutor(client), keep=["last"])
        assert results == {"last": [size] * 10}
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_the_client_does_not_grow_with_the_size_of_results(client):
    small = peak_memory(client, 100)
    assert peak_memory(client, 8 * MIB) < small + MIB
