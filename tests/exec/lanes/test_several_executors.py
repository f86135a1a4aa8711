"""Several executors in one run: where tasks run, how the run ends, and what fails."""

from __future__ import annotations

import math
import os
import pickle
import random
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from flowkit_core import (
    DAG,
    ExecutorError,
    Run,
    SerialExecutor,
    Task,
    TaskRetrying,
    TaskStarted,
    UnknownExecutorError,
    WorkerDiedError,
)
from flowkit_core.errors import TaskTimeoutError
from flowkit_core.runs.time_limit import JOIN_TIMEOUT
from flowkit_exec import FuturesExecutor, ProcessExecutor, ThreadExecutor

pytestmark = pytest.mark.filterwarnings("ignore:run.executor=:RuntimeWarning")  # tests name some of `executors`
PLACES = (None, "here", "pool", "process")


def executors(pool):
    return {"default": ThreadExecutor(2), "here": SerialExecutor(), "pool": FuturesExecutor(pool), "process": "process"}


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2, thread_name_prefix="pool") as pool:
        yield pool


def thread_name(*_):
    return threading.current_thread().name


def test_each_task_runs_on_its_executor(pool):
    first = Task(thread_name, name="first", executor="here")
    second = Task(thread_name, name="second", executor="pool")
    third = Task(os.getpid, name="third", executor="process")
    fourth = Task(thread_name, name="fourth")
    first >> second >> third >> fourth
    results = DAG("d", tasks=[fourth]).run(executors(pool))
    assert results["first"] == "MainThread"
    assert results["second"].startswith("pool")
    assert results["third"] != os.getpid()
    assert results["fourth"] != "MainThread"


def test_serial_runs_every_task_in_the_calling_thread():
    a, b = Task(thread_name, name="a", executor="process"), Task(thread_name, name="b", executor="no such executor")
    a >> b
    assert DAG("d", tasks=[b]).run("serial") == {"a": "MainThread", "b": "MainThread"}


def test_task_names_an_installed_executor():
    a, b = Task(os.getpid, name="a", executor="process"), Task(lambda a: (a, os.getpid()), name="b")
    a >> b
    worker, own = DAG("d", tasks=[b]).run("thread")["b"]
    assert (worker != os.getpid(), own) == (True, os.getpid())


def test_executor_of_the_run_under_its_own_name_is_no_second_lane():
    a = Task(thread_name, name="a", executor="thread")
    assert DAG("d", tasks=[a]).run("thread", max_workers=1) == {"a": "MainThread"}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", range(8))
def test_random_graph_over_four_executors_has_the_results_of_a_serial_run(pool, seed):
    choose = random.Random(seed)
    tasks = []
    for number in range(choose.choice((5, 40, 150))):
        upstream = choose.sample(tasks, min(len(tasks), choose.randrange(4)))
        task = Task(math.hypot, name=f"t{number}", executor=choose.choice(PLACES))
        for each in upstream:
            each >> task
        tasks.append(task)
    dag = DAG("random", tasks=tasks)
    assert dag.run(executors(pool)) == dag.run("serial")


def test_conditions_skips_and_triggers_across_executors(pool):
    number = Task(lambda: 3, name="number", executor="pool")
    small = Task(math.sqrt, name="small", executor="process", when=lambda x: x < 3)
    other = Task(lambda number, small="none": (number, small), name="other", executor="here")
    clean = Task(lambda *_: "clean", name="clean", trigger="all_done")
    number >> [small, other]
    small >> [other, clean]
    results = DAG("d", tasks=[other, clean]).run(executors(pool))
    assert results == {"number": 3, "other": (3, "none"), "clean": "clean"}
    assert results.skipped == {"small": "its condition was false"}


@pytest.mark.parametrize("place", PLACES)
def test_retry_runs_on_the_executor_of_its_task(pool, tmp_path, place):
    path = tmp_path / "attempts"

    def flaky(_):
        path.write_text(path.read_text() + "." if path.exists() else ".")
        if len(path.read_text()) < 3:
            raise ValueError("not yet")
        return threading.current_thread().name

    start = Task(lambda: 0, name="start", executor="pool" if place is None else None)
    task = Task(flaky, name="flaky", retries=2, delay=0.01, executor=place if place != "process" else "here")
    start >> task
    results = DAG("d", tasks=[task]).run(executors(pool))
    assert results.attempts["flaky"] == 3


