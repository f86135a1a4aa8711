"""Retries with a virtual clock: the test is the executor, and decides what time it is."""

from __future__ import annotations

import heapq
import random
from itertools import count, pairwise

import pytest

from flowkit_core import (
    DAG,
    Outcome,
    Retry,
    Run,
    RunFinished,
    Task,
    TaskFailed,
    TaskNotRun,
    TaskRetrying,
    TaskStarted,
    TaskSucceeded,
)


class Simulation:
    """Drives a run by hand: every call takes no time, every delay passes at once, on a clock of its own."""

    def __init__(self, *tasks, **options):
        self.now = 0.0
        self.starts = []
        self.run = Run(DAG("simulated", tasks=tasks).graph(), **options)
        order = count()
        heap = [(0.0, next(order), node) for node in self.run.start()]
        while heap:
            self.now, _, node = heapq.heappop(heap)
            call = self.run.call(node)
            if isinstance(call, Outcome):
                answer = self.run.finish(node, call)
            else:
                ending = call.precheck()
                if ending is None:
                    self.starts.append((self.now, node.name, call.attempt))
                    ending = call.invoke()
                answer = self.run.finish(node, ending)
            if isinstance(answer, Retry):
                heapq.heappush(heap, (self.now + answer.delay, next(order), answer.node))
            else:
                for following in answer:
                    heapq.heappush(heap, (self.now, next(order), following))
        assert self.run.done

    def times(self, name):
        """Return when each attempt of a task began."""
        return [time for time, task, _ in self.starts if task == name]


def flaky(times, error=ValueError, name="flaky", **options):
    """Return a task that fails a number of times, and then returns how many attempts it took."""
    tries = count(1)

    def attempt(*_):
        number = next(tries)
        if number <= times:
            raise error(f"failure {number}")
        return number

    return Task(attempt, name=name, **options)


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({"retries": 5}, [0, 1, 3, 7, 15, 31]),
        ({"retries": 5, "delay": 0}, [0] * 6),
        ({"retries": 3, "delay": 2.0, "backoff": 2.0}, [0, 2, 6, 14]),
        ({"retries": 3, "backoff": 1}, [0, 1, 2, 3]),
        ({"retries": 3, "backoff": 0}, [0, 1, 1, 1]),
        ({"retries": 4, "delay": 10, "max_delay": 25}, [0, 10, 30, 55, 80]),
        ({"retries": 0}, [0]),
    ],
)
def test_retry_waits_follow_schedule(options, times):
    """Before retry k the wait is delay * backoff**(k-1), at most max_delay; after the last attempt there is none."""
    simulation = Simulation(flaky(99, **options))
    assert simulation.times("flaky") == times
    assert simulation.now == times[-1]
    assert simulation.run.state.states() == {"flaky": "failed"}
    assert [attempt for _, _, attempt in simulation.starts] == list(range(1, len(times) + 1))


@pytest.mark.parametrize("failures", [0, 1, 2, 3])
def test_retries_stop_at_the_first_success(failures):
    """retries=3 means at most three tries after the first."""
    simulation = Simulation(flaky(failures, retries=3))
    assert simulation.run.state.succeeded() == {"flaky": failures + 1}
    assert len(simulation.starts) == failures + 1


def test_retries_that_are_exhausted_fail_task():
    """Four attempts; the last exception is raised."""
    simulation = Simulation(flaky(4, retries=3))
    assert len(simulation.starts) == 4
    assert str(simulation.run.state.failed()["flaky"]) == "failure 4"


@pytest.mark.parametrize("jitter", [0.1, 0.5, 1.0])
def test_jitter_keeps_every_wait_in_its_range(jitter):
    """The wait of the schedule times a factor in [1 - jitter, 1 + jitter]."""
    simulation = Simulation(flaky(99, retries=50, backoff=1, jitter=jitter), random=random.Random(5).random)
    times = simulation.times("flaky")
    waits = [after - before for before, after in pairwise(times)]
    assert all(1 - jitter - 1e-9 <= wait <= 1 + jitter + 1e-9 for wait in waits)
    assert max(waits) - min(waits) > jitter


