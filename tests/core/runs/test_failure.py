"""Failures: which tasks still run, the exception that is raised, and its notes."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import weakref

import pytest

from flowkit_core import DAG, Results, RunFinished, RunStarted, Task, TaskFailed
from flowkit_core.testing import simulate


def failing(name, error, **options):
    """Return a task that raises this very error."""

    def fail(*_):
        raise error

    return Task(fail, name=name, **options)


def recording(seen, name, **options):
    """Return a task that notes that it ran, and takes anything."""
    return Task(lambda *_: seen.append(name) or name, name=name, **options)


def notes(error):
    """Return all notes of an exception as one text."""
    return "\n".join(getattr(error, "__notes__", ()))


# Fail fast


def test_failure_raises_exception_object_of_task():
    """``except ValueError`` catches the ValueError of the task, the same object."""
    error = ValueError("boom")
    with pytest.raises(ValueError, match="boom") as caught:
        DAG("etl", tasks=[failing("extract", error)]).run()
    assert caught.value is error
    assert caught.value.__cause__ is None


class Problems(Exception):
    """A collection of problems, and there may be none in it."""

    def __len__(self):
        return 0


def test_failure_with_false_exception_is_raised():
    """The truth value of an exception is never tested."""
    error = Problems("the table is gone")
    with pytest.raises(Problems) as caught:
        DAG("etl", tasks=[failing("extract", error)]).run()
    assert caught.value is error


@pytest.mark.parametrize("fail_fast", [True, False])
def test_failure_with_exception_that_has_no_attributes_is_raised(fail_fast):
    """Every attribute access raises; its class is still known."""

    class Mute(ValueError):
        def __getattribute__(self, name):
            raise RuntimeError(name)

    def broken():
        raise Mute

    tasks = [Task(broken), Task(lambda: 1, name="other")]
    results = DAG("mute", tasks=tasks).run("serial", fail_fast=fail_fast, raise_on_failure=False)
    assert results.states == {"broken": "failed", "other": "cancelled" if fail_fast else "succeeded"}
    with pytest.raises(ValueError if fail_fast else ExceptionGroup) as caught:
        DAG("mute", tasks=tasks).run("serial", fail_fast=fail_fast)
    assert type(caught.value) is Mute or [type(error) for error in caught.value.exceptions] == [Mute]


def test_failure_traceback_leads_to_line_of_user():
    """The innermost frame is that of the task."""
    with pytest.raises(ValueError) as caught:
        DAG("etl", tasks=[failing("extract", ValueError("boom"))]).run()
    assert caught.traceback[-1].path.name == "test_failure.py"
    assert caught.traceback[-1].name == "fail"


def test_failure_note_names_task_dag_and_attempts_and_counts_others():
    """It counts the tasks that had succeeded, were running, and did not start."""
    a, b, c, d = (recording([], name) for name in "abcd")
    extract = failing("extract", ValueError("boom"), retries=2, delay=0)
    a >> b >> extract >> [c, d]
    with pytest.raises(ValueError) as caught:
        DAG("etl", tasks=[c, d]).run("serial")
    text = notes(caught.value)
    assert "task 'extract' of 'etl' failed after 3 attempts" in text
    assert "2 tasks had succeeded" in text
    assert "0 were running" in text
    assert "2 did not start" in text


def test_failure_note_without_retries():
    first = recording([], "first")
    extract = failing("extract", ValueError("boom"))
    first >> extract
    with pytest.raises(ValueError) as caught:
        DAG("etl", tasks=[extract]).run("serial")
    assert "task 'extract' of 'etl' failed on its only attempt" in notes(caught.value)
    assert "1 task had succeeded" in notes(caught.value)
    assert "0 did not start" in notes(caught.value)


def test_fail_fast_starts_no_task_after_first_failure():
    """Independent tasks are cancelled; tasks downstream of the failure do not run."""
    seen = []
    before, broken = recording(seen, "before"), failing("broken", ValueError("boom"))
    independent, below = recording(seen, "independent"), recording(seen, "below")
    broken >> below
    with pytest.raises(ValueError) as caught:
        DAG("etl", tasks=[before, broken, independent, below]).run("serial")
    assert seen == ["before"]
    results = caught.value.flowkit_results
    assert isinstance(results, Results)
    assert results == {"before": "before"}
    assert results.states == {
        "before": "succeeded",
        "broken": "failed",
        "independent": "cancelled",
        "below": "upstream_failed",
    }
    assert Results.from_error(caught.value).failed == {"broken": caught.value}


def test_downstream_of_failure_ends_as_upstream_failed():
    """Direct and indirect downstreams."""
    seen = []
    chain = [recording(seen, f"task_{number}") for number in range(5)]
    broken = failing("broken", ValueError("boom"))
    for one, following in zip([broken, *chain], chain, strict=False):
        one >> following
    with pytest.raises(ValueError) as caught:
        DAG("etl", tasks=chain).run()
    states = caught.value.flowkit_results.states
    assert set(states.values()) == {"failed", "upstream_failed"}
    assert list(states.values()).count("upstream_failed") == 5
    assert seen == []


@pytest.mark.parametrize("trigger", ["all_done", "one_failed"])
def test_clean_up_tasks_run_after_a_failure(trigger):
    """Also after fail-fast has stopped new starts; their results are in the results."""
    seen = []
    acquire = recording(seen, "acquire")
    work = failing("work", ValueError("boom"))
    release = recording(seen, "release", trigger=trigger)
    independent = recording(seen, "independent")
    acquire >> work >> release
    with pytest.raises(ValueError) as caught:
        DAG("etl", tasks=[release, independent]).run("serial")
    assert "release" in seen
    assert caught.value.flowkit_results["release"] == "release"
    assert "1 clean-up task ran" in notes(caught.value)


def test_clean_up_task_runs_after_cancelled_task():
    """Its upstream was never started."""
    seen = []
    broken = failing("broken", ValueError("boom"))
    never = recording(seen, "never")
    release = recording(seen, "release", trigger="all_done")
    never >> release
    with pytest.raises(ValueError) as caught:
        DAG("etl", tasks=[broken, never, release]).run("serial")
    assert seen == ["release"]
    assert caught.value.flowkit_results.states == {"broken": "failed", "never": "cancelled", "release": "succeeded"}


def test_clean_up_task_runs_after_clean_up_task():
    seen = []
    broken = failing("broken", ValueError("boom"))
    first, second = (recording(seen, name, trigger="all_done") for name in ("first", "second"))
    broken >> first >> second
    with pytest.raises(ValueError):
        DAG("etl", tasks=[second]).run()
    assert seen == ["first", "second"]


def test_clean_up_task_is_retried_after_failure():
    tries = []

    def release():
        tries.append(1)
        if len(tries) < 3:
            raise OSError("not yet")
        return "released"

    broken = failing("broken", ValueError("boom"))
    clean_up = Task(release, trigger="all_done", retries=2, delay=0)
    broken >> clean_up
    with pytest.raises(ValueError) as caught:
        DAG("etl", tasks=[clean_up]).run()
    assert caught.value.flowkit_results["release"] == "released"
    assert len(tries) == 3


def test_clean_up_task_that_fails_is_noted_and_does_not_hide_failure():
    """The first failure is raised; a note names the second."""
    first, second = ValueError("boom"), OSError("cannot release")
    broken, release = failing("broken", first), failing("release", second, trigger="all_done")
    broken >> release
    with pytest.raises(ValueError) as caught:
        DAG("etl", tasks=[release]).run()
    assert caught.value is first
    assert "'release'" in notes(first)
    assert "OSError: cannot release" in notes(first)
    assert Results.from_error(first).failed == {"broken": first, "release": second}


@pytest.mark.parametrize("trigger", ["none_failed", "all_success", "one_success"])
def test_downstream_of_clean_up_task_does_not_start_after_failure(trigger):
    """After a failure, only clean-up tasks start."""
    seen = []
    broken = failing("broken", ValueError("boom"))
    release = recording(seen, "release", trigger="all_done")
    after = recording(seen, "after", trigger=trigger)
    broken >> release >> after
    with pytest.raises(ValueError) as caught:
        DAG("etl", tasks=[after]).run()
    assert seen == ["release"]
    assert caught.value.flowkit_results.states["after"] == "cancelled"


def test_run_after_failure_is_independent():
    outcomes = iter([ValueError("boom"), None])

    def flaky():
        if error := next(outcomes):
            raise error
        return "fine"

    dag = DAG("etl", tasks=[Task(flaky)])
    with pytest.raises(ValueError):
        dag.run()
    assert dag.run() == {"flaky": "fine"}


# fail_fast=False


def test_fail_fast_false_runs_other_branches_and_raises_group():
    """The ExceptionGroup has the exception objects, each with a note."""
    seen = []
    one, two = ValueError("one"), OSError("two")
    broken, other = failing("broken", one), failing("other", two, retries=1, delay=0)
    below, independent, end = (recording(seen, name) for name in ("below", "independent", "end"))
    broken >> below
    independent >> end
    with pytest.raises(ExceptionGroup) as caught:
        DAG("etl", tasks=[below, other, end]).run("serial", fail_fast=False)
    group = caught.value
    assert group.exceptions == (one, two)
    assert seen == ["independent", "end"]
    assert "2 tasks of 'etl' failed" in str(group)
    assert "'broken', 'other'" in str(group)
    assert "task 'broken' of 'etl'" in notes(one)
    assert "task 'other' of 'etl' failed after 2 attempts" in notes(two)
    assert group.flowkit_results == {"independent": "independent", "end": "end"}
    assert group.flowkit_results.states["below"] == "upstream_failed"


def test_fail_fast_false_with_one_failure_raises_group():
    """So ``except*`` always works."""
    error = ValueError("one")
    with pytest.raises(ExceptionGroup) as caught:
        DAG("etl", tasks=[failing("broken", error)]).run(fail_fast=False)
    assert caught.value.exceptions == (error,)
    assert "1 task of 'etl' failed: 'broken'" in str(caught.value)


def test_fail_fast_false_with_many_failures_has_short_message():
    """The message lists a few; the group has all."""
    tasks = [failing(f"broken_{number}", ValueError(number)) for number in range(100)]
    with pytest.raises(ExceptionGroup) as caught:
        DAG("etl", tasks=tasks).run(fail_fast=False)
    assert len(caught.value.exceptions) == 100
    assert "100 tasks" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_fail_fast_false_without_failure_raises_nothing():
    assert DAG("etl", tasks=[Task(lambda: 1, name="one")]).run(fail_fast=False) == {"one": 1}


# raise_on_failure=False


@pytest.mark.parametrize("fail_fast", [True, False])
def test_raise_on_failure_false_returns_failures(fail_fast):
    """``.failed`` has the exception objects."""
    error = ValueError("boom")
    before, broken, below = recording([], "before"), failing("broken", error), recording([], "below")
    [before, broken] >> below
    results = DAG("etl", tasks=[below]).run("serial", fail_fast=fail_fast, raise_on_failure=False)
    assert results == {"before": "before"}
    assert results.failed == {"broken": error}
    assert results.failed["broken"] is error
    assert results.states == {"before": "succeeded", "broken": "failed", "below": "upstream_failed"}


def test_raise_on_failure_false_adds_note():
    """The note names task, DAG and attempts."""
    results = DAG("etl", tasks=[failing("broken", ValueError("boom"))]).run(raise_on_failure=False)
    assert "task 'broken' of 'etl'" in notes(results.failed["broken"])


# Interrupts


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, BaseException])
@pytest.mark.parametrize("fail_fast", [True, False])
def test_interrupt_of_task_ends_run_with_its_type(error, fail_fast):
    """It is not retried and not grouped; waiting and downstream tasks do not start."""
    seen = []
    raised = error("stop")
    tries = []

    def stop():
        tries.append(1)
        raise raised

    broken = Task(stop, name="broken", retries=3, delay=0)
    waiting, below = recording(seen, "waiting"), recording(seen, "below")
    broken >> below
    with pytest.raises(error) as caught:
        DAG("etl", tasks=[broken, waiting, below]).run("serial", fail_fast=fail_fast)
    assert caught.value is raised
    assert len(tries) == 1
    assert seen == []
    assert caught.value.flowkit_results.states == {
        "broken": "failed",
        "waiting": "cancelled",
        "below": "upstream_failed",
    } or (
        error is KeyboardInterrupt and caught.value.flowkit_results.states["below"] in ("cancelled", "upstream_failed")
    )


def test_keyboard_interrupt_is_always_raised():
    """Also with ``raise_on_failure=False``."""
    with pytest.raises(KeyboardInterrupt):
        DAG("etl", tasks=[failing("broken", KeyboardInterrupt())]).run("serial", raise_on_failure=False)


def test_interrupt_in_observer_of_start_ends_run():
    """The exception has the results so far, and observers get RunFinished."""
    kinds = []

    def observe(event):
        kinds.append(type(event))
        if isinstance(event, RunStarted):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        DAG("etl", tasks=[recording([], "task")]).run("serial", observers=[observe])
    assert caught.value.flowkit_results.states == {"task": "cancelled"}
    assert kinds[-1] is RunFinished


def test_interrupt_in_condition_ends_run():
    seen = []
    stopped = recording(seen, "stopped", when=failing("stop", KeyboardInterrupt()).func)
    with pytest.raises(KeyboardInterrupt):
        DAG("etl", tasks=[stopped, recording(seen, "waiting")]).run("serial")
    assert seen == []


@pytest.mark.parametrize(
    "error", [StopIteration, StopAsyncIteration, TimeoutError, MemoryError, RecursionError, LookupError, EOFError]
)
def test_control_flow_exceptions_of_tasks_are_failures(error):
    """They are retried, raised and noted like others."""
    tries = []

    def stop():
        tries.append(1)
        raise error("stop")

    with pytest.raises(error) as caught:
        DAG("etl", tasks=[Task(stop, retries=1, delay=0)]).run()
    assert len(tries) == 2
    assert "task 'stop' of 'etl' failed after 2 attempts" in notes(caught.value)


# Odd exceptions


class Unprintable(Exception):
    """An exception that cannot say what it is."""

    def __str__(self):
        raise ZeroDivisionError

    __repr__ = __str__


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An exception that takes no attributes."""

    code: int


