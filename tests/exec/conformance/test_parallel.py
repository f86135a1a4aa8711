"""Tasks that run at the same time."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading

import conformance_tasks as p
import pytest
from conformance_checks import SECONDS, copies, fresh, notes

from flowkit_core import (
    DAG,
    Results,
    Task,
    TaskFailed,
)
from flowkit_exec import ThreadExecutor


def test_tasks_run_in_parallel(wide_executor):
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as stack:
        server.settimeout(SECONDS)

        def host():
            for connection in [stack.enter_context(server.accept()[0]) for _ in range(2)]:
                connection.sendall(b"!")

        thread = threading.Thread(target=host)
        thread.start()
        results = DAG("meeting", tasks=fresh(p.left, p.right)).run(
            wide_executor, params={"port": server.getsockname()[1]}
        )
        thread.join(SECONDS)
    assert results == {"left": b"!", "right": b"!"}


@pytest.mark.parametrize("workers", [2, 8])
def test_ready_task_does_not_wait_for_tasks_of_its_level(workers):
    reached = threading.Event()
    beside = Task(lambda: reached.wait(SECONDS), name="beside")
    chain = [Task(lambda *_: None, name=f"task_{number}") for number in range(5)] + [
        Task(lambda _: reached.set(), name="last")
    ]
    for before, following in itertools.pairwise(chain):
        before >> following
    with ThreadExecutor(max_workers=workers) as executor:
        assert DAG("levels", tasks=[beside, chain[-1]]).run(executor)["beside"] is True


def test_max_workers_limits_running_tasks(thread_executor):
    lock, running, peak = threading.Lock(), 0, 0

    def work():
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        os.getpid()
        with lock:
            running -= 1

    DAG("many", tasks=[Task(work, name=f"task_{number}") for number in range(500)]).run(thread_executor)
    assert 1 <= peak <= thread_executor.max_workers


def test_run_leaves_no_thread(local_executor):
    before = set(threading.enumerate())
    DAG("threads", tasks=copies(p.one, *"abcdefgh")).run(local_executor)
    with pytest.raises(p.OwnError):
        DAG("threads", tasks=copies(p.fail, *"abcdefgh")).run(local_executor)
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("name", ["thread-2", "thread-8"])
def test_running_tasks_end_when_another_fails(name):
    with ThreadExecutor(max_workers=int(name[-1])) as executor:
        started, failed = threading.Event(), threading.Event()

        def slow():
            started.set()
            return failed.wait(SECONDS)

        def broken():
            started.wait(SECONDS)
            raise ValueError("boom")

        tasks = [Task(slow), Task(broken)]
        below = Task(lambda x: x, name="below")
        tasks[0] >> below
        with pytest.raises(ValueError) as caught:
            DAG("etl", tasks=[*tasks, below]).run(
                executor, observers=[lambda event: isinstance(event, TaskFailed) and failed.set()]
            )
    assert caught.value.flowkit_results == {"slow": True}
    assert caught.value.flowkit_results.states == {"slow": "succeeded", "broken": "failed", "below": "cancelled"}
    assert "0 tasks had succeeded, 1 was running, 1 did not start" in notes(caught.value)


@pytest.mark.parametrize("fail_fast", [True, False])
def test_simultaneous_failures_are_all_reported(fail_fast):
    barrier = threading.Barrier(2, timeout=SECONDS)

    def fail(error):
        def failing():
            barrier.wait()
            raise error

        return failing

    errors = [ValueError("first"), OSError("second")]
    tasks = [Task(fail(error), name=f"task_{number}") for number, error in enumerate(errors)]
    with ThreadExecutor(max_workers=2) as executor, pytest.raises((ValueError, OSError, ExceptionGroup)) as caught:
        DAG("etl", tasks=tasks).run(executor, fail_fast=fail_fast)
    if fail_fast:
        other = errors[caught.value is errors[0]]
        assert caught.value in errors
        assert f"{type(other).__name__}: {other}" in notes(caught.value)
        assert set(Results.from_error(caught.value).failed.values()) == set(errors)
    else:
        assert set(caught.value.exceptions) == set(errors)
