"""The warning of a default that a loop gives to each task, and that an upstream result replaces."""

from __future__ import annotations

import warnings

import pytest

from flowkit_core import DAG, Task


def built(functions, *, upstream="rows"):
    """Return a DAG of these functions, each downstream of one task."""
    tasks = [Task(function, name=f"t{number}") for number, function in enumerate(functions)]
    Task(lambda: 99, name=upstream) >> tasks
    return DAG("loop", tasks=tasks)


def test_default_of_a_loop_that_is_replaced_warns_once():
    dag = built([lambda i=i: i for i in range(1, 4)])
    with pytest.warns(RuntimeWarning) as caught:
        dag.graph()
    assert len(caught) == 1
    assert str(caught[0].message) == (
        "task 't1' gets what 'rows' returns as 'i', by order, instead of its default, which differs in other tasks of "
        "the same function: to give each task a value of its own, use functools.partial(function, i=...); if the "
        "default is only for a missing result, name the parameter 'rows'"
    )
    assert [(problem.kind, problem.task) for problem in dag.check()] == [("binding", "t1")]


@pytest.mark.parametrize(
    "dag",
    [
        built([lambda rows=(): rows for _ in range(2)]),
        built([lambda i=(): i for _ in range(2)]),
        built([lambda i=[]: i for _ in range(2)]),
        built([lambda i=1: i, lambda i=2: i]),
        built([lambda x, i=i: (x, i) for i in range(2)]),
        built([lambda i=i: i for i in range(1, 3)], upstream="i"),
    ],
    ids=["by name", "equal", "cannot be hashed", "two functions", "not filled", "by name in a loop"],
)
def test_other_defaults_do_not_warn(dag):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dag.graph()
