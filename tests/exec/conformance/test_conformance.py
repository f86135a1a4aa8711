"""One contract, every executor: the same results, skips, retries, errors, states and orders, wherever code runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import os
import socket
import threading
import traceback

import conformance_tasks as p
import faulty_tasks
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowkit_core import (
    DAG,
    Graph,
    Pipeline,
    Results,
    RunFinished,
    RunStarted,
    Task,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSucceeded,
    UnknownExecutorError,
)
from flowkit_core.pipelines.binding import bind_by_name
from flowkit_exec import ProcessExecutor, ThreadExecutor

SECONDS = 60  # a guard against hanging, never a wait
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def copies(original, *names, **options):
    """Return unwired copies of a task, one for each name."""
    return [original.with_options(name=name, **options) for name in names]


def fresh(*originals):
    """Return an unwired copy of each task, under its own name."""
    return [original.with_options(name=original.name) for original in originals]


def notes(error):
    """Return all notes of an exception as one text."""
    return "\n".join(getattr(error, "__notes__", ()))


# Results


def test_a_chain(executor):
    """Each result reaches the next."""
    start, *rest = [*fresh(p.one), *copies(p.add_one, "b", "c", "d")]
    start >> rest[0] >> rest[1] >> rest[2]
    assert DAG("chain", tasks=rest[-1:]).run(executor) == {"one": 1, "b": 2, "c": 3, "d": 4}


def test_a_diamond(executor):
    """Out and in again, arguments in order of declaration."""
    (start,), sides, (end,) = fresh(p.one), copies(p.add_one, "right", "left"), fresh(p.collect)
    start >> sides >> end
    start >> end
    results = DAG("diamond", tasks=[end]).run(executor)
    assert results == {"one": 1, "right": 2, "left": 2, "collect": (2, 2, 1)}
    assert list(results) == ["one", "right", "left", "collect"]


class ByName(Pipeline):
    """A builder of one row, in which a parameter may be named like any earlier task, as in a Flow."""

    def __init__(self, name, *tasks):
        super().__init__(name)
        self._tasks = tasks

    def graph(self):
        upstream = [[place - 1] if place else [] for place in range(len(self._tasks))]
        places = {task.name: place for place, task in enumerate(self._tasks)}
        return Graph(self.name, self._tasks, upstream, lambda *facts: bind_by_name(*facts, places.get))


def test_a_value_from_further_up_than_the_upstream(executor):
    """Also where all of a row is sent to one worker at once."""
    row = ByName("row", *fresh(p.one, p.ten, p.add_hundred_to_one, p.ten_and_one))
    assert row.run(executor) == {"one": 1, "ten": 10, "add_hundred_to_one": 101, "ten_and_one": (10, 1)}


def test_independent_tasks_keep_their_order(executor):
    """Whichever ends first."""
    names = [f"task_{number}" for number in (7, 3, 5, 1)]
    assert list(DAG("independent", tasks=copies(p.one, *names)).run(executor)) == names


def test_none_is_a_result(executor):
    """Present as None and passed on as None."""
    none, end = fresh(p.nothing, p.collect)
    none >> end
    assert DAG("none", tasks=[end]).run(executor) == {"nothing": None, "collect": (None,)}


def test_a_value_is_neither_judged_nor_compared(executor):
    """Arrays and data frames pass through."""
    value, end = fresh(p.touchy, p.kind)
    value >> end
    assert DAG("touchy", tasks=[end]).run(executor)["kind"] == "Value"


def test_keyword_only_parameters(executor):
    """Given by name, wherever the call is made."""
    start, second, end = fresh(p.one, p.add_one, p.keyword_only)
    start >> second
    [second, start] >> end
    assert DAG("keywords", tasks=[end]).run(executor)["keyword_only"] == (1, 2)


def test_params(executor):
    """run(params=...) reaches the task."""
    assert DAG("params", tasks=fresh(p.params)).run(executor, params={"day": "monday"}) == {"params": ("monday", 10)}


def test_an_async_task_is_awaited(executor):
    """Its result is what it returns."""
    start, middle, end = fresh(p.one, p.awaited, p.add_one)
    start >> middle >> end
    assert DAG("async", tasks=[end]).run(executor) == {"one": 1, "awaited": 2, "add_one": 3}


def test_an_async_task_under_a_decorator_is_awaited(executor):
    """A decorator that knows nothing of coroutines passes them on."""
    start, middle, end = fresh(p.one, p.awaited_inside, p.add_one)
    start >> middle >> end
    assert DAG("async", tasks=[end]).run(executor) == {"one": 1, "awaited_inside": 2, "add_one": 3}


def test_an_empty_dag(executor):
    """No tasks, no results, no hang."""
    assert DAG("empty", tasks=[]).run(executor) == {}


def test_a_wide_graph(executor):
    """A thousand tasks between one and one."""
    (start,), (end,) = fresh(p.one), fresh(p.collect)
    middle = copies(p.add_one, *(f"task_{number}" for number in range(1000)))
    start >> middle >> end
    assert DAG("wide", tasks=[end]).run(executor)["collect"] == (2,) * 1000


def test_a_long_chain(executor):
    """A thousand tasks, one after the other."""
    tasks = [*fresh(p.one), *copies(p.add_one, *(f"task_{number}" for number in range(1000)))]
    for before, following in itertools.pairwise(tasks):
        before >> following
    assert DAG("long", tasks=tasks[-1:]).run(executor)["task_999"] == 1001


@st.composite
def shapes(draw):
    """Return the upstreams of each node, as positions of earlier nodes."""
    count = draw(st.integers(1, 12))
    return [draw(st.lists(st.sampled_from(range(n)), unique=True, max_size=4)) if n else [] for n in range(count)]


@settings(max_examples=20, suppress_health_check=CHECKS)
@given(shape=shapes())
def test_a_random_graph_equals_sequential_evaluation(executor, shape):
    """Whatever the graph."""
    tasks = [Task(p.node, name=f"n{number}") for number in range(len(shape))]
    expected = {}
    for number, upstream in enumerate(shape):
        [tasks[source] for source in upstream] >> tasks[number]
        expected[f"n{number}"] = p.node(*(expected[f"n{source}"] for source in upstream))
    assert DAG("random", tasks=tasks).run(executor) == expected


@settings(max_examples=20, suppress_health_check=CHECKS)
@given(shape=shapes(), data=st.data())
def test_random_failures_end_as_the_contract_says(executor, shape, data):
    """A task runs if and only if nothing above it failed; and everything is told once, in a sound order."""
    broken = data.draw(st.sets(st.sampled_from(range(len(shape))), max_size=2))
    tasks = [
        p.fail.with_options(name=f"n{number}") if number in broken else Task(p.node, name=f"n{number}")
        for number in range(len(shape))
    ]
    expected, seen = {}, []
    for number, upstream in enumerate(shape):
        if number not in broken:
            [tasks[source] for source in upstream] >> tasks[number]
        below = number not in broken and any(expected[f"n{source}"] != "succeeded" for source in upstream)
        expected[f"n{number}"] = "failed" if number in broken else "upstream_failed" if below else "succeeded"
    results = DAG("random", tasks=tasks).run(executor, fail_fast=False, raise_on_failure=False, observers=[seen.append])
    assert {name: results.states[name] for name in expected} == expected
    assert set(results) == {name for name, state in expected.items() if state == "succeeded"}
    ended = set()
    for event in seen[1:-1]:
        assert event.task not in ended
        if isinstance(event, TaskStarted):
            assert expected[event.task] != "upstream_failed"
            number = int(event.task[1:])
            assert number in broken or {f"n{source}" for source in shape[number]} <= ended
        else:
            ended.add(event.task)
    assert ended == set(expected)


# Conditions and skips


def test_a_condition_decides(executor):
    """A lambda in when=, evaluated with the task's own arguments."""
    start, large, small, end = fresh(p.one, p.large, p.small, p.collect)
    start >> [large, small] >> end
    results = DAG("conditions", tasks=[end]).run(executor)
    assert results == {"one": 1, "small": "small 1", "collect": ("small 1",)}
    assert results.skipped == {"large": "its condition was false"}
    assert results.states == {"one": "succeeded", "large": "skipped", "small": "succeeded", "collect": "succeeded"}


