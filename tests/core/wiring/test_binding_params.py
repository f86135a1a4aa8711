"""Parameters of one task, upstreams that return None, and errors about tasks that are not wired."""

from __future__ import annotations

import functools
import warnings

import pytest

from flowkit_core import DAG, BindingError, Task


def value(name, result=None):
    """Return a task without parameters that returns a value, by default its own name."""
    return Task(lambda: name if result is None else result, name=name)


def run(*tasks, **options):
    """Run everything upstream of these tasks, one after the other."""
    return DAG("binding", tasks=tasks).run("serial", **options)


def refused(*tasks, params=None):
    """Return the text of the error about parameters."""
    with pytest.raises(BindingError) as caught:
        run(*tasks, params=params)
    return str(caught.value)


def table(name, **options):
    """Return a task with two parameters."""
    return Task(lambda table, mode="append": (table, mode), name=name, **options)


# params={"task.parameter": ...}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"a.table": 1, "b.table": 2}, {"a": (1, "append"), "b": (2, "append")}),
        ({"table": 0, "b.table": 2}, {"a": (0, "append"), "b": (2, "append")}),
        ({"b.table": 2, "table": 0}, {"a": (0, "append"), "b": (2, "append")}),
        ({"table": 0, "a.mode": "w"}, {"a": (0, "w"), "b": (0, "append")}),
        ({"table": 0, "mode": "x", "a.mode": "w"}, {"a": (0, "w"), "b": (0, "x")}),
        ({"table": 0, "a.table": None}, {"a": (None, "append"), "b": (0, "append")}),
    ],
)
def test_param_of_one_task_wins_over_plain_name(params, expected):
    """Whatever their order."""
    assert run(table("a"), table("b"), params=params) == expected


@pytest.mark.parametrize("name", ["etl.load", "a.b.c", ".load", "load.", "1.5", "x..y", "load it.now"])
def test_param_is_split_at_last_dot(name):
    """The names of tasks may contain dots."""
    assert run(table(name), params={f"{name}.table": 5}) == {name: (5, "append")}


def test_param_of_task_with_dot_does_not_reach_task_with_shorter_name():
    """'etl.load.table' is the parameter of 'etl.load', not of 'load' or 'etl'."""
    results = run(table("etl.load"), table("load"), table("etl"), params={"table": 0, "etl.load.table": 1})
    assert results == {"etl.load": (1, "append"), "load": (0, "append"), "etl": (0, "append")}


@pytest.mark.parametrize(
    ("func", "expected"),
    [
        (lambda x: x, 5),
        (lambda *, x: x, 5),
        (lambda x, /: x, 5),
        (lambda a=1, x=2: (a, x), (1, 5)),
        (lambda *args, x=2: (args, x), ((), 5)),
    ],
    ids=["plain", "keyword-only", "positional-only", "default", "after *args"],
)
def test_param_of_one_task_fills_every_kind_of_parameter(func, expected):
    """As the plain name does."""
    assert run(Task(func, name="t"), params={"t.x": 5}) == {"t": expected}


def test_param_of_one_task_belongs_to_one_run():
    """The next run starts without it, and the mapping is not changed."""
    dag, params = DAG("once", tasks=[table("a")]), {"a.table": 1, "a.mode": "w"}
    assert dag.run("serial", params=params) == {"a": (1, "w")}
    assert params == {"a.table": 1, "a.mode": "w"}
    assert dag.run("serial", params={"table": 2}) == {"a": (2, "append")}


def test_param_of_unknown_task_is_refused_with_suggestion():
    """The near miss is named."""
    text = refused(table("load"), params={"table": 1, "laod.mode": 2})
    assert "'laod.mode'" in text
    assert "did you mean 'load.mode'" in text


def test_param_unknown_to_its_task_is_refused_with_open_parameters():
    """The error lists what the task takes."""
    text = refused(table("load"), table("save"), params={"table": 1, "load.tabel": 2})
    assert "'load.tabel'" in text
    assert "did you mean 'load.table'" in text
    assert "mode, table" in text


@pytest.mark.parametrize("key", ["load.", ".table", ".", "load.table.x", "load..table"])
def test_param_with_odd_dots_is_refused(key):
    """No half of it is guessed."""
    assert repr(key) in refused(table("load"), params={"table": 1, key: 2})


