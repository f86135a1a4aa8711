"""Class `RetryPolicy`: delays, jitter and comparison."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from decimal import Decimal

import pytest

from flowkit_core import DAG, RetryPolicy, TaskRetrying, task
from flowkit_core.testing import simulate


def test_retry_policy_schedule_is_documented_one():
    """1 s, 2 s, 4 s, 8 s, 16 s."""
    policy = RetryPolicy(retries=5, jitter=0)
    assert [policy.wait(k) for k in range(1, 6)] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ({"delay": 2.0, "backoff": 3.0}, [2, 6, 18]),
        ({"delay": 0}, [0, 0, 0]),
        ({"backoff": 1}, [1, 1, 1]),
        ({"backoff": 0}, [1, 0, 0]),
        ({"backoff": 0.5}, [1, 0.5, 0.25]),
        ({"delay": 100, "backoff": 10, "max_delay": 500}, [100, 500, 500]),
        ({"delay": 9000}, [3600, 3600, 3600]),
    ],
)
def test_retry_policy_wait_is_at_most_max_delay(options, waits):
    """delay * backoff**(k-1), capped."""
    policy = RetryPolicy(retries=3, jitter=0, **options)
    assert [policy.wait(k) for k in (1, 2, 3)] == waits


def test_retry_policy_huge_backoff_does_not_overflow():
    """The wait before the thousandth retry is max_delay."""
    policy = RetryPolicy(retries=5000, backoff=10.0, jitter=0)
    assert policy.wait(5000) == 3600.0


@pytest.mark.parametrize("jitter", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("drawn", [0.0, 0.25, 0.5, 0.999])
def test_retry_policy_jitter_is_within_its_range(jitter, drawn):
    """The factor is in [1 - jitter, 1 + jitter]."""
    waited = RetryPolicy(retries=1, delay=10, jitter=jitter).wait(1, lambda: drawn)
    assert 10 * (1 - jitter) <= waited <= 10 * (1 + jitter)


def test_jitter_may_exceed_max_delay():
    policy = RetryPolicy(retries=1, delay=10, max_delay=8, jitter=0.5)
    assert [policy.wait(1, lambda: 0.0), policy.wait(1, lambda: 0.75)] == [4, 10]


def test_retry_policies_compare_by_value():
    """The repr shows their options."""
    assert RetryPolicy(3, 1.0) == RetryPolicy(retries=3, delay=1)
    assert RetryPolicy(3) != RetryPolicy(4)
    assert hash(RetryPolicy(3, 1.0)) == hash(RetryPolicy(retries=3, delay=1))
    assert "retries=3" in repr(RetryPolicy(3))


# retry_on: a function that returns a number of seconds


@pytest.mark.parametrize(
    ("answer", "pause"), [(2, 2.0), (0, 0.0), (0.5, 0.5), (7200.0, 7200.0), (True, 1.0), (re.match("5", "503"), 1.0)]
)
def test_answer_of_retry_on_is_the_pause(answer, pause):
    """Neither backoff nor jitter nor ``max_delay`` applies to a number."""
    policy = RetryPolicy(retries=3, delay=1, max_delay=60, retry_on=lambda error: answer)
    assert policy.pause(ValueError(), 1, "fetch", lambda: 0.5) == pause


@pytest.mark.parametrize("answer", [False, None])
def test_false_answer_of_retry_on_means_no_retry(answer):
    assert RetryPolicy(retries=3, retry_on=lambda error: answer).pause(ValueError(), 1, "fetch") is None


@pytest.mark.parametrize("answer", [-1, float("nan"), float("inf")])
def test_number_of_retry_on_out_of_range_is_noted(answer):
    error = ValueError("no answer")
    assert RetryPolicy(retries=3, retry_on=lambda error: answer).pause(error, 1, "fetch") is None
    (note,) = error.__notes__
    assert note == (
        f"flowkit: retry_on of task 'fetch' itself raised ValueError: it returned {answer!r}, but a number of seconds "
        f"must be 0 or more"
    )


@pytest.mark.parametrize(
    "answer", ["30", "", b"30", [1], (), timedelta(seconds=1), timedelta(0), Decimal(30), iter([1])]
)
def test_answer_of_retry_on_that_may_be_meant_as_seconds_is_noted(answer):
    """Such as the text of a header ``Retry-After``."""
    error = ValueError("no answer")
    assert RetryPolicy(retries=3, retry_on=lambda error: answer).pause(error, 1, "fetch") is None
    (note,) = error.__notes__
    assert note == (
        f"flowkit: retry_on of task 'fetch' itself raised TypeError: it returned {answer!r}, of type "
        f"{type(answer).__name__}, which is neither true nor false nor a number of seconds: return a bool, an int or a "
        f"float"
    )


def test_pause_after_the_last_attempt_is_none():
    assert RetryPolicy(retries=1, retry_on=lambda error: 0).pause(ValueError(), 2, "fetch") is None


def test_direct_call_waits_as_long_as_retry_on_returns():
    calls = []

    @task(retries=2, delay=1000, retry_on=lambda error: 0)
    def flaky():
        calls.append(1)
        if len(calls) < 3:
            raise ValueError
        return len(calls)

    assert flaky() == 3


@pytest.mark.parametrize("in_run", [True, False])
def test_exception_of_retry_on_is_noted_on_that_of_the_task(in_run):
    @task(retries=2, retry_on=lambda error: 1 / 0)
    def fetch():
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer") as caught:
        DAG("fetch", tasks=[fetch]).run("serial") if in_run else fetch()
    assert (
        "flowkit: retry_on of task 'fetch' itself raised ZeroDivisionError: division by zero" in caught.value.__notes__
    )


@pytest.mark.parametrize("in_run", [True, False])
def test_exit_in_retry_on_is_noted_on_the_exception_of_the_task(in_run):
    @task(retries=2, retry_on=lambda error: sys.exit(3))
    def fetch():
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer") as caught:
        DAG("fetch", tasks=[fetch]).run("serial") if in_run else fetch()
    assert "flowkit: retry_on of task 'fetch' itself raised SystemExit: 3" in caught.value.__notes__


def test_simulation_of_retry_after():
    answers = iter([3, 0])

    @task(retries=2, delay=1000, retry_on=lambda error: next(answers, True))
    def fetch():
        raise ValueError("no answer")

    retries = []

    def observe(event):
        if isinstance(event, TaskRetrying):
            retries.append(event.delay)

    simulate(DAG("fetch", tasks=[fetch]), durations=1, observers=[observe])
    assert retries == [3.0, 0.0]
