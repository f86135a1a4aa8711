"""Flows that are used as tasks, and flows with such tasks."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, BindingError, DuplicateTaskError, Task
from flowkit_flow import Flow


def lower(rows):
    return rows.lower()


def joined(user, rows):
    """Return the results of two earlier stages of a flow: only a Flow passes the first one."""
    return f"{user}:{rows}"


def inner_flow():
    user, rows, report = Task(lambda day: f"ada {day}", name="user"), Task(lambda: "rows", name="rows"), Task(joined)
    return Flow("inner").add(user).add(rows).add(report)


def test_flow_keeps_its_rule_in_a_dag():
    day = Task(lambda: "monday", name="today")
    inner, last = inner_flow().as_task(), Task(lower)
    day >> inner >> last
    assert DAG("outer", tasks=[last]).run("serial")["lower"] == "ada monday:rows"


def test_names_of_the_outer_flow_fill_open_parameters():
    """A parameter named like any earlier task, not only the one before."""
    day, other = Task(lambda: "monday", name="day"), Task(lambda day: None, name="other")
    flow = Flow("outer").add(day).add(other).add(inner_flow().as_task()).add(Task(lower))
    assert flow.run("serial")["lower"] == "ada monday:rows"


def test_one_parameter_and_one_upstream_belong_together():
    source = Task(lambda: "tuesday", name="source")
    assert Flow("outer").add(source).add(inner_flow().as_task()).run("serial")["inner"] == "ada tuesday:rows"


def test_branch_and_merge_with_pipeline_tasks():
    flow = inner_flow()
    north, south = flow.as_task(name="north"), flow.as_task(name="south")
    both = Task(lambda north, south: [north, south], name="both")
    results = Flow("outer").branch(north, south).merge(both).run("serial", params={"day": "x", "south.day": "y"})
    assert results["both"] == ["ada x:rows", "ada y:rows"]


def test_dag_in_a_flow_keeps_its_rule():
    """In a DAG, the name of a task that is not a direct upstream fills nothing."""
    first, second, third = (
        Task(f, name=n) for n, f in {"a": lambda: 1, "b": lambda a: a, "c": lambda b, a=5: a}.items()
    )
    first >> second >> third
    flow = Flow("outer").add(DAG("inner", tasks=[third]).as_task())
    assert flow.run("serial")["inner"] == 5


def test_later_stages_of_an_inner_flow_count():
    flow = Flow("inner").add(Task(lambda: 1, name="one"))
    outer = Flow("outer").add(flow.as_task())
    assert outer.run("serial")["inner"] == 1
    flow.add(Task(lambda one: one + 1, name="two"))
    assert outer.run("serial") == {"inner.one": 1, "inner.two": 2, "inner": 2}


def test_errors():
    with pytest.raises(DuplicateTaskError):
        Flow("outer").add(inner_flow().as_task()).add(inner_flow().as_task())
    with pytest.raises(TypeError, match=r"write as_task\(\) after it"):
        Flow("outer").add(inner_flow())
    with pytest.raises(BindingError, match=r"'inner.user' takes 'day'"):
        Flow("outer").add(inner_flow().as_task()).run("serial")
    with pytest.raises(ValueError, match="'empty' has no tasks"):
        Flow("empty").as_task()
