"""Classes `Run` and `RunState`: phases, countdowns, and results that arrive after the end."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, Outcome, Run, Task
from flowkit_core.runs.states import FAILED, SKIPPED, SUCCEEDED, Phase


def diamond():
    a, b, c, d = (Task(lambda *results: len(results), name=name) for name in "abcd")
    a >> [b, c] >> d
    return DAG("diamond", tasks=[d]).graph()


def succeed(run, node):
    return [after.name for after in run.finish(node, node.name)]


def test_last_upstream_to_end_makes_node_ready():
    graph = diamond()
    run = Run(graph)
    assert [node.name for node in run.start()] == ["a"]
    assert succeed(run, graph["a"]) == ["b", "c"]
    assert succeed(run, graph["c"]) == []
    assert succeed(run, graph["b"]) == ["d"]
    assert succeed(run, graph["d"]) == []
    assert run.done


def test_new_run_is_on_fast_path():
    run = Run(diamond())
    assert (run.phase, run.stop_reason, run.fast_path, run.stopping, run.cancelled) == (0, "", True, False, False)


def test_task_observer_excludes_fast_path():
    run = Run(diamond(), observers=[lambda event: None])
    assert (run.fast_path, run.has_task_observers) == (False, True)


def test_skipped_node_ends_fast_path_but_not_run():
    graph = diamond()
    run = Run(graph)
    run.finish(graph["a"], Outcome(SKIPPED, "no reason"))
    assert (run.fast_path, run.phase) == (False, Phase.RUNNING)


def test_failure_stops_run_with_reason():
    graph = diamond()
    run = Run(graph)
    run.finish(graph["a"], Outcome(FAILED, error=ValueError("no")))
    assert (run.phase, run.stop_reason) == (Phase.STOPPING, "another task failed before it could start")
    assert (run.stopping, run.cancelled) == (True, False)


def test_failure_without_fail_fast_does_not_stop_run():
    graph = diamond()
    run = Run(graph, fail_fast=False)
    run.finish(graph["a"], Outcome(FAILED, error=ValueError("no")))
    assert run.phase == Phase.RUNNING


def test_first_reason_to_cancel_is_kept():
    run = Run(diamond())
    run.cancel("first")
    run.cancel("second")
    assert (run.phase, run.stop_reason) == (Phase.CANCELLED, "first")


def test_abandoned_run_ignores_results():
    graph = diamond()
    run = Run(graph)
    run.abandon({graph["a"]: "abandoned"})
    assert (run.phase, run.done) == (Phase.ABANDONED, True)
    assert list(run.finish(graph["a"], 1)) == []
    assert run.state.succeeded() == {}
    assert run.state.reasons()["a"] == "it was running when the run ended, and was abandoned"
    assert run.state.reasons()["d"] == "the run was abandoned"


def test_abandoned_run_ignores_writes_of_fast_path():
    """A worker may still write to the containers that it has read before."""
    graph = diamond()
    run = Run(graph)
    codes, values = run.state.codes, run.state.values
    run.abandon()
    codes[0], values[0] = SUCCEEDED, 1
    assert run.state.states()["a"] == "cancelled"
    assert run.state.succeeded() == {}


def test_node_finished_twice_is_error():
    graph = diamond()
    run = Run(graph, observers=[lambda event: None])
    run.finish(graph["a"], 1)
    with pytest.raises(RuntimeError, match="was finished before: it is succeeded"):
        run.finish(graph["a"], 2)