def test_a_default_stands_in_for_a_skipped_source(executor):
    """The parameter takes its default, its neighbors keep their places."""
    first, never, end = fresh(p.one, p.never, p.with_defaults)
    [never, first] >> end
    assert DAG("defaults", tasks=[end]).run(executor) == {"one": 1, "with_defaults": ("a?", 1, "c?")}


def test_a_skip_travels_to_what_cannot_do_without(executor):
    """All the way down."""
    never, middle, end = [*fresh(p.never), *copies(p.add_one, "middle", "end")]
    never >> middle >> end
    results = DAG("skips", tasks=[end]).run(executor)
    assert results == {}
    assert set(results.states.values()) == {"skipped"}
    assert '"middle"' in results.skipped["end"]


def test_an_error_in_a_condition_is_the_tasks_failure(executor):
    """With its own type."""
    with pytest.raises(ZeroDivisionError) as caught:
        DAG("conditions", tasks=fresh(p.bad_condition)).run(executor)
    assert caught.value.flowkit_results.states == {"bad_condition": "failed"}


# Retries


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_a_task_is_tried_again(executor, tmp_path, failures):
    """As often as it takes, within its retries."""
    path = tmp_path / "tries"
    results = DAG("retries", tasks=copies(p.flaky, "flaky", retries=3, delay=0)).run(
        executor, params={"path": str(path), "failures": failures}
    )
    assert results == {"flaky": failures + 1}
    assert path.stat().st_size == failures + 1


