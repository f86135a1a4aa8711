"""How many calls a process worker is given ahead."""

from __future__ import annotations

import pytest

from flowkit_exec.process.batch_policy import CHEAP_STREAK, MAX_FIRST_BATCH, STALL_AFTER, BatchPolicy


def policy_after(*batches, is_recorded=False):
    """Return a policy that has observed batches of (tasks, seconds per task)."""
    policy = BatchPolicy(is_recorded=is_recorded)
    for tasks, seconds in batches:
        policy.observe(tasks, tasks * seconds)
    return policy


HOT = (CHEAP_STREAK, 1e-6)


@pytest.mark.parametrize(
    ("batches", "is_recorded", "depth"),
    [
        ([], False, MAX_FIRST_BATCH),
        ([(1, 1e-6)], False, 2000),
        ([(1, 1e-8)], False, 2000),
        ([(10, 20e-6)], False, 100),
        ([(1, 1e-3)], False, 2),
        ([(1, 4e-3)], False, 2),
        ([(1, 1.0)], False, 1),
        ([(1, 1.0), (1, 0.0)], False, 1),
        ([(1, 1e-6)], True, 1),
        ([], True, 1),
    ],
)
def test_depth_follows_from_durations(batches, is_recorded, depth):
    assert policy_after(*batches, is_recorded=is_recorded).depth() == depth


@pytest.mark.parametrize(
    ("batches", "held", "depth", "size"),
    [
        ([], 0, 64, 1),
        ([], 1, 64, 63),
        ([(1, 1e-6)], 0, 1000, MAX_FIRST_BATCH),
        ([(1, 1e-6)], 0, 10, 10),
        ([(1, 1e-6)], 400, 1000, 600),
        ([(1, 1.0)], 1, 1, 1),
    ],
)
def test_batch_size_depends_on_what_a_worker_holds(batches, held, depth, size):
    assert policy_after(*batches).batch_size(held, depth) == size


@pytest.mark.parametrize(
    ("batches", "is_hot"),
    [
        ([], False),
        ([(CHEAP_STREAK - 1, 1e-6)], False),
        ([HOT], True),
        ([(CHEAP_STREAK, 2e-6)], False),
        ([HOT, (1, 10e-6)], True),
        ([HOT, (1, 20e-6)], False),
        ([HOT, (1, 20e-6), (1, 1e-6)], False),
        ([(60, 1e-6), (60, 1e-6)], True),
        ([(60, 1e-6), (1, 1e-3), (60, 1e-6)], False),
    ],
)
def test_hot_mode_needs_a_streak_of_cheap_tasks(batches, is_hot):
    assert policy_after(*batches).is_hot == is_hot


def test_cool_down_ends_hot_mode_until_the_next_cheap_task():
    policy = policy_after(HOT)
    policy.cool_down()
    assert not policy.is_hot
    policy.observe(1, 1e-6)
    assert policy.is_hot


@pytest.mark.parametrize(
    ("batches", "all_are_busy", "timeout"),
    [
        ([], False, STALL_AFTER),
        ([], True, STALL_AFTER),
        ([(1, 1e-3)], False, STALL_AFTER),
        ([(1, 1e-3)], True, STALL_AFTER + 4e-3),
        ([(1, 1.0)], True, STALL_AFTER + 20e-3),
        ([HOT], True, 3 * STALL_AFTER),
        ([HOT], False, 3 * STALL_AFTER),
    ],
)
def test_stall_timeout_is_longer_while_no_worker_is_idle(batches, all_are_busy, timeout):
    assert policy_after(*batches).stall_timeout(all_are_busy=all_are_busy) == pytest.approx(timeout)


@pytest.mark.parametrize(("seconds", "are_long"), [(None, False), (1e-3, False), (1.1e-3, True)])
def test_tasks_are_long_above_a_millisecond(seconds, are_long):
    assert policy_after(*[(1, seconds)] if seconds else []).tasks_are_long == are_long


def test_stall_counts_as_a_long_task():
    policy = policy_after((100, 1e-6))
    policy.observe_stall()
    assert policy.tasks_are_long
    assert policy.depth() == 1


@pytest.mark.parametrize(("held", "seconds"), [(0, 0.0), (63, 0.0), (64, 32e-6), (1000, 500e-6)])
def test_nap_grows_with_the_calls_that_a_worker_holds(held, seconds):
    assert BatchPolicy().nap(held) == pytest.approx(seconds)
