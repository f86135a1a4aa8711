"""Results that can be recorded, and those that cannot."""

from __future__ import annotations

import collections.abc
import datetime as dt
import decimal
import typing
from collections import Counter
from pathlib import Path

import durable_tasks
import pytest
from durable_tasks import Point, PointSerializer, step, task_states

from flowkit import DAG, StateError, StateManager, Task, UnsupportedValueError


@pytest.mark.parametrize(
    "value",
    [
        None,
        False,
        "",
        (1, (2, [3])),
        {"b": {1, 2}, 1: frozenset("x")},
        b"\x00\xff",
        dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC),
        decimal.Decimal("1.10"),
        Path("a/b"),
        float("inf"),
        1j,
        "\ud800 lone",
        10**400,
    ],
    ids=str,
)
def test_recorded_value_is_equal_after_resume(box, value):
    folder = box.folder

    def make():
        return step(folder, "make", value)

    def use(made):
        return step(folder, "use", repr(made))

    first, second = Task(make), Task(use)
    first >> second
    box.inject("use", "fail")
    box.failing_run(DAG("values", tasks=[second]))
    box.repair("use")
    results = DAG("values", tasks=[second]).run("serial", state=box.db, resume=True)
    assert results["make"] == value
    assert type(results["make"]) is type(value)
    assert results["use"] == repr(value)
    assert box.ran == ["make", "use", "use"]


def test_value_is_recorded_before_downstream_mutates_it(box):
    folder = box.folder

    def rows():
        return step(folder, "rows", [1])

    def append(rows):
        rows.append(2)
        return step(folder, "append", len(rows))

    first, second = Task(rows), Task(append)
    first >> second
    pipeline = DAG("mutation", tasks=[second])
    box.inject("append", "fail")
    box.failing_run(pipeline)
    box.repair("append")
    assert pipeline.run("serial", state=box.db, resume=True)["append"] == 2
    assert box.records()[0].tasks["rows"].result() == [1]


def unstorable(kind, folder):
    def a_lambda():
        return step(folder, "made", lambda: 1)

    def a_generator():
        return step(folder, "made", (number for number in range(3)))

    def an_open_file():
        return step(folder, "made", OPEN[0])

    def an_object():
        return step(folder, "made", Point(1))

    return {"lambda": a_lambda, "generator": a_generator, "file": an_open_file, "object": an_object}[kind]


OPEN = []  # the open file of a test, which closes it


@pytest.fixture(params=["lambda", "generator", "file", "object"])
def pipeline(request, box):
    """A pipeline of which one result cannot be recorded."""
    with Path(__file__).open() as file:
        OPEN[:] = [file]
        folder = box.folder

        def use(made):
            return step(folder, "use", type(made).__name__)

        before, made = box.task("before"), Task(unstorable(request.param, folder), name="made")
        after, tidy = Task(use), box.task("tidy", trigger="all_done")
        before >> Task(lambda before: None, name="between") >> made >> after >> tidy
        yield DAG("pipeline", tasks=[tidy])
        OPEN.clear()


def test_unstorable_result_fails_run_and_keeps_results(box, pipeline):
    with pytest.raises(UnsupportedValueError) as caught:
        pipeline.run("serial", state=box.db, state_errors="raise")
    error = caught.value
    assert any("made" in note for note in error.__notes__)
    results = error.flowkit_results
    assert results["before"] == "before"
    assert results["made"] is not None, "computed results are kept"
    assert box.ran == ["before", "made", "tidy"], "clean-up tasks run"
    (record,) = box.records()
    assert record.status == "failed"
    recorded = task_states(record)
    assert (recorded["before"], recorded["tidy"]) == ("succeeded", "succeeded")
    assert recorded["made"] == "succeeded"
    with pytest.raises(UnsupportedValueError):
        pipeline.run("serial", state=box.db, resume=True, state_errors="raise")
    assert Counter(box.ran) == {"before": 1, "made": 2, "tidy": 1}


@pytest.mark.parametrize("state_errors", [None, "warn"])
def test_unstorable_result_is_warning(box, pipeline, state_errors):
    with pytest.warns(RuntimeWarning, match="made") as warned:
        results = pipeline.run("serial", state=box.db, state_errors=state_errors)
    assert [warning.category for warning in warned if warning.category is not ResourceWarning] == [RuntimeWarning]
    assert box.ran == ["before", "made", "use", "tidy"]
    assert results.states["made"] == "succeeded"
    assert results["use"]
    (record,) = box.records()
    assert (record.status, set(task_states(record).values())) == ("succeeded", {"succeeded"})
    assert record.tasks["made"].reason.startswith("its result could not be recorded: UnsupportedValueError: ")
    assert len(record.tasks["made"].attempts) == 1
    with StateManager(box.db) as state, pytest.raises(LookupError, match="was not recorded: its result could not be"):
        state.run(record.run_id).tasks["made"].result()