def test_a_task_gives_up_after_its_retries(executor, tmp_path):
    """The last error is raised, and the note counts the attempts."""
    path = tmp_path / "tries"
    with pytest.raises(p.OwnError, match="failure 3") as caught:
        DAG("retries", tasks=copies(p.flaky, "flaky", retries=2, delay=0)).run(
            executor, params={"path": str(path), "failures": 9}
        )
    assert path.stat().st_size == 3
    assert "task 'flaky' of 'retries' failed after 3 attempts" in notes(caught.value)


def test_a_delayed_retry_holds_up_nothing(executor, tmp_path):
    """While one waits the others run; and when the run has failed, nobody waits any longer."""
    (flaky,), (start, middle, broken) = (
        copies(p.flaky, "flaky", retries=1, delay=SECONDS),
        fresh(p.one, p.add_one, p.fail),
    )
    start >> middle >> broken
    with pytest.raises(p.OwnError, match="boom") as caught:
        DAG("retries", tasks=[flaky, broken]).run(executor, params={"path": str(tmp_path / "tries"), "failures": 1})
    assert caught.value.flowkit_results == {"one": 1, "add_one": 2}
    assert caught.value.flowkit_results.states["flaky"] in ("cancelled", "failed")


def test_a_task_that_waits_for_a_retry_when_another_fails_has_failed(executor, tmp_path):
    """On the attempt that there was, with its own exception."""
    retrying = tmp_path / "retrying"

    def observe(event):
        if isinstance(event, TaskRetrying):
            retrying.write_text(".")

    (flaky,) = copies(p.flaky, "flaky", retries=2, delay=SECONDS)
    broken = Task(functools.partial(faulty_tasks.fail_when, started=str(retrying)), name="broken")
    results = DAG("retries", tasks=[flaky, broken]).run(
        executor,
        params={"path": str(tmp_path / "tries"), "failures": 1},
        raise_on_failure=False,
        observers=[observe],
    )
    assert results.states == {"flaky": "failed", "broken": "failed"}
    assert (type(results.failed["flaky"]), results.attempts["flaky"]) == (p.OwnError, 1)
    assert "task 'flaky' of 'retries' failed on attempt 1 of 3 too: OwnError" in notes(results.failed["broken"])


