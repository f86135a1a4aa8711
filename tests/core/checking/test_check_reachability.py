"""`Pipeline.check`: tasks that can never run, and options that do nothing."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_core import DAG, Skip, Task

FAILURE_TRIGGERS = ["one_failed", "all_failed"]
TRIGGERS = ["none_failed", "all_success", "all_done", "one_success", *FAILURE_TRIGGERS]


def named(name, func=lambda *args: 1, **options):
    return Task(func, name=name, **options)


def found(*tasks, kind="trigger"):
    """Return the names of the tasks with problems, which are all of one kind."""
    problems = DAG("reach", tasks=tasks).check()
    assert [problem.kind for problem in problems] == [kind] * len(problems)
    return [problem.task for problem in problems]


def ever_run(*tasks):
    """Return the names of the tasks that run in some run, if each task may succeed, fail or be skipped."""
    dag = DAG("reach", tasks=tasks)
    ends = {task.name: (None, ValueError, Skip) for task in dag.tasks}
    return set().union(*(started(dag, dict(zip(ends, chosen))) for chosen in product(*ends.values())))


def started(dag, ends):
    """Return the names of the tasks that a run calls; each raises the exception that it ends with."""
    names = []

    def ending(name):
        def call(*args, **kwargs):
            names.append(name)
            if ends[name] is not None:
                raise ends[name]

        return call

    for node in dag.graph():
        node.func = ending(node.name)
    dag.run("serial", fail_fast=False, raise_on_failure=False)
    return set(names)


@pytest.mark.parametrize("trigger", FAILURE_TRIGGERS)
def test_trigger_for_failures_without_upstreams(trigger):
    alert = named("alert", trigger=trigger)
    assert found(alert) == ["alert"]
    (problem,) = DAG("reach", tasks=[alert]).check()
    assert problem.location == alert.location
    assert f"trigger='{trigger}' requires that an upstream fails, and it has no upstream" in problem.message


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("upstreams", [1, 2, 3])
def test_tasks_with_upstreams_that_run_can_run(trigger, upstreams):
    sink = named("sink", trigger=trigger)
    for number in range(upstreams):
        named(f"source{number}") >> sink
    assert found(sink) == []


def test_required_result_of_task_that_never_runs():
    alert = named("alert", trigger="one_failed")
    needs = named("needs", lambda alert: 1)
    default = named("default", lambda alert=None: 1)
    follows = named("follows", lambda needs: 1)
    alert >> [needs, default]
    needs >> follows
    assert found(default, follows) == ["alert", "needs", "follows"]


@pytest.mark.parametrize(
    ("trigger", "with_other", "runs"),
    [
        ("none_failed", False, False),
        ("none_failed", True, True),
        ("all_success", False, False),
        ("all_success", True, False),
        ("all_done", True, True),
        ("one_success", False, False),
        ("one_success", True, True),
        ("one_failed", False, False),
        ("one_failed", True, True),
        ("all_failed", False, False),
        ("all_failed", True, False),
    ],
)
def test_task_after_one_that_never_runs(trigger, with_other, runs):
    never = named("never", trigger="one_failed")
    sink = named("sink", trigger=trigger)
    never >> sink
    if with_other:
        named("other") >> sink
    assert found(sink) == (["never"] if runs else ["never", "sink"])
    assert ever_run(sink) == ({"sink"} if runs else set()) | ({"other"} if with_other else set())


def test_order_only_upstream_that_never_runs():
    """Its being skipped counts as success; for a trigger for failures it does not."""
    never = named("never", trigger="all_failed")
    sinks = [named(f"sink_{trigger}", trigger=trigger).after(never) for trigger in TRIGGERS]
    assert found(*sinks) == ["never", "sink_one_failed", "sink_all_failed"]


def test_task_that_requires_a_failure_and_its_absence():
    extract = named("extract")
    alert = named("alert", lambda extract=None: 1, trigger="one_failed")
    report = named("report", lambda extract, alert: 1)
    extract >> alert
    [extract, alert] >> report
    assert found(report) == ["report"]
    assert ever_run(report) == {"extract", "alert"}
    (problem,) = DAG("reach", tasks=[report]).check()
    assert (
        "'alert' (its parameter 'alert' has no default), which runs only after a failure of 'extract'"
        in problem.message
    )


@pytest.mark.parametrize(
    ("func", "options", "runs"),
    [
        (lambda middle, alert: 1, {}, False),
        (lambda middle, alert=None: 1, {}, True),
        (lambda middle, alert=None: 1, {"trigger": "all_success"}, False),
        (lambda middle=None, alert=None: 1, {"trigger": "all_done"}, True),
        (lambda middle=None, alert=None: 1, {"trigger": "one_success"}, True),
    ],
)
def test_failure_further_upstream(func, options, runs):
    extract, middle = named("extract"), named("middle", lambda extract: 1)
    alert = named("alert", lambda extract=None: 1, trigger="all_failed")
    report = named("report", func, **options)
    extract >> [middle, alert]
    [middle, alert] >> report
    assert found(report) == ([] if runs else ["report"])
    assert ever_run(report) == {"extract", "middle", "alert"} | ({"report"} if runs else set())


def test_handler_of_other_failures_can_run():
    """The report runs if the other task fails."""
    extract, other = named("extract"), named("other")
    alert = named("alert", lambda extract=None, other=None: 1, trigger="one_failed")
    report = named("report", lambda extract, alert: 1)
    [extract, other] >> alert
    [extract, alert] >> report
    assert found(report) == []
    assert "report" in ever_run(report)


@st.composite
def pipelines(draw):
    """Return the last task of a pipeline of up to four tasks with any edges, triggers and parameters."""
    tasks = []
    for number in range(draw(st.integers(1, 4))):
        upstream = draw(st.lists(st.sampled_from(tasks), unique=True)) if tasks else []
        after = [each for each in upstream if draw(st.booleans())]
        data = [each for each in upstream if each not in after]
        trigger = draw(st.sampled_from(TRIGGERS))
        optional = trigger in ("one_success", *FAILURE_TRIGGERS)
        names = [each.name + ("=None" if optional or draw(st.booleans()) else "") for each in data]
        names.sort(key=lambda name: "=" in name)
        parameters = draw(st.sampled_from([", ".join(names), "*args"]))
        task = Task(eval(f"lambda {parameters}: 1"), name=f"t{number}", trigger=trigger)
        for each in upstream:
            if each in after:
                task.after(each)
            else:
                each >> task
        tasks.append(task)
    return tasks


@pytest.mark.filterwarnings("ignore:task 't.' has trigger='all_done':RuntimeWarning")
@given(pipelines())
def test_reported_tasks_never_run(tasks):
    reported = {problem.task for problem in DAG("reach", tasks=tasks).check() if problem.kind == "trigger"}
    assert not reported & ever_run(*tasks)


# Options that do nothing


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"delay": 1}, "delay does"),
        ({"backoff": 1.5, "retry_on": OSError}, "backoff and retry_on do"),
        ({"jitter": 0, "max_delay": 3}, "jitter and max_delay do"),
    ],
)
def test_options_of_retries_without_retries(options, names):
    with pytest.warns(RuntimeWarning, match="nothing without retries"):
        load = named("load", **options)
    copy = load.with_options(name="copy")
    (problem, of_copy) = DAG("options", tasks=[load, copy]).check()
    assert (problem.kind, problem.task) == ("option", "load")
    assert f"{names} nothing without retries" in problem.message
    assert of_copy.task == "copy"
    assert found(load.with_options(retries=0), named("x", retries=0, **options), kind="") == []


@pytest.mark.parametrize("nothing", [[], SystemExit, (KeyboardInterrupt, Skip), asyncio.CancelledError])
def test_retries_for_exceptions_that_are_never_retried(nothing):
    (problem,) = DAG("options", tasks=[named("load", retries=3, retry_on=nothing)]).check()
    assert (problem.kind, problem.task) == ("option", "load")
    assert "retries=3 does nothing, because retry_on=" in problem.message


@pytest.mark.parametrize("some", [OSError, (OSError, SystemExit), BaseException, BaseExceptionGroup, len])
def test_retries_for_exceptions_that_may_be_retried(some):
    assert found(named("load", retries=3, retry_on=some)) == []


def test_hook_for_retries_without_retries():
    retried, not_retried = named("retried", retries=1, on_retry=print), named("not_retried", on_retry=print)
    assert found(retried, not_retried, named("other", on_failure=print), kind="option") == ["not_retried"]


@pytest.mark.parametrize("trigger", ["all_success", "one_success"])
def test_trigger_that_does_nothing(trigger):
    root, sink = named("root", trigger=trigger), named("sink", trigger=trigger)
    root >> sink
    assert found(sink, kind="option") == ["root"]


@pytest.mark.parametrize("trigger", ["none_failed", "all_done"])
def test_trigger_of_a_task_without_upstreams_that_is_no_problem(trigger):
    """A task with all_done also starts after a failure has stopped the run."""
    assert found(named("root", trigger=trigger)) == []


def test_cache_without_flowkit_state(monkeypatch):
    tasks = [named("a", cache=True), named("b", cache=False), named("c", cache=True)]
    monkeypatch.setitem(sys.modules, "flowkit_state", None)
    assert found(*tasks, kind="option") == ["a", "c"]
    (problem, _) = DAG("options", tasks=tasks).check()
    assert "cache=True does nothing" in problem.message
    assert "flowkit-state" in problem.message


def test_check_of_a_long_chain_needs_memory_proportional_to_its_length():
    tasks = [named("0")]
    for number in range(1, 4000):
        tasks[-1] >> (after := named(str(number)))
        tasks.append(after)
    dag = DAG("chain", tasks=tasks)
    dag.graph()
    tracemalloc.start()
    assert dag.check() == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 10_000
