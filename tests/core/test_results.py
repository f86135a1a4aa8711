"""Results: a real dict that knows more."""

from __future__ import annotations

import copy
import json
import pickle
import pprint

import pytest

from flowkit_core import DAG, Results, Task


@pytest.fixture
def results():
    """One succeeded, one skipped, one failed, one below it, one cancelled."""
    ran, skipped = Task(lambda: 1, name="ran"), Task(lambda: 1, name="left_out", when=lambda: False)
    broken = Task(lambda: {}["key"], name="broken")
    below, never = Task(lambda broken: 0, name="below"), Task(lambda: 0, name="never")
    broken >> below
    return DAG("etl", tasks=[ran, skipped, broken, below, never]).run("serial", raise_on_failure=False)


def test_results_are_a_dict():
    """They print, compare, iterate and serialize as one."""
    one, two = Task(lambda: 1, name="one"), Task(lambda one: [one, None], name="two")
    one >> two
    results = DAG("numbers", tasks=[two]).run()
    assert isinstance(results, dict)
    assert isinstance(results, Results)
    assert results == {"one": 1, "two": [1, None]}
    assert results == {"one": 1, "two": [1, None]}
    assert repr(results) == str(results) == f"{results}" == "{'one': 1, 'two': [1, None]}"
    assert json.loads(json.dumps(results)) == {"one": 1, "two": [1, None]}
    assert pprint.pformat(results) == "{'one': 1, 'two': [1, None]}"
    assert list(results) == ["one", "two"]
    assert results.get("three") is None
    assert {**results, "three": 3} == {"one": 1, "two": [1, None], "three": 3}
    assert results | {"three": 3} == {"one": 1, "two": [1, None], "three": 3}


def test_the_facts_of_a_run(results):
    """What became of each task, why, and how long it took."""
    assert results == {"ran": 1}
    assert results.states == {
        "ran": "succeeded",
        "left_out": "skipped",
        "broken": "failed",
        "below": "upstream_failed",
        "never": "cancelled",
    }
    assert list(results.skipped) == ["left_out"]
    assert list(results.failed) == ["broken"]
    assert isinstance(results.failed["broken"], KeyError)
    assert set(results.durations) == {"ran", "broken"}
    assert all(isinstance(seconds, float) and seconds >= 0 for seconds in results.durations.values())
    assert isinstance(results.run_id, str)
    assert results.run_id


def test_states_are_in_topological_order():
    """As the results are."""
    c, b, a = (Task(lambda *_: 0, name=name) for name in "cba")
    a >> b >> c
    results = DAG("order", tasks=[c, b, a]).run()
    assert list(results) == list(results.states) == list(results.durations) == ["a", "b", "c"]


def test_no_two_runs_share_an_id():
    """Also not two runs of one DAG."""
    dag = DAG("etl", tasks=[Task(lambda: 1, name="one")])
    assert len({dag.run().run_id for _ in range(100)}) == 100


def test_results_of_one_run_are_not_those_of_the_next():
    """Each run returns a dict of its own."""
    dag = DAG("etl", tasks=[Task(list, name="one")])
    first = dag.run()
    first["one"].append(1)
    first["two"] = 2
    assert dag.run() == {"one": []}


def test_changing_the_dict_does_not_change_the_facts(results):
    """What happened, happened."""
    results.pop("ran")
    results["new"] = 1
    assert results.states["ran"] == "succeeded"
    assert "new" not in results.states


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, dict.copy, Results.copy, lambda r: pickle.loads(pickle.dumps(r))],
    ids=["copy", "dict.copy", "copy()", "pickle"],
)
def test_a_copy_equals_the_original(results, duplicate):
    """Values at least; and everything where the copy is Results too."""
    copied = duplicate(results)
    assert copied == results
    assert copied is not results
    if isinstance(copied, Results):
        assert (copied.states, copied.skipped, copied.durations, copied.run_id) == (
            results.states,
            results.skipped,
            results.durations,
            results.run_id,
        )
        assert list(copied.failed) == ["broken"]
        copied["new"] = 1
        assert "new" not in results


def test_results_made_by_hand_are_an_empty_run():
    """The class is public, and harmless alone."""
    made = Results(a=1)
    assert (made, made.states, made.skipped, made.failed, made.durations) == ({"a": 1}, {}, {}, {}, {})
