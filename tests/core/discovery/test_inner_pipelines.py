"""Which tasks pipelines have that are used as tasks, and those that use them; what later changes do."""

from __future__ import annotations

import warnings

import pytest

from flowkit_core import DAG, Task, WiringError, task


def build():
    """Return a pipeline of two tasks: ``first(path) >> second``."""
    first = Task(lambda path: path, name="first")
    second = Task(lambda first: first.upper(), name="second")
    first >> second
    return DAG("inner", tasks=[second])


def test_later_changes_of_a_pipeline_count():
    first, second = Task(lambda: 1, name="first"), Task(lambda first: first + 1, name="second")
    with DAG("inner") as inner:
        first >> second
    outer = DAG("outer", tasks=[inner.as_task("second")])
    assert list(outer.run("serial").states) == ["inner.first", "inner.second"]
    graph = outer.graph()
    assert outer.graph() is graph
    with inner:
        Task(lambda: 3, name="third")
    assert list(outer.run("serial").states) == ["inner.first", "inner.third", "inner.second"]


def test_bare_pipelines_in_one_function_do_not_share_tasks():
    @task
    def extract(path):
        return [path]

    @task
    def drop(extract):
        return extract

    extract >> drop
    inner = DAG("inner")
    clean = inner.as_task(name="clean")

    @task
    def raw():
        return "a"

    @task
    def last(clean):
        return clean

    raw >> clean >> last
    assert [each.name for each in DAG("outer").tasks] == ["clean", "raw", "last"]
    assert DAG("outer").run("serial")["last"] == ["a"]
    assert clean._pipeline.graph().names == ("extract", "drop")


def test_tasks_of_a_pipeline_that_are_also_wired_outside_are_in_both():
    shared = Task(lambda: 1, name="shared")
    inner = DAG("inner", tasks=[shared]).as_task()
    last = Task(lambda shared, inner: shared + inner, name="last")
    [shared, inner] >> last
    assert DAG("outer").run("serial") == {"shared": 1, "inner.shared": 1, "inner": 1, "last": 2}


def test_block_has_the_pipeline_task_and_not_the_tasks_that_its_builder_made():
    def make():
        with DAG("inner") as made:
            Task(lambda: "a", name="first") >> Task(lambda first: first, name="second")
        return made.as_task()

    with DAG("outer") as outer:
        inner = make()
        last = Task(len, name="last")
        inner >> last
    assert [each.name for each in outer.tasks] == ["inner", "last"]


def test_builders_of_pipelines_pass_nothing_on_but_the_pipeline_task():
    def builder():
        return build().as_task()

    inner = builder()
    last = Task(len, name="last")
    inner >> last
    assert [each.name for each in DAG("outer").tasks] == ["inner", "last"]


def test_no_warnings_of_the_inner_pipeline_twice():
    def nothing() -> None: ...

    first, second = Task(nothing, name="first"), Task(lambda rows: rows, name="second")
    first >> second
    with pytest.warns(RuntimeWarning, match="annotated '-> None'"):
        inner = DAG("inner", tasks=[second]).as_task()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert DAG("outer", tasks=[inner]).run("serial")["inner"] is None


def test_none_in_place_of_a_default_is_warned_of_inside():
    first, second = Task(lambda: None, name="first"), Task(lambda rows=(): rows, name="second")
    first >> second
    inner = DAG("inner", tasks=[second]).as_task()
    with pytest.warns(RuntimeWarning, match=r"task 'inner.second' gets None"):
        DAG("outer", tasks=[inner]).run("serial")


def test_redefined_task_of_an_inner_pipeline():
    namespace = {"__name__": "notebook"}
    exec(compile("from flowkit_core import *\nfirst = Task(lambda: 1, name='first')", "cell 1", "exec"), namespace)
    exec(compile("clean = DAG('inner', tasks=[first]).as_task()", "cell 2", "exec"), namespace)
    exec(compile("first = Task(lambda: 2, name='first')", "cell 1b", "exec"), namespace)
    with pytest.raises(WiringError, match=r"'inner' has the task 'first' .*redefined"):
        DAG("outer", tasks=[namespace["clean"]]).run("serial")


def test_cells_of_a_notebook_may_be_executed_again():
    namespace = {"__name__": "notebook"}
    inner = """if 1:
        from flowkit_core import DAG, task
        @task
        def extract(path): return [path]
        @task
        def drop(extract): return extract
        extract >> drop
        clean = DAG("inner").as_task(name="clean")
    """
    outer = """if 1:
        @task
        def raw(): return "a"
        @task
        def last(clean): return clean
        raw >> clean >> last
        outer = DAG("outer")
    """
    for number, cell in enumerate([inner, outer, outer, inner, outer]):
        exec(compile(cell, f"cell {number}", "exec"), namespace)
        if cell is outer:
            assert [each.name for each in namespace["outer"].tasks] == ["clean", "raw", "last"]
            assert namespace["outer"].run("serial")["last"] == ["a"]