def test_jitter_differs_between_tasks():
    tasks = [flaky(1, name=f"task_{number}", retries=1) for number in range(20)]
    simulation = Simulation(*tasks, random=random.Random(5).random)
    assert len({simulation.times(task.name)[1] for task in tasks}) == 20


def test_retry_wait_does_not_block_other_tasks():
    slow, after = flaky(1, name="slow", retries=1, delay=100), Task(lambda x: x, name="after")
    other, last = Task(lambda: 1, name="other"), Task(lambda x: x, name="last")
    slow >> after
    other >> last
    simulation = Simulation(after, last)
    assert [(time, name) for time, name, _ in simulation.starts] == [
        (0, "slow"),
        (0, "other"),
        (0, "last"),
        (100, "slow"),
        (100, "after"),
    ]


@pytest.mark.parametrize(
    ("retry_on", "tries"),
    [
        (None, 4),
        (ValueError, 4),
        ((OSError, ValueError), 4),
        (OSError, 1),
        (lambda error: str(error) != "failure 2", 2),
        (lambda error: None, 1),
        (lambda error: 0, 4),
    ],
)
def test_retry_on_decides_after_each_attempt(retry_on, tries):
    simulation = Simulation(flaky(99, retries=3, retry_on=retry_on))
    assert len(simulation.starts) == tries


def test_retry_on_that_raises_does_not_hide_error():
    """The exception of the task has a note about the other one."""
    error = Simulation(flaky(99, retries=3, retry_on=lambda error: 1 / 0)).run.state.failed()["flaky"]
    assert str(error) == "failure 1"
    assert any("retry_on" in note and "ZeroDivisionError" in note for note in error.__notes__)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("retry_on", [None, BaseException, lambda error: True])
def test_interrupt_is_never_retried(error, retry_on):
    """Whatever retry_on returns."""
    assert len(Simulation(flaky(99, error, retries=3, retry_on=retry_on)).starts) == 1


def test_retry_gets_same_arguments():
    seen = []

    def attempt(x, y=2):
        seen.append((x, y))
        raise ValueError

    source, sink = Task(lambda: 1, name="source"), Task(attempt, retries=2)
    source >> sink
    Simulation(sink)
    assert seen == [(1, 2)] * 3


def test_retry_wait_ends_after_failure_of_other_task():
    """The retry is not made; the last attempt counts."""
    seen, heard = [], []
    waiting = flaky(9, name="waiting", retries=2, delay=100)
    broken = Task(lambda: 1 / 0, name="broken")
    below, alert = (
        Task(lambda _: 1, name="below"),
        Task(lambda: heard.append("alert"), name="alert", trigger="one_failed"),
    )
    waiting >> [below, alert]
    simulation = Simulation(waiting, broken, below, alert, observers=[seen.append])
    run = simulation.run
    assert simulation.times("waiting") == [0]
    assert run.state.states() == {
        "broken": "failed",
        "waiting": "failed",
        "below": "upstream_failed",
        "alert": "succeeded",
    }
    assert heard == ["alert"]
    assert list(run.state.failed()) == ["broken", "waiting"]
    assert (str(run.state.failed()["waiting"]), run.state.attempts()["waiting"]) == ("failure 1", 1)
    (failed,) = [event for event in seen if isinstance(event, TaskFailed) and event.task == "waiting"]
    assert (failed.attempt, failed.error) == (1, run.state.failed()["waiting"])
    assert run.error() is run.state.failed()["broken"]
    first, second = run.error().__notes__
    assert "0 were running, 1 did not start; 1 task waited for a retry; 1 clean-up task ran" in first
    assert second == "flowkit: task 'waiting' of 'simulated' failed on attempt 1 of 3 too: ValueError: failure 1"


def test_retry_is_cancelled_by_failure_before_its_start():
    """The executor has taken the call, but not begun it."""
    waiting, broken = flaky(9, name="waiting", retries=2, delay=0), Task(lambda: 1 / 0, name="broken")
    run = Run(DAG("late", tasks=[waiting, broken]).graph())
    first, second = run.start()
    assert isinstance(run.finish(first, run.call(first).invoke()), Retry)
    assert run.call(first).attempt == 2
    run.finish(second, run.call(second).invoke())
    run.finish(first, run.mark_started(first))
    assert run.state.states() == {"waiting": "failed", "broken": "failed"}
    assert str(run.state.failed()["waiting"]) == "failure 1"


