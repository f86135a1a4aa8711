"""Timeouts of tasks in worker processes: the worker is ended and replaced, and other tasks are not affected."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from functools import partial

import pytest

from flowkit_core import DAG, Task, TaskStarted, TaskTimeoutError
from flowkit_exec import FuturesExecutor, ProcessExecutor

LONG = 60.0


def hang():
    time.sleep(LONG)


def hang_once(path):
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if len(path.read_text().split()) == 1:
        time.sleep(LONG)
    return os.getpid()


def process(*_args):
    return os.getpid()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def nap_forever():
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)


def test_worker_of_an_attempt_that_takes_too_long_is_replaced(tmp_path):
    task = Task(partial(hang_once, tmp_path / "pids"), name="t", timeout=1.0, retries=9, delay=0)
    with ProcessExecutor(1) as executor:
        last = DAG("d", tasks=[task]).run(executor)["t"]
        pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
        assert pids[0] != last == pids[-1]
        assert not is_alive(pids[0])
        assert DAG("d", tasks=[Task(process, name="p")]).run(executor) == {"p": last}


def test_calls_that_wait_in_the_worker_run_in_another_one():
    """One worker, so that the calls behind the one that hangs were sent to it."""
    tasks = [Task(process, name=f"p{number}") for number in range(200)]
    tasks.insert(20, Task(hang, name="hang", timeout=0.3))
    with ProcessExecutor(1) as executor:
        results = DAG("d", tasks=tasks).run(executor, fail_fast=False, raise_on_failure=False)
    assert len(results) == 200
    assert set(results.attempts.values()) == {1}
    assert isinstance(results.failed["hang"], TaskTimeoutError)
    assert results.failed["hang"].fate == "ended"


def test_timeout_begins_when_the_call_starts():
    """The second task waits for the only worker for longer than its timeout."""
    first, second = Task(partial(time.sleep, 1.5), name="first"), Task(process, name="second", timeout=1.0)
    with ProcessExecutor(1) as executor:
        results = DAG("d", tasks=[first, second]).run(executor)
    assert set(results) == {"first", "second"}


FORKS = """
import time
from flowkit_core import DAG, Task

hanging = Task(lambda: time.sleep(60), name="hanging", timeout=0.3)
after = Task(lambda: 5, name="after", trigger="all_done")
after.after(hanging)
results = DAG("d", tasks=[after]).run("process", raise_on_failure=False)
print(results, results.states["hanging"])
"""


def test_forked_worker_is_replaced():
    command = [sys.executable, "-c", FORKS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "{'after': 5} failed\n"


def test_coroutine_that_does_not_end_after_its_cancellation_is_ended_with_its_worker():
    nap = Task(nap_forever, timeout=0.2, executor="process")
    error = DAG("d", tasks=[nap]).run(raise_on_failure=False).failed
    assert error["nap_forever"].fate == "ended"


def test_start_of_a_task_with_a_timeout_is_reported_once():
    starts = []

    def observe(event):
        starts.append(event.task)

    observe.events = (TaskStarted,)
    DAG("d", tasks=[Task(process, name="a", timeout=LONG), Task(process, name="b")]).run("process", observers=[observe])
    assert sorted(starts) == ["a", "b"]


def test_large_arguments_of_a_task_with_a_timeout():
    make, size = Task(partial(bytes, 3_000_000), name="make", timeout=LONG), Task(len, name="size", timeout=LONG)
    make >> size
    assert DAG("d", tasks=[size]).run("process")["size"] == 3_000_000


@pytest.mark.parametrize("workers", [1, 2])
def test_pool_of_processes_goes_on_after_a_timeout(workers):
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers) as pool:
        tasks = [Task(process, name=f"p{number}") for number in range(5)]
        nap = Task(partial(time.sleep, 2.0), name="nap", timeout=0.3)
        results = DAG("d", tasks=[nap, *tasks]).run(FuturesExecutor(pool), fail_fast=False, raise_on_failure=False)
    assert len(results) == 5
    assert results.failed["nap"].fate == "abandoned"
