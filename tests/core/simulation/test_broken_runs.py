"""The checker of simulations finds runs that are broken on purpose, and names the seed."""

from __future__ import annotations

import pytest

from flowkit_core import DAG, Retry, RetryPolicy, Run, Task
from flowkit_core.runs import run as run_module
from flowkit_core.runs.call import Call, Outcome, Ref
from flowkit_core.runs.run_state import RunState
from flowkit_core.runs.session import Session
from flowkit_core.runs.states import CANCELLED, SKIPPED, SUCCEEDED
from flowkit_core.runs.timers import Timers
from flowkit_core.testing import Crash, Fail, Interrupt, Slow, Timeout, simulate, simulate_many


def diamond():
    """Return a pipeline with two branches, retries, a condition, a clean-up task and two executors."""
    first = Task(lambda: ["first"], name="first", retries=2)
    left = Task(lambda first: ["left", first], name="left", executor="cpu", retries=1, delay=3)
    right = Task(lambda first: ["right", first], name="right")
    last = Task(lambda left, right: [left, right], name="last", when=lambda left, right: bool(left))
    clean_up = Task(lambda: ["clean"], name="clean_up", trigger="all_done")
    first >> [left, right] >> last >> clean_up
    return DAG("diamond", tasks=[clean_up])


def wrap(monkeypatch, owner, name, change):
    """Replace a method by ``change(original)``."""
    monkeypatch.setattr(owner, name, change(getattr(owner, name)))


def lose_a_countdown(monkeypatch):
    wrap(monkeypatch, RunState, "ready_after", lambda original: lambda *args: original(*args)[:1])


def start_before_upstreams(monkeypatch):
    monkeypatch.setattr(RunState, "ready_after", lambda self, node: node.downstream)


def start_twice(monkeypatch):
    wrap(monkeypatch, Run, "start", lambda original: lambda self: [*original(self), *original(self)])


def ignore_the_stop(monkeypatch):
    monkeypatch.setattr(Run, "may_start", lambda self, node: True)
    monkeypatch.setattr(Run, "_check", lambda self, node, attempt: None)
    monkeypatch.setattr(
        run_module,
        "outcome_of_trigger",
        lambda *args, original=run_module.outcome_of_trigger: original(*args[:-1], None),
    )


def start_after_cancel(monkeypatch):
    monkeypatch.setattr(Run, "_check", lambda self, node, attempt: None)
    monkeypatch.setattr(Run, "mark_started", lambda self, node, **options: None)


def skip_cleanup(monkeypatch):
    def change(original):
        def check(self, node, attempt):
            return Outcome(CANCELLED, "no clean-up") if self.stopping else original(self, node, attempt)

        return check

    wrap(monkeypatch, Run, "_check", change)


def count_a_late_outcome(monkeypatch):
    monkeypatch.setattr(Run, "is_current", lambda self, node, attempt: True)


def retry_once_too_often(monkeypatch):
    def pause(self, error, attempt, task, random=None):
        return self.wait(attempt, random) if attempt < 4 else None

    monkeypatch.setattr(RetryPolicy, "pause", pause)


def retry_never(monkeypatch):
    monkeypatch.setattr(RetryPolicy, "pause", lambda *args: None)


def wait_too_short(monkeypatch):
    wrap(monkeypatch, RetryPolicy, "wait", lambda original: lambda *args: original(*args) / 2)


def retry_at_once(monkeypatch):
    wrap(monkeypatch, Session, "delay", lambda original: lambda self, retry: original(self, Retry(retry.node, 0)))


def lose_a_retry(monkeypatch):
    monkeypatch.setattr(Timers, "due", lambda self, run: [])


def pass_a_copy_of_arguments(monkeypatch):
    wrap(monkeypatch, run_module, "simple_arguments", lambda original: lambda *args: tuple(map(list, original(*args))))


def swap_results(monkeypatch):
    def change(original):
        def items(self):
            results = dict(original(self))
            if {"left", "right"} <= results.keys():
                results["left"], results["right"] = results["right"], results["left"]
            return results.items()

        return items

    wrap(monkeypatch, RunState, "items", change)


def ignore_the_condition(monkeypatch):
    def change(original):
        def precheck(self):
            outcome = original(self)
            return None if outcome is not None and outcome.state == SKIPPED else outcome

        return precheck

    wrap(monkeypatch, run_module.Call, "precheck", change)


def raise_no_error(monkeypatch):
    monkeypatch.setattr(Run, "error", lambda self: None)


