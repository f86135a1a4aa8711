"""Class `RetryPolicy`: delays, jitter and comparison."""

from __future__ import annotations

import pytest

from flowkit_core import RetryPolicy


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


def test_retry_policies_compare_by_value():
    """The repr shows their options."""
    assert RetryPolicy(3, 1.0) == RetryPolicy(retries=3, delay=1)
    assert RetryPolicy(3) != RetryPolicy(4)
    assert hash(RetryPolicy(3, 1.0)) == hash(RetryPolicy(retries=3, delay=1))
    assert "retries=3" in repr(RetryPolicy(3))
