"""Iterators given to tasks with retries: a visible warning, once, in runs and in direct calls."""

from __future__ import annotations

import csv
import io
import itertools
import warnings

import pytest

from flowkit_core import DAG, Task, task


def generator():
    yield from range(4)


class Own:
    """A class with __next__."""

    def __init__(self):
        self.left = 3

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.left


ITERATORS = {
    "generator": generator,
    "generator expression": lambda: (x for x in range(4)),
    "map": lambda: map(abs, range(4)),
    "zip": lambda: zip("ab", "cd"),
    "filter": lambda: filter(None, range(4)),
    "enumerate": lambda: enumerate("ab"),
    "reversed": lambda: reversed([1, 2]),
    "iter of list": lambda: iter([1, 2]),
    "iter of dict": lambda: iter({1: 2}),
    "iter with sentinel": lambda: iter(lambda: 1, 1),
    "itertools": lambda: itertools.chain([1], [2]),
    "open file": lambda: io.StringIO("a\nb\n"),
    "csv reader": lambda: csv.reader(["a,b"]),
    "own": Own,
}
VALUES = {
    "list": lambda: [1, 2],
    "tuple": lambda: (1, 2),
    "range": lambda: range(4),
    "text": lambda: "ab",
    "dict": lambda: {1: 2},
    "dict view": lambda: {1: 2}.items(),
    "None": lambda: None,
    "class of iterators": lambda: Own,
}


def length(rows=()):
    return sum(1 for _ in rows)


def quiet(rows=()):
    return "done"


def pipeline(make, **options):
    """Return a DAG whose task with retries is given what a function makes."""
    sink = Task(quiet, name="sink", **options)
    Task(make, name="rows") >> sink
    return DAG("iterators", tasks=[sink])


@pytest.mark.parametrize("make", ITERATORS.values(), ids=ITERATORS)
def test_iterator_warns_in_run(make):
    """The warning has the task, the type, and what to pass instead."""
    with pytest.warns(RuntimeWarning, match="task 'sink' has retries and is given an iterator") as caught:
        pipeline(make, retries=1, delay=0).run("serial")
    assert len(caught) == 1
    assert type(make()).__name__ in str(caught[0].message)
    assert "pass a list" in str(caught[0].message)


@pytest.mark.parametrize("make", ITERATORS.values(), ids=ITERATORS)
def test_iterator_warns_in_direct_call(make):
    """By position and by name."""
    with pytest.warns(RuntimeWarning, match="iterator"):
        assert Task(quiet, retries=1)(make()) == "done"
    with pytest.warns(RuntimeWarning, match="iterator"):
        assert Task(quiet, retries=1)(rows=make()) == "done"


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_value_that_can_be_read_again_does_not_warn(make):
    pipeline(make, retries=1, delay=0).run("serial")
    Task(quiet, retries=1)(make())


@pytest.mark.parametrize("make", ITERATORS.values(), ids=ITERATORS)
def test_iterator_without_retries_does_not_warn(make):
    pipeline(make).run("serial")
    pipeline(make, retries=0).run("serial")
    Task(quiet)(make())


def test_iterator_warns_once_for_many_runs_and_calls():
    """Once per task."""
    dag = pipeline(generator, retries=3, delay=0)
    with pytest.warns(RuntimeWarning, match="iterator"):
        dag.run("serial")
    dag.run("serial")
    dag.run("serial")
    made = Task(quiet, retries=1)
    with pytest.warns(RuntimeWarning, match="iterator"):
        made(generator())
    made(generator())
    made(generator())


def test_iterator_warns_once_for_all_attempts():
    """The second attempt gets the rest of the items, 7 of 10, and succeeds."""
    tries = []

    def total(rows):
        first = next(rows)
        tries.append(first)
        if len(tries) < 2:
            raise ValueError
        return first + sum(rows)

    sink = Task(total, retries=1, delay=0)
    Task(lambda: iter([3, 3, 4]), name="rows") >> sink
    with pytest.warns(RuntimeWarning) as caught:
        assert DAG("rest", tasks=[sink]).run("serial")["total"] == 7
    assert len(caught) == 1


def test_iterator_warns_before_the_first_attempt():
    seen = []

    def sink(rows):
        seen.append(len(caught))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = Task(sink, retries=1, delay=0)
        Task(generator, name="rows") >> made
        DAG("early", tasks=[made]).run("serial")
    assert seen == [1]


@pytest.mark.parametrize(
    ("func", "upstream"),
    [
        (lambda x, y: 0, ["list", "generator"]),
        (lambda *args: 0, ["list", "generator"]),
        (lambda **kwargs: 0, ["list", "generator"]),
        (lambda x, *, generator: 0, ["list", "generator"]),
        (lambda x=0, /, y=0: 0, ["generator"]),
    ],
    ids=["second", "*args", "**kwargs", "keyword-only", "positional-only"],
)
def test_iterator_among_other_arguments_warns(func, upstream):
    """In any position."""
    kinds = {"list": lambda: [1], "generator": generator}
    sink = Task(func, name="sink", retries=1, delay=0)
    [Task(kinds[name], name=name) for name in upstream] >> sink
    with pytest.warns(RuntimeWarning, match="iterator"):
        DAG("iterators", tasks=[sink]).run("serial")


@pytest.mark.parametrize("key", ["rows", "sink.rows"])
def test_iterator_in_params_warns(key):
    """The caller of run() passes it."""
    dag = DAG("params", tasks=[Task(lambda rows: 0, name="sink", retries=1, delay=0)])
    with pytest.warns(RuntimeWarning, match="iterator"):
        dag.run("serial", params={key: generator()})


def test_iterator_of_lazily_chained_tasks_warns_where_retries_are():
    """Each task with retries, and no other."""
    start = Task(generator, name="start")
    plain = Task(lambda start: (x for x in start), name="plain")
    sink = Task(lambda plain: sum(plain), name="sink", retries=1, delay=0)
    start >> plain >> sink
    with pytest.warns(RuntimeWarning, match="'sink'") as caught:
        assert DAG("lazy", tasks=[sink]).run("serial")["sink"] == 6
    assert len(caught) == 1


def test_iterator_warns_for_coroutine_function():
    """In a run and in a call."""
    import asyncio

    @task(retries=1, delay=0)
    async def sink(rows):
        return sum(rows)

    with pytest.warns(RuntimeWarning, match="iterator"):
        assert asyncio.run(sink(generator())) == 6
    again = sink.with_options(name="again")
    Task(generator, name="rows") >> again
    with pytest.warns(RuntimeWarning, match="iterator"):
        assert DAG("async", tasks=[again]).run("serial")["again"] == 6


def test_iterator_warns_for_method():
    """The object itself is no argument."""

    class Total:
        @task(retries=1)
        def add(self, rows):
            return sum(rows)

    with pytest.warns(RuntimeWarning, match="iterator"):
        assert Total().add(generator()) == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Total().add([1])


def test_iterator_warning_shows_line_of_caller():
    """The line of run() or of the call."""
    with pytest.warns(RuntimeWarning) as caught:
        pipeline(generator, retries=1, delay=0).run("serial")
    assert caught[0].filename == __file__
    with pytest.warns(RuntimeWarning) as caught:
        Task(quiet, retries=1)(generator())
    assert caught[0].filename == __file__


def test_iterator_warning_turned_into_error_changes_no_result(capsys):
    """The warning is printed, and the task runs."""
    assert pipeline(generator, retries=1, delay=0).run("serial")["sink"] == "done"
    assert "iterator" in capsys.readouterr().err
    assert Task(length, retries=1)(generator()) == 4
    assert "iterator" in capsys.readouterr().err
