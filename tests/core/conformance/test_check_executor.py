"""`check_executor`: right executors pass, and each defect of an executor is found and described."""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque

import pytest

from flowkit_core import DAG, Outcome, Retry, SerialExecutor, Task
from flowkit_core.conformance.checks.trial import CHECKS
from flowkit_core.runs.timers import Timers
from flowkit_core.testing import check_executor, executor_checks

SLOW = ("graph_of_a_thousand_tasks", "chain_of_two_thousand_tasks")


class Plain:
    """An executor that only has ``execute()``; its methods are replaced by defects."""

    name = "plain"

    def execute(self, run):
        self.run, self.ready, self.timers = run, deque(run.start()), Timers()
        while self.ready or self.timers:
            if self.timers:
                self.ready.extend(self.timers.due(run))
            if self.ready:
                self.step(self.ready.popleft())
            else:
                time.sleep(self.timers.wait())

    def step(self, node):
        began = time.perf_counter()
        self.take(self.run.finish(node, self.result(node), time.perf_counter() - began))

    def result(self, node):
        call = self.run.call(node)
        if isinstance(call, Outcome):
            return call
        outcome = self.precheck(call)
        if outcome is None:
            outcome = self.run.mark_started(node)
        return self.invoke(call) if outcome is None else outcome

    def precheck(self, call):
        return call.precheck()

    def invoke(self, call):
        return call.invoke()

    def take(self, step):
        if isinstance(step, Retry):
            self.timers.add(step)
        else:
            self.ready.extend(step)

    def close(self):
        pass


class Isolated(Plain):
    """One that makes each call in a copy of the context."""

    def execute(self, run):
        loop = type(self)()
        loop.context = contextvars.copy_context()
        Plain.execute(loop, run)

    def precheck(self, call):
        return self.context.copy().run(call.precheck)

    def invoke(self, call):
        return self.context.copy().run(call.invoke)


class LosesTask(Isolated):
    def take(self, step):
        super().take(step if isinstance(step, Retry) else step[:1])


class FinishesTwice(Isolated):
    def step(self, node):
        result = self.result(node)
        self.take(self.run.finish(node, result))
        self.take(self.run.finish(node, result))


class RunsBeforeUpstreams(Isolated):
    def step(self, node):
        for after in node.downstream:
            if len(after.upstream) > 1 and after not in self.ready:
                self.ready.append(after)
        super().step(node)


class SwallowsException(Isolated):
    def invoke(self, call):
        result = super().invoke(call)
        return None if isinstance(result, Outcome) else result


class IgnoresDelay(Isolated):
    def take(self, step):
        super().take([step.node] if isinstance(step, Retry) else step)


class SwapsArguments(Isolated):
    def invoke(self, call):
        call.args = call.args[::-1]
        return super().invoke(call)


class IgnoresConditions(Isolated):
    def precheck(self, call):
        return None


class StopsAtFailure(Isolated):
    def take(self, step):
        if not self.run.stopping:
            super().take(step)


class WaitsForRetries(Isolated):
    def take(self, step):
        if isinstance(step, Retry):
            time.sleep(step.delay)
            step = [step.node]
        super().take(step)


class CopiesExceptions(Isolated):
    def invoke(self, call):
        result = super().invoke(call)
        if isinstance(result, Outcome) and result.error is not None:
            result.error = ValueError(str(result.error))
        return result


class ReportsNoDuration(Isolated):
    def step(self, node):
        self.take(self.run.finish(node, self.result(node)))


class ReportsNoStart(Isolated):
    def result(self, node):
        call = self.run.call(node)
        return call if isinstance(call, Outcome) else self.precheck(call) or self.invoke(call)


class SharesContext(Isolated):
    def invoke(self, call):
        return call.invoke()


class KeepsRun(Plain):
    """Its runs disturb each other, because they share attributes."""


class CloseFails(Isolated):
    closed = False

    def close(self):
        if self.closed:
            raise OSError("already closed")
        self.closed = True


class Hangs(Isolated):
    def execute(self, run):
        threading.Event().wait()


