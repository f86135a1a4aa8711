"""Class `Results`: a dict with facts about the run."""

from __future__ import annotations

import copy
import json
import pickle
import pprint
import re

import pytest

from flowkit_core import DAG, MissingResultError, Results, Task


@pytest.fixture
def results():
    """One succeeded, one skipped, one failed, one below it, one cancelled."""
    ran, skipped = Task(lambda: 1, name="ran"), Task(lambda: 1, name="left_out", when=lambda: False)
    broken = Task(lambda: {}["key"], name="broken")
    below, never = Task(lambda broken: 0, name="below"), Task(lambda: 0, name="never")
    broken >> below
    return DAG("etl", tasks=[ran, skipped, broken, below, never]).run("serial", raise_on_failure=False)


def test_results_are_a_dict():
    """They print, compare, iterate and serialize like one."""
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


def test_results_have_facts_of_run(results):
    """States, reasons and durations."""
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


def test_results_states_are_in_topological_order():
    c, b, a = (Task(lambda *_: 0, name=name) for name in "cba")
    a >> b >> c
    results = DAG("order", tasks=[c, b, a]).run()
    assert list(results) == list(results.states) == list(results.durations) == ["a", "b", "c"]


def test_run_id_is_unique():
    """Also of two runs of one DAG."""
    dag = DAG("etl", tasks=[Task(lambda: 1, name="one")])
    assert len({dag.run().run_id for _ in range(100)}) == 100


def test_results_of_two_runs_are_independent():
    dag = DAG("etl", tasks=[Task(list, name="one")])
    first = dag.run()
    first["one"].append(1)
    first["two"] = 2
    assert dag.run() == {"one": []}


def test_results_that_are_changed_keep_their_facts(results):
    results.pop("ran")
    results["new"] = 1
    assert results.states["ran"] == "succeeded"
    assert "new" not in results.states


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, dict.copy, Results.copy, lambda r: pickle.loads(pickle.dumps(r))],
    ids=["copy", "dict.copy", "copy()", "pickle"],
)
def test_results_copy_equals_original(results, duplicate):
    """The values; all facts if the copy is a Results."""
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
    made = Results(a=1)
    assert (made, made.states, made.skipped, made.failed, made.durations) == ({"a": 1}, {}, {}, {}, {})


# Keys that have no result


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("rann", "task 'rann' has no result: no task of that name was in the run (did you mean 'ran'?)"),
        ("belw", "task 'belw' has no result: no task of that name was in the run (did you mean 'below'?)"),
        (
            "x",
            "task 'x' has no result: no task of that name was in the run; there are: ran, left_out, ",
        ),
        ("left_out", "task 'left_out' has no result: it ended as skipped (its condition was false)"),
        ("broken", "task 'broken' has no result: it ended as failed (KeyError('key'))"),
        ("below", "task 'below' has no result: it ended as upstream failed ("),
        ("never", "task 'never' has no result: it ended as cancelled ("),
    ],
)
def test_missing_result_is_an_error_that_says_why(results, key, words):
    with pytest.raises(MissingResultError) as caught:
        results[key]
    assert isinstance(caught.value, KeyError)
    assert str(caught.value).startswith(words)
    assert caught.value.name == key
    assert results.get(key) is None
    assert key not in results


@pytest.mark.parametrize(
    ("key", "ending"),
    [
        ("left_out", "; if it may be skipped, write results.get('left_out')"),
        ("broken", "; results.failed['broken'] is the exception"),
        ("below", "; results.failed['broken'] is the exception of the task that failed"),
        ("never", "; results.failed['broken'] is the exception of the task that failed"),
    ],
)
def test_missing_result_ends_with_what_to_write(results, key, ending):
    with pytest.raises(MissingResultError) as caught:
        results[key]
    assert str(caught.value).endswith(ending)


def test_missing_result_of_a_copy_or_a_pickle_says_the_same(results):
    for other in (results.copy(), copy.deepcopy(results), pickle.loads(pickle.dumps(results))):
        with pytest.raises(MissingResultError, match="did you mean 'ran'"):
            other["rann"]


def test_missing_result_that_was_removed_says_so(results):
    del results["ran"]
    with pytest.raises(
        MissingResultError, match="it succeeded, but its value was not recorded, or was removed from these results"
    ):
        results["ran"]


def test_missing_result_in_a_long_run_lists_the_first_names():
    tasks = [Task(lambda: 0, name=f"number_{index}") for index in range(20)]
    with pytest.raises(MissingResultError, match=r"number_11, \.\.\. \(8 more\)$"):
        DAG("long", tasks=tasks).run("serial")["x"]


