"""Pools, rates and priorities on threads, processes and pools of other libraries."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest

from flowkit_core import DAG, PoolBlockedError, Rate, SerialExecutor, Task, TaskStarted
from flowkit_core.conformance.checks.tasks import one, release, wait_for_release
from flowkit_exec import FuturesExecutor, ProcessExecutor, ThreadExecutor

LONG = 60.0


@pytest.fixture(params=["serial", "thread", "process", "pool"])
def single(request):
    """An executor with one worker."""
    if request.param == "pool":
        with ThreadPoolExecutor(1) as pool:
            yield FuturesExecutor(pool)
    else:
        new = {"serial": SerialExecutor, "thread": ThreadExecutor, "process": ProcessExecutor}[request.param]
        with new(1) as executor:
            yield executor


def starts_of(dag, executor, **options):
    """Return the tasks in the order of their starts."""
    names = []

    def observe(event):
        names.append(event.task)

    observe.events = (TaskStarted,)
    dag.run(executor, observers=[observe], **options)
    return names


def test_one_worker_starts_tasks_in_order_of_priority(single):
    priorities = [0, 5, -2, 9, 5, 0, 1]
    tasks = [Task(one, name=f"t{number}", priority=priority) for number, priority in enumerate(priorities)]
    expected = sorted(range(len(priorities)), key=lambda number: (-priorities[number], number))
    assert starts_of(DAG("d", tasks=tasks), single) == [f"t{number}" for number in expected]


def test_tasks_that_wait_for_a_pool_start_in_order_of_priority(single):
    tasks = [Task(one, name=f"t{number}", priority=number % 3, pool="db") for number in range(9)]
    expected = sorted(range(9), key=lambda number: (-(number % 3), number))
    assert starts_of(DAG("d", tasks=tasks), single, pools={"db": 1}) == [f"t{number}" for number in expected]


@pytest.mark.parametrize("new", [ThreadExecutor, ProcessExecutor])
def test_waiting_holds_no_worker(tmp_path, new):
    """Of two workers, one runs `holder`; five tasks wait for its slot; the other worker runs `ends`."""
    path = str(tmp_path / "calls")
    holder = Task(partial(wait_for_release, path, LONG), name="holder", pool="db", priority=2)
    waiting = [Task(one, name=f"t{number}", pool="db", priority=1) for number in range(5)]
    ends = Task(partial(release, path), name="ends")
    began = time.monotonic()
    with new(2) as executor:
        results = DAG("d", tasks=[holder, *waiting, ends]).run(executor, pools={"db": 1})
    assert len(results) == 7
    assert time.monotonic() - began < LONG


def test_slot_of_a_killed_worker_is_free(tmp_path):
    path = str(tmp_path / "calls")
    stuck = Task(partial(wait_for_release, path, LONG), name="stuck", pool="db", timeout=0.2, priority=1)
    waits = Task(one, name="waits", pool="db", timeout=LONG)
    with ProcessExecutor(2) as executor:
        results = DAG("d", tasks=[stuck, waits]).run(executor, pools={"db": 1}, fail_fast=False, raise_on_failure=False)
    assert (list(results.failed), results["waits"]) == (["stuck"], 1)


@pytest.mark.parametrize("workers", [1, 4])
def test_abandoned_thread_keeps_its_slot(held, workers):
    stuck = Task(lambda: held.wait(LONG), name="stuck", pool="db", timeout=0.05, priority=1)
    blocked = Task(one, name="blocked", pool={"db": 2}, timeout=0.1)
    small = Task(one, name="small", pool="db", timeout=LONG)
    with ThreadExecutor(workers) as executor:
        results = DAG("d", tasks=[stuck, blocked, small]).run(
            executor, pools={"db": 2}, fail_fast=False, raise_on_failure=False
        )
    assert isinstance(results.failed["blocked"], PoolBlockedError)
    assert results["small"] == 1  # the other slot


def test_abandoned_attempt_of_another_process_keeps_its_slot(tmp_path):
    path = str(tmp_path / "calls")
    stuck = Task(partial(wait_for_release, path, 5.0), name="stuck", pool="db", timeout=0.05, priority=1)
    waits = Task(one, name="waits", pool="db", timeout=0.1)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = DAG("d", tasks=[stuck, waits]).run(
            FuturesExecutor(pool), pools={"db": 1}, fail_fast=False, raise_on_failure=False
        )
        release(path)
    assert results.failed["waits"].holders == ("stuck",)


def test_calls_abandoned_by_the_grace_period_keep_their_slots(held):
    """The clean-up task waits for the slot of a call that was abandoned, and gets it when the call ends."""
    stuck = Task(lambda: held.wait(LONG), name="stuck", pool="db", priority=2)
    started = threading.Event()

    def fail():
        started.wait(LONG)
        raise OSError

    slow = Task(lambda: (started.set(), held.wait(LONG)), name="slow", pool="db", priority=1)
    bad = Task(fail, name="bad")
    frees = Task(held.set, name="frees", trigger="all_done")
    clean = Task(one, name="clean", pool={"db": 2}, trigger="all_done", timeout=LONG)
    bad >> frees
    bad >> clean.after(frees)
    with ThreadExecutor(4) as executor, pytest.raises(OSError) as caught:
        DAG("d", tasks=[stuck, slow, clean]).run(executor, pools={"db": 2}, grace=0.05)
    assert caught.value.flowkit_results["clean"] == 1


def test_pool_is_shared_by_threads_processes_and_other_pools():
    running, most, lock = [0], [0], threading.Lock()

    def work():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.005)
        with lock:
            running[0] -= 1

    tasks = [Task(work, name=f"t{n}", pool="db", executor=(None, "other")[n % 2]) for n in range(10)]
    tasks += [Task(one, name=f"p{n}", pool="db", executor="process") for n in range(3)]
    with ThreadPoolExecutor(3) as pool, ThreadExecutor(3) as threads:
        results = DAG("d", tasks=tasks).run({"default": threads, "other": FuturesExecutor(pool)}, pools={"db": 1})
    assert (len(results), most[0]) == (13, 1)


def test_many_tasks_on_few_slots():
    tasks = [Task(one, name=f"t{number}", pool="db") for number in range(3000)]
    with ThreadExecutor(4) as executor:
        assert len(DAG("d", tasks=tasks).run(executor, pools={"db": 2})) == 3000


def test_interrupted_run_ends_tasks_that_wait():
    def interrupt():
        raise KeyboardInterrupt

    tasks = [Task(interrupt, name="first", priority=1), *(Task(one, name=f"t{n}", pool="api") for n in range(5))]
    with ThreadExecutor(2) as executor, pytest.raises(KeyboardInterrupt):
        DAG("d", tasks=tasks).run(executor, pools={"api": Rate(1, per=600)})
