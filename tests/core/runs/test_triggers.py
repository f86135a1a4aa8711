"""Function `outcome_of_trigger`: whether a ready node may run, by its trigger and the states of its upstreams."""

from __future__ import annotations

from itertools import product

import pytest

from flowkit_core import DAG, BindingError, Task
from flowkit_core.runs.run_state import RunState
from flowkit_core.runs.states import CANCELLED, FAILED, PENDING, SKIPPED, STATES, SUCCEEDED, UPSTREAM_FAILED
from flowkit_core.runs.triggers import outcome_of_trigger

STOPPING = "another task failed before it could start"
CODES = {"p": PENDING, "v": SUCCEEDED, "f": FAILED, "s": SKIPPED, "u": UPSTREAM_FAILED, "c": CANCELLED}


def check(trigger, upstream, *, order_only=(), stop_reason=None):
    """Return state and reason of a node with upstreams in these states; None if it may run."""
    tasks = [Task(lambda: 1, name=f"up{number}") for number in range(len(upstream))]
    last = Task(lambda *results: 1, name="last", trigger=trigger)
    for number, task in enumerate(tasks):
        if number in order_only:
            last.after(task)
        else:
            task >> last
    graph = DAG("triggers", tasks=[*tasks, last]).graph()
    codes = [CODES[letter] for letter in upstream] + [0]
    outcome = outcome_of_trigger(graph["last"], codes, graph.names, stop_reason)
    return None if outcome is None else (STATES[outcome.state], outcome.reason)


@pytest.mark.parametrize(
    ("trigger", "upstream", "expected"),
    [
        ("none_failed", "vv", None),
        ("none_failed", "vs", None),
        ("none_failed", "vf", ("upstream_failed", 'upstream "up1" failed')),
        ("none_failed", "uv", ("upstream_failed", 'upstream "up0" could not run')),
        ("none_failed", "vc", ("cancelled", 'upstream "up1" was cancelled')),
        ("all_success", "vv", None),
        ("all_success", "vs", ("skipped", 'upstream "up1" was skipped')),
        ("all_success", "sf", ("upstream_failed", 'upstream "up1" failed')),
        ("all_done", "fsuc", None),
        ("one_success", "sv", None),
        ("one_success", "ss", ("skipped", "no upstream succeeded")),
        ("one_success", "sf", ("upstream_failed", "no upstream succeeded")),
        ("one_failed", "vv", ("skipped", "no upstream failed")),
        ("one_failed", "vf", None),
        ("one_failed", "u", None),
        ("one_failed", "c", ("skipped", "no upstream failed")),
        ("one_failed", "pf", None),
        ("one_success", "pv", None),
        ("all_failed", "fu", None),
        ("all_failed", "vf", ("skipped", 'upstream "up0" did not fail')),
        ("all_failed", "fc", ("skipped", 'upstream "up1" did not fail')),
        ("all_failed", "vv", ("skipped", "no upstream failed")),
    ],
)
def test_trigger_with_states_of_upstreams(trigger, upstream, expected):
    assert check(trigger, upstream) == expected


@pytest.mark.parametrize("trigger", ["none_failed", "all_success", "one_success", "all_done"])
def test_trigger_without_upstreams_lets_node_run(trigger):
    assert check(trigger, "") is None


def test_trigger_one_failed_without_upstreams_skips_node():
    assert check("one_failed", "") == ("skipped", "no upstream failed")


@pytest.mark.parametrize("trigger", ["none_failed", "all_success", "one_success"])
def test_stopping_run_cancels_nodes(trigger):
    assert check(trigger, "v", stop_reason=STOPPING) == ("cancelled", STOPPING)


@pytest.mark.parametrize(("trigger", "upstream"), [("all_done", "f"), ("one_failed", "f"), ("all_failed", "f")])
def test_stopping_run_lets_clean_up_tasks_run(trigger, upstream):
    assert check(trigger, upstream, stop_reason=STOPPING) is None


@pytest.mark.parametrize(
    ("trigger", "upstream", "expected"),
    [
        ("one_success", "vf", ("cancelled", STOPPING)),
        ("one_success", "ff", ("upstream_failed", "no upstream succeeded")),
        ("none_failed", "vf", ("upstream_failed", 'upstream "up1" failed')),
    ],
)
def test_stopping_run_reports_failed_upstreams_first_if_the_trigger_needs_them(trigger, upstream, expected):
    assert check(trigger, upstream, stop_reason=STOPPING) == expected


@pytest.mark.parametrize("trigger", ["none_failed", "all_success", "one_success"])
def test_skipped_upstream_of_order_edge_counts_as_succeeded(trigger):
    assert check(trigger, "vs", order_only={1}) is None


def test_failed_upstream_of_order_edge_counts_as_failed():
    assert check("none_failed", "vf", order_only={1}) == ("upstream_failed", 'upstream "up1" failed')


