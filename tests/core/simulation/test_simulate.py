"""`simulate` and `simulate_many`: virtual time, faults, substitutes, and what they return."""

from __future__ import annotations

import hashlib
import logging
import time

import pytest
from random_pipelines import random_pipeline

from flowkit_core import (
    DAG,
    BindingError,
    ExecutorError,
    Run,
    RunTimeoutError,
    Task,
    TaskStarted,
    TaskTimeoutError,
    WorkerDiedError,
)
from flowkit_core.testing import (
    Crash,
    Fail,
    Interrupt,
    Lose,
    Record,
    SimulatedError,
    Slow,
    Timeout,
    simulate,
    simulate_many,
)


def pipeline(**options):
    """Return a pipeline of two tasks, the first of which has options."""
    extract = Task(lambda: [3, 1, 2], name="extract", **options)
    load = Task(lambda rows: sorted(rows), name="load")
    extract >> load
    return DAG("etl", tasks=[load])


RETRIES = {"retries": 2, "delay": 100, "jitter": 0, "backoff": 2}


def what(simulation, task):
    return [record.what for record in simulation.history if record.task == task]


# Time


def test_durations_and_delays_are_virtual():
    began = time.monotonic()
    faults = [Fail("extract", attempt=1), Fail("extract", attempt=2)]
    simulation = simulate(pipeline(**RETRIES), durations={"extract": 5, "load": 1}, faults=faults)
    assert simulation.results == {"extract": [3, 1, 2], "load": [1, 2, 3]}
    assert simulation.seconds == 5 + 100 + 5 + 200 + 5 + 1
    assert simulation.results.attempts == {"extract": 3, "load": 1}
    assert simulation.results.durations == {"extract": 5, "load": 1}
    assert (simulation.error, simulation.faults) == (None, tuple(faults))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("workers", "seconds"), [(1, 40), (2, 20), (4, 10), (9, 10)])
def test_workers_limit_the_attempts_at_a_time(workers, seconds):
    tasks = [Task(lambda: 0, name=f"n{number}") for number in range(4)]
    assert simulate(DAG("wide", tasks=tasks), workers=workers, durations=10).seconds == seconds


def test_duration_may_be_a_range_or_a_function():
    assert 3 <= simulate(pipeline(), durations={"extract": (3, 4), "load": 0}).seconds <= 4
    given = []

    def durations(task, attempt):
        given.append((task, attempt))
        return attempt if task == "extract" else (0, 0)

    simulation = simulate(pipeline(retries=1, delay=0), durations=durations, faults=[Fail("extract")])
    assert (simulation.seconds, given) == (3, [("extract", 1), ("extract", 2), ("load", 1)])


# Faults


def test_fail_raises_the_given_exception():
    error = OSError("no connection")
    simulation = simulate(pipeline(), faults=[Fail("extract", error=error)])
    assert simulation.error is error
    assert simulation.results.states == {"extract": "failed", "load": "upstream_failed"}
    assert simulation.results.failed == {"extract": error}


def test_fail_of_every_attempt_uses_up_the_retries():
    simulation = simulate(pipeline(**RETRIES), faults=[Fail("extract", attempt=None)])
    assert isinstance(simulation.error, SimulatedError)
    assert what(simulation, "extract").count("started") == 3


def test_slow_adds_to_the_duration():
    faults = [Slow("extract", factor=10), Slow("load", seconds=7)]
    assert simulate(pipeline(), durations=1, faults=faults).seconds == 10 + 8


def test_crash_costs_one_attempt_and_replaces_the_worker():
    calls = []
    dag = pipeline(**RETRIES)
    simulation = simulate(dag, workers=1, faults=[Crash("extract")], functions={"extract": lambda: calls.append(1)})
    assert what(simulation, "extract")[:4] == ["ready", "started", "worker_died", "retrying"]
    assert len(calls) == 2
    workers = [record.worker for record in simulation.history if record.what == "started"]
    assert workers == ["default-1", "default-2", "default-2"]
    assert isinstance(simulate(pipeline(), faults=[Crash("extract")]).error, WorkerDiedError)


