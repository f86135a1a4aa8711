"""Checks of pools, rates and priorities."""

from __future__ import annotations

import random
import time
from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.executors.executor import SerialExecutor
from flowkit_core.pipelines.task import Task
from flowkit_core.runs.limits.rate import Rate

from . import tasks
from .limit_tasks import most_taken, occupy, occupy_and_fail, occupy_and_return
from .trial import check, expect, expect_true, run_on

if TYPE_CHECKING:
    from flowkit_core._typing import Any

    from .trial import Trial

LONG = 30.0
"""Seconds that a call waits if nothing ends it."""
ENOUGH = 600.0
"""Seconds that no run takes."""


def _occupying(path: str, name: str, pools: dict[str, int], **options: Any) -> Task[..., Any]:
    return Task(partial(occupy, path, pools, 0.003), name=name, pool=pools, **options)


def _expect_limits(path: str, pools: dict[str, int]) -> None:
    taken = most_taken(path)
    for pool, size in pools.items():
        most = taken.get(pool, 0)
        expect_true(f"slots of pool {pool!r} that were taken at once", most <= size, f"at most {size}", most)


@check("lane")
def pools_limit_how_many_run_at_once(trial: Trial) -> None:
    """No more slots of a pool are taken at once than it has, by tasks that take one, several, or slots of two pools."""
    choose, pools = random.Random(1), {"few": 2, "many": 3}
    made: list[Task[..., Any]] = []
    for number in range(24):
        claim = choose.choice(({"few": 1}, {"many": 1}, {"few": 2}, {"few": 1, "many": 2}, {"many": 3}))
        made.append(_occupying(trial.path, f"t{number}", claim, priority=choose.choice((0, 0, 1))))
        if number > 5 and choose.random() < 0.5:
            made[choose.randrange(number)] >> made[-1]
    free = [Task(tasks.one, name=f"free_{number}") for number in range(3)]
    free[0] >> made[-1]
    results = trial.run(*made, *free, pools=pools)
    expect("number of results", len(results), 27)
    _expect_limits(trial.path, pools)


@check("lane")
def pool_is_shared_by_lanes(trial: Trial) -> None:
    """A pool limits tasks of several executors together."""
    made = [
        _occupying(trial.path, f"t{number}", {"db": 1}, executor="here" if number % 3 == 0 else None)
        for number in range(9)
    ]
    results = run_on({"default": trial.executor, "here": SerialExecutor()}, *made, pools={"db": 1})
    expect("number of results", len(results), 9)
    _expect_limits(trial.path, {"db": 1})


@check("lane")
def rate_limits_starts(trial: Trial) -> None:
    """No more attempts start in a period than the rate of their pool allows; retries count."""
    flaky = Task(partial(tasks.flaky, trial.path, 1), name="flaky", retries=1, delay=0, pool="api")
    others = [Task(tasks.one, name=f"t{number}", pool="api") for number in range(3)]
    began = time.monotonic()
    results = trial.run(flaky, *others, pools={"api": Rate(2, per=0.1)})
    took = time.monotonic() - began
    expect("number of results", len(results), 4)
    expect_true("duration of five starts, two in 0.1 s", took >= 0.2 - 1e-3, "0.2 s or more", f"{took:.3f} s")


@check("lane")
def rate_and_pool_apply_together(trial: Trial) -> None:
    """A task that names a pool and a rate needs a slot and a start."""
    claim = {"db": 1, "api": 1}
    made = [Task(partial(occupy, trial.path, {"db": 1}, 0.003), name=f"t{n}", pool=claim) for n in range(5)]
    began = time.monotonic()
    results = trial.run(*made, pools={"db": 1, "api": Rate(1, per=0.02)})
    took = time.monotonic() - began
    expect("number of results", len(results), 5)
    expect_true("duration of five starts, one in 0.02 s", took >= 0.08 - 1e-3, "0.08 s or more", f"{took:.3f} s")
    _expect_limits(trial.path, {"db": 1})


@check("lane")
def skipped_tasks_take_no_slots(trial: Trial) -> None:
    """A task whose condition is false does not count for a pool; the condition of one that waits is evaluated once."""
    made = [Task(tasks.one, name=f"t{number}", when=tasks.never, pool="api") for number in range(4)]
    results = trial.run(*made, Task(tasks.one, pool="api"), pools={"api": Rate(1, per=ENOUGH)})
    expect("tasks that ran", list(results), ["one"])
    counted = [
        Task(tasks.one, name=f"t{number}", when=partial(tasks.counted_condition, trial.path), pool="db")
        for number in range(6)
    ]
    expect("number of results", len(trial.run(*counted, pools={"db": 1})), 6)
    expect("evaluations of six conditions", trial.calls(), 6)