@pytest.mark.parametrize("place", PLACES)
def test_failure_on_one_executor_stops_the_others(pool, place):
    bad = Task(math.sqrt, name="bad", executor=place)
    start = Task(lambda: -1, name="start")
    start >> bad
    after = [Task(math.sqrt, name=f"after{number}", executor=name) for number, name in enumerate(PLACES)]
    bad >> after
    with pytest.raises(ValueError, match="math domain error") as caught:
        DAG("d", tasks=after).run(executors(pool))
    assert set(caught.value.flowkit_results.states.values()) == {"succeeded", "failed", "upstream_failed"}


def test_grace_ends_running_tasks_of_processes_and_leaves_those_of_pools(pool):
    release = threading.Event()
    held = Task(lambda: release.wait(60), name="held", executor="pool")
    worker = Task(time.sleep, name="worker", executor="process")
    seconds = Task(lambda: 60, name="seconds", executor="here")
    seconds >> worker
    started = Task(lambda seconds: release.wait(0.5), name="started", executor="here")
    bad = Task(lambda started: 1 / 0, name="bad", executor="here")
    seconds >> started >> bad
    try:
        with pytest.raises(ZeroDivisionError) as caught:
            DAG("d", tasks=[held, worker, bad]).run({**executors(pool), "default": SerialExecutor()}, grace=0.1)
    finally:
        release.set()
    states = caught.value.flowkit_results.states
    assert (states["held"], states["worker"], states["bad"]) == ("cancelled", "cancelled", "failed")


def test_grace_abandons_a_thread_of_a_lane_that_has_no_calling_thread():
    release, running = threading.Event(), threading.Event()
    held = Task(lambda: (running.set(), release.wait(60)), name="held")
    bad = Task(lambda: running.wait(60) and 1 / 0, name="bad", executor="here")
    began = time.monotonic()
    try:
        with pytest.raises(ZeroDivisionError) as caught:
            DAG("d", tasks=[held, bad]).run({"default": ThreadExecutor(2), "here": SerialExecutor()}, grace=0.1)
        took = time.monotonic() - began
    finally:
        release.set()
    assert caught.value.flowkit_results.states == {"held": "cancelled", "bad": "failed"}
    assert took < JOIN_TIMEOUT, "waiting for the thread would take the grace period of an interrupt"


@pytest.mark.parametrize(("place", "other"), [(None, "here"), ("here", None), ("pool", "here"), ("process", "here")])
def test_failure_on_one_executor_ends_the_wait_for_a_retry_on_another(pool, place, other):
    failed = threading.Event()

    def observe(event):
        if isinstance(event, TaskRetrying):
            failed.set()

    start = Task(lambda: -1, name="start", executor=other)
    flaky = Task(math.sqrt, name="flaky", retries=1, delay=60, executor=place)
    bad = Task(lambda start: failed.wait(60) and 1 / 0, name="bad", executor=other)
    start >> [flaky, bad]
    began = time.monotonic()
    results = DAG("d", tasks=[flaky, bad]).run(executors(pool), raise_on_failure=False, observers=[observe])
    assert results.states == {"start": "succeeded", "flaky": "failed", "bad": "failed"}
    assert time.monotonic() - began < 30, "it waited for the retry"


def test_dead_worker_fails_its_task_and_the_run_names_it(pool):
    task = Task(os._exit, name="dies", executor="process")
    code = Task(lambda: 3, name="code", executor="here")
    code >> task
    with pytest.raises(WorkerDiedError, match="task 'dies'"):
        DAG("d", tasks=[task]).run(executors(pool))


def test_pool_that_takes_no_calls_is_an_error_that_names_the_executor(pool):
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    start, task = Task(int, name="start"), Task(math.sqrt, name="root", executor="gpu")
    start >> task
    with pytest.raises(ExecutorError, match="the pool of executor 'gpu' takes no more calls: RuntimeError") as caught:
        DAG("d", tasks=[task]).run({"default": "thread", "gpu": FuturesExecutor(closed, name="gpu")})
    assert caught.value.flowkit_results.states == {"start": "succeeded", "root": "cancelled"}


