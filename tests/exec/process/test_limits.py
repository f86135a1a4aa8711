"""Limits of the system: descriptors, memory, sizes of pipes and arguments."""

from __future__ import annotations

import os
import resource
import sys

import faulty_tasks as faults
import pytest
from process_checks import count_descriptors, count_descriptors_after_gc, outcome, run
from subprocess_harness import guarded

from flowkit_core import (
    ExecutorError,
    Task,
    WorkerDiedError,
)
from flowkit_exec import ProcessExecutor

pytestmark = pytest.mark.slow


@guarded
def test_many_large_values_with_few_descriptors(executor):
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, old[1]))
    try:
        sources, end = (
            [Task(faults.buffer, name=f"buffer_{number}") for number in range(200)],
            Task(faults.total),
        )
        sources >> end
        results = run(executor, end)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    assert results["total"] == 200
    assert all(len(value.data) == faults.LARGE for name, value in results.items() if name != "total")


@pytest.mark.skipif(sys.platform != "linux", reason="platform: limits mean other things elsewhere")
@pytest.mark.parametrize(("name", "soft"), [("RLIMIT_FSIZE", 1), ("RLIMIT_NOFILE", 0), ("RLIMIT_AS", 1 << 30)])
@guarded
def test_resource_limit_in_a_worker_fails_at_most_its_task(name, soft):
    with ProcessExecutor(max_workers=1) as executor:
        result = outcome(executor, Task(faults.limited), params={"name": name, "soft": soft})
    assert type(result) is MemoryError if name == "RLIMIT_AS" else result == bytes(faults.LARGE)


@pytest.mark.parametrize("entries", [2_000, 200_000])
@guarded
def test_long_import_path(entries):
    path = sys.path[:]
    sys.path += [f"/nowhere/external/site-packages/packages_of_the_\N{SNOWMAN}/number_{n}" for n in range(entries)]
    try:
        with ProcessExecutor(max_workers=1) as executor:
            if entries < 10_000:
                assert run(executor, Task(faults.ok)) == {"ok": "ok"}
            else:
                with pytest.raises(ExecutorError, match=r"make the import path \(sys.path\)"):
                    run(executor, Task(faults.ok))
    finally:
        sys.path[:] = path


@guarded
def test_no_descriptors_for_a_worker_is_an_error():
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = count_descriptors_after_gc()
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 4, old[1]))
    try:
        with ProcessExecutor(max_workers=1) as executor, pytest.raises(ExecutorError, match="Too many open files"):
            run(executor, Task(faults.ok))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    assert count_descriptors() == before


@guarded
def test_descriptors_above_1023():
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (old[1] if old[1] != resource.RLIM_INFINITY else 4096, old[1]))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with ProcessExecutor(max_workers=2) as executor:
            assert type(outcome(executor, Task(faults.victim), params={"how": "SIGKILL"})) is WorkerDiedError
            assert len(run(executor, Task(faults.buffer))["buffer"].data) == faults.LARGE
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, old)


def test_number_of_workers_is_limited_by_descriptors(script):
    source = """
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    from flowkit_core import DAG, Task
    def make(): return bytes(100_000)
    if __name__ == "__main__":
        tasks = [Task(make, name=f"make_{number}") for number in range(120)]
        print(len(DAG("many", tasks=tasks).run("process", max_workers=16)))
    """
    assert script(source).wait() == "120\n"


def test_small_ticket_pipes(script):
    source = """
    import fcntl, os
    make = os.pipe
    def small():
        ends = make()
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
        return ends
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        small = make
    os.pipe = small
    from flowkit_core import DAG, Task
    ends = []
    for number in range(2000):
        chain = [Task(kind, name=f"{kind.__name__}_{number}") for kind in (int, float, abs)]
        chain[0] >> chain[1] >> chain[2]
        ends.append(chain[2])
    print(len(DAG("chains", tasks=ends).run("process", max_workers=1)))
    """
    assert script(source).wait() == "6000\n"


@pytest.mark.forks
def test_default_timeout_of_sockets_is_ignored(script, tmp_path):
    source = """
    import socket, time
    from flowkit_core import DAG, Task
    socket.setdefaulttimeout(0.05)
    def seed(): return ["x" * 40, 3] * 900
    def work(rows, *, number=0):
        if number == 20: time.sleep(0.5)
        return len(rows)
    def make(number):
        def call(rows): return work(rows, number=number)
        return call
    seed, rest = Task(seed), [Task(make(number), name=f"work_{number}") for number in range(200)]
    seed >> rest
    print(len(DAG("timeout", tasks=rest).run("process", max_workers=1)))
    """
    assert script(source).wait() == "201\n"


def test_worker_that_cannot_open_files(script):
    source = """
    import os, resource, warnings
    from flowkit_core import DAG, task

    warnings.simplefilter("ignore")  # Python 3.12 warns of a fork beside threads

    @task
    def big():
        return bytes(1_000_000)

    @task
    def forks(big):
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
        try:
            while True:
                kept.append(os.dup(2))
        except OSError:
            pass
        if os.fork() == 0:
            return "the fork"
        os.wait()
        return "the worker"

    @task
    def use(big, forks):
        return len(big)

    kept = []
    big >> forks
    [big, forks] >> use
    results = DAG("full", tasks=[use], max_workers=1).run("process", raise_on_failure=False)
    print(results["forks"], results.failed["use"])
    """
    output = script(source).wait()
    assert output.startswith("the worker task 'use': its argument could not be unpickled in the worker (OSError: ")
    assert "a large value needs a file descriptor, and this worker may open no more" in output