DEFECTS = [
    (LosesTask, "graph_of_a_thousand_tasks", "returned before 'check' was done"),
    (FinishesTwice, "events_report_each_step_of_a_run", "was finished before"),
    (RunsBeforeUpstreams, "nothing_starts_before_its_upstreams_have_ended", "that have not ended when it starts"),
    (SwallowsException, "exception_of_the_task_is_raised", "expected: OwnError"),
    (IgnoresDelay, "retry_waits_for_its_delay", "expected: at least 0.15 s before the retry"),
    (SwapsArguments, "arguments_are_in_the_order_of_the_upstreams", "expected: (('z', 'm', 'a'), ('a', 'z'))"),
    (IgnoresConditions, "false_condition_skips_the_task", "happened: {'one': 1, 'large': 2, 'small': 2"),
    (StopsAtFailure, "triggers_decide_what_runs_after_failures", "returned before 'check' was done"),
    (WaitsForRetries, "delay_of_a_retry_does_not_hold_up_other_tasks", "it ends within 1 s"),
    (CopiesExceptions, "exception_is_the_object_that_the_task_raised", "the object that the task raised"),
    (ReportsNoDuration, "durations_are_those_of_the_calls", "duration of a call of 0.1 s"),
    (ReportsNoStart, "events_report_each_step_of_a_run", "expected: ['TaskStarted', 'TaskSucceeded']"),
    (SharesContext, "context_changes_of_a_task_stay_inside", "'changed by a task'"),
    (KeepsRun, "several_runs_share_the_executor", "results of nine runs"),
    (CloseFails, "close_may_be_called_twice", "OSError: already closed"),
    (Hangs, "task_returns_a_result", "expected: it ends within 1 s"),
]


@pytest.mark.parametrize("factory", [SerialExecutor, Isolated])
def test_correct_executor_passes(factory):
    passed = check_executor(factory)
    assert set(executor_checks()) - set(passed) <= {
        *(name for name, check in CHECKS.items() if check.needs in ("state", "history")),
        *(name for name, check in CHECKS.items() if check.needs == "lane"),
    }


@pytest.mark.parametrize(("factory", "check", "words"), DEFECTS, ids=[defect[0].__name__ for defect in DEFECTS])
def test_defect_of_an_executor_is_found_and_described(factory, check, words):
    with pytest.raises(AssertionError) as caught:
        check_executor(factory, only=[check], timeout=1)
    text = str(caught.value)
    assert text.startswith(f"1 of 1 checks of the executor of {factory.__name__} failed\n\n* {check}: ")
    assert words in text
    assert len(caught.value.__cause__.exceptions) == 1


def test_all_failed_checks_are_in_one_message():
    with pytest.raises(AssertionError) as caught:
        check_executor(SwallowsException, skip=SLOW)
    text = str(caught.value)
    assert all(f"* {name}: " in text for name in ("exception_of_the_task_is_raised", "failed_attempt_is_retried"))
    assert "* chain_passes_each_result_on" not in text


def test_only_and_skip_select_checks():
    names = ("task_returns_a_result", "empty_graph_has_no_results")
    assert check_executor(SerialExecutor, only=names) == names
    assert check_executor(SerialExecutor, only=names, skip=names[:1]) == names[1:]
    assert check_executor(SerialExecutor, only=["failed_run_is_resumed"]) == ()


@pytest.mark.parametrize("option", ["only", "skip"])
def test_unknown_check_is_an_error_with_a_suggestion(option):
    with pytest.raises(ValueError, match="did you mean 'task_returns_a_result'") as caught:
        check_executor(SerialExecutor, **{option: ["task_returns_result"]})
    assert "executor_checks()" in str(caught.value)


def test_each_check_gets_a_new_executor_that_is_closed():
    made = []

    class Counted(SerialExecutor):
        def close(self):
            made.append("closed")

    def factory():
        made.append("made")
        return Counted()

    check_executor(factory, only=["task_returns_a_result", "chain_passes_each_result_on"])
    assert made == ["made", "closed"] * 2


def test_without_timeout_checks_run_in_the_calling_thread():
    threads = []

    class Noted(SerialExecutor):
        def execute(self, run):
            threads.append(threading.current_thread())
            super().execute(run)

    check_executor(Noted, only=["task_returns_a_result"], timeout=None)
    check_executor(Noted, only=["task_returns_a_result"])
    assert [thread is threading.current_thread() for thread in threads] == [True, False]


def test_tasks_of_checks_are_not_discovered_by_the_caller():
    check_executor(SerialExecutor, timeout=None, skip=SLOW)
    own = Task(int, name="own")
    assert DAG("own").run("serial") == {own.name: 0}