class PicklingPool(ThreadPoolExecutor):
    """A pool whose ``submit`` pickles a call, and raises if that fails, as that of Ray does."""

    def submit(self, function):
        return super().submit(pickle.loads(pickle.dumps(function)))


@pytest.mark.parametrize("what", ["argument", "function"])
def test_call_that_a_pool_cannot_pickle_fails_its_task_only(what):
    lock = threading.Lock()
    bad = Task(math.sqrt if what == "argument" else lambda x: x, name="bad", executor="gpu")
    made, one = Task(lambda: lock, name="made"), Task(int, name="one", executor="gpu")
    made >> bad
    with PicklingPool(1) as gpu:
        executor = {"default": "serial", "gpu": FuturesExecutor(gpu)}
        results = DAG("d", tasks=[bad, one]).run(executor, fail_fast=False, raise_on_failure=False)
    assert results.states == {"made": "succeeded", "bad": "failed", "one": "succeeded"}
    assert f"its {what} cannot be sent by the pool" in str(results.failed["bad"])


def test_closed_executor_is_an_error_before_anything_runs(pool):
    ran = []
    executor = ProcessExecutor(1)
    executor.close()
    start, task = Task(lambda: ran.append(1), name="start"), Task(math.sqrt, name="root", executor="process")
    start >> task
    with pytest.raises(ExecutorError, match="ProcessExecutor is closed"):
        DAG("d", tasks=[task]).run({"default": "thread", "process": executor})
    assert ran == []


def test_executor_without_a_lane_cannot_share_a_run():
    class Minimal:
        name = "minimal"

        def execute(self, run):
            """Not called."""

        def close(self):
            """Nothing to release."""

    task = Task(int, name="a", executor="minimal")
    with pytest.raises(ExecutorError, match=r"executor 'minimal' cannot share a run .* no lane\(\)"):
        DAG("d", tasks=[task]).run({"default": "serial", "minimal": Minimal()})


def test_unknown_executor_of_a_task_names_the_task():
    task = Task(int, name="train", executor="gpu")
    with pytest.raises(
        UnknownExecutorError, match=r"no executor named 'gpu'; .*Task 'train' .*executor=\{'gpu': \.\.\.\}"
    ):
        DAG("d", tasks=[task]).run("thread")


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        ({"default": "thread", "gpu": 3}, r"executor=\{'gpu': ...\}\) is 3, but must be a name"),
        ({3: "thread"}, "has the key 3"),
        ({"day": "2026-11-30"}, "no executor named"),
    ],
)
def test_mapping_that_is_none_of_executors_is_an_error(mapping, text):
    task = Task(int, name="a", executor="day" if "day" in mapping else None)
    with pytest.raises((TypeError, UnknownExecutorError), match=text):
        DAG("d", tasks=[task]).run(mapping)


@pytest.mark.parametrize(
    ("grace", "error"), [("1 s", TypeError), (True, TypeError), (-1, ValueError), (math.inf, ValueError)]
)
def test_invalid_grace_is_an_error(grace, error):
    with pytest.raises(error, match=r"run\(grace=...\)"):
        DAG("d", tasks=[Task(int, name="a")]).run(grace=grace)


@pytest.mark.parametrize(
    "make", [lambda: ThreadPoolExecutor(3), lambda: ProcessPoolExecutor(2)], ids=["thread", "process"]
)
def test_pool_as_the_only_executor(make):
    numbers = [Task(math.factorial, name=f"f{number}") for number in range(50)]
    start, total = Task(int, name="start"), Task(math.hypot, name="total")
    start >> numbers >> total
    with make() as pool, FuturesExecutor(pool, limit=5) as executor:
        assert DAG("d", tasks=[total]).run(executor)["total"] == math.hypot(*[1] * 50)


def end_on_two(number):
    if number == 2:
        os._exit(3)
    return number


def test_pool_that_breaks_drops_no_elements():
    with ProcessPoolExecutor(2) as pool:
        dag = DAG("d", tasks=[Task(end_on_two, name="end").map("number", errors="drop")])
        results = dag.run(FuturesExecutor(pool), params={"number": range(20)}, raise_on_failure=False)
    assert results.states == {"end": "failed"}
    assert isinstance(results.failed["end"], ExecutorError)
    assert "'futures' broke before 'end[" in str(results.failed["end"])


