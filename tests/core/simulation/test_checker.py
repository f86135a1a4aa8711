"""The checker of histories: every change of a history is found."""

from __future__ import annotations

import pytest
from random_maps import random_maps
from random_pipelines import random_pipeline

from flowkit_core import DAG, PoolBlockedError, RunTimeoutError, Task
from flowkit_core.simulation.checker import Checker
from flowkit_core.simulation.history import ENDS, Record
from flowkit_core.testing import Fail, simulate

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*needs the result of:RuntimeWarning"),  # random triggers
    pytest.mark.filterwarnings("ignore:.*is a generator function, so:RuntimeWarning"),  # random options
]

# Facts that change nothing by themselves: what follows them does.
WITHOUT_EFFECT = ("worker_died", "timed_out", "ignored")


def problems(simulation, history):
    arguments = (simulation._graph, simulation._options, history, simulation.results, simulation.error)
    return Checker(*arguments).problems(pure=False)


def simulations(random_graph, seeds):
    for seed in seeds:
        pipeline, options = random_graph(seed)
        yield simulate(pipeline, seed=seed, **options)


graphs = pytest.mark.parametrize(("random_graph", "seeds"), [(random_pipeline, range(60)), (random_maps, range(60))])


@graphs
def test_record_that_is_missing_is_found(random_graph, seeds):
    for simulation in simulations(random_graph, seeds):
        started = {(record.name, record.attempt) for record in simulation.history if record.what == "started"}
        cancelled = {record.name for record in simulation.history if record.what == "cancelled"}
        for position, record in enumerate(simulation.history):
            if record.what in WITHOUT_EFFECT:
                continue
            if record.what == "run_timed_out" and not isinstance(simulation.error, RunTimeoutError):
                continue  # the run was stopping
            if record.what == "ready" and (record.name, record.attempt) not in started:
                continue  # it ended without a call
            if record.what in ("started", "retrying", "waiting") and record.name in cancelled:
                continue  # it would have been cancelled without it as well
            if record.what == "cancelled" and record.element is not None:
                continue  # like an element that has not become ready
            if record.what == "condition" and isinstance(simulation.results.failed.get(record.name), PoolBlockedError):
                continue  # it had to wait, and did not start
            history = simulation.history[:position] + simulation.history[position + 1 :]
            assert problems(simulation, history) != [], record


@graphs
def test_record_that_occurs_twice_is_found(random_graph, seeds):
    for simulation in simulations(random_graph, seeds):
        for position, record in enumerate(simulation.history):
            if record.what not in (*WITHOUT_EFFECT, "interrupted", "executor_lost", "run_timed_out"):
                history = simulation.history[: position + 1] + simulation.history[position:]
                assert problems(simulation, history) != [], record


@graphs
@pytest.mark.parametrize("state", ENDS)
def test_end_in_another_state_is_found(random_graph, seeds, state):
    for simulation in simulations(random_graph, seeds):
        for position, record in enumerate(simulation.history):
            if record.what in ENDS and record.what != state:
                other = Record(
                    record.time, state, record.task, record.attempt, record.worker, "", record._data, record.element
                )
                history = (*simulation.history[:position], other, *simulation.history[position + 1 :])
                assert problems(simulation, history) != [], record


def test_late_start_of_a_retry_is_found():
    task = Task(lambda: 1, name="task", retries=1, delay=10, jitter=0)
    simulation = simulate(DAG("d", tasks=[task]), faults=[Fail("task")], durations=1)
    assert problems(simulation, simulation.history) == []
    for seconds in (-5, 5):
        history = [
            Record(
                r.time + seconds if r.attempt == 2 else r.time, r.what, r.task, r.attempt, r.worker, r.detail, r._data
            )
            for r in simulation.history
        ]
        assert (
            problems(simulation, history)[0]
            == f"at {11 + seconds}.000 s, 'task' (attempt 2): its retry was due at 11.000 s"
        )


@pytest.mark.parametrize(
    ("function", "sources", "message"),
    [
        (lambda one, two: 0, "one two", "its argument 'one' is not the result of 'one'"),
        (lambda *args: 0, "one two", "its arguments *args are not the results of its upstreams"),
        (lambda *, one, two: 0, "one two", "its argument 'one' is not the result of 'one'"),
        (lambda one, day: 0, "one", "its argument 'day' is not that of params"),
    ],
)
def test_other_arguments_are_found(function, sources, message):
    tasks = [Task(lambda name=name: [name], name=name) for name in sources.split()]
    last = Task(function, name="last")
    tasks >> last
    params = {"day": ["monday"]} if "day" in message else None
    simulation = simulate(DAG("d", tasks=[last]), params=params)
    assert problems(simulation, simulation.history) == []
    (start,) = (record for record in simulation.history if (record.task, record.what) == ("last", "started"))
    args, kwargs = start._data
    start._data = [list(value) for value in args], {name: list(value) for name, value in kwargs.items()}
    found = problems(simulation, simulation.history)
    assert any(message in problem for problem in found), found
