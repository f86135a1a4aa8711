"""Timeouts of attempts and of runs; what all executors have in common is in the checks of `check_executor`."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
import time
import weakref

import pytest

from flowkit_core import (
    DAG,
    ExecutorError,
    MissingResultError,
    RunFinished,
    RunStopping,
    RunTimeoutError,
    Task,
    TaskFailed,
    TaskOptionError,
    TaskOptionTypeError,
    TaskRetrying,
    TaskTimeoutError,
    current,
    task,
)
from flowkit_core.runs.time_limit import CANCEL_GRACE, TimeLimit, call_in_time
from flowkit_core.runs.timers import Deadlines

LONG = 30.0


def test_option_is_checked_when_the_task_is_defined():
    for wrong in (0, -1, float("nan"), float("inf"), -0.5):
        with pytest.raises(TaskOptionError, match="more than 0, or None"):
            Task(int, timeout=wrong)
    for wrong in (True, "5", [1]):
        with pytest.raises(TaskOptionTypeError, match="timeout is"):
            Task(int, timeout=wrong)


def test_option_is_kept_by_copies_and_pickles():
    one = Task(int, name="one", timeout=2)
    assert (one.timeout, Task(int).timeout, Task(int, timeout=None).timeout) == (2, None, None)
    assert one.with_options(name="two").timeout == 2
    assert one.with_options(timeout=None).timeout is None
    assert Task(int).with_options(timeout=0.5).timeout == 0.5
    assert pickle.loads(pickle.dumps(one)).timeout == 2
    assert task(timeout=3)(lambda: 1).timeout == 3


def test_run_option_is_checked():
    dag = DAG("d", tasks=[Task(int, name="a")])
    for wrong, error in ((0, ValueError), (-1, ValueError), (float("nan"), ValueError), (True, TypeError)):
        with pytest.raises(error, match=r"run\(timeout=\.\.\.\) is"):
            dag.run("serial", timeout=wrong)


def test_errors_can_be_copied_and_pickled():
    for error in (TaskTimeoutError("fetch", 2.5, "ended"), RunTimeoutError("etl", 60)):
        for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))
        assert isinstance(error, TimeoutError)


@pytest.mark.parametrize(
    ("fate", "text"),
    [
        ("cancelled", "and was cancelled"),
        ("ended", "and its worker process was ended"),
        ("abandoned", "and was abandoned: it cannot be stopped"),
    ],
)
def test_message_says_what_happened_to_the_attempt(fate, text):
    assert f"task 'fetch' took longer than its timeout of 2.5 s, {text}" in str(TaskTimeoutError("fetch", 2.5, fate))


# ---- direct calls ----------------------------------------------------------------------------------------------------


def test_direct_call_applies_the_timeout_and_the_retries(held):
    calls = []

    @task(timeout=0.2, retries=5, delay=0)
    def slow(value):
        calls.append(threading.get_ident())
        if len(calls) == 1:
            held.wait(LONG)
        return value

    assert slow(3) == 3
    assert threading.get_ident() not in calls


def test_direct_call_raises_what_the_function_raises_in_time():
    @task(timeout=LONG)
    def wrong():
        raise TimeoutError("of the function")

    with pytest.raises(TimeoutError, match="of the function") as caught:
        wrong()
    assert type(caught.value) is TimeoutError


def test_direct_call_that_takes_too_long(held):
    with pytest.raises(TaskTimeoutError) as caught:
        Task(held.wait, name="wait", timeout=0.05)()
    assert (caught.value.task, caught.value.timeout, caught.value.fate) == ("wait", 0.05, "abandoned")


def test_direct_call_of_a_coroutine_function_is_cancelled():
    ended = []

    @task(timeout=0.05)
    async def nap():
        try:
            await asyncio.sleep(LONG)
        finally:
            ended.append(True)

    with pytest.raises(TaskTimeoutError) as caught:
        asyncio.run(nap())
    assert (caught.value.fate, ended) == ("cancelled", [True])


def test_direct_call_of_a_function_that_returns_a_coroutine():
    with pytest.raises(TaskTimeoutError):
        asyncio.run(Task(lambda: asyncio.sleep(LONG), name="nap", timeout=0.05)())


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_events_of_attempts_that_take_too_long(held):
    events = []

    def observe(event):
        if isinstance(event, (TaskRetrying, TaskFailed)):
            events.append((type(event), event.attempt, type(event.error)))

    dag = DAG("d", tasks=[Task(held.wait, name="wait", timeout=0.05, retries=1, delay=0)])
    results = dag.run("serial", observers=[observe], raise_on_failure=False)
    assert events == [(TaskRetrying, 1, TaskTimeoutError), (TaskFailed, 2, TaskTimeoutError)]
    assert (results.states, results.attempts) == ({"wait": "failed"}, {"wait": 2})
    assert 0.05 <= results.durations["wait"] < LONG


def test_retry_on_selects_timeouts(held):
    tries = Task(held.wait, name="tries", timeout=0.05, retries=1, delay=0, retry_on=TaskTimeoutError)
    gives_up = Task(held.wait, name="gives_up", timeout=0.05, retries=1, delay=0, retry_on=ConnectionError)
    results = DAG("d", tasks=[tries, gives_up]).run("serial", fail_fast=False, raise_on_failure=False)
    assert results.attempts == {"tries": 2, "gives_up": 1}


def test_condition_and_retries_are_not_limited():
    slow_condition = Task(lambda: "done", name="a", when=lambda: time.sleep(0.3) is None, timeout=0.25)
    answers = iter([OSError, None])

    def fail_once():
        if error := next(answers):
            raise error

    waits = Task(fail_once, name="b", retries=1, delay=0.3, jitter=0, timeout=0.25)
    assert DAG("d", tasks=[slow_condition, waits]).run("serial") == {"a": "done", "b": None}


def test_context_of_an_abandoned_attempt_stays_its_own(held):
    seen, done = [], threading.Event()

    def slow():
        attempt = current().attempt
        if attempt == 1:
            held.wait(LONG)
            seen.append((attempt, current().attempt, current().deadline < time.time()))
            done.set()
        return attempt

    def let_go(slow):
        held.set()
        done.wait(LONG)
        return slow

    first, last = Task(slow, timeout=0.5, retries=9, delay=0), Task(let_go)
    first >> last
    results = DAG("d", tasks=[last]).run("serial")
    assert results["let_go"] > 1
    assert seen == [(1, 1, True)]


def test_coroutine_that_suppresses_its_cancellation_has_failed():
    async def stubborn():
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            return "late"

    results = DAG("d", tasks=[Task(stubborn, timeout=0.05)]).run("serial", raise_on_failure=False)
    assert results.failed["stubborn"].fate == "cancelled"


def test_error_while_a_coroutine_is_cancelled_is_the_cause():
    async def messy():
        try:
            await asyncio.sleep(LONG)
        finally:
            raise ValueError("cannot clean up")

    error = DAG("d", tasks=[Task(messy, timeout=0.05)]).run("serial", raise_on_failure=False).failed["messy"]
    assert isinstance(error, TaskTimeoutError)
    assert isinstance(error.__cause__, ValueError)


def test_run_timeout_error_has_the_failures_and_the_numbers(held):
    def fail():
        raise OSError("boom")

    stops = []

    def observe(event):
        if isinstance(event, (RunStopping, RunFinished)):
            stops.append(event)

    gate, hanging = Task(lambda: LONG, name="gate"), Task(held.wait, name="hanging")
    below = Task(lambda x: x, name="below")
    gate >> hanging >> below
    with pytest.raises(RunTimeoutError) as caught:
        DAG("etl", tasks=[Task(fail, name="failing"), below]).run(
            "serial", timeout=0.2, grace=0, fail_fast=False, observers=[observe]
        )
    error = caught.value
    states = {"gate": "succeeded", "failing": "failed", "hanging": "cancelled", "below": "cancelled"}
    assert error.flowkit_results.states == states
    assert error.__notes__ == [
        "flowkit: 1 task had succeeded, 1 was running, 1 did not start",
        "flowkit: task 'failing' had failed: OSError: boom",
    ]
    assert [type(event) for event in stops] == [RunStopping, RunFinished]
    assert (stops[0].failed, stops[0].error, stops[0].running) == (None, error, ("hanging",))


def test_run_timeout_without_raising(held):
    hanging = Task(held.wait, name="hanging")
    results = DAG("d", tasks=[hanging]).run("serial", timeout=0.1, grace=0, raise_on_failure=False)
    assert results.states == {"hanging": "cancelled"}
    with pytest.raises(MissingResultError, match=r"took longer than its timeout of 0\.1 s"):
        results["hanging"]


def test_failure_before_the_timeout_of_the_run_is_raised(held):
    """The run waits for a running task after a failure; the timeout ends the wait."""

    def fail():
        raise OSError("boom")

    failing, hanging = Task(fail), Task(held.wait, name="hanging", timeout=LONG)
    with pytest.raises(OSError, match="boom"):
        DAG("d", tasks=[failing, hanging]).run(timeout=0.3, grace=0)


def test_serial_run_with_a_timeout_has_the_usual_results():
    start = Task(lambda: 1, name="start")
    chain = [start]
    for number in range(50):
        after = Task(lambda x: x + 1, name=f"n{number}")
        chain[-1] >> after
        chain.append(after)
    assert DAG("d", tasks=[chain[-1]]).run("serial", timeout=LONG)["n49"] == 51


def test_clean_up_tasks_run_after_a_serial_task_was_abandoned(held):
    hanging = Task(held.wait, name="hanging")
    clean = [Task(lambda: 1, name=f"clean_{number}", trigger="all_done") for number in range(3)]
    for each in clean:
        each.after(hanging)
    with pytest.raises(RunTimeoutError) as caught:
        DAG("d", tasks=clean).run("serial", timeout=0.1, grace=0)
    assert caught.value.flowkit_results == {"clean_0": 1, "clean_1": 1, "clean_2": 1}


@pytest.mark.parametrize("options", [{"timeout": 0.1, "grace": 0}, {}])
def test_errors_are_freed_without_the_collector(held, options):
    hanging = Task(held.wait, name="hanging", timeout=None if options else 0.05)
    with pytest.raises(TimeoutError) as caught:
        DAG("d", tasks=[hanging]).run("serial", **options)
    error = weakref.ref(caught.value)
    collects = gc.isenabled()
    gc.disable()
    try:
        del caught
        assert error() is None
    finally:
        if collects:
            gc.enable()


def test_executor_without_lane_cannot_limit_a_run():
    class Plain:
        name = "plain"

        def execute(self, run):
            raise AssertionError

        def close(self):
            pass

    with pytest.raises(ExecutorError, match=r"'plain' cannot apply run\(timeout=\.\.\.\)"):
        DAG("d", tasks=[Task(int, name="a")]).run(Plain(), timeout=1)


# ---- parts -----------------------------------------------------------------------------------------------------------


def test_call_in_time_returns_or_raises():
    assert call_in_time(lambda limit: 5, "t", LONG) == 5
    with pytest.raises(ValueError, match="wrong"):
        call_in_time(lambda limit: int("wrong"), "t", LONG)


def test_coroutine_in_a_call_has_time_to_end_after_its_cancellation():
    async def nap():
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)  # longer than the timeout, and shorter than the grace period
            raise

    assert CANCEL_GRACE > 0.05
    with pytest.raises(TaskTimeoutError) as caught:
        call_in_time(lambda limit: limit.run_coroutine(nap()), "t", 0.01)
    assert caught.value.fate == "cancelled"


def test_huge_timeouts_are_no_problem():
    assert call_in_time(lambda limit: 5, "t", 1e300) == 5
    assert TimeLimit("t", 1e300).left() > 1e6
    assert DAG("d", tasks=[Task(int, name="a", timeout=1e300)]).run("serial") == {"a": 0}
    assert DAG("d", tasks=[Task(int, name="a")]).run("serial", timeout=1e300, grace=1e300) == {"a": 0}


def test_deadlines_expire_in_order_and_forget_calls_that_have_ended():
    now, running = [0.0], set(range(1000))
    deadlines = Deadlines(running.__contains__, clock=lambda: now[0])
    assert (deadlines.wait(), deadlines.expired()) == (None, [])
    for key in range(1000):
        deadlines.add(key, seconds=5.0 + key % 3)
    assert deadlines.wait() == 5.0
    running -= set(range(999))
    assert deadlines.wait() == 5.0
    now[0] = 4.0
    assert deadlines.expired() == []
    now[0] = 5.0
    assert deadlines.expired() == [999]
    running |= {1000, 1001}
    deadlines.add(1000, seconds=2.0)
    deadlines.add(1001, seconds=1.0)
    now[0] = 9.0
    assert deadlines.expired() == [1001, 1000]
    assert deadlines.wait() is None


def test_deadlines_of_ended_calls_are_removed():
    deadlines = Deadlines(lambda key: False, clock=lambda: 0.0)
    for key in range(10_000):
        deadlines.add(key, seconds=5.0)
    assert len(deadlines._heap) <= 64
