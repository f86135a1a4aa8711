"""Order edges, binding, conditions, coroutines and methods, on every executor."""

from __future__ import annotations

import itertools
import warnings

import binding_tasks as b
import pytest

from flowkit_core import DAG, Group, Task


def fresh(*originals):
    """Return a copy of each task without edges, with the same name."""
    return [original.with_options(name=original.name) for original in originals]


# Order without data


def test_after_passes_no_value(executor):
    extract, lock, scale, insert = fresh(b.extract, b.create_table, b.scale, b.insert)
    extract >> scale.after(lock)
    insert.after(lock, scale)
    results = DAG("order", tasks=[insert]).run(executor)
    assert results == {"extract": 7, "create_table": None, "scale": 70, "insert": "prod.db"}


@pytest.mark.parametrize(
    ("original", "expected"),
    [(b.rest, ((7,), {})), (b.keyword_only, (7, 10)), (b.positional_only, (7, 10))],
    ids=["*args", "keyword-only", "positional-only"],
)
def test_after_fills_no_parameter_of_any_kind(executor, original, expected):
    extract, lock, sink = fresh(b.extract, b.create_table, original)
    extract >> sink
    sink.after(lock)
    assert DAG("order", tasks=[sink]).run(executor)[sink.name] == expected


def test_after_starts_when_the_upstream_has_ended(executor, tmp_path):
    path = tmp_path / "file"
    writers = [b.write.with_options(name=f"w{number}") for number in range(5)]
    for before, after in itertools.pairwise(writers):
        after.after(before)
    read = b.read.with_options(name="read").after(Group(writers))
    texts = {f"w{number}.text": str(number) for number in range(5)}
    assert DAG("order", tasks=[read]).run(executor, params={"path": path, **texts})["read"] == "01234"


def test_after_failed_task_is_upstream_failed(executor):
    lock, insert = fresh(b.fail, b.insert)
    insert.after(lock)
    results = DAG("order", tasks=[insert]).run(executor, raise_on_failure=False)
    assert results.states == {"fail": "failed", "insert": "upstream_failed"}
    with pytest.raises(ValueError, match="boom"):
        DAG("order", tasks=[insert]).run(executor)


@pytest.mark.parametrize("trigger", ["none_failed", "all_success", "all_done"])
def test_after_skipped_task_runs(executor, trigger):
    migrate, extract, scale = fresh(b.migrate, b.extract, b.scale)
    scale = b.scale.with_options(name="scale", trigger=trigger)
    extract >> scale.after(migrate)
    results = DAG("order", tasks=[scale]).run(executor)
    assert results == {"extract": 7, "scale": 70}
    assert list(results.skipped) == ["migrate"]


def test_clean_up_task_after_a_failed_task_runs(executor):
    clean = b.insert.with_options(name="clean", trigger="all_done").after(*fresh(b.fail))
    results = DAG("order", tasks=[clean]).run(executor, raise_on_failure=False)
    assert results.states == {"fail": "failed", "clean": "succeeded"}
    assert results["clean"] == "prod.db"


def test_after_in_wide_graph(executor):
    starts = [b.extract.with_options(name=f"start_{number}") for number in range(20)]
    ends = [b.scale.with_options(name=f"end_{number}") for number in range(20)]
    barrier = b.create_table.with_options(name="barrier").after(starts)
    for start, end in zip(starts, ends, strict=True):
        start >> end.after(barrier)
    results = DAG("order", tasks=ends).run(executor)
    assert list(results)[20] == "barrier"
    assert all(results[end.name] == 70 for end in ends)


# Binding


def test_param_of_one_task_takes_precedence(executor):
    one, two, three = (b.insert.with_options(name=name) for name in ("one", "etl.two", "three"))
    results = DAG("params", tasks=[one, two, three]).run(executor, params={"db": "test", "etl.two.db": "own"})
    assert results == {"one": "test", "etl.two": "own", "three": "test"}