@pytest.mark.parametrize("abandoned", [True, False])
def test_retry_that_is_cancelled_names_last_exception(abandoned):
    waiting = flaky(9, ValueError, "waiting", retries=2)
    run = Run(DAG("cancelled", tasks=[waiting]).graph())
    (node,) = run.start()
    run.finish(node, run.call(node).invoke())
    run.cancel("enough is enough")
    if abandoned:
        run.abandon()
    else:
        run.finish(node, run.call(node))
    assert run.state.states() == {"waiting": "cancelled"}
    assert run.state.reasons() == {"waiting": "enough is enough; its last attempt had raised ValueError: failure 1"}
    assert run.error() is None


def test_retry_wait_continues_with_fail_fast_false():
    waiting = flaky(1, name="waiting", retries=1, delay=100)
    broken = Task(lambda: 1 / 0, name="broken")
    simulation = Simulation(waiting, broken, fail_fast=False)
    assert simulation.run.state.states() == {"waiting": "succeeded", "broken": "failed"}


@pytest.mark.parametrize("trigger", ["none_failed", "all_done", "one_failed"])
def test_cancelled_run_starts_no_task_and_names_reason(trigger):
    """Not even a clean-up task; waiting tasks end as cancelled, with the given reason."""
    start, waiting = Task(lambda: 1, name="start"), Task(lambda: 1, name="waiting", trigger=trigger)
    end = Task(lambda *_: 1, name="end", trigger=trigger)
    [start, waiting] >> end
    seen = []
    run = Run(DAG("cancelled", tasks=[end]).graph(), observers=[seen.append])
    first, second = run.start()
    call = run.call(first)
    run.cancel("enough is enough")
    assert list(run.finish(first, call.invoke())) == []
    (last,) = run.finish(second, run.call(second))
    assert list(run.finish(last, run.call(last))) == []
    assert run.done
    assert run.state.states() == {"start": "succeeded", "waiting": "cancelled", "end": "cancelled"}
    assert {event.reason for event in seen if isinstance(event, TaskNotRun)} == {"enough is enough"}


def test_observers_get_event_of_every_attempt():
    """With delays and errors, in order."""
    seen = []
    DAG("events", tasks=[flaky(2, retries=3, delay=0)]).run("serial", observers=[seen.append])
    kinds = [type(event) for event in seen][1:]
    assert kinds == [TaskStarted, TaskRetrying, TaskStarted, TaskRetrying, TaskStarted, TaskSucceeded, RunFinished]
    started, retrying = seen[1], seen[2]
    assert (started.task, started.attempt, started.max_attempts) == ("flaky", 1, 4)
    assert (retrying.attempt, retrying.max_attempts, retrying.delay, str(retrying.error)) == (1, 4, 0, "failure 1")
    assert [event.attempt for event in seen if isinstance(event, TaskStarted)] == [1, 2, 3]


def test_retries_that_are_exhausted_are_reported_once():
    """Each failed attempt but the last is a TaskRetrying, the last a TaskFailed."""
    seen = []
    DAG("events", tasks=[flaky(9, retries=2, delay=0)]).run("serial", observers=[seen.append], raise_on_failure=False)
    assert [type(event) for event in seen if isinstance(event, (TaskRetrying, TaskFailed))] == [
        TaskRetrying,
        TaskRetrying,
        TaskFailed,
    ]


def test_serial_executor_waits_in_real_time():
    """At least the delay, by the monotonic clock."""
    from time import monotonic

    times = []

    def attempt():
        times.append(monotonic())
        if len(times) < 3:
            raise ValueError

    DAG("real", tasks=[Task(attempt, retries=2, delay=0.02, jitter=0)]).run("serial")
    assert times[1] - times[0] >= 0.02
    assert times[2] - times[1] >= 0.04


def test_run_does_not_change_random_state_of_user():
    """Jitter has a generator of its own."""
    random.seed(7)
    expected = random.random()
    random.seed(7)
    DAG("random", tasks=[flaky(3, retries=3, delay=1e-9)]).run("serial")
    assert random.random() == expected
