"""The checker of simulations finds pools, rates and priorities that are broken on purpose."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, Rate, Task
from flowkit_core.runs.limits.admission import Admission
from flowkit_core.runs.limits.rate import StartTimes
from flowkit_core.simulation.lane import SimulatedLane
from flowkit_core.testing import Fail, simulate_many


def pipeline():
    """Return a pipeline with tasks that need one slot, several, slots of two pools, and a rate."""
    claims = ["db", {"db": 2}, ["db", "api"], "api", "db", {"db": 2, "api": 1}]
    tasks = [Task(lambda: 1, name=f"t{number}", pool=claim) for number, claim in enumerate(claims * 2)]
    tasks.append(Task(lambda: 1, name="high", priority=1))
    tasks.append(Task(lambda: 1, name="timed", timeout=0.5, pool="db", retries=1, delay=0))
    return DAG("limited", tasks=tasks, pools={"db": 2, "api": Rate(1, per=2)})


def start_without_slots(monkeypatch):
    monkeypatch.setattr(Admission, "_fits", lambda self, claim, now: True)


def forget_starts(monkeypatch):
    monkeypatch.setattr(StartTimes, "add", lambda self, now, amount: None)


def overtake(monkeypatch):
    monkeypatch.setattr(Admission, "_is_behind", lambda self, claim: False)


def return_one_at_a_time(monkeypatch):
    original = Admission._call_fitting
    monkeypatch.setattr(Admission, "_call_fitting", lambda self, now: original(self, now)[:1])


def lose_waiting_jobs(monkeypatch):
    monkeypatch.setattr(Admission, "_call_fitting", lambda self, now: [])


def release_slots_of_abandoned_attempts(monkeypatch):
    original = Admission.end
    monkeypatch.setattr(Admission, "end", lambda self, claim, attempt, is_abandoned: original(self, claim, attempt))


def start_in_any_order(monkeypatch):
    monkeypatch.setattr(SimulatedLane, "_take", lambda self: self._ready.pop(-1))


@pytest.mark.parametrize(
    "break_it",
    [
        start_without_slots,
        forget_starts,
        overtake,
        return_one_at_a_time,
        lose_waiting_jobs,
        release_slots_of_abandoned_attempts,
        start_in_any_order,
    ],
)
def test_checker_finds(monkeypatch, break_it):
    options = {"seeds": range(30), "durations": (0.1, 1), "faults": [Fail("t1")], "fail_fast": False, "workers": 4}
    simulate_many(pipeline(), **options)
    break_it(monkeypatch)
    with pytest.raises(AssertionError, match="repeat it with: simulate"):
        simulate_many(pipeline(), **options)
