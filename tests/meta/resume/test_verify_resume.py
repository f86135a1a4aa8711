"""`flowkit.testing.verify_resume`."""

from __future__ import annotations

import itertools
from pathlib import Path

import durable_tasks
import pytest
from durable_tasks import Box, diamond, record_execution, step

from flowkit import DAG, Flow, StateManager, Task, current
from flowkit.testing import verify_resume


def amount(number_or_names):
    return number_or_names if isinstance(number_or_names, int) else len(number_or_names)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_resumable_pipeline_is_verified_with_every_executor(box, executor):
    verified = verify_resume(diamond(), executor=executor, params=box.params)
    assert amount(verified.tasks) == 4
    assert amount(verified.points) >= 4


def test_run_is_interrupted_at_every_recorded_point(box):
    tasks = [box.task(name) for name in "abcd"]
    for before, after in itertools.pairwise(tasks):
        before >> after
    verified = verify_resume(DAG("chain", tasks=tasks[3:]))
    assert amount(verified.tasks) == 4
    assert amount(verified.points) >= 4
    assert set(box.ran) == set("abcd")
    assert box.ran.count("d") >= 4


def test_flow_is_verified(box):
    flow = Flow("numbers").add(Task(durable_tasks.extract)).add(Task(durable_tasks.double))
    assert amount(verify_resume(flow, params=box.params).tasks) == 2


def test_pipeline_without_tasks_is_verified():
    assert amount(verify_resume(DAG("empty", tasks=[])).tasks) == 0


def test_skips_retries_triggers_and_large_results_are_verified(box):
    folder = box.folder

    def flaky():
        record_execution(folder, "flaky")
        if Box(folder).ran.count("flaky") % 2:
            raise ValueError("every other time")
        return "x" * 2**20

    def use(flaky, optional="none"):
        return step(folder, "use", (len(flaky), optional))

    first, optional = Task(flaky, retries=1, delay=0), box.task("optional", when=lambda: False)
    second, tidy = Task(use), box.task("tidy", trigger="all_done")
    alarm = box.task("alarm", trigger="one_failed")
    first >> second
    optional >> second >> tidy
    second >> alarm
    verified = verify_resume(DAG("mixed", tasks=[tidy, alarm]))
    assert amount(verified.tasks) == 5


def test_cached_tasks_are_verified(box):
    verified = verify_resume(diamond(cache=True), params=box.params)
    assert amount(verified.tasks) == 4


def test_object_results_are_verified_with_pickle_serializer(box):
    first, second = Task(durable_tasks.point), Task(durable_tasks.shift)
    first >> second
    assert amount(verify_resume(DAG("points", tasks=[second]), params=box.params, serializer="pickle").tasks) == 2


def test_verification_leaves_no_files(box, monkeypatch):
    temporary, here = Path(box.folder, "temporary"), Path(box.folder, "here")
    temporary.mkdir()
    here.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(here)
    verify_resume(diamond(), params=box.params)
    assert list(temporary.iterdir()) == []
    assert list(here.iterdir()) == []


def test_repr_of_verified_has_number_of_tasks(box):
    verified = verify_resume(diamond(), params=box.params)
    assert "4" in repr(verified)


def test_result_that_depends_on_hidden_state_raises(box):
    folder = box.folder

    def first():
        return step(folder, "first", 1)

    def second(first):
        record_execution(folder, "second")
        return first + len(Box(folder).ran)

    tasks = Task(first), Task(second)
    tasks[0] >> tasks[1]
    with pytest.raises(AssertionError) as caught:
        verify_resume(DAG("hidden", tasks=tasks[1:]))
    sentence = str(caught.value)
    assert "second" in sentence
    assert len(sentence.split()) > 5


def test_result_that_is_random_raises(box):
    def random():
        import secrets

        return secrets.token_hex()

    with pytest.raises(AssertionError, match="random"):
        verify_resume(DAG("random", tasks=[Task(random), box.task("other")]))


