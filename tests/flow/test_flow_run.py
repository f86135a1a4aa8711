"""Running and drawing a flow, and the cost of it."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest
from flow_tasks import make_empty_tasks

from flowkit_core import DAG, BindingError, DuplicateTaskError, Task, task
from flowkit_flow import Flow


def test_retries_and_conditions_of_flow():
    attempts = []

    @task(retries=2, delay=0)
    def flaky():
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError
        return 5

    large = Task(lambda x: "large", name="large", when=lambda x: x > 10)
    small = Task(lambda x: "small", name="small", when=lambda x: x <= 10)
    report = Task(lambda flaky, large=None, small=None: (flaky, large, small), name="report")
    results = Flow().add(flaky).branch(large, small).merge(report).run("serial")
    assert results == {"flaky": 5, "small": "small", "report": (5, None, "small")}
    assert results.states["large"] == "skipped"
    assert len(attempts) == 3


def test_skipped_ancestor_skips_task_or_leaves_default():
    a = Task(lambda: 1, name="a", when=lambda: False)
    b = Task(lambda: 2, name="b", trigger="all_done")
    needs, does_not = Task(lambda a, b: 0, name="needs"), Task(lambda b, a="default": (a, b), name="does_not")
    results = Flow().add(a).add(b).branch(needs, does_not).run("serial")
    assert results == {"b": 2, "does_not": ("default", 2)}
    assert '"a"' in results.skipped["needs"]


def test_failure_is_raised_with_note():
    error = ValueError("boom")

    @task
    def broken():
        raise error

    (below,) = make_empty_tasks("below")
    with pytest.raises(ValueError) as caught:
        Flow("etl").add(broken).add(below).run()
    assert caught.value is error
    assert "task 'broken' of 'etl'" in "\n".join(error.__notes__)
    assert error.flowkit_results.states == {"broken": "failed", "below": "upstream_failed"}


def test_flow_is_drawn_in_every_format():
    a, b, c, d = make_empty_tasks("alpha", "beta", "gamma", "delta")
    flow = Flow("picture").add(a).branch(b, c).merge(d)
    for format in ("text", "mermaid", "dot"):
        assert all(name in flow.visualize(format=format) for name in ("alpha", "beta", "gamma", "delta"))
    assert "alpha" in flow._repr_html_()
    assert "picture" in repr(flow)
    with pytest.raises(ValueError, match=r"text.*mermaid.*dot"):
        flow.visualize("png")


def test_flow_and_dag_of_same_shape_have_equal_drawings():
    a, b, c, d = make_empty_tasks("a", "b", "c", "d")
    a >> [b, c] >> d
    assert Flow("same").add(a).branch(b, c).merge(d).visualize() == DAG("same", tasks=[d]).visualize()


@pytest.mark.parametrize("func", [lambda x: x + 1, lambda x, y=0: x + 1], ids=["one parameter", "a default too"])
def test_chain_of_20000_tasks_runs_without_recursion(func):
    flow = Flow("deep").add(Task(lambda: 0, name="start"))
    for number in range(20_000):
        flow.add(Task(func, name=f"task_{number}"))
    assert flow.run("serial")["task_19999"] == 20_000


@pytest.mark.parametrize("name", ["\x1b[2J", "two\nlines", "\r", "\a\0", "\u202e"], ids=ascii)
def test_control_characters_of_names_are_escaped(name):
    one, two = Task(lambda: 1, name=name), Task(lambda x, y: x, name=f"{name}2")
    flow = Flow(name).add(one)
    words = [repr(flow), *flow.visualize().splitlines()]
    for action, kind in (
        (lambda: flow.add(one), DuplicateTaskError),
        (lambda: Flow(name).add(one).add(two).run(), BindingError),
        (lambda: flow.add([one]), TypeError),
        (lambda: flow.branch(), ValueError),
        (lambda: Flow(name).merge(one), ValueError),
    ):
        with pytest.raises(kind) as caught:
            action()
        words.append(str(caught.value))
    assert [text for text in words if not text.isprintable()] == []


def test_import_loads_few_modules_and_prints_nothing():
    code = (
        "import _thread, sys, flowkit_core\n"
        "before = set(sys.modules)\n"
        "import flowkit_flow\n"
        "print(sorted(set(sys.modules) - before), _thread._count())"
    )
    # -S: packages in the site folder of a test environment import modules.
    command = [sys.executable, "-S", "-W", "error", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("['flowkit_flow', 'flowkit_flow._flow'] 0\n", "")


def counted(action):
    """Return the number of function calls of an action, including comparisons of `Counted` names."""
    calls = 0

    def count(frame, event, function):
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.collect()  # a collection would be counted
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return calls


class Counted(str):
    """A name whose comparisons are function calls."""

    __slots__ = ()

    def __eq__(self, other):
        return str.__eq__(self, other)

    def __hash__(self):
        return str.__hash__(self)


def test_branch_and_merge_take_linear_number_of_calls():
    def steps(branches):
        one = Task(lambda: 1, name="one")
        tasks = [Task(lambda one: one, name=Counted(f"task {number}")) for number in range(branches)]
        merge = Task(lambda *args: len(args), name="merge")
        results = {}
        steps = counted(lambda: results.update(Flow().add(one).branch(*tasks).merge(merge).run("serial")))
        assert results["merge"] == branches
        return steps

    assert steps(10_000) < 11 * steps(1_000)
