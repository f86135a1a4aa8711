"""Schedulers that cannot be reached or are gone, values that cannot be sent, and interrupts."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import dask_tasks as tasks
import pytest
from distributed import Client, LocalCluster

from flowkit_core import (
    DAG,
    ExecutorError,
    RunStopping,
    SerializationError,
    Task,
    TaskStarted,
    TaskSucceeded,
    TaskTimeoutError,
)
from flowkit_core.conformance.checks.tasks import fail_when_counted
from flowkit_dask import DaskExecutor


def test_unreachable_scheduler_is_error_with_its_address(monkeypatch):
    monkeypatch.setattr("flowkit_dask.executor.CONNECT_TIMEOUT", 0.5)
    began = time.monotonic()
    with pytest.raises(ExecutorError, match=r"the Dask scheduler at tcp://127\.0\.0\.1:9 cannot be reached"):
        DAG("d", tasks=[Task(tasks.one)]).run(DaskExecutor("tcp://127.0.0.1:9"))
    assert time.monotonic() - began < 20


def test_address_that_is_none_is_error():
    with pytest.raises(ExecutorError, match="no-scheme://"):
        DAG("d", tasks=[Task(tasks.one)]).run(DaskExecutor("no-scheme://x"))


def test_client_that_cannot_connect_is_closed():
    """Also while its exception, which refers to it, still exists."""
    before = io_loops()
    with pytest.raises(ExecutorError) as caught:
        DAG("d", tasks=[Task(tasks.one)]).run(DaskExecutor("no-scheme://x"))
    assert caught.value.__cause__ is not None
    assert io_loops() <= before


def io_loops():
    return {thread for thread in threading.enumerate() if thread.name == "IO loop"}


def test_local_workers_are_closed_if_they_cannot_be_reached(monkeypatch):
    closed = []

    class Unreachable:
        address = "no-scheme://x"

        def __init__(self, workers):
            self.close = partial(closed.append, workers)

    monkeypatch.setattr("flowkit_dask.local_cluster.LocalWorkers", Unreachable)
    executor = DaskExecutor(max_workers=3)
    with pytest.raises(ExecutorError, match="no-scheme://x"):
        DAG("d", tasks=[Task(tasks.one)]).run(executor)
    assert closed == [3]


def test_scheduler_that_dies_ends_the_run(lonely_cluster, tmp_path):
    executor = DaskExecutor(lonely_cluster.address)
    waiting = Task(partial(tasks.wait_after_start, tmp_path / "started", tmp_path / "never"), name="waiting")
    one = Task(tasks.one)

    def kill():
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        lonely_cluster.scheduler.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    dag = DAG("d", tasks=[one, waiting])
    with pytest.raises(ExecutorError) as caught:
        dag.run(executor)
    (tmp_path / "never").touch()
    thread.join()
    assert f"the connection to the Dask scheduler at {lonely_cluster.address} is lost" in str(caught.value)
    began = time.monotonic()
    executor.close()
    assert time.monotonic() - began < 10


def test_scheduler_that_dies_before_results_are_fetched_fails_their_tasks(lonely_cluster):
    def kill(event):
        lonely_cluster.scheduler.kill()
        lonely_cluster.scheduler.wait()

    kill.events = (TaskSucceeded,)
    with DaskExecutor(lonely_cluster.address) as executor:
        results = DAG("d", tasks=[Task(tasks.one)]).run(executor, observers=[kill], raise_on_failure=False)
    assert f"the connection to the Dask scheduler at {lonely_cluster.address} is lost" in str(results.failed["one"])


def test_function_that_cannot_be_pickled_fails_its_task(client):
    lock = threading.Lock()
    locked = Task(lambda: lock.locked(), name="locked", retries=3, delay=0)
    with pytest.raises(SerializationError, match="task 'locked': its function refers to the variable 'lock', a lock"):
        DAG("d", tasks=[locked]).run(DaskExecutor(client))
    (problem,) = DAG("d", tasks=[locked]).check(executor=DaskExecutor(client))
    assert "locked" in str(problem)


def test_parameter_that_cannot_be_pickled_fails_its_task(client):
    with pytest.raises(SerializationError, match="its argument is a lock, which cannot be pickled"):
        DAG("d", tasks=[Task(tasks.add_one)]).run(DaskExecutor(client), params={"x": threading.Lock()})


def test_result_that_cannot_be_pickled_fails_its_task(client):
    bad, below, one = Task(tasks.generator, name="bad"), Task(tasks.total, name="below"), Task(tasks.one)
    bad >> below
    results = DAG("d", tasks=[below, one]).run(DaskExecutor(client), fail_fast=False, raise_on_failure=False)
    assert results == {"one": 1}
    assert results.states["below"] == "upstream_failed"
    assert "its result is a generator, which cannot be pickled" in str(results.failed["bad"])


def test_result_that_cannot_be_unpickled_here_fails_its_task(client):
    dag = DAG("d", tasks=[Task(tasks.unpicklable, name="bad"), Task(tasks.one)])
    results = dag.run(DaskExecutor(client), raise_on_failure=False)
    assert results == {"one": 1}
    assert "its result could not be brought from the cluster (ValueError: no such luck)" in str(results.failed["bad"])


def test_failure_withdraws_calls_that_have_not_started(client, tmp_path):
    """Of the calls on their way, those that run end, and no other starts."""
    path, released = str(tmp_path / "released.calls"), tmp_path / "released"
    bad = Task(partial(fail_when_counted, path, 30), name="bad")
    first = Task(tasks.one)  # beside it, so that one worker has the task that fails
    waiting = [Task(partial(tasks.wait_for, released), name=f"waiting_{number}") for number in range(20)]
    first >> waiting
    seen = []

    def observe(event):
        seen.append(event.running)
        released.touch()

    observe.events = (RunStopping,)
    results = DAG("d", tasks=[bad, *waiting]).run(DaskExecutor(client), raise_on_failure=False, observers=[observe])
    succeeded = [name for name, state in results.states.items() if state == "succeeded"]
    assert results.states["bad"] == "failed"
    assert ["one", *seen[0]] == succeeded
    assert len(seen[0]) == Path(path).stat().st_size <= 2  # one on each worker


def test_calls_of_a_worker_that_does_not_answer_are_running(client, tmp_path, monkeypatch):
    monkeypatch.setattr("flowkit_dask.worker_stop.TIMEOUT", 0.0)  # no worker answers in time
    started, released = tmp_path / "started", tmp_path / "released"
    waiting = Task(partial(tasks.wait_for, released), name="waiting")
    gate = Task(partial(tasks.wait_for, started), name="gate")
    bad = Task(partial(tasks.fail_if_alone, ready=tmp_path / "never"), name="bad")
    gate >> bad
    running = []

    def observe(event):
        if isinstance(event, RunStopping):
            running.extend(event.running)
            released.touch()
        elif event.task == "waiting":
            started.touch()

    observe.events = (RunStopping, TaskStarted)
    results = DAG("d", tasks=[waiting, bad]).run(DaskExecutor(client), raise_on_failure=False, observers=[observe])
    assert running == ["waiting"]
    assert results.states == {"waiting": "succeeded", "gate": "succeeded", "bad": "failed"}


def test_end_of_an_abandoned_call_may_come_before_its_failure(monkeypatch):
    def call_late(call, task, timeout, abandonment):
        abandonment.has_happened = True
        abandonment.on_end()
        raise TaskTimeoutError(task, timeout, "abandoned")

    monkeypatch.setattr("flowkit_dask.calls.call_in_time", call_late)
    late = Task(tasks.one, name="late", timeout=60)
    local = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0")
    with local, DaskExecutor(local) as executor:
        results = DAG("d", tasks=[late]).run(executor, raise_on_failure=False)
    assert results.states == {"late": "failed"}
    assert isinstance(results.failed["late"], TaskTimeoutError)


def test_scheduler_that_does_not_name_its_workers_holds_up_no_run(client, monkeypatch, tmp_path):
    """The task ends when the scheduler is asked, and the run before that answers."""
    released, is_over, answers = tmp_path / "released", threading.Event(), []

    def nthreads(_):
        released.touch()
        is_over.wait(30)
        answers.append({})
        return answers[-1]

    monkeypatch.setattr(Client, "nthreads", nthreads)
    results = DAG("d", tasks=[Task(partial(tasks.wait_for, released), name="waiting")]).run(DaskExecutor(client))
    assert (results, answers) == ({"waiting": "waited"}, [])
    is_over.set()


def test_cancelled_arun_leaves_nothing_on_the_cluster(client, tmp_path):
    started, released = tmp_path / "started", tmp_path / "released"
    waiting = [Task(partial(tasks.wait_after_start, started, released), name=f"w{number}") for number in range(9)]

    async def cancel():
        run = asyncio.create_task(DAG("d", tasks=waiting).arun(DaskExecutor(client), grace=0))
        await asyncio.to_thread(tasks.wait_for, started)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(cancel())
    released.touch()


INTERRUPTED = """
import dask_tasks
from functools import partial
from flowkit_core import DAG, Task
from flowkit_dask import DaskExecutor
waiting = [Task(partial(dask_tasks.wait_after_start, {started!r}, {released!r}), name=f"w{{n}}") for n in range(9)]
with DaskExecutor({address!r}) as executor:
    DAG("d", tasks=waiting).run(executor)