# Failures


def test_the_tasks_own_exception_is_raised(executor):
    """Its type, its arguments, its attributes, and a note; the results there are come with it."""
    start, broken, below = fresh(p.one, p.fail, p.after)
    start >> broken >> below
    with pytest.raises(p.OwnError) as caught:
        DAG("etl", tasks=[below]).run(executor)
    error = caught.value
    assert (error.args, error.code) == ((7, "boom"), 7)
    assert "task 'fail' of 'etl' failed on its only attempt" in notes(error)
    assert "1 task had succeeded, 0 were running, 1 did not start" in notes(error)
    assert error.flowkit_results == {"one": 1}
    assert error.flowkit_results.states == {"one": "succeeded", "fail": "failed", "after": "upstream_failed"}


def test_an_exception_that_is_false_is_raised_all_the_same(executor):
    """What is raised is never asked whether it is true."""
    (problems,) = fresh(p.no_problems)
    with pytest.raises(p.Problems, match="the table is gone"):
        DAG("false", tasks=[problems]).run(executor)


def test_what_is_called_is_what_was_decorated(executor, tmp_path):
    """A decorator above @task, or a task of a class of its own, stands in the module under the function's name."""
    (plain,) = fresh(p.plain_one)
    assert DAG("wrapped", tasks=[plain]).run(executor) == {"shifted_one": 1}
    path = tmp_path / "tries"
    with pytest.raises(p.OwnError):
        DAG("own", tasks=fresh(p.stubborn)).run(executor, params={"path": str(path)})
    assert path.stat().st_size == 3


def test_the_traceback_shows_the_users_line(executor):
    """Also when the line ran in another process."""
    with pytest.raises(p.OwnError) as caught:
        DAG("etl", tasks=fresh(p.fail)).run(executor)
    text = "".join(traceback.format_exception(caught.value))
    assert 'raise OwnError(7, "boom")' in text
    assert "conformance_tasks.py" in text


def test_causes_and_notes_come_along(executor):
    """What the user attached is there."""
    with pytest.raises(ValueError, match="with a cause") as caught:
        DAG("etl", tasks=fresh(p.fail_with_a_cause)).run(executor)
    assert "KeyError: 'key'" in "".join(traceback.format_exception(caught.value))
    assert "a note of the user" in notes(caught.value)


def test_fail_fast_starts_nothing_more(executor):
    """What stands below a failure does not run; clean-up and alerts do, and what stands below them does not."""
    broken, below, cleaned, rang, late = [*fresh(p.fail, p.after, p.clean_up, p.alert), *copies(p.after, "late")]
    broken >> [below, cleaned, rang]
    cleaned >> late
    with pytest.raises(p.OwnError) as caught:
        DAG("etl", tasks=[below, rang, late]).run(executor)
    assert caught.value.flowkit_results == {"clean_up": "cleaned", "alert": "rang"}
    states = caught.value.flowkit_results.states
    assert states == {
        "fail": "failed",
        "after": "upstream_failed",
        "clean_up": "succeeded",
        "alert": "succeeded",
        "late": "cancelled",
    }


def test_independent_branches_go_on_where_they_may(executor):
    """fail_fast=False: all failures in one group."""
    broken, other, below, (start, end) = (
        *copies(p.fail, "broken", "other"),
        *copies(p.after, "below"),
        fresh(p.one, p.add_one),
    )
    broken >> below
    start >> end
    with pytest.raises(ExceptionGroup) as caught:
        DAG("etl", tasks=[other, below, end]).run(executor, fail_fast=False)
    assert [type(error) for error in caught.value.exceptions] == [p.OwnError, p.OwnError]
    assert caught.value.flowkit_results == {"one": 1, "add_one": 2}


