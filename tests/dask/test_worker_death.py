"""Workers that die: killed by their task, or from outside, with and without a nanny that starts another one."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import dask_tasks as tasks
import pytest

from flowkit_core import DAG, RunTimeoutError, Task, TaskStarted, TaskSucceeded, TaskTimeoutError, WorkerDiedError
from flowkit_dask import DaskExecutor

pytestmark = pytest.mark.slow


def test_worker_killed_once_starts_task_again(client, tmp_path):
    """Dask does that: the attempt is the first one, so a task may run more than once."""
    die, end = Task(partial(tasks.die, tmp_path / "calls", 1), name="die"), Task(tasks.add_one, name="end")
    die >> end
    results = DAG("d", tasks=[end]).run(DaskExecutor(client))
    assert (results, results.attempts["die"]) == ({"die": 2, "end": 3}, 1)


def test_worker_may_die_before_it_has_reported_calls_that_others_follow(client, tmp_path):
    chain = [Task(tasks.one), *(Task(tasks.add_one, name=f"t{number}") for number in range(5))]
    chain += [Task(partial(tasks.die, tmp_path / "calls", 1), name="die"), Task(tasks.add_one, name="end")]
    for before, after in pairwise(chain):
        before >> after
    results = DAG("d", tasks=chain[-1:]).run(DaskExecutor(client))
    assert list(results.values()) == [1, 2, 3, 4, 5, 6, 2, 3]


def test_worker_killed_each_time_blames_only_its_task(client, tmp_path):
    die = Task(partial(tasks.die, tmp_path / "calls", 99), name="die")
    others = [Task(tasks.one, name=f"other_{number}") for number in range(20)]
    ends = [Task(tasks.add_one, name=f"end_{number}") for number in range(20)]
    for other, end in zip(others, ends, strict=True):
        other >> end
    options = {"fail_fast": False, "raise_on_failure": False}
    results = DAG("d", tasks=[die, *ends]).run(DaskExecutor(client), **options)
    assert {name for name, state in results.states.items() if state != "succeeded"} == {"die"}
    error = results.failed["die"]
    assert isinstance(error, WorkerDiedError)
    assert error.pid > 0
    assert (error.deaths, error.exitcode, error.signal) == (2, None, None)


def test_value_of_a_dead_worker_is_computed_again(client, tmp_path):
    """The only copy of a result is on the worker that dies: Dask computes it again."""
    start, die = Task(tasks.one, name="start"), Task(partial(tasks.die, tmp_path / "calls", 1), name="die")
    end = Task(tasks.total, name="end")
    die.after(start)
    [start, die] >> end
    assert DAG("d", tasks=[end]).run(DaskExecutor(client)) == {"start": 1, "die": 2, "end": 3}


def test_worker_that_joins_late_is_used(lonely_cluster, tmp_path):
    """Two tasks wait for each other, and the first worker has one thread."""
    paths = tmp_path / "first", tmp_path / "second"
    first = Task(partial(tasks.meet, *paths), name="first")
    second = Task(partial(tasks.meet, *reversed(paths)), name="second")
    started = []

    def observe(event):
        if not started:
            lonely_cluster.start_workers()
        started.append(event.task)

    observe.events = (TaskStarted,)
    with DaskExecutor(lonely_cluster.address) as executor:
        results = DAG("d", tasks=[first, second]).run(executor, observers=[observe])
    assert results["first"] != results["second"]


def test_only_worker_killed_each_time_blames_its_task(start_cluster, tmp_path):
    """With the configuration of Dask as it is: the first four deaths show no start, the others do."""
    cluster = start_cluster(has_nanny=True, allowed_failures=3)
    die, one = Task(partial(tasks.die, tmp_path / "calls", 99), name="die"), Task(tasks.one)
    with DaskExecutor(cluster.address) as executor:
        results = DAG("d", tasks=[die, one]).run(executor, fail_fast=False, raise_on_failure=False)
    assert results.states == {"die": "failed", "one": "succeeded"}
    error = results.failed["die"]
    assert isinstance(error, WorkerDiedError)
    assert str(error).startswith(
        f"task 'die': its worker process {error.pid} at {error.worker} ended, or lost its connection, while it ran; "
        f"4 workers have died while they ran this task; its log may show why"
    )
    assert (tmp_path / "calls").stat().st_size == 8


def test_only_worker_killed_each_time_uses_up_retries(start_cluster, tmp_path):
    cluster = start_cluster(has_nanny=True, allowed_failures=0)
    die = Task(partial(tasks.die, tmp_path / "calls", 99), name="die", retries=2, delay=0)
    with DaskExecutor(cluster.address) as executor:
        results = DAG("d", tasks=[die]).run(executor, raise_on_failure=False)
    assert (results.attempts["die"], results.failed["die"].deaths) == (3, 3)


def test_worker_killed_from_outside_starts_task_again(start_cluster, tmp_path):
    """Twice; the result of the first task is lost each time, and computed again."""
    cluster = start_cluster(has_nanny=True, allowed_failures=3)
    pids, released = tmp_path / "pids", tmp_path / "released"
    pids.touch()
    first, waiting = Task(tasks.one), Task(partial(tasks.wait_as, pids, released), name="waiting")
    first >> waiting
    with in_thread(kill_each, pids, 2, released), DaskExecutor(cluster.address) as executor:
        results = DAG("d", tasks=[waiting]).run(executor)
    assert (results, results.attempts["waiting"]) == ({"one": 1, "waiting": 3}, 1)


def test_element_that_kills_only_worker_is_blamed_alone(start_cluster):
    cluster = start_cluster(has_nanny=True)
    die = Task(tasks.die_if_negative, name="die")
    dag = DAG("d", tasks=[die.map("x", errors="drop")])
    with DaskExecutor(cluster.address) as executor:
        results = dag.run(executor, params={"x": [*range(300), -1, *range(20)]})
    assert {number: type(error) for number, error in results.elements["die"].failed.items()} == {300: WorkerDiedError}
    assert len(results["die"]) == 320


def test_argument_that_was_lost_with_its_worker_is_sent_again(start_cluster, tmp_path):
    """Dask cannot compute it: it is kept in the process that calls ``run()``."""
    cluster = start_cluster(has_nanny=True, allowed_failures=3)
    pids, released, data = tmp_path / "pids", tmp_path / "released", bytes(1 << 20)
    pids.touch()
    waiting = Task(lambda data: tasks.wait_as(pids, released), name="waiting")
    lengths = [Task(tasks.length, name=f"length_{number}") for number in range(3)]
    with in_thread(kill_each, pids, 1, released), DaskExecutor(cluster.address) as executor:
        results = DAG("d", tasks=[waiting, *lengths]).run(executor, params={"data": data})
    assert results == {"waiting": 2} | {length.name: 1 << 20 for length in lengths}


def test_result_that_was_made_of_a_lost_argument_fails_what_needs_it(start_cluster, tmp_path):
    """Dask has forgotten how the result is computed."""
    cluster = start_cluster(has_nanny=True, allowed_failures=3)
    pids, released, data = tmp_path / "pids", tmp_path / "released", bytes(1 << 20)
    pids.touch()
    first, waiting = Task(tasks.length, name="first"), Task(partial(tasks.wait_as, pids, released), name="waiting")
    first >> waiting
    with in_thread(kill_each, pids, 1, released), DaskExecutor(cluster.address) as executor:
        results = DAG("d", tasks=[waiting]).run(executor, params={"data": data}, raise_on_failure=False)
    assert "the Dask cluster has cancelled the call of task 'waiting': a value that it needs" in str(results.failed)


def test_workers_that_are_all_killed_may_be_replaced_later(start_cluster, tmp_path, monkeypatch):
    """Without a nanny: a warning says that there are none, and what they ran; a worker that joins goes on."""
    cluster, warned = start_cluster(2), []
    pids, released = tmp_path / "pids", tmp_path / "released"
    pids.touch()

    def start_worker(text):
        warned.append(text)
        released.touch()
        cluster.start_workers()

    monkeypatch.setattr("flowkit_dask.connection.WORKERS_TIMEOUT", 0)
    monkeypatch.setattr("flowkit_dask.connection.safe_warn", start_worker)
    first, waiting = Task(tasks.one), Task(partial(tasks.wait_as, pids, released), name="waiting")
    first >> waiting

    def observe(event):
        if event.task == "waiting":
            for worker in cluster.processes[1:]:
                worker.kill()

    observe.events = (TaskStarted,)
    with DaskExecutor(cluster.address) as executor:
        results = DAG("d", tasks=[waiting]).run(executor, observers=[observe])
    assert results == {"one": 1, "waiting": 2}
    (text,) = warned
    assert "(see the logs of the workers if they have ended; the last workers ended while they ran 'waiting')" in text


def test_result_on_the_last_worker_is_computed_again_by_one_that_joins(lonely_cluster, monkeypatch):
    """The only worker dies before the results are fetched."""

    def observe(event):
        lonely_cluster.processes[1].kill()
        lonely_cluster.processes[1].wait()

    observe.events = (TaskSucceeded,)
    monkeypatch.setattr("flowkit_dask.connection.WORKERS_TIMEOUT", 0)
    monkeypatch.setattr("flowkit_dask.connection.safe_warn", lambda text: lonely_cluster.start_workers())
    with DaskExecutor(lonely_cluster.address) as executor:
        assert DAG("d", tasks=[Task(tasks.one)]).run(executor, observers=[observe]) == {"one": 1}


@pytest.fixture
def without_worker(lonely_cluster, monkeypatch):
    """A function that runs a task on a cluster whose only worker, without a nanny, is killed when the task starts."""
    monkeypatch.setattr("flowkit_dask.connection.WORKERS_TIMEOUT", 0)

    def run(task, **options):
        def observe(event):
            if event.task == task.name:
                lonely_cluster.processes[1].kill()

        observe.events = (TaskStarted,)
        Task(tasks.one) >> task
        with DaskExecutor(lonely_cluster.address) as executor, pytest.warns(RuntimeWarning, match="has no workers"):
            return DAG("d", tasks=[task]).run(executor, observers=[observe], **options)

    return run


def test_timeout_of_run_without_workers_ends_it(without_worker, tmp_path):
    """The result of the first task is lost."""
    with pytest.raises(RunTimeoutError) as caught:
        without_worker(Task(partial(tasks.wait_for, tmp_path / "never"), name="waiting"), timeout=10)
    results = caught.value.flowkit_results
    assert "has no worker that could compute it again before the end of the run" in str(results.failed["one"])


def test_timeout_of_task_without_workers_ends_its_attempt(without_worker, tmp_path, monkeypatch):
    """The time goes on while Dask has no worker that starts the call again."""
    monkeypatch.setattr("flowkit_dask.submissions.TIMEOUT_MARGIN", 0)
    waiting = Task(partial(tasks.wait_for, tmp_path / "never"), name="waiting", timeout=2)
    results = without_worker(waiting, raise_on_failure=False, keep=["waiting"])
    assert isinstance(results.failed["waiting"], TaskTimeoutError)


def test_cluster_without_workers_is_reported(lonely_cluster, monkeypatch):
    """The tasks wait, and run when a worker joins."""
    reports = []

    def start_worker(text):
        reports.append(text)
        lonely_cluster.start_workers()

    monkeypatch.setattr("flowkit_dask.connection.WORKERS_TIMEOUT", 0)
    monkeypatch.setattr("flowkit_dask.connection.safe_warn", start_worker)
    (worker,) = lonely_cluster.processes[1:]
    worker.kill()
    worker.wait()
    with DaskExecutor(lonely_cluster.address) as executor:
        assert DAG("d", tasks=[Task(tasks.one)]).run(executor) == {"one": 1}
    (text,) = reports
    assert text.startswith(
        f"the Dask scheduler at {lonely_cluster.address} has no workers: tasks and lost results wait"
    )


@contextmanager
def in_thread(function, *args):
    """Call a function in a thread during the block."""
    thread = threading.Thread(target=function, args=args)
    thread.start()
    yield
    thread.join()


def kill_each(pids, times, released):
    """Kill the processes that a file gets the ids of, up to a number; after that, create another file."""
    for number in range(times):
        while len(found := pids.read_text().splitlines(keepends=True)) <= number or not found[number].endswith("\n"):
            time.sleep(0.01)
        os.kill(int(found[number]), signal.SIGKILL)
    released.touch()
