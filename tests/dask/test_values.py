"""Values that Dask alone sends slowly, or cannot send."""

from __future__ import annotations

import dask_tasks as tasks
import pytest

from flowkit_core import DAG, Task
from flowkit_dask import DaskExecutor
from flowkit_state import StateManager


def test_items_of_a_list_are_sent_together(client, sent):
    count = 20_000
    with DaskExecutor(client) as executor:
        dag = DAG("list", tasks=[Task(tasks.numbers)])
        dag.run(executor, params={"count": 1})
        before = sent[0]
        assert dag.run(executor, params={"count": count})["numbers"] == list(range(count))
        assert sent[0] - before < 30 * count  # Dask alone sends more than 80 bytes for each


def test_arrays_in_a_list_are_sent_without_copies_and_can_be_changed(client):
    pytest.importorskip("numpy")
    make, change = Task(tasks.array_list), Task(tasks.add_in_place, executor="other")
    make >> change
    with DaskExecutor(client) as executor:
        executors = {"default": executor, "other": "serial"}
        found = DAG("arrays", tasks=[change]).run(executors, params={"size": 100_000})
        assert found["add_in_place"] == 100_000.0
        there = Task(tasks.add_in_place)
        assert DAG("sent", tasks=[there]).run(executor, params={"arrays": tasks.array_list(100_000)}) == {
            "add_in_place": 100_000.0
        }


@pytest.mark.parametrize("is_recorded", [False, True])
def test_exceptions_with_an_init_of_their_own_are_values(is_recorded, client):
    parse, each, every = Task(tasks.fail_with_pair_if_odd), Task(tasks.pair_of), Task(tasks.pairs_of)
    parse.map("x", errors="return") >> [each.map("item"), every]
    with DaskExecutor(client) as executor, StateManager() as state:
        options = {"state": state} if is_recorded else {}
        found = DAG("errors", tasks=[each, every]).run(executor, params={"x": [0, 1, 2, 3]}, **options)
    expected = [0, (1, "odd"), 2, (3, "odd")]
    assert found["pair_of"] == found["pairs_of"] == expected


def test_large_list_with_an_exception_is_an_argument(client):
    with DaskExecutor(client) as executor:
        items = [tasks.pair_error(), *range(50_000)]
        assert DAG("large", tasks=[Task(tasks.pairs_of)]).run(executor, params={"items": items})["pairs_of"] == [
            ("a", "b"),
            *range(50_000),
        ]


def test_exception_is_a_result(client):
    make, use = Task(tasks.pair_error), Task(tasks.pair_of)
    make >> use
    with DaskExecutor(client) as executor:
        found = DAG("result", tasks=[use]).run(executor)
    assert found["pair_of"] == ("a", "b")
    assert found["pair_error"].pair == ("a", "b")
