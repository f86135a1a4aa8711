"""``run(keep=...)``: which results are returned, and when the others are dropped."""

from __future__ import annotations

import gc
import itertools
import pickle
import weakref

import pytest

from flowkit_core import DAG, MissingResultError, Skip, Task


class Value:
    """A result that counts the objects of its class that are alive."""

    alive = 0
    most = 0

    def __init__(self):
        Value.alive += 1
        Value.most = max(Value.most, Value.alive)

    def __del__(self):
        Value.alive -= 1


@pytest.fixture(autouse=True)
def nothing_alive():
    gc.collect()
    Value.alive = Value.most = 0


def chain(length):
    tasks = [Task(lambda *_: Value(), name=f"task_{number}") for number in range(length)]
    for one, other in itertools.pairwise(tasks):
        one >> other
    return DAG("chain", tasks=tasks[-1:])


def test_chain_holds_two_values_at_a_time():
    """The input and the output of the running task."""
    results = chain(50).run("serial", keep=["task_49"])
    assert list(results) == ["task_49"]
    assert Value.most == 2
    assert Value.alive == 1


def test_without_keep_all_values_are_returned():
    """The values are alive at once."""
    assert len(chain(50).run("serial")) == 50
    assert Value.most == 50


def test_value_is_dropped_after_its_last_consumer():
    """A task with three consumers keeps its value until the third has ended."""
    alive = []
    first = Task(lambda: Value(), name="first")
    others = [Task(lambda first: alive.append(Value.alive), name=f"other_{number}") for number in range(3)]
    last = Task(lambda *_: alive.append(Value.alive), name="last")
    first >> others >> last
    assert DAG("fan", tasks=[last]).run("serial", keep=["last"]) == {"last": None}
    assert alive == [1, 1, 1, 0]


def test_results_of_a_mapped_task_are_dropped():
    alive = []
    rows, make = Task(lambda: [1, 2, 3], name="rows"), Task(lambda row: Value(), name="make")
    count, last = Task(lambda values: len(values), name="count"), Task(lambda _: alive.append(Value.alive), name="last")
    rows >> make.map() >> count >> last
    DAG("mapped", tasks=[last]).run("serial", keep=["last"])
    assert (alive, Value.most) == ([0], 3)


def test_retry_gets_its_argument():
    """An argument is dropped when its task has ended, not after each attempt."""
    seen = []

    def fails_twice(first):
        seen.append(type(first))
        if len(seen) < 3:
            raise OSError
        return "done"

    first, second = Task(lambda: Value(), name="first"), Task(fails_twice, name="second", retries=2, delay=0)
    first >> second
    assert DAG("retry", tasks=[second]).run("serial", keep=["second"]) == {"second": "done"}
    assert seen == [Value] * 3
    gc.collect()
    assert Value.alive == 0


def test_values_of_consumers_that_do_not_succeed_are_dropped():
    """Every end of a consumer counts."""

    def skipping(first):
        raise Skip("nothing to do")

    def failing():
        raise ValueError("failing")

    first = Task(lambda: Value(), name="first")
    skips, fails = Task(skipping, name="skips"), Task(failing, name="fails")
    never = Task(lambda first, fails: None, name="never")
    alive = Task(lambda: Value.alive, name="alive", trigger="all_done")
    first >> [skips, never] >> alive
    fails >> never
    results = DAG("ends", tasks=[alive]).run("serial", keep=["alive"], fail_fast=False, raise_on_failure=False)
    assert results == {"alive": 0}
    assert results.states["never"] == "upstream_failed"


def test_value_that_no_task_takes_is_dropped_at_once():
    """An order-only edge takes no value."""
    first, second = Task(lambda: Value(), name="first"), Task(lambda: Value.alive, name="second")
    second.after(first)
    assert DAG("order", tasks=[second]).run("serial", keep=["second"]) == {"second": 0}


def test_condition_gets_its_argument():
    """The value is there when the condition is evaluated."""
    first = Task(lambda: 3, name="first")
    second = Task(lambda first: first + 1, name="second", when=lambda first: first > 2)
    first >> second
    assert DAG("condition", tasks=[second]).run(keep=["second"]) == {"second": 4}


def test_kept_value_is_not_dropped():
    """Also if tasks take it."""
    assert list(chain(3).run("serial", keep=["task_0", "task_2"])) == ["task_0", "task_2"]


@pytest.mark.parametrize("keep", [[], (), set(), iter([])])
def test_keep_nothing(keep):
    """No result is returned, and the states are."""
    results = chain(3).run("serial", keep=keep)
    assert results == {}
    assert set(results.states.values()) == {"succeeded"}


def test_lookup_of_a_dropped_result_names_keep():
    """The message is also there in unpickled results."""
    dag = DAG("lookup", tasks=[Task(lambda: 1, name="one"), Task(lambda: 2, name="two")])
    results = dag.run("serial", keep=["two"])
    for found in (results, pickle.loads(pickle.dumps(results)), results.copy()):
        with pytest.raises(MissingResultError, match=r"run\(keep=\.\.\.\) does not name it"):
            found["one"]


def test_lookup_of_a_kept_result_that_was_deleted_does_not_name_keep():
    """The user has removed it."""
    results = chain(2).run("serial", keep=["task_1"])
    del results["task_1"]
    with pytest.raises(MissingResultError, match="was removed from these results"):
        results["task_1"]


def test_error_has_only_the_results_to_keep():
    """``error.flowkit_results`` follows the same rule."""
    one, two = Task(lambda: 1, name="one"), Task(lambda one: 1 / 0, name="two")
    one >> two
    with pytest.raises(ZeroDivisionError) as caught:
        DAG("fails", tasks=[two]).run("serial", keep=["two"])
    assert caught.value.flowkit_results == {}
    assert caught.value.flowkit_results.states == {"one": "succeeded", "two": "failed"}


@pytest.mark.parametrize(
    ("keep", "kind", "text"),
    [
        (3, TypeError, r"run\(keep=\.\.\.\) is 3, but must be the name of a task, or a list of names"),
        (b"task_0", TypeError, "must be the name of a task"),
        ("tsk_0", ValueError, "did you mean 'task_0'"),
        ([3], TypeError, "items must be names"),
        (["task_9"], ValueError, "no such task"),
        (["tsk_0"], ValueError, "did you mean 'task_0'"),
    ],
)
def test_wrong_names(keep, kind, text):
    """Nothing runs."""
    with pytest.raises(kind, match=text):
        chain(3).run("serial", keep=keep)
    assert Value.most == 0


def test_single_name():
    assert list(chain(3).run("serial", keep="task_2")) == ["task_2"]


def test_task_instead_of_its_name_in_keep_is_refused():
    """The message shows the name."""
    one = Task(lambda: 1, name="one")
    dag = DAG("tasks", tasks=[one])
    with pytest.raises(TypeError, match="items must be names of tasks: write 'one'"):
        dag.run(keep=[one])
    with pytest.raises(TypeError, match="a list of names: write 'one'"):
        dag.run(keep=one)


def test_the_default_executor_drops_values():
    """Of many chains, no value is left."""
    kept = []

    def make():
        value = Value()
        kept.append(weakref.ref(value))
        return value

    ends = []
    for number in range(20):
        first, last = Task(make, name=f"first_{number}"), Task(lambda value: None, name=f"last_{number}")
        first >> last
        ends.append(last)
    assert DAG("chains", tasks=ends).run(max_workers=4, keep=["last_0"]) == {"last_0": None}
    gc.collect()
    assert [reference() for reference in kept] == [None] * 20