def test_late_result_of_an_attempt_that_timed_out_is_ignored():
    results = iter("abc")
    seen = []
    for seed in range(10):
        results = iter("abc")
        simulation = simulate(
            pipeline(retries=1, delay=0),
            seed=seed,
            durations=5,
            faults=[Timeout("extract")],
            functions={"extract": lambda: next(results), "load": str},  # noqa: B023 - called in this iteration only
        )
        seen += what(simulation, "extract")
        assert simulation.results["load"] == "b"
        assert simulation.problems() == []
    assert {"timed_out", "ignored", "succeeded"} <= set(seen)
    assert isinstance(simulate(pipeline(), faults=[Timeout("extract")]).error, TaskTimeoutError)


def test_lost_executor_ends_the_run():
    dag = pipeline(executor="cpu")
    simulation = simulate(dag, durations=5, faults=[Lose("cpu", at=3)])
    assert isinstance(simulation.error, ExecutorError)
    assert "'cpu' was lost" in str(simulation.error)
    assert simulation.results.states == {"extract": "cancelled", "load": "cancelled"}
    assert simulation.seconds == 3
    assert simulation.problems() == []


def test_interrupt_ends_the_run():
    simulation = simulate(pipeline(), durations=5, faults=[Interrupt(at=7)])
    assert isinstance(simulation.error, KeyboardInterrupt)
    assert simulation.results == {"extract": [3, 1, 2]}
    assert simulation.results.states["load"] == "cancelled"
    assert Record(7.0, "interrupted") in simulation.history
    assert simulation.problems() == []


def test_fault_after_the_end_of_the_run_has_no_effect():
    simulation = simulate(pipeline(), durations=1, faults=[Interrupt(at=7), Lose("default", at=8)])
    assert (simulation.error, simulation.faults) == (None, ())


def test_grace_ends_running_tasks():
    dag = DAG("two", tasks=[Task(lambda: 1, name="long"), Task(lambda: 2, name="short")])
    options = {"durations": {"long": 50, "short": 1}, "faults": [Fail("short")]}
    assert simulate(dag, **options).seconds == 50
    simulation = simulate(dag, grace=10, **options)
    assert simulation.seconds == 11
    assert simulation.results.states == {"long": "cancelled", "short": "failed"}


@pytest.mark.parametrize(("grace", "ends", "ends_after_failure"), [(None, 3, 3), (0.5, 1.5, 0.75), (10, 11, 10.25)])
def test_exit_gives_running_tasks_the_grace_of_the_run_or_two_seconds(grace, ends, ends_after_failure):
    """Also if another task has failed before, from which the grace of the run counts."""
    names = ("first", "exit", "long")
    dag = DAG("exit", tasks=[Task(lambda: 1, name=name) for name in names])
    options = {"durations": {"first": 0.25, "exit": 1, "long": 50}, "workers": 3, "grace": grace}
    for seconds, faults in ((ends, []), (ends_after_failure, [Fail("first")])):
        simulation = simulate(dag, faults=[*faults, Fail("exit", error=SystemExit(3))], **options)
        assert simulation.seconds == seconds
        assert simulation.problems() == []
        assert simulation.results.states["long"] == "cancelled"


def test_random_faults_have_the_rate():
    tasks = [Task(lambda: 0, name=f"n{number}") for number in range(100)]
    simulation = simulate(DAG("wide", tasks=tasks), fault_rate=0.2, fault_kinds=[Slow])
    assert 5 < len(simulation.faults) < 40
    assert {type(fault) for fault in simulation.faults} == {Slow}
    assert len(simulate(DAG("wide", tasks=tasks), fault_rate=1, fail_fast=False).faults) == 100


def test_error_of_a_task_is_that_of_the_run():
    dag = pipeline()
    simulation = simulate(dag, functions={"extract": lambda: 1 / 0})
    assert isinstance(simulation.error, ZeroDivisionError)
    group = simulate(dag, functions={"extract": lambda: 1 / 0}, fail_fast=False).error
    assert isinstance(group, ExceptionGroup)


def test_interrupt_by_the_user_is_raised():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(pipeline(), functions={"extract": interrupted})
    error = KeyboardInterrupt()
    assert simulate(pipeline(), faults=[Fail("extract", error=error)]).error is error


# Executors