# Ready nodes: as soon as one upstream has ended in the state that the trigger needs.


def ready_order(trigger, ends):
    """Return after which of some upstreams, ended one after the other in these states, the node becomes ready."""
    tasks = [Task(lambda: 1, name=f"up{number}") for number in range(len(ends))]
    last = Task(lambda *results: 1, name="last", trigger=trigger)
    tasks >> last
    graph = DAG("ready", tasks=[last]).graph()
    state = RunState(graph)
    found = []
    for number, letter in enumerate(ends):
        node = graph[f"up{number}"]
        state.codes[node.index] = CODES[letter]
        found += [number for ready in state.ready_after(node) if ready.name == "last"]
    return found


@pytest.mark.parametrize("ends", ["".join(ends) for ends in product("vfsuc", repeat=3)])
def test_node_becomes_ready_once_and_as_soon_as_its_trigger_is_fulfilled(ends):
    first_success = ends.index("v") if "v" in ends else 2
    first_failure = next((number for number, letter in enumerate(ends) if letter in "fu"), 2)
    assert ready_order("one_success", ends) == [first_success]
    assert ready_order("one_failed", ends) == [first_failure]
    for trigger in ("none_failed", "all_success", "all_done", "all_failed"):
        assert ready_order(trigger, ends) == [2]


@pytest.mark.parametrize(
    ("trigger", "when"),
    [
        ("one_success", "as soon as one upstream has succeeded, which may be another"),
        ("one_failed", "as soon as one upstream has failed"),
        ("all_failed", "if every upstream has failed"),
    ],
)
def test_required_parameter_of_a_result_that_may_be_missing_is_an_error(trigger, when):
    first, second = Task(lambda: 1, name="first"), Task(lambda: 2, name="second")
    last = Task(lambda first, second=0: first, name="last", trigger=trigger)
    [first, second] >> last
    with pytest.raises(BindingError) as caught:
        DAG("required", tasks=[last]).run("serial")
    assert str(caught.value) == (
        f"task 'last' has trigger='{trigger}': it runs {when}, so the result of 'first' may be missing, but its "
        f"parameter 'first' has no default: give it one, first=None, take *args, or take no result with "
        f"last.after(first)"
    )
    assert (caught.value.task, caught.value.parameter) == ("last", "first")


def test_required_parameter_of_only_upstream_is_an_error_for_one_failed():
    first = Task(lambda: 1, name="first")
    last = Task(lambda first: first, name="last", trigger="one_failed")
    first >> last
    with pytest.raises(BindingError, match="the result of 'first' may be missing"):
        DAG("required", tasks=[last]).graph()


def test_required_parameter_of_only_upstream_is_right_for_one_success():
    first = Task(lambda: 1, name="first")
    last = Task(lambda first: first + 1, name="last", trigger="one_success")
    first >> last
    assert DAG("required", tasks=[last]).run("serial") == {"first": 1, "last": 2}


def test_results_that_are_missing_are_defaults():
    first, second = Task(lambda: 1, name="first"), Task(lambda: 1 / 0, name="second")
    last = Task(lambda first="a", second="b": (first, second), name="last", trigger="one_failed")
    [first, second] >> last
    with pytest.raises(ZeroDivisionError) as caught:
        DAG("defaults", tasks=[last]).run("serial")
    assert caught.value.flowkit_results["last"] == (1, "b")


@pytest.mark.parametrize("recorded", [[0], [1], [0, 1]])
def test_resumed_run_starts_node_whose_trigger_is_fulfilled(recorded):
    tasks = [Task(lambda: 1, name=f"up{number}") for number in range(3)]
    last = Task(lambda *results: 1, name="last", trigger="one_success")
    tasks >> last
    graph = DAG("resumed", tasks=[last]).graph()
    state = RunState(graph)
    state.take_over(graph, {index: Recorded("succeeded") for index in recorded})
    pending = [f"up{number}" for number in range(3) if number not in recorded]
    assert [node.name for node in state.ready_now(graph)] == [*pending, "last"]
    for name in pending:
        state.codes[graph[name].index] = SUCCEEDED
        assert list(state.ready_after(graph[name])) == []


def test_resumed_run_does_not_start_recorded_node_again():
    tasks = [Task(lambda: 1, name=f"up{number}") for number in range(2)]
    last = Task(lambda *results: 1, name="last", trigger="one_failed")
    tasks >> last
    graph = DAG("resumed", tasks=[last]).graph()
    state = RunState(graph)
    state.take_over(graph, {graph["last"].index: Recorded("succeeded")})
    state.codes[0] = FAILED
    assert list(state.ready_after(graph.nodes[0])) == []


class Recorded:
    """A task that ended before the run was resumed."""

    value, reason, attempts, seconds = 1, "", 1, 0.0

    def __init__(self, state):
        self.state = state