class Slotted(Exception):
    """An exception that has its own ideas about attributes."""

    def __setattr__(self, name, value):
        raise RuntimeError(f"no {name}")


class Grumpy(Exception):
    """An exception that takes no notes."""

    def add_note(self, note):
        raise TypeError("no notes, please")


@pytest.mark.parametrize(
    "error", [Unprintable(), Frozen(7), Slotted(), Grumpy("x")], ids=lambda error: type(error).__name__
)
@pytest.mark.parametrize("fail_fast", [True, False])
def test_odd_exception_is_raised(error, fail_fast):
    """It may refuse notes and attributes, or fail in str()."""
    broken = failing("broken", error)
    release = failing("release", error, trigger="all_done")
    broken >> release
    with pytest.raises((type(error), ExceptionGroup)) as caught:
        DAG("etl", tasks=[release]).run(fail_fast=fail_fast, observers=[lambda event: None])
    assert caught.value is error if fail_fast else caught.value.exceptions[0] is error


def test_shared_exception_object_has_bounded_notes():
    """One exception object for all failures gets each note once."""
    error = ValueError("shared")
    dag = DAG("etl", tasks=[failing("broken", error)])
    for _ in range(5):
        with pytest.raises(ValueError):
            dag.run()
    assert len(error.__notes__) == 1


