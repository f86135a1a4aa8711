"""Large graphs: no recursion, and a number of steps that grows linearly with tasks and edges."""

from __future__ import annotations

import gc
import sys
from itertools import pairwise

import pytest

from flowkit_core import DAG, DAGCycleError, Group, Task

pytestmark = pytest.mark.slow

MANY = 100_000


def increment(x=0):
    return x + 1


def chain(length):
    """Return the tasks of a chain, first to last."""
    tasks = [Task(increment, name=f"task_{number}") for number in range(length)]
    for one, following in pairwise(tasks):
        one >> following
    return tasks


@pytest.fixture(autouse=True)
def shallow():
    """Leave so little of the stack that any recursion over a graph is an error."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    yield
    sys.setrecursionlimit(limit)


def test_chain_of_100_000_tasks_runs():
    """In order; each task gets the result of the one before it."""
    dag = DAG("chain", tasks=chain(MANY)[-1:])
    assert dag.graph().names == tuple(f"task_{number}" for number in range(MANY))
    results = dag.run("serial")
    assert len(results) == MANY
    assert results[f"task_{MANY - 1}"] == MANY
    assert set(results.states.values()) == {"succeeded"}


def test_long_chain_is_drawn():
    """In every format."""
    dag = DAG("chain", tasks=chain(20_000)[-1:])
    for format in ("text", "mermaid", "dot"):
        assert "task_0" in dag.visualize(format)


def test_long_chain_that_fails_at_its_start():
    """All others end as upstream_failed."""
    tasks = chain(20_000)
    broken = Task(lambda: 1 / 0, name="broken")
    broken >> tasks[0]
    results = DAG("chain", tasks=tasks[-1:]).run("serial", raise_on_failure=False)
    assert list(results.states.values()) == ["failed"] + ["upstream_failed"] * 20_000


def test_long_chain_that_is_skipped_from_its_start():
    skipped = Task(lambda: 1, name="skipped", when=lambda: False)
    tasks = [Task(lambda x: x, name=f"task_{number}") for number in range(10_000)]
    for one, following in zip([skipped, *tasks], tasks, strict=False):
        one >> following
    results = DAG("chain", tasks=tasks[-1:]).run("serial")
    assert results == {}
    assert len(results.skipped) == 10_001


def test_long_cycle_is_cycle_error():
    """Without recursion, with a short message."""
    tasks = chain(20_000)
    tasks[-1] >> tasks[0]
    with pytest.raises(DAGCycleError) as caught:
        DAG("ring", tasks=tasks[:1]).graph()
    assert len(caught.value.cycle) == 20_001
    assert len(str(caught.value)) < 500


def test_fan_in_of_10_000_tasks():
    """Results arrive in order."""
    tasks = [Task(lambda number=number: number, name=f"task_{number}") for number in range(10_000)]
    total = Task(lambda *args: args, name="total")
    tasks >> total
    assert DAG("fan", tasks=[total]).run("serial")["total"] == tuple(range(10_000))


def test_fan_out_of_10_000_tasks():
    start = Task(lambda: 7, name="start")
    tasks = [Task(lambda x: x, name=f"task_{number}") for number in range(10_000)]
    start >> tasks
    assert set(DAG("fan", tasks=tasks).run("serial").values()) == {7}


class CountedName(str):
    """A name that is seen to be compared."""

    __slots__ = ()

    def __eq__(self, other):
        return str.__eq__(self, other)

    def __hash__(self):
        return str.__hash__(self)


class CountedTask(Task):
    """A task that is seen to be compared."""

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return object.__hash__(self)


def steps(act, *args):
    """Return how many functions are called in an act; to compare `CountedTask` and `CountedName` is to call one."""
    calls = 0

    def count(frame, event, function):
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.collect()  # that of others would count
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        act(*args)
    finally:
        sys.setprofile(before)
    return calls


def fan_in(tasks, end):
    tasks >> end
    return [end]


def fan_in_one_by_one(tasks, end):
    for task in tasks:
        task >> end
    return [end]


def fan_in_twice(tasks, end):
    return fan_in(tasks, end) and fan_in_one_by_one(tasks, end)


def fan_out(tasks, start):
    start >> tasks
    return tasks


def fan_out_one_by_one(tasks, start):
    for task in tasks:
        start >> task
    return tasks


def side_by_side(tasks, other):
    return [*tasks, other]


@pytest.mark.parametrize(
    "wire", [fan_in, fan_in_one_by_one, fan_in_twice, fan_out, fan_out_one_by_one, side_by_side, None]
)
def test_steps_grow_linearly_with_tasks(wire):
    """To define, wire, discover, check, bind, run and read the states."""

    def act(many):
        tasks = [CountedTask(lambda *_: 1, name=CountedName(f"task_{number}")) for number in range(many)]
        one = CountedTask(lambda *args: len(args), name=CountedName("one"))
        if wire is None:
            with DAG("block") as dag:
                fan_in(tasks, one)
        else:
            dag = DAG("fan", tasks=wire(tasks, one))
        results = dag.run("serial")
        assert len(results) == len(results.states) == len(results.durations) == many + 1
        results = dag.run("serial", params={})
        assert results["one"] in (0, many)
        dag.visualize()

    steps(act, 10)  # what is imported at first use is
    assert steps(act, 2_000) < 10.5 * steps(act, 200)


def test_layers_wired_all_to_all():
    """300 to 300, 90 000 edges; arguments are in order."""
    above = [Task(lambda number=number: number, name=f"above_{number}") for number in range(300)]
    below = [Task(lambda *args: args, name=f"below_{number}") for number in range(300)]
    Group(above) >> below
    results = DAG("layers", tasks=below).run("serial")
    assert {results[task.name] for task in below} == {tuple(range(300))}


def test_long_chain_is_discovered():
    """Without recursion."""
    with DAG("block") as dag:
        chain(20_000)
    assert len(dag.run("serial")) == 20_000


def test_long_chain_is_freed_without_recursion_error():
    tasks = chain(20_000)
    DAG("chain", tasks=tasks[-1:]).run("serial")
    Task.clear_registry()
    del tasks
    gc.collect()
