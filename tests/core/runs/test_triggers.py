"""Function `outcome_of_trigger`: whether a ready node may run, by its trigger and the states of its upstreams."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, Task
from flowkit_core.runs.states import CANCELLED, FAILED, SKIPPED, STATES, SUCCEEDED, UPSTREAM_FAILED
from flowkit_core.runs.triggers import outcome_of_trigger

STOPPING = "another task failed before it could start"
CODES = {"v": SUCCEEDED, "f": FAILED, "s": SKIPPED, "u": UPSTREAM_FAILED, "c": CANCELLED}


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


@pytest.mark.parametrize(("trigger", "upstream"), [("all_done", "f"), ("one_failed", "f")])
def test_stopping_run_lets_clean_up_tasks_run(trigger, upstream):
    assert check(trigger, upstream, stop_reason=STOPPING) is None


def test_stopping_run_reports_failed_upstream_first():
    """Also with a trigger that does not need it."""
    assert check("one_success", "vf", stop_reason=STOPPING) == ("upstream_failed", 'upstream "up1" failed')


@pytest.mark.parametrize("trigger", ["none_failed", "all_success", "one_success"])
def test_skipped_upstream_of_order_edge_counts_as_succeeded(trigger):
    assert check(trigger, "vs", order_only={1}) is None


def test_failed_upstream_of_order_edge_counts_as_failed():
    assert check("none_failed", "vf", order_only={1}) == ("upstream_failed", 'upstream "up1" failed')