def test_failures_can_be_returned(executor):
    """raise_on_failure=False: results with .failed."""
    results = DAG("etl", tasks=fresh(p.fail)).run(executor, raise_on_failure=False)
    assert results == {}
    assert type(results.failed["fail"]) is p.OwnError
    assert results.states == {"fail": "failed"}


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError"])
def test_an_interrupt_ends_the_run_and_is_not_retried(executor, tmp_path, kind):
    """The original type comes out, nothing below starts, and the caller's process goes on."""
    path = tmp_path / "tries"
    (stop,), (below,) = copies(p.stop, "stop", retries=3, delay=0), fresh(p.after)
    stop >> below
    with pytest.raises(p.KINDS[kind]) as caught:
        DAG("etl", tasks=[below]).run(executor, params={"kind": kind, "path": str(path)})
    assert type(caught.value) is p.KINDS[kind]
    assert path.stat().st_size == 1
    assert caught.value.flowkit_results.states["stop"] == "failed"
    assert caught.value.flowkit_results.states["after"] in ("upstream_failed", "cancelled")


@pytest.mark.parametrize(
    "kind", sorted(set(p.KINDS) - {"SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError"})
)
def test_whatever_else_a_task_raises_is_a_plain_failure(executor, tmp_path, kind):
    """Never mistaken for the runner's own control flow: retried, and raised with its own type."""
    path = tmp_path / "tries"
    with pytest.raises(p.KINDS[kind]) as caught:
        DAG("etl", tasks=copies(p.stop, "stop", retries=1, delay=0)).run(
            executor, params={"kind": kind, "path": str(path)}
        )
    assert type(caught.value) is p.KINDS[kind]
    assert path.stat().st_size == 2
    assert "task 'stop' of 'etl' failed after 2 attempts" in notes(caught.value)


def test_endless_recursion_is_a_failure(executor):
    """RecursionError, and the worker survives."""
    with pytest.raises(RecursionError):
        DAG("deep", tasks=fresh(p.fail_deep)).run(executor)
    assert DAG("next", tasks=fresh(p.one)).run(executor) == {"one": 1}


def test_the_next_run_works(executor):
    """An executor that has seen a failure runs the next pipeline as if nothing had been."""
    for _ in range(3):
        with pytest.raises(p.OwnError):
            DAG("etl", tasks=fresh(p.fail)).run(executor)
        assert DAG("etl", tasks=fresh(p.one)).run(executor) == {"one": 1}


# Where and when


def test_a_run_in_a_task(executor):
    """A task may run a pipeline of its own, one by one or in threads."""
    nested, threads = fresh(p.nested, p.nested_threads)
    results = DAG("outer", tasks=[nested, threads]).run(executor)
    assert results == {"nested": {"start": 1, "inner": 2}, "nested_threads": (2, 2, 2)}


def test_a_dag_that_runs_itself(local_executor):
    """A task may run the very DAG it belongs to."""
    depth = itertools.count()

    def again():
        return ["deep"] if next(depth) == 3 else [*dag.run(local_executor)["again"], "up"]

    dag = DAG("self", tasks=[Task(again)])
    assert dag.run(local_executor) == {"again": ["deep", "up", "up", "up"]}


def test_code_runs_where_the_name_says(executor):
    """In this process, or in another one."""
    pid, thread = DAG("where", tasks=fresh(p.place)).run(executor)["place"]
    assert (pid == os.getpid()) == (executor.name != "process")
    if executor.name == "serial":
        assert thread == threading.get_ident()