def run_everything_on_one_executor(monkeypatch):
    monkeypatch.setattr(Session, "lane_of", lambda self, node: self._lanes[0])
    monkeypatch.setattr(Session, "put", lambda self, nodes: self._lanes[0].put(nodes))


def ignore_the_grace_period(monkeypatch):
    def change(original):
        def stop(self):
            self.run.grace = None
            original(self)

        return stop

    wrap(monkeypatch, Session, "_stop", change)


def succeed_after_failure(monkeypatch):
    def change(original):
        def fail(self, node, error, attempt, seconds):
            original(self, node, error, attempt, seconds)
            self.state.codes[node.index] = SUCCEEDED

        return fail

    wrap(monkeypatch, Run, "_fail", change)


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        (lose_a_countdown, "the run got stuck: "),
        (start_before_upstreams, "it became ready before its upstream "),
        (start_twice, "it became ready twice"),
        (ignore_the_stop, "it started after the run had been stopped"),
        (start_after_cancel, "it started after the run was cancelled"),
        (skip_cleanup, "it was cancelled, but the run was not stopped"),
        (count_a_late_outcome, "was finished before"),
        (retry_once_too_often, "is repeated after"),
        (retry_never, "but should be repeated"),
        (wait_too_short, "and not after about"),
        (retry_at_once, "its retry was due at"),
        (lose_a_retry, "the run got stuck: "),
        (pass_a_copy_of_arguments, "is not the result of 'first'"),
        (swap_results, "is not what its function returned"),
        (ignore_the_condition, "although its condition was not true"),
        (raise_no_error, "the run raised no exception; expected: "),
        (run_everything_on_one_executor, "it was passed to the executor 'default', and not to 'cpu'"),
        (ignore_the_grace_period, "it was running longer than the grace period"),
        (succeed_after_failure, "it ended as succeeded, but its attempt did not return"),
    ],
)
def test_broken_run_is_found(monkeypatch, defect, message):
    options = {
        "fault_rate": 0.3,
        "fault_kinds": (Slow, Interrupt) if defect is start_after_cancel else (Fail, Crash, Timeout),
        "call": defect is not ignore_the_condition,
        "grace": 0.5,
        "durations": (0, 3),
    }
    pipeline = diamond()
    simulate_many(pipeline, seeds=range(100), **options)
    defect(monkeypatch)
    with pytest.raises(AssertionError) as caught:
        simulate_many(pipeline, seeds=range(1000), **options)
    assert message in str(caught.value)
    assert "repeat it with: simulate(pipeline, seed=" in str(caught.value)
    code = str(caught.value).rpartition("repeat it with: ")[2]
    names = {"simulate": simulate, "pipeline": pipeline, "Fail": Fail, "Crash": Crash}
    again = eval(code, names | {"Timeout": Timeout, "Slow": Slow, "Interrupt": Interrupt})
    assert any(message in problem for problem in again.problems())
    assert f"with seed {again.seed} has" in str(caught.value)


def test_condition_that_a_call_made_ahead_lacks_is_found(monkeypatch):
    def ahead(self, node, **_):
        return Call(node, tuple(map(Ref, node.upstream)), {}, None, 1)

    monkeypatch.setattr(Run, "ahead", ahead)
    first = Task(lambda: 1, name="first")
    second = Task(lambda first: first, name="second", when=lambda first: False)
    first >> second
    with pytest.raises(AssertionError, match="'second': it started before its condition was evaluated"):
        simulate_many(DAG("chain", tasks=[second]))


def test_late_outcome_that_counts_is_found(monkeypatch):
    """The result of the first attempt arrives while the second is running."""
    task = Task(lambda: 1, name="task", retries=1, delay=0)
    options = {"faults": [Timeout("task")], "durations": 5}
    assert simulate(DAG("late", tasks=[task]), **options).problems() == []
    count_a_late_outcome(monkeypatch)
    problems = simulate(DAG("late", tasks=[task]), **options).problems()
    assert problems[0] == "at 5.000 s, 'task': the result of attempt 1 counts, which was not running"


def test_attempt_that_outlives_its_timeout_is_found(monkeypatch):
    pipeline = DAG("d", tasks=[Task(int, name="slow", timeout=1)])
    simulate_many(pipeline, seeds=range(10), durations=5)
    monkeypatch.setattr(Session, "expire", lambda *args: None)
    with pytest.raises(AssertionError, match=r"took longer than its timeout of 1 s|the run got stuck"):
        simulate_many(pipeline, seeds=range(10), durations=5)