"""


def test_interrupt_leaves_nothing_on_the_cluster(cluster, client, tmp_path):
    started, released = str(tmp_path / "started"), str(tmp_path / "released")
    source = INTERRUPTED.format(started=started, released=released, address=cluster.address)
    process = subprocess.Popen([sys.executable, "-c", source], env=cluster.env, stderr=subprocess.PIPE, text=True)
    while not Path(started).exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    Path(released).touch()
    assert "KeyboardInterrupt" in errors
    assert process.returncode in (1, 130, -signal.SIGINT)


def test_closed_executor_refuses_runs(client):
    executor = DaskExecutor(client)
    executor.close()
    executor.close()
    assert client.status == "running"
    with pytest.raises(ExecutorError, match="this DaskExecutor is closed"):
        DAG("d", tasks=[Task(tasks.one)]).run(executor)


def test_closed_client_is_error(cluster):
    client = Client(cluster.address, set_as_default=False)
    client.close()
    with pytest.raises(ExecutorError, match="is closed: create another one"):
        DAG("d", tasks=[Task(tasks.one)]).run(DaskExecutor(client))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((3,), {}, TypeError, "got 3, but needs the address of a scheduler"),
        (("",), {}, TypeError, "got '', but needs"),
        ((Client,), {}, TypeError, r"write Client\(\), with parentheses"),
        ((), {"max_workers": 0}, ValueError, "max_workers is 0"),
        (("tcp://x:1",), {"max_workers": 2}, ValueError, "is given with a cluster"),
    ],
)
def test_wrong_argument_is_error(arguments, options, error, match):
    with pytest.raises(error, match=match):
        DaskExecutor(*arguments, **options)