@pytest.fixture
def no_collection():
    """Keep the garbage collector still: an interrupt within one of its callbacks, as hypothesis has, would be lost."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_ctrl_c_ends_a_run(executor):
    """KeyboardInterrupt comes out of run(), and the executor can be used again."""
    tasks = [*fresh(p.interrupt), *copies(p.one, *(f"task_{number}" for number in range(50)))]
    with pytest.raises(KeyboardInterrupt) as caught:
        DAG("etl", tasks=tasks).run(executor, params={"pid": os.getpid()})
    assert set(caught.value.flowkit_results.states) == {task.name for task in tasks}
    assert DAG("next", tasks=fresh(p.one)).run(executor) == {"one": 1}


def test_two_runs_of_one_dag_at_once(executor):
    """Every run has a state of its own, also on one executor object."""
    start, end = fresh(p.one, p.add_one)
    start >> end
    dag = DAG("twice", tasks=[end])
    barrier = threading.Barrier(3, timeout=SECONDS)
    seen = []

    def work():
        barrier.wait()
        seen.extend(dag.run(executor) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert seen == [{"one": 1, "add_one": 2}] * 15
    assert len({results.run_id for results in seen}) == 15


def test_a_run_in_another_thread(executor):
    """Not only the main thread may run a pipeline, and it gets its errors there."""
    seen = []

    def work():
        seen.append(DAG("there", tasks=fresh(p.one)).run(executor))
        with pytest.raises(p.OwnError) as caught:
            DAG("there", tasks=fresh(p.fail)).run(executor)
        seen.append(caught.value.code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(SECONDS)
    assert seen == [{"one": 1}, 7]


def test_a_run_inside_a_running_event_loop(executor):
    """As in a notebook: it blocks, and async tasks work there too."""

    async def cell():
        start, middle = fresh(p.one, p.awaited)
        start >> middle
        return DAG("loop", tasks=[middle]).run(executor)

    assert asyncio.run(cell()) == {"one": 1, "awaited": 2}


def test_tasks_run_at_the_same_time(wide_executor):
    """Two tasks that wait for each other both get on."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as stack:
        server.settimeout(SECONDS)

        def host():
            for connection in [stack.enter_context(server.accept()[0]) for _ in range(2)]:
                connection.sendall(b"!")

        thread = threading.Thread(target=host)
        thread.start()
        results = DAG("meeting", tasks=fresh(p.left, p.right)).run(
            wide_executor, params={"port": server.getsockname()[1]}
        )
        thread.join(SECONDS)
    assert results == {"left": b"!", "right": b"!"}


@pytest.mark.parametrize("workers", [2, 8])
def test_a_ready_task_starts_at_once(workers):
    """There are no levels: a task does not wait for what merely stands beside it."""
    reached = threading.Event()
    beside = Task(lambda: reached.wait(SECONDS), name="beside")
    chain = [Task(lambda *_: None, name=f"task_{number}") for number in range(5)] + [
        Task(lambda _: reached.set(), name="last")
    ]
    for before, following in itertools.pairwise(chain):
        before >> following
    with ThreadExecutor(max_workers=workers) as executor:
        assert DAG("levels", tasks=[beside, chain[-1]]).run(executor)["beside"] is True


def test_no_more_tasks_run_at_once_than_there_are_workers(thread_executor):
    """max_workers is kept."""
    lock, running, peak = threading.Lock(), 0, 0

    def work():
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        os.getpid()
        with lock:
            running -= 1

    DAG("many", tasks=[Task(work, name=f"task_{number}") for number in range(500)]).run(thread_executor)
    assert 1 <= peak <= thread_executor.max_workers


def test_no_thread_is_left(local_executor):
    """After a run, failed or not, there are as many threads as before."""
    before = set(threading.enumerate())
    DAG("threads", tasks=copies(p.one, *"abcdefgh")).run(local_executor)
    with pytest.raises(p.OwnError):
        DAG("threads", tasks=copies(p.fail, *"abcdefgh")).run(local_executor)
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("name", ["thread-2", "thread-8"])
def test_what_runs_when_another_fails_may_end(name):
    """Fail fast: running tasks end, their results count, and the note says how many there were."""
    with ThreadExecutor(max_workers=int(name[-1])) as executor:
        started, failed = threading.Event(), threading.Event()

        def slow():
            started.set()
            return failed.wait(SECONDS)

        def broken():
            started.wait(SECONDS)
            raise ValueError("boom")

        tasks = [Task(slow), Task(broken)]
        below = Task(lambda x: x, name="below")
        tasks[0] >> below
        with pytest.raises(ValueError) as caught:
            DAG("etl", tasks=[*tasks, below]).run(
                executor, observers=[lambda event: isinstance(event, TaskFailed) and failed.set()]
            )
    assert caught.value.flowkit_results == {"slow": True}
    assert caught.value.flowkit_results.states == {"slow": "succeeded", "broken": "failed", "below": "cancelled"}
    assert "0 tasks had succeeded, 1 was running, 1 did not start" in notes(caught.value)


