"""A resumed run pulls lazy inputs again, and calls only the elements that are missing or have changed."""

from __future__ import annotations

import pytest
from element_tasks import named

from flowkit import DAG, Skip, StateManager, Task


@pytest.fixture
def state(tmp_path):
    with StateManager(tmp_path / "runs.db") as state:
        yield state


def lazy_pipeline(elements, numbers, executor="serial"):
    """Return a pipeline whose generator notes how many elements it has yielded."""

    def rows():
        for number in numbers:
            elements.yielded = number
            yield number

    source, each = Task(rows), elements.task("each")
    source >> each.map()
    return DAG("lazy", tasks=[each])


@pytest.mark.parametrize("kind", ["serial", "thread"])
def test_generator_is_pulled_again_and_its_elements_are_compared(elements, state, kind):
    elements.inject("each-3", "fail")
    results = lazy_pipeline(elements, range(1000)).run(kind, state=state, raise_on_failure=False)
    assert results.elements["each"].counts["failed"] == 1
    assert elements.yielded < 999
    (record,) = state.runs("lazy")
    assert record.tasks["each"].elements.size is None
    ended = [number for number, state in record.tasks["each"].elements.states.items() if state == "succeeded"]
    elements.inject("each-3", None)
    elements.calls("each")
    results = lazy_pipeline(elements, range(6)).run(kind, state=state, resume=True)
    assert results == {"each": named("each", 6)}
    assert results.elements["each"].resumed == [number for number in ended if number < 6]
    assert elements.calls("each") == [number for number in range(6) if number not in ended]
    assert state.run(results.run_id).tasks["each"].elements.size == 6


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_equal_elements_are_the_same_whether_or_not_their_parts_are_one_object(elements, tmp_path, serializer):
    def rows():
        part = str(12345)
        other = part if shared else str(12345)
        yield from ([part, other, number] for number in range(4))

    shared, each = [True], elements.task("each")
    Task(rows, name="rows") >> each.map()
    dag = DAG("parts", tasks=[each])
    with StateManager(tmp_path / "parts.db", serializer=serializer) as state:
        elements.inject("each-2", "fail")
        dag.run("serial", state=state, raise_on_failure=False)
        elements.inject("each-2", None)
        elements.calls("each")
        shared.clear()
        dag.run("serial", state=state, resume=True)
    assert elements.calls("each") == [2, 3]


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value, value]
    return value


def test_elements_whose_parts_are_one_object_very_often_are_compared(tmp_path):
    repaired, calls = [], []

    def rows():
        yield from (nested(100), nested(101), [])

    def each(row):
        calls.append(len(row))
        if len(calls) == 3 and not repaired:
            raise ValueError("not repaired")

    mapped = Task(each, name="each")
    Task(rows, name="rows") >> mapped.map()
    dag = DAG("nested", tasks=[mapped])
    with StateManager(tmp_path / "nested.db", serializer="pickle") as state:
        dag.run("serial", state=state, raise_on_failure=False)
        assert len(calls) == 3
        repaired.append(True)
        assert dag.run("serial", state=state, resume=True).elements["each"].resumed == [0, 1]
    assert len(calls) == 4


def test_generator_with_other_elements_calls_the_task_for_them(elements, state):
    elements.inject("each-3", "fail")
    lazy_pipeline(elements, range(6)).run("serial", state=state, raise_on_failure=False)
    elements.inject("each-3", None)
    elements.calls("each")
    results = lazy_pipeline(elements, (0, 7, 2, 3)).run("serial", state=state, resume=True)
    assert results["each"] == [["each", 0], ["each", 7], ["each", 2], ["each", 3]]
    assert elements.calls("each") == [3, 7]


def test_generator_that_raises_is_recorded_as_failed(elements, state):
    def rows():
        yield 0
        yield 1
        if not repaired:
            raise ConnectionError("lost")
        yield 2

    repaired = []
    source, each = Task(rows), elements.task("each")
    source >> each.map()
    dag = DAG("raises", tasks=[each])
    with pytest.raises(ConnectionError):
        dag.run("serial", state=state)
    (record,) = state.runs("raises")
    assert (record.tasks["rows"].state, record.tasks["each"].state) == ("failed", "upstream_failed")
    assert record.tasks["each"].elements.counts == {"succeeded": 2}
    repaired.append(True)
    assert dag.run("serial", state=state, resume=True)["each"] == named("each", 3)
    assert elements.calls("each") == [0, 1, 2]


def test_generator_of_a_complete_map_is_not_called_again(elements, state):
    calls = []

    def rows():
        calls.append("rows")
        yield from range(3)

    source, each, last = Task(rows), elements.task("each"), Task(lambda each: 1 / 0, name="last")
    source >> each.map() >> last
    dag = DAG("complete", tasks=[last])
    for _ in range(2):
        results = dag.run("serial", state=state, resume=True, raise_on_failure=False)
    assert results.resumed == ("rows", "each")
    assert results["each"] == named("each", 3)
    assert calls == ["rows"]


def test_element_with_a_default_for_a_skipped_source_is_taken_over(state):
    def rows():
        yield from range(8)

    def odd(row):
        if row % 2 == 0:
            raise Skip("even")
        return row

    def each(row=None):
        seen.append(row)
        if row == 5 and not repaired:
            raise ValueError(row)
        return row

    seen, repaired = [], []
    source, first, second = Task(rows), Task(odd), Task(each)
    source >> first.map() >> second.map()
    dag = DAG("defaults", tasks=[second])
    dag.run("serial", state=state, raise_on_failure=False)
    assert seen == [None, 1, None, 3, None, 5]
    repaired.append(True)
    seen.clear()
    results = dag.run("serial", state=state, resume=True)
    assert seen == [5, None, 7]
    assert results["each"] == [None, 1, None, 3, None, 5, None, 7]