def test_param_of_task_that_takes_none_says_so():
    """There is nothing to suggest."""
    text = refused(value("extract"), table("load"), params={"table": 1, "extract.rows": 2})
    assert "'extract' has no open parameter" in text


SIMILAR = {
    "by name": (lambda extract: extract, "extrct", "the similar 'extract' of task 'load' is filled by its upstream"),
    "by order": (lambda rows: rows, "rosw", "the similar 'rows' of task 'load' is filled by its upstream 'extract'"),
    "qualified": (lambda rows: rows, "load.row", "the similar 'rows' of task 'load' is filled by its upstream"),
    "task": (lambda rows: rows, "laod.rows", "the similar 'rows' of task 'load' is filled by its upstream"),
    "open is closer": (lambda rows, limits=1: rows, "limit", "did you mean 'limits'?"),
    "filled is closer": (lambda rows, row_limit=1: rows, "row", "the similar 'rows' of task 'load' is filled"),
    "both": (lambda rows, mode=1: rows, "rowz", "the similar 'rows' of task 'load' is filled by its upstream"),
    "none": (lambda rows, mode=1: rows, "date", "no task has an open parameter of this name; open parameters: mode"),
    "rest": (lambda *rows: rows, "row", "of this name; there are no open parameters: leave it out"),
}


@pytest.mark.parametrize(("func", "key", "text"), SIMILAR.values(), ids=SIMILAR)
def test_param_similar_to_one_that_upstream_fills_names_upstream(func, key, text):
    load = Task(func, name="load")
    value("extract") >> load
    assert text in refused(load, params={key: 1})


def test_param_similar_to_one_that_upstream_fills_says_how_to_wire():
    load = Task(lambda rows: rows, name="load")
    value("extract") >> load
    assert "write load.after(extract) instead of extract >> load" in refused(load, params={"rosw": 1})


def test_param_that_upstream_fills_names_upstream():
    """By name and by order, for the plain and for the full name."""
    for parameter in ("extract", "rows"):
        load = Task({"extract": lambda extract: extract, "rows": lambda rows: rows}[parameter], name="load")
        value("extract") >> load
        for key in (parameter, f"load.{parameter}"):
            text = refused(load, params={key: 1})
            assert "filled by its upstream 'extract'" in text
            assert "load.after(extract)" in text


def test_missing_parameter_is_not_filled_by_that_of_another_task():
    """'a.table' leaves the parameter of b open."""
    text = refused(table("a"), table("b"), params={"a.table": 1})
    assert "'b'" in text
    assert "'table'" in text


def test_condition_sees_param_of_one_task():
    """The condition is bound to the arguments of the task."""
    seen = []
    made = Task(lambda day, mode="a": day, name="made", when=lambda mode, day: seen.append((day, mode)) or True)
    run(made, params={"day": 0, "made.day": 1, "made.mode": "w"})
    assert seen == [(1, "w")]


# A task that exists, but is not wired


def test_missing_parameter_names_task_of_function_that_is_not_wired():
    """The name is right, and the wire is missing."""
    orders, report = value("orders"), Task(lambda users, orders: (users, orders), name="report")
    value("users") >> report
    dag = DAG("report", tasks=[report])
    with pytest.raises(BindingError, match="'orders' exists but is not wired to it: add 'orders >> report'"):
        dag.run("serial")
    orders >> report
    assert dag.run("serial")["report"] == ("users", "orders")


def test_missing_parameter_names_task_of_the_same_dag_that_is_not_wired():
    """Part of the pipeline, and yet not upstream."""
    orders, report = value("orders"), Task(lambda orders: orders, name="report")
    with pytest.raises(BindingError, match="add 'orders >> report'"):
        DAG("bare").run("serial")
    assert orders.downstream == report.upstream == ()


def test_missing_parameter_names_task_of_module_that_is_not_wired():
    """Tasks of the module exist for its functions."""
    namespace = {"__name__": "shop"}
    source = """
from flowkit_core import DAG, task

@task
def orders(): pass

def main():
    @task
    def report(orders): pass
    return DAG("report")
"""
    exec(compile(source, "shop.py", "exec"), namespace)
    with pytest.raises(BindingError, match="'orders' exists but is not wired to it: add 'orders >> report'"):
        namespace["main"]().run("serial")


