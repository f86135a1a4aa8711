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
