"""The checker of simulations finds mapped tasks that are broken on purpose."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, Skip, Task
from flowkit_core.runs.mapping.mapped_run import MappedNodes
from flowkit_core.runs.mapping.region_input import RegionInput
from flowkit_core.runs.mapping.stage import Stage
from flowkit_core.runs.states import SKIPPED, SUCCEEDED
from flowkit_core.testing import simulate_many


def only_even(row):
    if row % 2:
        raise Skip("odd")
    return [row]


async def wait(row):
    return [row]


def pipeline():
    """Return a pipeline with a chain, a zip with a filter, a limit, a lazy input, and an async mapped task."""
    rows = Task(lambda: list(range(6)), name="rows")
    lazy = Task(lambda: iter(range(6)), name="lazy")
    first = Task(lambda row: [row], name="first", retries=1, delay=1)
    second = Task(lambda row: [row], name="second")
    even = Task(only_even, name="even")
    pair = Task(lambda one, two: [one, two], name="pair")
    slow = Task(wait, name="slow")
    end = Task(lambda second, pair, slow: 0, name="end")
    clean_up = Task(lambda: 0, name="clean_up", trigger="all_done")
    rows >> first.map(limit=2) >> second.map(errors="drop")
    rows >> even.map()
    [even, rows] >> pair.map()
    lazy >> slow.map(errors="return")
    [second, pair, slow] >> end >> clean_up
    return DAG("maps", tasks=[clean_up])


def wrap(monkeypatch, owner, name, change):
    """Replace a method by ``change(original)``."""
    monkeypatch.setattr(owner, name, change(getattr(owner, name)))


def lose_an_element(monkeypatch):
    wrap(monkeypatch, RegionInput, "pull", lambda pull: lambda self: (pull(self), pull(self))[1])


def give_another_number(monkeypatch):
    def change(pull):
        def other(self):
            pulled = pull(self)
            return None if pulled is None else (pulled[0] ^ 1, pulled[1])

        return other

    wrap(monkeypatch, RegionInput, "pull", change)


def ignore_the_limit(monkeypatch):
    monkeypatch.setattr(Stage, "limit", None)


def pair_what_is_left(monkeypatch):
    wrap(
        monkeypatch,
        Stage,
        "column",
        lambda column: lambda self: sorted(column(self), key=lambda item: hasattr(item, "state")),
    )


def forget_a_failure(monkeypatch):
    monkeypatch.setattr(Stage, "raises", lambda self, error: False)


def keep_failures(monkeypatch):
    monkeypatch.setattr(Stage, "errors", "return")


def reverse_the_result(monkeypatch):
    def change(outcome):
        def other(self, *args):
            result = outcome(self, *args)
            return result[::-1] if isinstance(result, list) else result

        return other

    wrap(monkeypatch, Stage, "outcome", change)


def end_too_early(monkeypatch):
    def change(leave):
        def other(self, region, jobs, *, count=1):
            active, region.active = region.active, 0
            jobs = leave(self, region, jobs, count=count)
            region.active = active
            return jobs

        return other

    wrap(monkeypatch, MappedNodes, "leave", change)


def skip_a_stage(monkeypatch):
    def change(value_for_next):
        def other(self, number):
            self.codes[number] = SUCCEEDED if self.codes[number] != SKIPPED else SKIPPED
            return [number]

        return other

    wrap(monkeypatch, Stage, "value_for_next", change)


def start_after_the_stop(monkeypatch):
    def change(call):
        def other(self, element):
            phase, self.run.phase = self.run.phase, 0
            found = call(self, element)
            self.run.phase = phase
            return found

        return other

    wrap(monkeypatch, MappedNodes, "call", change)
    monkeypatch.setattr(MappedNodes, "mark_started", lambda self, element, *, already, attempt: None)


@pytest.mark.parametrize(
    "break_it",
    [
        lose_an_element,
        give_another_number,
        ignore_the_limit,
        pair_what_is_left,
        forget_a_failure,
        keep_failures,
        reverse_the_result,
        end_too_early,
        skip_a_stage,
        start_after_the_stop,
    ],
)
def test_checker_finds(monkeypatch, break_it):
    options = {"seeds": range(40), "fault_rate": 0.1, "pure": True}
    simulate_many(pipeline(), **options)
    break_it(monkeypatch)
    with pytest.raises(AssertionError, match="repeat it with: simulate"):
        simulate_many(pipeline(), **options)
