"""Pipelines that are created in a call while a caller has a block open, which gets the tasks and edges of the call."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, Task, WiringError


def total_of(rows):
    read, total = Task(lambda: rows, name="read"), Task(lambda rows=(): sum(rows), name="total")
    read >> total
    return DAG("library", tasks=[total]).run("serial")["total"]


def total_in_a_block(rows):
    with DAG("library") as library:
        Task(lambda: rows, name="read") >> Task(lambda rows=(): sum(rows), name="total")
    return library.run("serial")["total"]


def test_library_pipeline_in_a_block_of_its_caller_is_an_error_that_names_the_block():
    assert total_of([1, 2]) == 3
    named = r"in total_of\(\) while the block 'with DAG\('user'\)'"
    with DAG("user"), pytest.raises(WiringError, match=named) as caught:
        total_of([1, 2])
    assert (caught.value.pipeline, caught.value.tasks) == ("library", ("total",))


def test_library_pipeline_in_a_block_of_its_own_may_be_called_in_a_block():
    with DAG("user") as user:
        assert total_in_a_block([1, 2]) == 3
        Task(lambda: 1, name="own")
    assert user.run("serial") == {"own": 1}


def test_edge_to_a_shared_task_in_the_block_of_a_caller_is_an_error():
    read, total = Task(lambda: [1], name="read"), Task(lambda rows=(): sum(rows), name="total")

    def run():
        read >> total
        return DAG("library", tasks=[total]).run("serial")

    with DAG("user"), pytest.raises(WiringError, match="made or wired in that block"):
        run()
    assert run()["total"] == 1


def count_discovered():
    Task(lambda: 1, name="one") >> Task(lambda one: one + 1, name="two")
    return DAG("count").run("serial")


def test_bare_dag_of_tasks_that_went_into_the_block_of_a_caller_is_an_error():
    """Also if a helper has made the tasks, and if the DAG is created in a nested function."""

    def with_helper():
        pair()
        return DAG("count").run("serial")

    def nested():
        def run():
            return DAG("count").run("serial")

        pair()
        return run()

    def pair():
        [Task(int, name=name) for name in "ab"]

    assert count_discovered() == {"one": 1, "two": 2}
    for function in (count_discovered, with_helper, nested):
        named = rf"while the block 'with DAG\('user'\)' was open, and .* that .*{function.__name__}\(\) has made"
        with DAG("user"), pytest.raises(WiringError, match=named) as caught:
            function()
        assert caught.value.pipeline == "count"


def test_bare_dag_runs_the_tasks_of_its_module_also_in_the_block_of_a_caller(script):
    """The function has made no tasks, and the caller has made its own."""
    module = script(
        """
        hello = Task(lambda: "hello", name="hello")
        def main(): return DAG("main").run("serial")
        def user():
            with DAG("user"):
                [Task(int, name=name) for name in "ab"]
                return main()
        """
    )
    assert module.user() == {"hello": "hello"}


def test_bare_dag_after_the_block_of_a_caller(script):
    """What a call has made for a block counts only while the block is open, and only in that call."""
    module = script(
        """
        hello = Task(lambda: "hello", name="hello")
        def make(): return Task(int, name="made")
        def main(): return DAG("main").run("serial")
        def user():
            with DAG("user") as user:
                make()
                found = main()
            return found, main(), user.run("serial")
        """
    )
    assert module.user() == ({"hello": "hello"}, {"hello": "hello"}, {"made": 0})