@pytest.mark.parametrize("fail_fast", [True, False])
def test_several_failures_at_once_are_all_told(fail_fast):
    """The first is raised and the others are noted, or all of them are raised in a group."""
    barrier = threading.Barrier(2, timeout=SECONDS)

    def fail(error):
        def failing():
            barrier.wait()
            raise error

        return failing

    errors = [ValueError("first"), OSError("second")]
    tasks = [Task(fail(error), name=f"task_{number}") for number, error in enumerate(errors)]
    with ThreadExecutor(max_workers=2) as executor, pytest.raises((ValueError, OSError, ExceptionGroup)) as caught:
        DAG("etl", tasks=tasks).run(executor, fail_fast=fail_fast)
    if fail_fast:
        other = errors[caught.value is errors[0]]
        assert caught.value in errors
        assert f"{type(other).__name__}: {other}" in notes(caught.value)
        assert set(Results.from_error(caught.value).failed.values()) == set(errors)
    else:
        assert set(caught.value.exceptions) == set(errors)


# Context variables


def test_context_variables_of_the_caller_are_visible(local_executor):
    """Each task runs in a copy of the context of run()."""
    token = p.setting.set("of the caller")
    try:
        tasks = [Task(p.setting.get, name=f"task_{number}") for number in range(20)]
        assert set(DAG("context", tasks=tasks).run(local_executor).values()) == {"of the caller"}
    finally:
        p.setting.reset(token)


def test_context_variables_do_not_leak_from_task_to_task(local_executor):
    """One copy per task: neither a later task nor the caller sees a change."""

    def change(*_):
        before = p.setting.get()
        p.setting.set("changed")
        return before

    tasks = [Task(change, name=f"task_{number}") for number in range(20)]
    for before, following in itertools.pairwise(tasks[:10]):
        before >> following
    assert set(DAG("context", tasks=tasks).run(local_executor).values()) == {"unset"}
    assert p.setting.get() == "unset"


# Histories


def test_every_run_tells_the_same_story(executor, tmp_path):
    """The events of a run with a bit of everything: the same for each task, and in a sound order."""
    start, large, small, end = fresh(p.one, p.large, p.small, p.collect)
    (flaky,), broken, below, cleaned = copies(p.flaky, "flaky", retries=2, delay=0), *fresh(p.fail, p.after, p.clean_up)
    start >> [large, small] >> end
    broken >> [below, cleaned]
    seen = []
    DAG("story", tasks=[end, flaky, below, cleaned]).run(
        executor,
        params={"path": str(tmp_path / "tries"), "failures": 1},
        fail_fast=False,
        raise_on_failure=False,
        observers=[seen.append],
    )
    assert isinstance(seen[0], RunStarted)
    assert seen[0].tasks == 8
    assert isinstance(seen[-1], RunFinished)
    assert seen[-1].counts == {"succeeded": 5, "failed": 1, "skipped": 1, "upstream_failed": 1}
    stories = {}
    for event in seen[1:-1]:
        stories.setdefault(event.task, []).append(type(event).__name__)
    normal = ["TaskStarted", "TaskSucceeded"]
    assert stories == {
        "one": normal,
        "large": ["TaskNotRun"],
        "small": normal,
        "collect": normal,
        "flaky": ["TaskStarted", "TaskRetrying", *normal],
        "fail": ["TaskStarted", "TaskFailed"],
        "after": ["TaskNotRun"],
        "clean_up": normal,
    }
    order = {(event.task, type(event)): place for place, event in enumerate(seen[1:-1])}
    assert order["one", TaskSucceeded] < order["small", TaskStarted]
    assert order["small", TaskSucceeded] < order["collect", TaskStarted]
    assert order["fail", TaskFailed] < order["clean_up", TaskStarted]
    assert {event.delay for event in seen if isinstance(event, TaskRetrying)} == {0}