def test_each_executor_has_workers_of_its_own():
    first = Task(lambda: 1, name="first", executor="cpu")
    second = Task(lambda first: first + 1, name="second")
    third = Task(lambda second: second + 1, name="third", executor="cpu")
    first >> second >> third
    simulation = simulate(DAG("d", tasks=[third]), workers={"cpu": 1})
    started = [(record.task, record.worker[:-1]) for record in simulation.history if record.what == "started"]
    assert started == [("first", "cpu-"), ("second", "default-"), ("third", "cpu-")]
    assert simulation.results["third"] == 3


def test_calls_made_ahead_start_on_the_same_worker_at_once(monkeypatch):
    """As in worker processes, which get the calls of a chain together."""
    made = []
    original = Run.ahead
    monkeypatch.setattr(Run, "ahead", lambda self, node, **_: made.append(node) or original(self, node))
    one, two = Task(lambda: 1, name="one", retries=1), Task(lambda one: one + 1, name="two")
    three = Task(lambda two: two + 1, name="three", when=lambda two: True)
    one >> two >> three
    counts = simulate_many(DAG("chain", tasks=[three]), seeds=range(200), pure=True, fault_rate=0.2, fault_kinds=[Fail])
    assert {node.name for node in made} == {"two", "three"}
    assert counts.runs == 200


# What is called


def test_functions_without_call_are_not_called():
    calls = []
    extract = Task(lambda: calls.append("extract"), name="extract")
    load = Task(lambda rows: calls.append("load"), name="load", when=lambda rows: calls.append("when"))
    extract >> load
    states = set()
    for seed in range(50):
        simulation = simulate(DAG("etl", tasks=[load]), seed=seed, call=False)
        states.add(simulation.results.states["load"])
        assert repr(simulation.results["extract"]) == "<result of extract>"
        assert simulation.problems(pure=True) == []
    assert states == {"succeeded", "skipped"}
    assert calls == []


def test_async_functions_are_awaited():
    async def extract():
        return [2, 1]

    simulation = simulate(pipeline(), functions={"extract": extract})
    assert simulation.results["load"] == [1, 2]
    assert simulation.problems(pure=True) == []


def test_params_are_passed():
    dag = DAG("d", tasks=[Task(lambda day: day, name="report")])
    assert simulate(dag, params={"day": "monday"}).results == {"report": "monday"}
    with pytest.raises(BindingError):
        simulate(dag)
    with pytest.raises(BindingError, match="must map parameter names to values"):
        simulate(dag, params=["day"])


def test_idempotency_key_depends_on_the_seed():
    dag = DAG("d", tasks=[Task(lambda idempotency_key: idempotency_key, name="pay")])
    keys = [simulate(dag, seed=seed).results["pay"] for seed in (1, 1, 2)]
    assert keys[0] == keys[1] != keys[2]


def test_observers_get_events_and_nothing_is_logged(caplog):
    seen = []
    with caplog.at_level(logging.DEBUG):
        simulate(pipeline(), faults=[Fail("load")], observers=[seen.append])
    assert [event.task for event in seen if isinstance(event, TaskStarted)] == ["extract", "load"]
    assert caplog.records == []


# Reproducible


def test_same_seed_has_the_same_history():
    for graph in range(20):
        dag, options = random_pipeline(graph)
        first, second = (simulate(dag, seed=3, **options) for _ in range(2))
        assert first.history == second.history
        assert repr(first) == repr(second)
        assert hash(first.history) == hash(second.history)


def test_history_is_the_same_in_all_versions_of_python():
    dag = pipeline(retries=3, delay=1)
    histories = [simulate(dag, seed=seed, fault_rate=0.4).history for seed in (*range(50), 10**30)]
    assert len(set(histories)) == len(histories)
    assert hashlib.sha256(repr(histories).encode()).hexdigest()[:16] == "90cd364208683003"


# Many


def test_simulate_many_counts():
    counts = simulate_many(pipeline(), seeds=range(20), durations=1, faults=[Fail("load")], pure=True)
    assert (counts.runs, counts.failed, counts.shortest, counts.longest) == (20, 20, 2, 2)
    assert repr(counts) == "<Simulations: 20 runs, 20 failed, 2.000 to 2.000 s>"
    assert repr(simulate_many(pipeline(), seeds=[])) == "<Simulations: 0 runs, 0 failed>"


