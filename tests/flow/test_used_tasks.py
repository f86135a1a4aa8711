"""Tasks that are in a Flow are used: they do not pass to the call that made the flow's builder."""

from __future__ import annotations

from flowkit_core import DAG, Task
from flowkit_flow import Flow


def make_flow(n):
    first, second = Task(lambda: n, name="first"), Task(lambda first: first + 1, name="second")
    return Flow("f").add(first).add(second)


def test_tasks_of_a_flow_do_not_pass_to_the_caller_of_its_builder():
    """A bare DAG has nothing of what another function made for a Flow, run or not."""
    one, two = make_flow(1), make_flow(2)
    assert two.run("serial") == {"first": 2, "second": 3}
    Task(lambda: 0, name="own")
    assert DAG("own").run("serial") == {"own": 0}
    assert one.run("serial") == {"first": 1, "second": 2}


def test_task_in_a_flow_stays_in_the_bare_dag_of_its_own_call():
    """Use governs passing on only."""
    a = Task(lambda: 1, name="a")
    flow = Flow("f").add(a)
    assert DAG("bare").run("serial") == flow.run("serial") == {"a": 1}


def test_flow_that_was_dropped_has_used_its_tasks():
    """The flow need not be kept."""

    def helper():
        make_flow(1).run("serial")

    helper()
    Task(lambda: 0, name="own")
    assert DAG("own").run("serial") == {"own": 0}


def test_flow_made_in_a_block_of_a_dag_keeps_its_tasks():
    """Tasks that are made in a block and put into a flow are in both."""
    with DAG("block") as dag:
        a = Task(lambda: 1, name="a")
        flow = Flow("f").add(a)
    assert dag.run("serial") == flow.run("serial") == {"a": 1}
