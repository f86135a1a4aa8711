"""How an executor finds its cluster, connects to it, and gives the connection back; runs inside tasks."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from functools import partial

import dask
import dask_tasks as tasks
import pytest
from distributed import Client, LocalCluster

from flowkit_core import DAG, ExecutorError, Task, UnknownExecutorError
from flowkit_dask import DaskExecutor


@pytest.fixture(scope="module")
def local():
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as local:
        yield local


def one(executor, **options):
    return DAG("d", tasks=[Task(tasks.one)]).run(executor, **options)


def test_server_that_does_not_answer_is_an_error(monkeypatch):
    """As that of the dashboard, whose port is often taken for that of the scheduler."""
    monkeypatch.setattr("flowkit_dask.executor.CONNECT_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ExecutorError, match=f"{address} cannot be reached.*check the address"):
            one(DaskExecutor(address))


def test_asynchronous_current_client_is_refused_by_run_and_used_by_arun(local):
    dag = DAG("d", tasks=[Task(tasks.one)])

    async def main():
        async with Client(local.scheduler_address, asynchronous=True) as client:
            with client.as_current():
                with pytest.raises(TypeError, match=r"asynchronous=True.*await dag.arun"):
                    dag.run("dask")
                return await dag.arun("dask")

    assert asyncio.run(main()) == {"one": 1}


def test_scheduler_of_the_configuration_is_used(local):
    with dask.config.set(scheduler_address=local.scheduler_address), DaskExecutor() as executor:
        assert one(executor) == {"one": 1}
        assert clients(local) == 1


def clients(local):
    """Return the number of connected clients, without those of the scheduler itself and of workers."""
    return len([name for name in local.scheduler.clients if name.startswith("ClosingClient-")])


def test_executor_that_is_not_closed_gives_its_client_back(local):
    one(DaskExecutor(local.scheduler_address))
    gc.collect()
    end = time.monotonic() + 30
    while clients(local) and time.monotonic() < end:
        time.sleep(0.01)
    assert clients(local) == 0


@pytest.mark.parametrize("is_named", [False, True])
def test_run_inside_a_task_uses_the_thread_of_the_task(local, is_named):
    """The cluster has one thread."""
    outer = Task(partial(tasks.run_inside, local.scheduler_address if is_named else None), name="outer")
    with DaskExecutor(local) as executor:
        assert DAG("d", tasks=[outer]).run(executor) == {"outer": 1}
        assert one(executor) == {"one": 1}


def test_address_as_name_of_an_executor_is_an_error_with_the_way_out():
    with pytest.raises(UnknownExecutorError, match=r"pass DaskExecutor\('tcp://x:8786'\), or set DASK_SCHED"):
        one("tcp://x:8786")
