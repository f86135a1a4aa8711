"""`verify_resume` with a store in memory: at which points it crashes a pipeline, and what it finds."""

from __future__ import annotations

import itertools

import pytest
from element_store import ElementStore

from flowkit_core import DAG, Skip, Task, current
from flowkit_core.simulation import verify_resume as module
from flowkit_core.testing import verify_resume


@pytest.fixture(autouse=True)
def store(monkeypatch):
    """The store that `verify_resume` uses instead of a `StateManager`."""
    monkeypatch.setattr(module, "state_manager", lambda _: ElementStore)


def verify(*tasks, **options):
    return verify_resume(DAG("numbers", tasks=tasks), progress=False, **options)


def chain():
    first = Task(lambda: [1, 2, 3], name="first")
    return first >> Task(sum, name="middle") >> Task(lambda middle: middle + 1, name="last")


def test_every_point_is_verified():
    verified = verify(chain())
    assert repr(verified) == "Verified(points=4, tasks=3)"
    assert (verified.points, verified.total, verified.tasks) == (4, 4, 3)


def test_elements_and_retries_are_points():
    attempts = itertools.count()

    def parse(row):
        if row == 1:
            raise Skip("odd")
        return row

    def flaky(parse):
        if next(attempts) % 2 == 0:
            raise ValueError("no")
        return parse

    rows = Task(lambda: [0, 1, 2], name="rows")
    last = rows >> Task(parse).map() >> Task(flaky, retries=3, delay=0)
    assert verify(last).total == 1 + 1 + 3 + 1 + 2


def test_lazy_inputs_and_dropped_elements_are_verified():
    def halve(row):
        return 6 // row

    rows = Task(lambda: iter([3, 0, 2]), name="rows")
    last = rows >> Task(halve).map(errors="drop") >> Task(lambda halve: halve, name="last")
    assert verify(last).points > 5


def test_notes_are_kept_over_the_crash():
    def count():
        number = current().notes.get("number", 0) + 1
        current().remember("number", number)
        return "counted"

    assert verify(Task(count)).total == 2


def test_result_that_depends_on_the_number_of_calls_is_found():
    numbers = itertools.count()
    first = Task(lambda: next(numbers), name="first")
    with pytest.raises(AssertionError, match=r"'first' returned \d+, not 0: it depends on something other than"):
        verify(first)


def test_state_that_depends_on_the_number_of_calls_is_found():
    numbers = itertools.count()

    def condition():
        return next(numbers) == 0

    with pytest.raises(AssertionError, match="'first' ended as skipped, not as succeeded"):
        verify(Task(lambda: 1, name="first", when=condition))


def test_record_that_is_not_used_is_found(monkeypatch):
    from element_store import Journal

    make = Journal.__init__

    def forget(self, *args):
        make(self, *args)
        self.done = {}

    monkeypatch.setattr(Journal, "__init__", forget)
    with pytest.raises(AssertionError, match="resuming 'numbers' ran 'first' again"):
        verify(chain())


def test_budget_limits_the_points(monkeypatch):
    clock = itertools.count(step=1.0)
    monkeypatch.setattr(module, "monotonic", lambda: next(clock))
    verified = verify(chain(), budget=1.5, seed=3)
    assert repr(verified) == "Verified(points=1 of 4, tasks=3)"
    for budget, kind in ((0, ValueError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(kind, match=r"verify_resume\(budget=...\)"):
            verify(chain(), budget=budget)


def test_progress_is_shown_on_standard_error(monkeypatch, capsys):
    clock = itertools.count(step=1.5)
    monkeypatch.setattr(module, "monotonic", lambda: next(clock))
    verify_resume(DAG("numbers", tasks=[chain()]))
    assert capsys.readouterr().err.startswith("verify_resume: 1 of 4 points, 3 s\n")


def test_error_of_the_pipeline_itself_is_raised():
    with pytest.raises(ZeroDivisionError):
        verify(Task(lambda: 1 / 0, name="first"))