def test_none_in_place_of_default_warns_once(executor):
    create, insert = fresh(b.create_table, b.insert)
    create >> insert
    dag = DAG("none", tasks=[insert])
    with pytest.warns(RuntimeWarning, match=r"insert\.after\(create_table\)") as caught:
        assert dag.run(executor) == {"create_table": None, "insert": None}
    assert len(caught) == 1
    assert caught[0].filename == __file__


# Conditions


def test_condition_is_bound_by_name(executor):
    extract, load = fresh(b.extract, b.load)
    extract >> load
    dag = DAG("conditions", tasks=[load])
    assert dag.run(executor, params={"dry_run": True}) == {"extract": 7}
    assert dag.run(executor) == {"extract": 7, "load": 7}


@pytest.mark.parametrize(
    ("original", "params", "runs"),
    [
        (b.small, {"limit": 5}, False),
        (b.small, {"limit": 8}, True),
        (b.small, {}, False),
        (b.by_kwargs, {}, True),
        (b.by_kwargs, {"factor": 3}, False),
    ],
)
def test_condition_takes_arguments_by_name_and_by_kwargs(executor, original, params, runs):
    extract, sink = fresh(b.extract, original)
    extract >> sink
    results = DAG("conditions", tasks=[sink]).run(executor, params=params)
    assert results.states[sink.name] == ("succeeded" if runs else "skipped")


@pytest.mark.parametrize("original", [b.generator_condition, b.coroutine_condition, b.awaitable_condition])
def test_condition_that_returns_an_awaitable_or_generator_fails_the_task(executor, original):
    (made,) = fresh(original)
    with pytest.raises(TypeError, match="neither true nor false") as caught:
        DAG("conditions", tasks=[made]).run(executor)
    assert caught.value.flowkit_results.states == {made.name: "failed"}


# Coroutines


@pytest.mark.parametrize("func", b.AWAITED.values(), ids=b.AWAITED)
def test_coroutine_of_any_callable_is_awaited(executor, func):
    made, end = Task(func, name="made"), b.scale.with_options(name="end")
    made >> end
    assert DAG("awaited", tasks=[end]).run(executor) == {"made": 21, "end": 210}


def test_coroutine_that_fails_is_retried(executor, tmp_path):
    made = Task(b.flaky_coroutine, name="made", retries=2, delay=0)
    assert DAG("awaited", tasks=[made]).run(executor, params={"path": tmp_path / "count"}) == {"made": 3}


def test_awaitable_that_is_not_a_coroutine_is_a_value(executor):
    start, end = fresh(b.own_awaitable, b.type_name)
    start >> end
    assert DAG("awaited", tasks=[end]).run(executor)["type_name"] == "Awaitable"


# Odd callables


@pytest.mark.parametrize("func", b.ODD.values(), ids=b.ODD)
def test_odd_callable_as_task(executor, func):
    made, end = Task(func, name="made"), b.scale.with_options(name="end")
    made >> end
    assert DAG("odd", tasks=[end]).run(executor) == {"made": 2, "end": 20}


def test_mock_created_in_a_task(executor):
    assert DAG("odd", tasks=[Task(b.patched)]).run(executor) == {"patched": 7}


# Methods


def test_task_of_bound_method(executor):
    extract, made = *fresh(b.extract), Task(b.NewOrders([1, 2]).total, name="made")
    extract >> made
    assert DAG("methods", tasks=[made]).run(executor) == {"extract": 7, "made": 21}


def test_task_of_class_method(executor):
    assert DAG("methods", tasks=[Task(b.NewOrders.named)]).run(executor) == {"named": "NewOrders"}


def test_retries_of_a_bound_method_are_not_multiplied(executor, tmp_path):
    path = tmp_path / "count"
    with pytest.raises(ValueError) as caught:
        DAG("methods", tasks=[Task(b.Orders([]).flaky)]).run(executor, params={"path": path})
    assert caught.value.args == (3,)
    assert path.stat().st_size == 3


# Iterators


def test_iterator_with_retries_warns_once(executor):
    numbers, total = fresh(b.numbers, b.total)
    numbers >> total
    dag = DAG("iterators", tasks=[total])
    with pytest.warns(RuntimeWarning, match="iterator") as caught:
        assert dag.run(executor)["total"] == 10
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dag.run(executor)