def test_missing_result_of_results_without_tasks():
    with pytest.raises(MissingResultError, match=r"no task of that name was in the run$"):
        Results()["x"]


@pytest.mark.parametrize(
    ("attribute", "key", "words"),
    [
        ("states", "inner", "'inner' is a pipeline: write the name of a task in it, inner.one, inner.two"),
        ("durations", "inner", "write the name of a task in it, inner.one, inner.two"),
        ("failed", "inner", "write the name of a task in it, inner.two"),
        ("skipped", "inner", "'inner' is a pipeline: none of its tasks is in it"),
        ("states", "ech", "no task of that name was in the run (did you mean 'each'?)"),
        ("attempts", "end", "the state of the task is 'upstream_failed'"),
        ("failed", "each", "the state of the task is 'succeeded'"),
        ("elements", "end", "the task is not mapped"),
        ("states", "each[0]", "see results.elements['each']"),
        ("states", Task(len, name="each"), "write the name of the task, 'each'"),
        ("states", 3, "the keys are names of tasks"),
    ],
)
def test_missing_key_of_an_attribute_says_what_there_is(attribute, key, words):
    one, two = Task(lambda: [1], name="one"), Task(lambda rows: 1 / 0, name="two")
    one >> two
    inner, end = DAG("inner", tasks=[two]).as_task(), Task(len, name="end")
    inner >> end
    each = Task(lambda x: x, name="each").map("x")
    dag = DAG("outer", tasks=[end, each])
    results = dag.run("serial", params={"x": [1]}, fail_fast=False, raise_on_failure=False)
    for other in (results, results.copy(), pickle.loads(pickle.dumps(results))):
        with pytest.raises(MissingResultError) as caught:
            getattr(other, attribute)[key]
        assert str(caught.value).startswith(f"results.{attribute}[")
        assert words in str(caught.value)
        assert (caught.value.attribute, caught.value.name) == (attribute, key)
        assert getattr(other, attribute).get(key) is None


def ran():
    """Have the name of a task."""


class Unprintable:
    """Has no repr."""

    def __repr__(self):
        raise ValueError


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (Task(ran), "results[<Task ran>]: results are looked up by the name of the task: write results['ran']"),
        (Task(ran, name="broken"), "write results['broken']"),
        (Task(ran, name="rann"), "no task named 'rann' was in the run (did you mean 'ran'?)"),
        (ran, "write results['ran']"),
        (
            0,
            "results[0]: results are looked up by the name of the task: write a str, not a value of type int; there",
        ),
        (None, "write a str, not a value of type NoneType"),
        (("ran",), "write a str, not a value of type tuple"),
        (b"ran", "write a str, not a value of type bytes (did you mean 'ran'?)"),
        (Unprintable(), "write a str, not a value of type Unprintable"),
    ],
    ids=["task", "failed task", "task of another run", "function", "int", "None", "tuple", "bytes", "unprintable"],
)
def test_key_that_is_not_a_name_is_an_error_that_says_what_to_write(results, key, words):
    with pytest.raises(MissingResultError) as caught:
        results[key]
    assert words in str(caught.value)
    assert caught.value.name is key
    assert results.get(key) is None


def test_notebook_shows_states_durations_and_results():
    good, bad = Task(lambda: "<b>", name="good"), Task(lambda good: 1 / 0, name="bad\x1b")
    good >> bad
    results = DAG("etl", tasks=[bad]).run("serial", raise_on_failure=False)
    text = re.sub(r"\d+\.\d{3} s", "0.000 s", results._repr_html_())
    assert text.startswith("<pre")
    assert "succeeded  0.000 s  good     '&lt;b&gt;'" in text
    assert "failed     0.000 s  bad\\x1b  ZeroDivisionError: division by zero" in text


def test_notebook_shows_the_elements_of_mapped_tasks():
    half = Task(lambda number: 6 // number, name="half").map("number", errors="drop")
    text = DAG("numbers", tasks=[half]).run("serial", params={"number": [1, 0, 3]})._repr_html_()
    assert "half  2 succeeded, 1 failed: [6, 2]" in text


def test_notebook_shows_the_first_tasks_of_many():
    results = DAG("many", tasks=[Task(list, name=f"t{number}") for number in range(60)]).run("serial")
    assert "... and 10 more tasks" in results._repr_html_()
    assert "no tasks" in Results()._repr_html_()