@check("lane")
def slot_is_free_while_a_task_waits_for_its_retry(trial: Trial) -> None:
    """A task that waits for a retry holds no slot."""
    waits = Task(partial(tasks.fail_until_counted, trial.path), name="a", retries=999, delay=0.01, backoff=1, pool="db")
    counts = Task(partial(tasks.counted, trial.path, 1), name="b", pool="db")
    results = trial.run(waits, counts, pools={"db": 1})
    expect("state of the task that is retried", results.states["a"], "succeeded")


@check("lane")
def slots_are_free_after_failures(trial: Trial) -> None:
    """A task that has failed gives its slots back, so that independent tasks and clean-up tasks run."""
    bad = [Task(partial(occupy_and_fail, trial.path, {"db": 1}), name=f"bad_{n}", pool="db") for n in range(3)]
    good = [_occupying(trial.path, f"good_{number}", {"db": 1}) for number in range(3)]
    clean = _occupying(trial.path, "clean", {"db": 1}, trigger="all_done")
    bad >> clean
    results = trial.run(clean, *good, pools={"db": 1}, fail_fast=False, raise_on_failure=False)
    expect("tasks that failed", sorted(results.failed), ["bad_0", "bad_1", "bad_2"])
    expect("tasks that ran", sorted(results), ["clean", "good_0", "good_1", "good_2"])
    _expect_limits(trial.path, {"db": 1})


@check("lane")
def stopped_run_ends_tasks_that_wait_for_a_pool(trial: Trial) -> None:
    """After a failure, tasks that wait for a pool end as cancelled, and clean-up tasks get their slots."""
    bad = Task(tasks.fail, name="bad", pool="db", priority=1)
    waiting = [Task(tasks.one, name=f"t{number}", pool="db") for number in range(5)]
    clean = Task(tasks.collect, name="clean", trigger="all_done", pool="db")
    [bad, *waiting] >> clean
    error = trial.raised(tasks.OwnError, clean, pools={"db": 1})
    states = error.flowkit_results.states
    expect("state of the clean-up task", states["clean"], "succeeded")
    ended = {states[task.name] for task in waiting}
    expect_true("states of tasks that waited", ended <= {"cancelled", "succeeded"}, "cancelled, or succeeded", ended)


@check("lane")
def retry_after_a_timeout_uses_the_slot(trial: Trial) -> None:
    """A task whose attempt timed out is retried with its own slot, also if the first attempt goes on in a thread."""
    path = trial.path
    slow = Task(partial(tasks.first_call_waits, path, LONG), name="slow", timeout=0.5, retries=9, delay=0, pool="db")
    late = Task(partial(tasks.release_and_sleep, path, 0.01), name="late")
    end = Task(tasks.collect, name="end")
    slow >> late >> end
    results = trial.run(end, pools={"db": 1})
    calls = results["slow"]
    expect("results", results, {"slow": calls, "late": calls, "end": (calls,)})
    expect_true("attempts", results.attempts["slow"] > 1, "more than 1", results.attempts["slow"])


@check("lane")
def priorities_change_no_results(trial: Trial) -> None:
    """Priorities decide what starts first, and nothing else."""
    one = Task(tasks.one, priority=-3)
    made = [Task(tasks.add_one, name=f"t{number}", priority=number % 3) for number in range(20)]
    end = Task(tasks.collect, name="end", priority=9)
    one >> made >> end
    expect("result", trial.run(end)["end"], (2,) * 20)


@check("lane")
def elements_of_a_mapped_task_need_slots(trial: Trial) -> None:
    """Each element of a mapped task takes its slots: for every attempt, and while it runs only."""
    rows = Task(partial(tasks.value_of, list(range(12))), name="rows")
    parse = Task(partial(occupy_and_return, trial.path, {"db": 1}), name="parse", pool="db", retries=1, delay=0)
    clean = Task(tasks.value_of, name="clean", pool={"db": 2})
    end = Task(tasks.value_of, name="end")
    rows >> parse.map() >> clean.map() >> end
    expect("result", trial.run(end, pools={"db": 2})["end"], list(range(12)))
    _expect_limits(trial.path, {"db": 2})
