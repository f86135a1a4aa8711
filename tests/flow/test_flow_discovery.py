"""Tasks of a flow are used, so they do not pass to the caller of the function that built the flow."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, Task, WiringError
from flowkit_flow import Flow


def make_flow(n):
    first, second = Task(lambda: n, name="first"), Task(lambda first: first + 1, name="second")
    return Flow("f").add(first).add(second)


def test_tasks_of_flow_do_not_pass_to_caller():
    one, two = make_flow(1), make_flow(2)
    assert two.run("serial") == {"first": 2, "second": 3}
    Task(lambda: 0, name="own")
    assert DAG("own").run("serial") == {"own": 0}
    assert one.run("serial") == {"first": 1, "second": 2}


def test_task_of_flow_is_in_bare_dag_of_same_call():
    a = Task(lambda: 1, name="a")
    flow = Flow("f").add(a)
    assert DAG("bare").run("serial") == flow.run("serial") == {"a": 1}


def test_tasks_of_deleted_flow_do_not_pass_to_caller():
    def helper():
        make_flow(1).run("serial")

    helper()
    Task(lambda: 0, name="own")
    assert DAG("own").run("serial") == {"own": 0}


def test_task_of_dag_block_can_be_added_to_flow():
    with DAG("block") as dag:
        a = Task(lambda: 1, name="a")
        flow = Flow("f").add(a)
    assert dag.run("serial") == flow.run("serial") == {"a": 1}


def test_flow_with_a_task_that_was_redefined_is_an_error():
    """As for a DAG: a cell of a notebook that defines a task of the flow was run again."""
    names = {"__name__": "cells", "Task": Task, "Flow": Flow}
    for cell in ("b = Task(lambda a: a + 1, name='b')", "flow = Flow('f').add(Task(lambda: 1, name='a')).add(b)"):
        exec(compile(cell, f"<{cell}>", "exec"), names)
    assert names["flow"].run("serial") == {"a": 1, "b": 2}
    exec(compile("b = Task(lambda a: a + 100, name='b')", "<again>", "exec"), names)
    with pytest.raises(WiringError, match=r"'f' has the task 'b' .* redefined"):
        names["flow"].run("serial")
    assert [problem.task for problem in names["flow"].check()] == ["b"]


def test_flow_of_tasks_that_went_into_the_block_of_a_caller_is_an_error():
    """The DAG of the block would run them, too; a flow of other tasks may run there."""
    shared = Task(lambda: 1, name="shared")

    def own():
        return Flow("own").add(Task(lambda: 2, name="made")).run("serial")

    def other():
        return Flow("other").add(shared).run("serial")

    assert own() == {"made": 2}
    with DAG("user") as user:
        assert other() == {"shared": 1}
        with pytest.raises(
            WiringError, match=r"flow 'own' was created in .*own\(\) while the block 'with DAG\('user'\)'"
        ):
            own()
        assert Flow("here").add(Task(lambda: 3, name="here")).run("serial") == {"here": 3}
    assert [task.name for task in user.tasks] == ["made", "here"]