def test_durations_are_those_of_what_ran(executor):
    """Seconds, for each task that ran and no other."""
    start, large, small = fresh(p.one, p.large, p.small)
    start >> [large, small]
    results = DAG("durations", tasks=[large, small]).run(executor)
    assert set(results.durations) == {"one", "small"}
    assert all(0 <= seconds < SECONDS for seconds in results.durations.values())


# What the seed shows


def test_the_conditional_example(executor):
    """check_data >> [handle_large_data, handle_small_data]."""
    results = DAG("conditional", tasks=[p.handle_large_data, p.handle_small_data]).run(executor)
    assert results == {"check_data": 1500, "handle_large_data": "Processing large dataset: 1500"}
    assert list(results.skipped) == ["handle_small_data"]


def test_the_parallel_example(executor):
    """Three batches of one range."""
    results = DAG("parallel_processing", max_workers=3, tasks=[p.aggregate_results]).run(executor)
    assert results["aggregate_results"] == f"Total: {sum(range(1000))}"
    assert list(results) == ["fetch_data", "process_batch_1", "process_batch_2", "process_batch_3", "aggregate_results"]


@pytest.mark.parametrize(
    ("size", "loaded"), [(1200, "LOADED_2400_MANUAL_APPROVAL"), (800, "LOADED_1600_AUTO_APPROVED")]
)
def test_the_approval_example(executor, size, loaded):
    """One of two approvals is skipped."""
    assert DAG("approval_workflow", tasks=[p.load]).run(executor, params={"size": size})["load"] == loaded


# Names


@pytest.mark.parametrize("name", ["serial", "thread", "process"])
def test_an_executor_is_known_by_its_name(name):
    """And made with the workers of the pipeline."""
    started = []
    start, end = fresh(p.one, p.add_one)
    start >> end
    dag = DAG("names", max_workers=2, tasks=[end])
    results = dag.run(
        executor=name, observers=[lambda event: started.append(event) if isinstance(event, RunStarted) else None]
    )
    assert results == {"one": 1, "add_one": 2}
    assert started[0].executor == name


def test_threads_are_the_default():
    """run() means threads where they are installed."""
    started = []
    DAG("default", tasks=fresh(p.one)).run(
        observers=[lambda event: started.append(event) if isinstance(event, RunStarted) else None]
    )
    assert started[0].executor == "thread"


def test_an_unknown_name_lists_all_there_are():
    """And how to get more."""
    with pytest.raises(UnknownExecutorError) as caught:
        DAG("names", tasks=fresh(p.one)).run("threads")
    assert {"serial", "thread", "process"} <= set(caught.value.available)
    assert all(repr(name) in str(caught.value) for name in ("threads", "serial", "thread", "process"))
    assert "did you mean 'thread'" in str(caught.value)


@pytest.mark.parametrize("kind", [ThreadExecutor, ProcessExecutor])
@pytest.mark.parametrize(
    ("workers", "error"), [(0, ValueError), (-3, ValueError), (1.0, TypeError), ("2", TypeError), (True, TypeError)]
)
def test_max_workers_is_checked(kind, workers, error):
    """Where it is written, with the value and what is allowed."""
    with pytest.raises(error) as caught:
        kind(max_workers=workers)
    assert repr(workers) in str(caught.value)
    assert "integer of at least 1" in str(caught.value)


@pytest.mark.parametrize("kind", [ThreadExecutor, ProcessExecutor])
def test_an_executor_may_be_closed_twice_and_never_used(kind):
    """With or without with."""
    executor = kind()
    executor.close()
    executor.close()
    with kind(max_workers=1) as executor:
        assert "max_workers=1" in repr(executor)