def test_missing_parameter_nearly_named_like_task_that_is_not_wired_gets_suggestion():
    """Misspelled and not wired."""
    orders, report = value("orders"), Task(lambda ordres: ordres, name="report")
    with pytest.raises(BindingError, match="did you mean 'orders'"):
        DAG("report", tasks=[report]).run("serial")
    assert orders.downstream == ()


def test_missing_parameter_named_like_distant_upstream_says_so():
    """A DAG passes results of direct upstreams only."""
    middle, end = Task(lambda x: x, name="middle"), Task(lambda middle, start: start, name="end")
    value("start") >> middle >> end
    text = refused(end)
    assert "only through other tasks" in text
    assert "'start >> end'" in text


# Upstreams that return None


def defined(source):
    """Return the function that a module without this module's __future__ imports defines."""
    namespace = {"NoneType": type(None)}
    exec(compile(source, "<module>", "exec", dont_inherit=True), namespace)
    return namespace["create"]


PLAIN = "def create() -> None: pass"
FUTURE = "from __future__ import annotations\n"


async def async_none() -> None:
    pass


class Method:
    def create(self) -> None:
        pass


ANNOTATED = {
    "object": lambda: defined(PLAIN),
    "text": lambda: defined("def create() -> 'None': pass"),
    "from __future__": lambda: defined(FUTURE + PLAIN),
    "async": lambda: async_none,
    "method": lambda: Method().create,
}


@pytest.mark.parametrize("make", ANNOTATED.values(), ids=ANNOTATED)
@pytest.mark.parametrize(
    "func", [lambda db="prod.db": db, lambda rows: rows, lambda x, y=1: x, lambda first, *args: first, lambda *, x: x]
)
def test_upstream_annotated_none_that_fills_by_order_warns_when_built(make, func):
    """The warning names both tasks, the parameter and both ways out."""
    create, load = Task(make(), name="create"), Task(func, name="load")
    create >> load
    with pytest.warns(RuntimeWarning, match="annotated '-> None'") as caught:
        DAG("none", tasks=[load]).graph()
    text = str(caught[0].message)
    assert len(caught) == 1
    assert "'load'" in text
    assert "'create'" in text
    assert "load.after(create)" in text


def test_upstream_annotated_none_warns_once_for_many_runs():
    """The graph is built once."""
    load = Task(lambda x: x, name="load")
    create = Task(defined(PLAIN), name="create")
    create >> load
    dag = DAG("none", tasks=[load])
    with pytest.warns(RuntimeWarning, match="None") as caught:
        dag.run("serial")
    dag.run("serial")
    dag.visualize()
    assert len(caught) == 1


@pytest.mark.parametrize(
    "func",
    [lambda create: create, lambda *, create: create, lambda: 1, lambda x=1, create=2: create],
    ids=["by name", "keyword-only", "takes nothing", "by name among others"],
)
def test_upstream_annotated_none_that_is_named_or_not_taken_does_not_warn(func):
    """A parameter named like the upstream takes None on purpose."""
    create, load = Task(defined(PLAIN), name="create"), Task(func, name="load")
    create >> load
    run(load)


def test_after_upstream_annotated_none_does_not_warn():
    """That is the way out."""
    create, load = Task(defined(PLAIN), name="create"), Task(lambda db="x": db, name="load")
    assert run(load.after(create))["load"] == "x"


def test_upstream_annotated_otherwise_does_not_warn():
    """Optional results are results."""

    def find() -> int | None:
        return 1

    for func in (find, defined("def create(): return 1")):
        load = Task(lambda x: x, name="load")
        Task(func) >> load
        run(load)


@pytest.mark.parametrize("annotation", ["NoneType", "type(None)"])
def test_upstream_annotated_with_type_of_none_warns(annotation):
    """Another way to write it."""
    load = Task(lambda x: x, name="load")
    Task(defined(f"def create() -> {annotation}: pass")) >> load
    with pytest.warns(RuntimeWarning, match="None"):
        DAG("none", tasks=[load]).graph()


