"""The warning of a parameter that is filled by order, and whose name is a misspelt name of another upstream."""

from __future__ import annotations

import time
import warnings

import pytest

from flowkit_core import DAG, Task


def wired(func, *upstream, waits=()):
    """Return a DAG of a task 'report' that is wired to tasks of these names."""
    report = Task(func, name="report")
    for name in upstream:
        Task(lambda name=name: name, name=name) >> report
    for name in waits:
        report.after(Task(lambda name=name: name, name=name))
    return DAG("names", tasks=[report])


MISSPELT = {
    "swapped": (lambda ordes, usres: 1, ["users", "orders"], ("users", "ordes", "orders")),
    "one of three": (lambda first, ordes, last: 1, ["orders", "users", "items"], ("users", "ordes", "orders")),
    "singular": (lambda user, rows: 1, ["orders", "users"], ("orders", "user", "users")),
    "plural": (lambda orders, y: 1, ["users", "order"], ("users", "orders", "order")),
    "left over for *args": (lambda ordes, *args: 1, ["users", "orders"], ("users", "ordes", "orders")),
    "left over for **kwargs": (lambda ordes, **kwargs: 1, ["users", "orders"], ("users", "ordes", "orders")),
    "keyword-only": (lambda *, ordes, usres: 1, ["users", "orders"], ("users", "ordes", "orders")),
    "default": (lambda ordes=(), usres=(): 1, ["users", "orders"], ("users", "ordes", "orders")),
    "beside a name": (lambda items, ordes, usres: 1, ["users", "items", "orders"], ("users", "ordes", "orders")),
    "numbered": (lambda part1, part2: 1, ["part_2", "part_1"], ("part_2", "part1", "part_1")),
    "given is similar too": (
        lambda user_list, x: 1,
        ["users_lst", "user_lists"],
        ("users_lst", "user_list", "user_lists"),
    ),
}


@pytest.mark.parametrize(("func", "upstream", "facts"), MISSPELT.values(), ids=MISSPELT)
def test_misspelt_parameter_filled_by_order_warns_when_built(func, upstream, facts):
    given, parameter, meant = facts
    dag = wired(func, *upstream)
    with pytest.warns(RuntimeWarning) as caught:
        dag.graph()
    assert len(caught) == 1
    assert str(caught[0].message) == (
        f"task 'report' gets what {given!r} returns as {parameter!r}, by order, although the name of its upstream "
        f"{meant!r} is more similar: name the parameter {meant!r}, or {given!r} if that is meant"
    )
    assert caught[0].filename == __file__
    dag.run("serial")  # no further warning


INTENDED = {
    "in order": (lambda ordes, usres: 1, ["orders", "users"]),
    "by name": (lambda orders, users: 1, ["users", "orders"]),
    "similar to one that is bound by name": (lambda orders, order: 1, ["orders", "users"]),
    "short names": (lambda abc, abd: 1, ["abe", "abcd"]),
    "unlike": (lambda left, right: 1, ["north", "south"]),
    "same initials": (lambda rows, rates: 1, ["regions", "raw"]),
    "numbered alike": (lambda row_a, row_b: 1, ["row_1", "row_2"]),
    "another parameter is as similar": (lambda sum_1, sum_2: 1, ["total_1", "sum_3"]),
    "much longer": (lambda user, rows: 1, ["rows_of_users", "user_names_of_today"]),
    "one upstream": (lambda ordes: 1, ["users"]),
    "only *args": (lambda *args: 1, ["users", "orders"]),
    "no parameter": (lambda: 1, ["users", "orders"]),
}


@pytest.mark.parametrize(("func", "upstream"), INTENDED.values(), ids=INTENDED)
def test_other_parameter_filled_by_order_does_not_warn(func, upstream):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wired(func, *upstream).run("serial")


def test_parameter_similar_to_an_upstream_by_after_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wired(lambda ordes: 1, "users", waits=["orders"]).run("serial")


def test_similar_names_of_many_upstreams_are_compared_quickly():
    names = [f"users_{number}" for number in range(5_000)]
    dag = wired(lambda ordes, *rest: len(rest), *names, "orders")
    began = time.perf_counter()
    with pytest.warns(RuntimeWarning, match="'orders' is more similar"):
        dag.graph()
    assert time.perf_counter() - began < 2