def test_long_chain_of_skipped_tasks_in_a_pool(pool):
    tasks = [Task(lambda: 1, name="first", when=lambda: False)]
    for number in range(3000):
        tasks.append(Task(lambda x: x, name=f"t{number}"))
        tasks[-2] >> tasks[-1]
    results = DAG("d", tasks=[tasks[-1]]).run(FuturesExecutor(pool))
    assert (len(results), len(results.skipped)) == (0, 3001)


class Unpicklable(Exception):
    """Its ``__init__`` takes a keyword that pickling loses."""

    def __init__(self, code, *, detail):
        super().__init__(code)
        self.detail = detail


def raise_unpicklable():
    raise Unpicklable(7, detail="d")


def test_exception_that_cannot_be_pickled_fails_its_task_only():
    with ProcessPoolExecutor(1) as pool:
        executor = FuturesExecutor(pool)
        results = DAG("d", tasks=[Task(raise_unpicklable)]).run(executor, raise_on_failure=False)
        assert "7" in str(results.failed["raise_unpicklable"])
        assert DAG("d", tasks=[Task(os.getpid, name="pid")]).run(executor)["pid"] != os.getpid()


def test_misspelt_name_in_the_mapping_is_a_warning():
    a = Task(int, name="a", executor="process")
    with pytest.warns(RuntimeWarning, match="has an executor 'proces', but no task .*did you mean 'process'"):
        DAG("d", tasks=[a]).run({"default": "serial", "proces": SerialExecutor(), "process": SerialExecutor()})


def test_params_in_place_of_an_executor_are_an_error():
    with pytest.raises(UnknownExecutorError, match=r"No task names 'day': values .* run\(params=\{'day': ...\}\)"):
        DAG("d", tasks=[Task(int, name="a")]).run({"day": "2026-11-30"})


@pytest.mark.parametrize("pool", [object(), ThreadPoolExecutor], ids=["no submit", "class"], indirect=False)
def test_object_that_is_no_pool_is_an_error(pool):
    with pytest.raises(TypeError, match=r"must have a method submit\(function, \*args\)"):
        FuturesExecutor(pool)


@pytest.mark.parametrize("workers", [1, 2, None])
def test_grace_abandons_a_task_of_a_thread_lane(pool, workers):
    release, started = threading.Event(), threading.Event()
    slow = Task(lambda: (started.set(), release.wait(60)), name="slow")
    bad = Task(lambda: started.wait(60) and 1 / 0, name="bad", executor="here")
    began = time.monotonic()
    try:
        with pytest.raises(ZeroDivisionError) as caught:
            DAG("d", tasks=[slow, bad]).run({"default": ThreadExecutor(workers), "here": SerialExecutor()}, grace=0.1)
        assert time.monotonic() - began < 50
    finally:
        release.set()
    assert caught.value.flowkit_results.states["slow"] == "cancelled"


def test_interrupt_cancels_the_calls_that_wait_in_a_pool():
    ran, release = [], threading.Event()

    def interrupt():
        raise KeyboardInterrupt

    tasks = [
        Task(lambda number=number: ran.append(number) or release.wait(60), name=f"t{number}") for number in range(8)
    ]
    stop = Task(interrupt, name="stop", executor="here")
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            DAG("d", tasks=[*tasks, stop]).run({"default": FuturesExecutor(pool), "here": SerialExecutor()})
        release.set()
    assert len(ran) <= 1


def test_fate_of_unfinished_calls_depends_on_their_lane():
    release = threading.Event()
    worker = Task(time.sleep, name="worker", executor="process")
    seconds = Task(lambda: 60, name="seconds", executor="here")
    seconds >> worker
    held = Task(lambda: release.wait(60), name="held", executor="pool")

    started = {"worker": threading.Event(), "held": threading.Event()}

    def observe(event):
        if isinstance(event, TaskStarted) and event.task in started:
            started[event.task].set()

    def interrupt(_seconds):
        assert all(event.wait(60) for event in started.values())
        raise KeyboardInterrupt

    stop = Task(interrupt, name="stop", executor="here")
    seconds >> stop
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt) as caught:
            DAG("d", tasks=[worker, held, stop]).run(executors(pool), observers=[observe])
        release.set()
    states = caught.value.flowkit_results.states
    assert (states["worker"], states["held"]) == ("cancelled", "cancelled")
    notes = " ".join(caught.value.__notes__)
    assert "'held' did not end in time, and was abandoned" in notes
    assert "'worker' did not end in time, and was ended" in notes