@pytest.mark.parametrize("kind", ["partial", "callable object", "quoted under __future__"])
def test_upstream_annotated_none_in_disguise_warns(kind):
    """A partial, an object with __call__, and a text in a text."""

    def create(table) -> None:
        pass

    class Create:
        def __call__(self) -> None:
            pass

    func = {
        "partial": functools.partial(create, "t"),
        "callable object": Create(),
        "quoted under __future__": defined(FUTURE + "def create() -> 'None': pass"),
    }[kind]
    load = Task(lambda x: x, name="load")
    Task(func, name="create") >> load
    with pytest.warns(RuntimeWarning, match="None"):
        DAG("none", tasks=[load]).graph()


def quiet_none():
    return None


@pytest.mark.parametrize(
    ("func", "warned"),
    [
        (lambda db="prod.db": db, True),
        (lambda x=0: x, True),
        (lambda x="", y=2: x, True),
        (lambda x=None: x, False),
        (lambda x: x, False),
        (lambda quiet=1: quiet, False),
        (lambda *args: args, False),
        (lambda: 1, False),
    ],
)
def test_none_in_place_of_default_warns_at_run_time(func, warned):
    """Only where the default is not None, and the parameter is filled by order."""
    load = Task(func, name="load")
    Task(quiet_none, name="quiet") >> load
    dag = DAG("none", tasks=[load])
    dag.graph()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dag.run("serial")
    assert [warning.category for warning in caught] == [RuntimeWarning] * warned
    if warned:
        text = str(caught[0].message)
        assert "'load'" in text
        assert "'quiet'" in text
        assert "load.after(quiet)" in text


def test_none_in_place_of_default_passes_none():
    """The warning changes nothing."""
    load = Task(lambda db="prod.db": [db], name="load")
    Task(quiet_none, name="quiet") >> load
    with pytest.warns(RuntimeWarning):
        assert run(load)["load"] == [None]


def test_none_in_place_of_several_defaults_warns_once():
    """Once for a task, in a run with retries too."""
    tries = []

    def load(x=1, y=2):
        tries.append((x, y))
        if len(tries) < 3:
            raise ValueError

    sink = Task(load, retries=2, delay=0)
    [Task(quiet_none, name="one"), Task(quiet_none, name="two")] >> sink
    with pytest.warns(RuntimeWarning) as caught:
        run(sink)
    assert tries == [(None, None)] * 3
    assert len(caught) == 1


def test_value_in_place_of_default_does_not_warn():
    """Also where another run had None."""
    given = [None, 1]
    load = Task(lambda x=5: x, name="load")
    Task(lambda: given.pop(), name="start") >> load
    dag = DAG("none", tasks=[load])
    assert dag.run("serial")["load"] == 1
    with pytest.warns(RuntimeWarning):
        dag.run("serial")


def test_skipped_upstream_in_place_of_default_does_not_warn():
    """The default is taken, and None is not passed."""
    load = Task(lambda x=5: x, name="load")
    Task(quiet_none, name="start", when=lambda: False) >> load
    assert run(load) == {"load": 5}


def test_none_warning_shows_line_of_caller():
    """It points at the line of run(), not into the library."""
    load = Task(lambda x=5: x, name="load")
    Task(quiet_none, name="start") >> load
    with pytest.warns(RuntimeWarning) as caught:
        run(load)
    assert caught[0].filename == __file__


def test_none_warning_turned_into_error_does_not_fail_the_run(capsys):
    """What is found during a run is printed then."""
    load = Task(lambda x=5: [x], name="load")
    Task(quiet_none, name="start") >> load
    assert run(load)["load"] == [None]
    assert "load.after(start)" in capsys.readouterr().err


def test_missing_parameter_of_a_task_without_upstreams_names_the_pipeline():
    """Where a file has several pipelines, the task may be one of another pipeline."""
    Task(lambda: 1, name="fetch") >> Task(lambda number: number, name="total")
    Task(lambda day: day, name="extract") >> Task(lambda rows: rows, name="load")
    with pytest.raises(
        BindingError, match=r"if it is not part of 'numbers', .* with DAG\('numbers', tasks=\[\.\.\.\]\)"
    ):
        DAG("numbers").run("serial")