def test_unstorable_result_raises(box):
    first, second = Task(durable_tasks.point), Task(durable_tasks.shift)
    first >> second
    with pytest.raises((AssertionError, TypeError), match="point"):
        verify_resume(DAG("points", tasks=[second]), params=box.params)


def test_unrecorded_task_may_run_again():
    first, second = Task(object, name="first", record=False), Task(lambda first: 1, name="second")
    first >> second
    assert verify_resume(DAG("unrecorded", tasks=[second])).points == 3


def test_pipeline_that_fails_raises_its_error(box):
    box.inject("double", "fail")
    with pytest.raises((AssertionError, ValueError), match="double is broken"):
        verify_resume(diamond(), params=box.params)


def test_verification_does_not_use_state_of_user(box):
    with StateManager(box.db) as state:
        diamond().run("serial", state=state, params=box.params)
        verify_resume(diamond(), params=box.params)
        assert len(state.runs()) == 1


def wide(calls):
    tasks = [Task(lambda number=number: calls.append(number), name=f"t{number}") for number in range(12)]
    return DAG("wide", tasks=tasks)


def test_budget_limits_the_points_which_are_chosen_at_random(monkeypatch, capsys):
    """With a clock that advances by one second at each look."""
    clock = itertools.count()
    monkeypatch.setattr("flowkit_core.simulation.verify_resume.monotonic", lambda: float(next(clock)))
    orders = []
    for seed in (1, 1, 2):
        calls = []
        verified = verify_resume(wide(calls), budget=4, seed=seed)
        assert (verified.points, verified.total, verified.tasks) == (3, 13, 12)
        assert repr(verified) == "Verified(points=3 of 13, tasks=12)"
        orders.append(calls)
    assert orders[0] == orders[1] != orders[2]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "verify_resume: 1 of 13 points, 2 s"
    verify_resume(wide([]), progress=False)
    assert capsys.readouterr().err == ""


def test_at_least_one_point_is_verified_whatever_the_budget():
    assert verify_resume(wide([]), budget=1e-9).points == 1
    assert repr(verify_resume(wide([]), budget=3600)) == "Verified(points=13, tasks=12)"


@pytest.mark.parametrize(("budget", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)])
def test_invalid_budget_raises(budget, error):
    with pytest.raises(error, match="budget"):
        verify_resume(wide([]), budget=budget)


def test_notes_are_verified(box):
    def submit():
        if "job" not in current().notes:
            current().remember("job", 17)
        return current().notes["job"]

    assert verify_resume(DAG("jobs", tasks=[Task(submit)])).points == 2


def test_elements_of_mapped_tasks_are_points(tmp_path):
    """The points: before anything, two tasks that are not mapped, the lists of two maps, and their six elements."""
    rows, first = Task(lambda: [1, 2, 3], name="rows"), Task(lambda row: row + 1, name="first")
    second, total = Task(lambda value: value * 2, name="second"), Task(sum, name="total")
    rows >> first.map() >> second.map() >> total
    verified = verify_resume(DAG("maps", tasks=[total]))
    assert (verified.points, verified.tasks) == (1 + 2 + 2 + 6, 4)


def test_recorded_element_that_runs_again_is_an_error():
    """The element is not comparable, and its input is made again."""
    rows, each = Task(lambda: [object(), object()], name="rows", record=False), Task(lambda row: 1, name="each")
    rows >> each.map()
    with pytest.raises(AssertionError, match=r"ran 'each\[[01]\]' again"):
        verify_resume(DAG("again", tasks=[each]))


def test_elements_of_a_task_that_is_not_recorded_may_run_again():
    rows, each = Task(lambda: [1, 2], name="rows"), Task(lambda row: row, name="each", record=False)
    rows >> each.map()
    assert verify_resume(DAG("unrecorded", tasks=[each])).tasks == 2
