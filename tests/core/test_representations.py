"""``repr()`` of a graph and of a run: names and counts on one line."""

from __future__ import annotations

from flowkit_core import DAG, Outcome, Run, Task


def pipeline():
    extract, check, load = Task(lambda: 1, name="extract"), Task(lambda x: 1 / 0, name="check"), Task(max, name="load")
    extract >> check >> load
    return DAG("etl", tasks=[load])


def test_graph_shows_tasks_and_edges():
    assert repr(pipeline().graph()) == "<Graph etl: 3 tasks, 2 edges>"


def test_graph_of_one_task_is_singular():
    assert repr(DAG("one", tasks=[Task(lambda: 1, name="one")]).graph()) == "<Graph one: 1 task, 0 edges>"


def test_run_shows_states_that_occur():
    run = Run(pipeline().graph())
    assert repr(run) == "<Run etl: 3 pending>"
    ready = list(run.start())
    while ready:
        node = ready.pop()
        call = run.call(node)
        ready += run.finish(node, call if isinstance(call, Outcome) else call.invoke())
    assert repr(run) == "<Run etl: 1 succeeded, 1 failed, 1 upstream failed>"


def test_run_without_tasks():
    assert repr(Run(DAG("empty", tasks=[]).graph())) == "<Run empty: no tasks>"


def test_run_escapes_control_characters_of_the_name():
    assert repr(Run(DAG("a\nb", tasks=[]).graph())) == r"<Run a\nb: no tasks>"