def test_simulate_many_names_the_seed_for_which_check_fails():
    def check(simulation):
        assert simulation.seed != 5, "five"

    with pytest.raises(AssertionError) as caught:
        simulate_many(
            pipeline(), seeds=range(20), check=check, faults=[Slow("load")], workers=2, functions={"load": len}
        )
    assert str(caught.value).startswith("'etl' with seed 5 has 1 problem:\n  - check raised AssertionError: five")
    assert str(caught.value).endswith(
        "repeat it with: simulate(pipeline, seed=5, workers=2, "
        "faults=[Slow(task='load', attempt=1, factor=1.0, seconds=0.0)], functions=functions)"
    )


def test_order_of_side_effects_is_found():
    """Two tasks that append to one list, without an edge between them."""
    rows = []
    first = Task(lambda: rows.clear(), name="first")
    one, two = (Task(lambda first, name=name: rows.append(name), name=name) for name in ("one", "two"))
    last = Task(lambda one, two: list(rows), name="last")
    first >> [one, two] >> last

    def check(simulation):
        assert simulation.results["last"] == ["one", "two"]

    with pytest.raises(AssertionError, match="with seed"):
        simulate_many(DAG("race", tasks=[last]), check=check)


def test_impure_function_is_found():
    numbers = iter(range(1000))
    with pytest.raises(AssertionError, match=r"the result of 'extract' is .*, but that of a plain evaluation is"):
        simulate_many(pipeline(), functions={"extract": lambda: [next(numbers)]}, pure=True)


# What is shown


def test_timeline_shows_workers_and_attempts():
    faults = [Fail("extract")]
    simulation = simulate(
        pipeline(retries=1, delay=8, jitter=0), workers=1, durations={"extract": 4, "load": 16}, faults=faults
    )
    assert simulation.timeline().splitlines() == [
        "           0 s                                                         32 s",
        "default-1  extractx                extract|load===========================|",
    ]


def test_repr_of_a_simulation():
    assert repr(simulate(pipeline(), durations=1)) == "<Simulation etl seed=0: 2.000 s, 2 succeeded>"
    assert repr(simulate(DAG("none", tasks=[]))) == "<Simulation none seed=0: 0.000 s, no tasks>"
    failed = simulate(pipeline(), seed=3, durations=1, faults=[Fail("load", error=ValueError("x"))])
    assert repr(failed) == "<Simulation etl seed=3: 2.000 s, 1 succeeded, 1 failed, 1 fault, ValueError: x>"
    assert repr(failed.history[0]) == "<0.000 s ready extract: default>"


# Wrong options


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seed": "x"}, TypeError, "the seed is 'x', but must be an integer, 0 or more"),
        ({"seed": -1}, ValueError, "the seed is -1"),
        ({"faults": Fail("load")}, TypeError, "must be a list"),
        ({"faults": ["load"]}, TypeError, "its items must be faults: Fail, Slow"),
        (
            {"faults": [Fail("laod")]},
            ValueError,
            "the task 'laod', which the pipeline does not have \\(did you mean 'load'",
        ),
        ({"faults": [Lose("cpu", at=1)]}, ValueError, "the executor 'cpu', which the pipeline does not have"),
        ({"faults": [Crash("load", attempt=2)]}, ValueError, "task 'load' has retries=0, so that its last attempt is"),
        ({"faults": [Fail("load", element=0)]}, ValueError, "task 'load' is not mapped: leave out element"),
        ({"fault_rate": 2}, ValueError, "must be from 0 to 1"),
        ({"fault_rate": "x"}, TypeError, "must be a number from 0 to 1"),
        ({"fault_kinds": [ValueError]}, TypeError, "fault_kinds has the item"),
        ({"durations": {"laod": 1}}, ValueError, "durations names the task 'laod'"),
        ({"durations": "x"}, TypeError, "a duration is 'x'"),
        ({"durations": (2, 1)}, ValueError, "a range must not be empty"),
        ({"durations": -1}, ValueError, "must be 0 or more"),
        ({"functions": {"laod": len}}, ValueError, "functions names the task 'laod'"),
        ({"functions": {"load": 1}}, TypeError, "must be a function"),
        ({"functions": len}, TypeError, "must map names of tasks to functions"),
        ({"workers": 0}, ValueError, "workers is 0"),
        ({"workers": {"cpu": 1}}, ValueError, "the executor 'cpu'"),
        ({"workers": {"default": 0}}, ValueError, "workers\\['default'\\] is 0"),
    ],
)
def test_wrong_option_is_an_error(options, error, message):
    with pytest.raises(error, match=message):
        simulate(pipeline(), **options)