def test_task_with_unstorable_result_runs_again_on_resume(box, pipeline):
    box.inject("use", "fail")
    with pytest.warns(RuntimeWarning, match="made"):
        box.failing_run(pipeline, state_errors="warn")
    box.repair("use")
    with pytest.warns(RuntimeWarning, match="made"):
        results = pipeline.run("serial", state=box.db, state_errors="warn", resume=True)
    assert results["use"]
    assert Counter(box.ran) == {"before": 1, "made": 2, "use": 2, "tidy": 1}


def test_unstorable_result_fails_run_with_every_executor(box, executor):
    first, second = Task(durable_tasks.point), Task(durable_tasks.shift)
    first >> second
    pipeline = DAG("points", tasks=[second])
    with pytest.raises(UnsupportedValueError) as caught:
        pipeline.run(executor, state=box.db, params=box.params, state_errors="raise")
    assert any("point" in note for note in caught.value.__notes__)
    assert caught.value.flowkit_results == {"point": Point(7)}
    assert box.ran == ["point"]


def test_pickle_serializer_records_object(box, executor):
    first, second = Task(durable_tasks.point), Task(durable_tasks.shift)
    first >> second
    pipeline = DAG("points", tasks=[second])
    with StateManager(box.db, serializer="pickle") as state:
        box.inject("shift", "fail")
        with pytest.raises(ValueError, match="shift is broken"):
            pipeline.run(executor, state=state, params=box.params)
        box.repair("shift")
        results = pipeline.run(executor, state=state, params=box.params, resume=True)
    assert results == {"point": Point(7), "shift": 8}
    assert box.ran == ["point", "shift", "shift"]


@pytest.mark.parametrize("several", [False, True], ids=["one", "list"])
def test_serializer_of_type_records_object(box, several):
    """Also inside of containers."""
    folder = box.folder

    def points():
        return step(folder, "points", {"first": Point(1), "all": [Point(2), (Point(3), None)]})

    def use(points):
        return step(folder, "use", points["all"][1][0].x)

    first, second = Task(points), Task(use)
    first >> second
    pipeline = DAG("points", tasks=[second])
    serializer = [PointSerializer()] if several else PointSerializer()
    with StateManager(box.db, serializer=serializer) as state:
        box.inject("use", "fail")
        with pytest.raises(ValueError, match="use is broken"):
            pipeline.run("serial", state=state)
        box.repair("use")
        results = pipeline.run("serial", state=state, resume=True)
        state.set("point", Point(9))
        assert state.get("point") == Point(9)
    assert results == {"points": {"first": Point(1), "all": [Point(2), (Point(3), None)]}, "use": 3}
    assert box.ran == ["points", "use", "use"]


def test_missing_serializer_raises_on_resume(box):
    folder = box.folder

    def made():
        return step(folder, "made", Point(1))

    first, second = Task(made), box.task("second")
    first >> second
    pipeline = DAG("points", tasks=[second])
    box.inject("second", "fail")
    with StateManager(box.db, serializer=PointSerializer()) as state, pytest.raises(ValueError, match="second"):
        pipeline.run("serial", state=state)
    box.repair("second")
    with pytest.raises(StateError, match="point"):
        pipeline.run("serial", state=box.db, resume=True)
    with StateManager(box.db, serializer=PointSerializer()) as state:
        assert pipeline.run("serial", state=state, resume=True)["made"] == Point(1)
    assert box.ran == ["made", "second", "second"]


class ndarray:  # noqa: N801 - a stand-in for the class of NumPy
    pass


ndarray.__module__ = "numpy"


@pytest.mark.parametrize(
    "annotation",
    [
        collections.abc.Generator[int, None, None],
        collections.abc.Iterator[int],
        collections.abc.Callable[[], int],
        typing.Callable[[], int],
        typing.Generator[int, None, None],
        typing.Iterator[int],
        ndarray,
        list[ndarray],
        tuple[ndarray, ndarray],
    ],
    ids=str,
)
def test_annotation_of_unstorable_type_raises_before_any_task_runs(box, annotation):
    late = box.task("late")
    late.func.__annotations__["return"] = annotation
    early = box.task("early")
    early >> late
    with pytest.raises(UnsupportedValueError, match="late"):
        DAG("annotated", tasks=[late]).run("serial", state=box.db, state_errors="raise")
    assert box.ran == []
    DAG("annotated", tasks=[late]).run("serial")  # it is only checked with a state


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        None,
        "str",
        list[int],
        dict[str, tuple[int, ...]],
        int | None,
        typing.Any,
        object,
        Point,
        "Nowhere",
        collections.abc.Sequence[int],
        typing.TypeVar("T"),
    ],
    ids=str,
)
def test_annotation_of_other_type_is_accepted(box, annotation):
    only = box.task("only")
    only.func.__annotations__["return"] = annotation
    assert DAG("annotated", tasks=[only]).run("serial", state=box.db) == {"only": "only"}