def test_failed_run_frees_values():
    """There are no reference cycles: when the error is dropped, the values are freed."""

    class Big:
        pass

    seen = []

    def make():
        big = Big()
        seen.append(weakref.ref(big))
        return big

    def use(big):
        raise ValueError("boom")

    made, used = Task(make), Task(use)
    made >> used
    gc.disable()
    try:
        with pytest.raises(ValueError) as caught:
            DAG("etl", tasks=[used]).run("serial")
        assert seen[0]() is not None
        caught.value.__traceback__ = None
        del caught.value.flowkit_results
        del caught
        gc.collect()
        assert seen[0]() is None
    finally:
        gc.enable()


# Executors and observers that are not there or do not work


def test_observer_that_raises_changes_nothing():
    """There is a warning, and the run continues."""

    def broken(event):
        raise ValueError("observer")

    with pytest.warns(RuntimeWarning, match="observer"):
        assert DAG("etl", tasks=[Task(lambda: 1, name="one")]).run("serial", observers=[broken]) == {"one": 1}


async def observe_later(event):
    """Is never awaited."""


class AsyncObserver:
    async def __call__(self, event):
        """Is never awaited."""


class ListeningTo:
    def __init__(self, events):
        self.events = events

    def __call__(self, event): ...


@pytest.mark.parametrize(
    ("observer", "words"),
    [
        (observe_later, "observers are not awaited"),
        (AsyncObserver(), "observers are not awaited"),
        (3, "must be functions, or other callables"),
        (dict, "must be functions, or other callables"),
        (ListeningTo(TaskFailed), r"such as \(TaskFailed,\)"),
        (ListeningTo(("TaskFailed",)), r"whose attribute events is \('TaskFailed',\)"),
    ],
    ids=["async", "async call", "number", "class", "one class", "names"],
)
def test_value_that_is_no_observer_is_an_error(observer, words):
    ran = []
    dag = DAG("etl", tasks=[Task(lambda: ran.append(1), name="one")])
    with pytest.raises(TypeError, match=words):
        dag.run("serial", observers=[lambda event: None, observer])
    with pytest.raises(TypeError, match=words):
        simulate(dag, observers=[observer])
    assert ran == []


def test_observers_get_failure_events():
    """The event has the exception object."""
    seen = []
    error = ValueError("boom")
    with pytest.raises(ValueError):
        DAG("etl", tasks=[failing("broken", error)]).run(observers=[seen.append])
    (event,) = [event for event in seen if isinstance(event, TaskFailed)]
    assert (event.task, event.attempt, event.error, event.pipeline) == ("broken", 1, error, "etl")
    assert event.run_id == error.flowkit_results.run_id


def test_frozen_exception_has_note_and_results():
    @dataclasses.dataclass(frozen=True)
    class Frozen(Exception):
        code: int

    class Refusing(Exception):
        def __setattr__(self, name, value):
            raise TypeError("no attributes")

    for error in (Frozen(3), Refusing()):

        def fail(error=error):
            raise error

        with pytest.raises(type(error)) as caught:
            DAG("frozen", tasks=[Task(fail)]).run("serial")
        assert caught.value is error
        assert error.flowkit_results.states == {"fail": "failed"}
        assert error.__notes__[0].startswith("flowkit: task 'fail' of 'frozen' failed")