def test_wrong_option_of_simulate_many_is_an_error():
    with pytest.raises(TypeError, match=r"simulate_many\(\) has no option 'fault_rat' \(did you mean 'fault_rate'"):
        simulate_many(pipeline(), fault_rat=1)


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan")])
def test_wrong_number_of_a_fault_is_an_error(value):
    with pytest.raises(ValueError, match="must be a number, 0 or more"):
        Interrupt(at=value)
    with pytest.raises(TypeError, match="must be a number, 0 or more"):
        Slow("load", factor="2")


def test_timeouts_of_tasks_take_no_time():
    slow = Task(lambda: 5, name="slow", timeout=10, retries=1, delay=3, jitter=0)
    dag = DAG("d", tasks=[slow])
    assert simulate(dag, durations=9).results == {"slow": 5}
    began = time.monotonic()
    simulation = simulate(dag, durations=3600)
    simulation.check()
    assert time.monotonic() - began < 60
    assert (type(simulation.error), simulation.error.task) == (TaskTimeoutError, "slow")
    assert simulation.seconds == 10 + 3 + 10
    assert [record.what for record in simulation.history].count("timed_out") == 2


def test_attempt_that_is_slow_once_is_retried_after_its_timeout():
    slow = Task(lambda: 5, name="slow", timeout=10, retries=1, delay=3, jitter=0)
    simulation = simulate(DAG("d", tasks=[slow]), durations=4, faults=[Slow("slow", factor=5)])
    simulation.check()
    assert (simulation.results, simulation.seconds) == ({"slow": 5}, 10 + 3 + 4)


def test_timeout_of_a_run_takes_no_time():
    first, second = Task(int, name="first"), Task(int, name="second")
    first >> second
    clean = Task(lambda: "cleaned", name="clean", trigger="all_done")
    clean.after(second)
    for grace, end in ((None, 60 + 2), (0, 60), (7, 60 + 7)):
        durations = {"first": 50, "second": 3600, "clean": 1}
        simulation = simulate(DAG("d", tasks=[clean]), timeout=60, grace=grace, durations=durations)
        simulation.check()
        assert isinstance(simulation.error, RunTimeoutError)
        assert simulation.results == {"first": 0, "clean": "cleaned"}
        assert simulation.seconds == end + 1


def test_delays_of_thousands_of_retries_are_checked():
    simulation = simulate(DAG("d", tasks=[Task(lambda: 1 / 0, name="a", retries=1100, max_delay=5)]))
    simulation.check()
    assert simulation.results.attempts == {"a": 1101}


def test_condition_gets_the_values_of_results_that_stay_on_an_executor():
    rows = Task(lambda: [1, 2, 3], name="rows")
    total = Task(lambda rows: sum(rows), name="total", when=lambda rows: len(rows) == 3)
    rows >> total
    simulation = simulate(DAG("remote", tasks=[total]), remote=["default"])
    assert simulation.error is None
    assert simulation.results["total"] == 6


def test_simulate_many_names_the_seed_for_which_check_returns_false():
    with pytest.raises(AssertionError, match=r"'etl' with seed 0 has 1 problem:\n  - check returned False"):
        simulate_many(pipeline(), seeds=range(3), check=lambda simulation: False)


@pytest.mark.parametrize("kind", [Fail, Slow, Crash, Timeout])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"attempt": 0}, ValueError, "attempt of a {} is 0, but must be an integer, 1 or more"),
        ({"attempt": "1"}, TypeError, "attempt of a {} is '1', but must be an integer"),
        ({"element": -1}, ValueError, "element of a {} is -1, but must be an integer, 0 or more"),
    ],
)
def test_fault_of_no_attempt_or_element_raises(kind, options, error, message):
    with pytest.raises(error, match=message.format(kind.__name__)):
        kind("load", **options)
