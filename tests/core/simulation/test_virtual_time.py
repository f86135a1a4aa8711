"""`VirtualTimeExecutor` runs pipelines as usual, and waits in virtual time."""

from __future__ import annotations

import threading

import pytest

from flowkit_core import DAG, ExecutorError, PoolBlockedError, Rate, RunTimeoutError, Task, TaskStarted
from flowkit_core.conformance.checks.trial import CHECKS
from flowkit_core.testing import VirtualTimeExecutor, check_executor

REAL_TIME = {"retry_waits_for_its_delay", "rate_limits_starts", "rate_and_pool_apply_together"}
ELSEWHERE = {
    "lane_stops_a_run_that_takes_too_long",
    "mapped_task_is_recorded_and_resumed",
    "pool_is_shared_by_lanes",
}
SUBJECTS = ("contexts", "decisions", "events", "failures", "limits", "mapping", "pipeline_tasks", "timeouts", "values")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_executor_passes_checks_that_need_no_real_time(subject):
    named = {name for name, each in CHECKS.items() if each.function.__module__.endswith(f".{subject}")}
    wanted = named - REAL_TIME - ELSEWHERE
    assert set(check_executor(VirtualTimeExecutor, only=wanted)) == wanted


def test_retries_take_virtual_time():
    calls = []

    def flaky():
        calls.append(threading.get_ident())
        if len(calls) < 4:
            raise OSError
        return len(calls)

    executor = VirtualTimeExecutor()
    task = Task(flaky, retries=3, delay=60, backoff=2, jitter=0)
    assert DAG("d", tasks=[task]).run(executor) == {"flaky": 4}
    assert executor.seconds == 60 + 120 + 240
    assert set(calls) == {threading.get_ident()}
    assert DAG("d", tasks=[Task(int)]).run(executor) == {"int": 0}
    assert executor.seconds == 0


def test_rates_take_virtual_time():
    executor = VirtualTimeExecutor()
    tasks = [Task(lambda: 1, name=f"t{number}", pool="api") for number in range(100)]
    DAG("d", tasks=tasks).run(executor, pools={"api": Rate(10, per=60)})
    assert executor.seconds == pytest.approx(9 * 60)
    DAG("d", tasks=tasks).run(executor, pools={"api": Rate(1, per=0.1)})
    assert executor.seconds == pytest.approx(9.9)


def test_run_timeout_is_in_virtual_time():
    def fail():
        raise OSError

    executor = VirtualTimeExecutor()
    with pytest.raises(RunTimeoutError):
        DAG("d", tasks=[Task(fail, retries=9, delay=100)]).run(executor, timeout=500)
    assert executor.seconds == 500


def test_every_task_runs_here_in_order_of_rank():
    names = []

    def observe(event):
        names.append((event.task, threading.get_ident()))

    observe.events = (TaskStarted,)
    tasks = [Task(int, name="low", executor="process"), Task(int, name="high", priority=1, executor="unknown")]
    DAG("d", tasks=tasks).run(VirtualTimeExecutor(), observers=[observe])
    assert names == [("high", threading.get_ident()), ("low", threading.get_ident())]


def test_slots_of_abandoned_attempts_are_waited_for_in_virtual_time():
    event = threading.Event()
    stuck = Task(lambda: event.wait(60), name="stuck", pool="db", timeout=0.05, priority=1)
    waits = Task(int, name="waits", pool="db", timeout=1000)
    executor = VirtualTimeExecutor()
    try:
        results = DAG("d", tasks=[stuck, waits]).run(executor, pools={"db": 1}, fail_fast=False, raise_on_failure=False)
    finally:
        event.set()
    assert isinstance(results.failed["waits"], PoolBlockedError)
    assert executor.seconds == 1000


def test_it_cannot_be_one_of_several_executors():
    with pytest.raises(ExecutorError, match="cannot share a run"):
        DAG("d", tasks=[Task(int), Task(str, executor="other")]).run(
            {"default": VirtualTimeExecutor(), "other": OtherLane()}
        )


class OtherLane:
    """An executor that has a lane."""

    name = "other"

    def execute(self, run):
        raise NotImplementedError

    def lane(self):
        raise NotImplementedError

    def close(self):
        pass


def test_closed_executor_refuses_to_run():
    with VirtualTimeExecutor() as executor:
        assert repr(executor) == "VirtualTimeExecutor()"
    with pytest.raises(ExecutorError, match="is closed"):
        DAG("d", tasks=[Task(int)]).run(executor)
