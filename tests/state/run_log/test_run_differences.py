"""The differences between two recorded runs: `RunRecord.diff`."""

from __future__ import annotations

import pickle

import pytest
from recorded_runs import TASKS, UPSTREAM, begin, element, extract, open_map, other, planned, record


def run(state, run_id, values=([1], [2]), *, tasks=TASKS, upstream=UPSTREAM, params=None, states=("succeeded",) * 2):
    journal = begin(state, run_id, tasks=tasks, upstream=upstream, params=params)
    for index, (value, name) in enumerate(zip(values, states, strict=True)):
        record(journal, index, value, name, seconds=index + 0.5)
    journal.close("succeeded", [], None)
    return state.run(run_id)


def test_equal_runs_have_no_difference(state):
    difference = run(state, "a", params={"day": 1}).diff(run(state, "b", params={"day": 1}))
    assert not difference
    assert str(difference) == "no difference"
    assert difference.durations == {"extract": (0.5, 0.5), "transform": (1.5, 1.5)}


def test_difference_names_parameters_states_and_results(state):
    first = run(state, "a", ([1], [2]), params={"day": 1, "gone": True, "kept": "x"})
    second = run(state, "b", ([3], None), params={"day": 1.0, "kept": "x"}, states=("succeeded", "failed"))
    difference = first.diff(second)
    assert difference
    assert difference.params == {"day": (1, 1.0), "gone": (True, None)}
    assert difference.states == {"transform": ("succeeded", "failed")}
    assert difference.results == ("extract",)
    assert str(difference).splitlines() == [
        "parameter day: 1 -> 1.0",
        "parameter gone: True -> not given",
        "task transform succeeded -> failed",
        "the result of extract is different",
    ]
    assert repr(difference).startswith("<RunDiff parameter day: 1 -> 1.0; ")


def test_parameter_whose_value_is_none_was_given(state):
    difference = run(state, "a", params={}).diff(run(state, "b", params={"day": None}))
    assert difference.params == {"day": (None, None)}
    assert str(difference) == "parameter day: not given -> None"


def test_unrecorded_parameters_are_compared_as_text(state):
    class Source:
        def __init__(self, name):
            self.name = name

        def __repr__(self):
            return f"Source({self.name})"

    first = run(state, "a", params={"one": Source("x"), "two": Source("y")})
    second = run(state, "b", params={"one": Source("x"), "two": Source("z")})
    assert list(first.diff(second).params) == ["two"]


def test_difference_names_changes_of_the_pipeline(state):
    first = run(
        state,
        "a",
        ([1], [2], [3]),
        tasks=[*TASKS, planned("old", extract)],
        upstream=[(), (0,), ()],
        states=("succeeded",) * 3,
    )
    tasks = [planned("new", extract), TASKS[0], planned("transform", other)]
    second = run(state, "b", ([3], [1], [2]), tasks=tasks, upstream=[(), (), ()], states=("succeeded",) * 3)
    difference = first.diff(second)
    assert (difference.added, difference.removed) == (("new",), ("old",))
    assert difference.changed["transform"][0].startswith("function recorded_runs.other is new")
    assert difference.changed["transform"][-1] == "it no longer has the upstream 'extract'"
    assert "task new was added" in str(difference)
    assert "task old was removed" in str(difference)


def test_difference_counts_elements(state):
    found = []
    for run_id, state_of_second in (("a", "failed"), ("b", "succeeded")):
        journal = begin(state, run_id)
        rows = open_map(journal, 2)
        second = element(rows, 1, 2, 20, state_of_second, error=ValueError("no"))
        journal.record_elements([element(rows, 0, 1, 10), second])
        journal.close("failed", [], None)
        found.append(state.run(run_id))
    difference = found[0].diff(found[1])
    assert difference.elements == {"transform": ({"succeeded": 1, "failed": 1}, {"succeeded": 2})}
    assert str(difference) == "elements of transform: 1 succeeded, 1 failed -> 2 succeeded"


def test_diff_refuses_pickled_records_and_other_objects(state):
    first = run(state, "a")
    with pytest.raises(TypeError, match="takes a RunRecord"):
        first.diff("b")
    for pair in ((first, pickle.loads(pickle.dumps(first))), (pickle.loads(pickle.dumps(first)), first)):
        with pytest.raises(LookupError, match="not part of a pickled record"):
            pair[0].diff(pair[1])
