"""`VirtualTimeExecutor` with async and mapped tasks: waits, timeouts, rates and retries in virtual time."""

from __future__ import annotations

import asyncio
import threading

import pytest

from flowkit_core import DAG, ExecutorError, Rate, RunTimeoutError, Task, TaskTimeoutError
from flowkit_core.testing import VirtualTimeExecutor


async def nap(seconds):
    await asyncio.sleep(seconds)
    return seconds


def run(*tasks, executor, **options):
    return DAG("d", tasks=tasks).run(executor, **options)


def test_async_tasks_run_at_the_same_time():
    executor = VirtualTimeExecutor()
    results = run(Task(nap).map("seconds"), executor=executor, params={"seconds": [3600, 60, 7200]})
    assert results == {"nap": [3600, 60, 7200]}
    assert list(results.elements["nap"].durations) == [3600, 60, 7200]
    assert executor.seconds == 7200


def test_limit_of_a_map_is_kept_in_virtual_time():
    executor = VirtualTimeExecutor()
    run(Task(nap).map("seconds", limit=2), executor=executor, params={"seconds": [10] * 10})
    assert executor.seconds == 50


def test_chain_of_sync_and_async_maps_runs_in_virtual_time():
    executor = VirtualTimeExecutor()
    rows = Task(lambda: iter([3, 1, 2]), name="rows")
    double = Task(lambda row: 2 * row, name="double")
    total = Task(sum, name="total")
    slow = Task(nap, name="slow")
    rows >> double.map() >> slow.map() >> total
    assert run(total, executor=executor)["total"] == 12
    assert executor.seconds == 6


def test_rate_and_retries_of_elements_are_in_virtual_time():
    failed = []

    async def get(page):
        await asyncio.sleep(1)
        if page == 3 and len(failed) < 2:
            failed.append(page)
            raise ConnectionError(page)
        return page

    executor = VirtualTimeExecutor()
    task = Task(get, pool="api", retries=2, delay=100, jitter=0)
    results = run(task.map("page"), executor=executor, params={"page": range(10)}, pools={"api": Rate(5, per=10)})
    assert results["get"] == list(range(10))
    assert list(results.elements["get"].attempts) == [1, 1, 1, 3, 1, 1, 1, 1, 1, 1]
    assert executor.seconds == 1 + 100 + 1 + 200 + 1


def test_timeout_of_an_async_task_is_in_virtual_time():
    ended = []

    async def slow():
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append(asyncio.get_running_loop().time())

    executor = VirtualTimeExecutor()
    results = run(Task(slow, timeout=500), executor=executor, raise_on_failure=False)
    assert isinstance(results.failed["slow"], TaskTimeoutError)
    assert executor.seconds == 500
    assert len(ended) == 1


def test_async_task_that_ignores_its_cancellation_is_abandoned():
    async def stubborn():
        while True:
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError:
                if asyncio.get_running_loop().time() > until:
                    raise

    async def ask_time():
        return asyncio.get_running_loop().time()

    executor = VirtualTimeExecutor()
    until = run(Task(ask_time), executor=executor)["ask_time"] + 503
    results = run(Task(stubborn, timeout=500), executor=executor, raise_on_failure=False)
    assert "abandoned" in str(results.failed["stubborn"])
    assert executor.seconds == 502


def test_run_timeout_cancels_async_tasks():
    executor = VirtualTimeExecutor()
    with pytest.raises(RunTimeoutError) as caught:
        run(Task(nap), executor=executor, params={"seconds": 1000}, timeout=60, grace=5)
    assert caught.value.flowkit_results.states == {"nap": "cancelled"}
    assert executor.seconds == 65


def test_locks_of_a_module_are_shared_by_runs():
    semaphore = asyncio.Semaphore(2)

    async def locked(number):
        async with semaphore:
            await asyncio.sleep(1)
        return number

    for executor in (VirtualTimeExecutor(), VirtualTimeExecutor()):
        run(Task(locked).map("number"), executor=executor, params={"number": range(10)})
        assert executor.seconds == 5


def test_threads_of_async_tasks_are_calls_here():
    async def ask():
        first = await asyncio.to_thread(threading.get_ident)
        return first, await asyncio.get_running_loop().run_in_executor(None, asyncio.run, nap(0))

    assert run(Task(ask), executor=VirtualTimeExecutor())["ask"] == (threading.get_ident(), 0)


def test_run_inside_of_an_event_loop_works():
    async def main():
        return run(Task(nap), executor=VirtualTimeExecutor(), params={"seconds": 100})

    async def arun():
        return await DAG("d", tasks=[Task(nap)]).arun(VirtualTimeExecutor(), params={"seconds": 100})

    assert asyncio.run(main()) == asyncio.run(arun()) == {"nap": 100}


def test_tasks_that_are_left_on_the_loop_end_with_the_run():
    ended = []

    async def background():
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(1)

    async def start():
        started.append(asyncio.create_task(background()))
        await asyncio.sleep(0)

    started = []
    executor = VirtualTimeExecutor()
    run(Task(start), executor=executor)
    assert executor.seconds == 0
    assert ended == [1]


def test_wait_that_nothing_ends_is_an_error_that_names_the_task():
    async def stuck():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(ExecutorError, match="nothing in virtual time ends what 'stuck' awaits"):
        run(Task(stuck), executor=VirtualTimeExecutor())


def test_input_and_output_is_an_error():
    async def connect():
        await asyncio.open_connection("localhost", 1)

    with pytest.raises(RuntimeError, match=r"create_connection\(\) of an event loop in virtual time"):
        run(Task(connect), executor=VirtualTimeExecutor())