def kill_worker():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="platform: needs SIGKILL")
def test_broken_pool_ends_the_run():
    """A pool that breaks calls back with its locks held, on some Pythons."""
    die = Task(kill_worker, name="die")
    clean = Task(math.hypot, name="clean", trigger="all_done").after(die)
    with ProcessPoolExecutor(1) as pool, pytest.raises(ExecutorError, match="takes no more calls"):
        DAG("d", tasks=[clean]).run(FuturesExecutor(pool))


def fail_when_set(path):
    while not Path(path).exists():
        time.sleep(0.001)
    raise ValueError("failed")


def wait_long(path):
    Path(path).touch()
    time.sleep(30 if path.endswith("process") else 0.7)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("place", PLACES[:1] + PLACES[2:])
@pytest.mark.parametrize("of_cleanup", PLACES)
def test_clean_up_task_runs_after_the_grace_period(pool, tmp_path, place, of_cleanup):
    path = str(tmp_path / f"started {place}")
    slow = Task(partial(wait_long, path), name="slow", executor=place)
    bad = Task(partial(fail_when_set, path), name="bad", executor="here")
    clean = Task(math.hypot, name="clean", trigger="all_done", executor=of_cleanup).after(bad)
    with pytest.raises(ValueError, match="failed") as caught:
        DAG("d", tasks=[slow, clean]).run(executors(pool), grace=0.1)
    states = caught.value.flowkit_results.states
    assert (states["slow"], states["clean"]) == ("cancelled", "succeeded")


@pytest.mark.parametrize("place", PLACES)
def test_task_that_waits_for_a_retry_ends_when_another_fails(pool, place):
    retried = threading.Event()
    failing = Task(math.sqrt, name="failing", retries=1, delay=3600, executor=place)
    number = Task(lambda: -1, name="number")
    number >> failing

    def fail_later():
        assert retried.wait(60)
        raise OSError("failed")

    def observe(event):
        if isinstance(event, TaskRetrying):
            retried.set()

    tasks = [failing, Task(fail_later, name="other", executor="here" if place != "here" else "pool")]
    with pytest.raises((OSError, ValueError)) as caught:
        DAG("d", tasks=tasks).run(executors(pool), observers=[observe])
    states = caught.value.flowkit_results.states
    assert (states["failing"], states["other"]) == ("failed", "failed")


def test_two_serial_executors_share_the_calling_thread():
    a, b = Task(thread_name, name="a"), Task(thread_name, name="b", executor="main")
    results = DAG("d", tasks=[a, b]).run({"default": "serial", "main": SerialExecutor()})
    assert results == {"a": "MainThread", "b": "MainThread"}


@pytest.mark.parametrize("executor", ["thread", "serial", "process", "futures"])
def test_result_of_an_expired_attempt_is_ignored(executor, pool):
    """An attempt is given up when it has started; its result comes later."""

    def give_up(event):
        run.expire(run.graph[event.task], 1, 0.1)

    give_up.events = (TaskStarted,)
    slow, after = Task(int, name="slow"), Task(float, name="after", trigger="all_done")
    after.after(slow)
    run = Run(DAG("d", tasks=[after]).graph(), observers=[give_up], fail_fast=False)
    made = {"thread": lambda: ThreadExecutor(1), "serial": SerialExecutor, "process": lambda: ProcessExecutor(1)}
    with made.get(executor, lambda: FuturesExecutor(pool))() as used:
        used.execute(run)
    assert run.state.states()["slow"] == "failed"
    assert isinstance(run.state.failed()["slow"], TaskTimeoutError)


def test_pool_in_place_of_an_executor_is_an_error_with_the_executor_to_use(pool):
    with pytest.raises(TypeError, match=r"write FuturesExecutor\(pool\)"):
        DAG("d", tasks=[Task(int, name="a")]).run(pool)
