"""The history of a run: its executions, and the attempts at its tasks."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from durable_tasks import TIMEOUT, wait_until

from flowkit import DAG, ProcessExecutor, StateManager, Task


def fail(text="no route"):
    raise ConnectionError(text)


def two_rows():
    return [1, 2]


def one():
    return 1


def test_each_execution_of_run_is_kept_with_error_and_process(box):
    box.inject("b", "fail")
    a, b = box.task("a"), box.task("b")
    a >> b
    dag = DAG("etl", tasks=[b])
    for _ in range(2):
        results = dag.run("serial", state=box.db, resume=True, raise_on_failure=False)
    box.repair("b")
    dag.run("serial", state=box.db, resume=True)
    with StateManager(box.db) as state:
        run = state.run(results.run_id)
    assert (run.status, run.error, run.resumes) == ("succeeded", None, 2)
    assert [each.number for each in run.executions] == [1, 2, 3]
    assert [each.outcome for each in run.executions] == ["failed", "failed", "succeeded"]
    assert {(each.process, each.host) for each in run.executions} == {(os.getpid(), socket.gethostname())}
    for execution in run.executions[:2]:
        assert execution.error.startswith("Traceback (most recent call last):")
        assert "ValueError: b is broken" in execution.error
    assert run.executions[2].error is None
    times = [time for each in run.executions for time in (each.started, each.ended)]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (run.started, run.ended)
    assert repr(run.executions[0]).startswith("<ExecutionRecord 1, 20")
    attempts = run.tasks["b"].attempts
    assert [(each.execution, each.number, each.outcome) for each in attempts] == [
        (1, 1, "failed"),
        (2, 1, "failed"),
        (3, 1, "succeeded"),
    ]
    assert [each.error and each.error.message for each in attempts] == ["b is broken", "b is broken", None]
    assert len(run.tasks["a"].attempts) == 1
    assert repr(pickle.loads(pickle.dumps(run)).tasks["b"].attempts) == repr(attempts)


@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_task_is_ready_before_it_starts_and_after_its_execution_has(box, executor):
    rows, first, second = Task(two_rows, name="rows"), Task(abs, name="first"), Task(abs, name="second")
    total = Task(sum, name="total")
    rows >> first.map() >> second.map() >> total
    results = DAG("chain", tasks=[total]).run(executor, state=box.db)
    with StateManager(box.db) as state:
        run = state.run(results.run_id)
    for task in run.tasks.values():
        (attempt,) = task.attempts
        assert run.started <= attempt.ready <= attempt.started <= attempt.ended <= run.ended
        assert attempt.duration == pytest.approx(results.durations[task.name])
    assert run.tasks["second"].attempts[0].ended >= run.tasks["first"].attempts[0].ended
    assert run.tasks["total"].attempts[0].ready == run.tasks["second"].attempts[0].ended


def test_each_attempt_has_times_and_error(box):
    box.inject("a", "fail")
    a = box.task("a", retries=2, delay=0.01, backoff=1, jitter=0)
    b = Task(one, name="b", trigger="all_done")
    a >> b
    results = DAG("etl", tasks=[b]).run("serial", state=box.db, raise_on_failure=False)
    with StateManager(box.db) as state:
        run = state.run(results.run_id)
    tasks = run.tasks
    attempts = tasks["a"].attempts
    assert [each.number for each in attempts] == [1, 2, 3]
    assert attempts[0].ready >= run.started  # preparations before that are no wait
    assert [each.outcome for each in attempts] == ["failed"] * 3
    assert all("Traceback" in each.error.traceback for each in attempts)
    assert tasks["a"].error.message == attempts[-1].error.message
    assert tasks["a"].duration == attempts[-1].duration == results.durations["a"]
    for before, after in itertools.pairwise(attempts):
        assert (after.ready - before.ended).total_seconds() == pytest.approx(0.01, abs=1e-5)
        assert after.ready <= after.ended
        assert after.waited >= 0
    assert tasks["b"].attempts[0].ready == attempts[-1].ended
    assert repr(attempts[0]).startswith("<AttemptRecord 1 in execution 1: failed in 0.")


def test_attempts_name_process_and_worker(box, executor):
    tasks = [Task(one, name=name) for name in "abcd"]
    results = DAG("wide", tasks=tasks).run(executor, state=box.db)
    with StateManager(box.db) as state:
        attempts = [task.attempts[0] for task in state.run(results.run_id).tasks.values()]
    assert all(each.worker for each in attempts)
    assert {each.host for each in attempts} == {socket.gethostname()}
    own = {each.process == os.getpid() for each in attempts}
    assert own == {not isinstance(executor, ProcessExecutor)}


def test_task_whose_retry_was_not_started_has_failed_with_its_last_error(box):
    slow = Task(fail, name="slow", retries=1, delay=3600)

    def broken():
        wait_until(lambda: box_has_attempt(box))
        raise ValueError("stop")

    results = DAG("etl", tasks=[slow, Task(broken)]).run("thread", state=box.db, raise_on_failure=False)
    with StateManager(box.db) as state:
        task = state.run(results.run_id).tasks["slow"]
    assert (task.state, task.error.message, len(task.attempts)) == ("failed", "no route", 1)
    assert task.duration == task.attempts[0].duration


def box_has_attempt(box):
    with StateManager(box.db) as state:
        return any(task.attempts for run in state.runs() for task in run.tasks.values())


KILLED = """
import sys
from flowkit import DAG
from durable_tasks import Box
box = Box(sys.argv[1])
a, b = box.task("a"), box.task("b")
a >> b
DAG("etl", tasks=[b]).run("serial", state=box.db, resume=True)
"""


def test_killed_execution_is_interrupted_and_stays_in_history(box):
    box.inject("b", "wait")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, box.folder], env=environment)
    try:
        wait_until(lambda: "b" in box.ran or process.poll() is not None)
        with StateManager(box.db) as state:
            (run,) = state.runs()
            assert [(each.outcome, each.process, each.ended) for each in run.executions] == [
                ("running", process.pid, None)
            ]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT)
    box.repair("b")
    subprocess.run([sys.executable, "-c", KILLED, box.folder], env=environment, check=True, timeout=TIMEOUT)
    with StateManager(box.db) as state:
        (run,) = state.runs()
    assert [(each.outcome, each.ended is None) for each in run.executions] == [
        ("interrupted", True),
        ("succeeded", False),
    ]
    assert run.executions[0].process == process.pid != run.executions[1].process
    assert [each.execution for each in run.tasks["a"].attempts] == [1]
    assert [each.execution for each in run.tasks["b"].attempts] == [2]


def test_outdated_result_stays_in_history_until_task_has_run_again(box):
    """A later execution does not use it either, although its plan is that of the execution before."""

    def pipeline(constant):
        a = Task(lambda: constant, name="a")
        b, c = box.task("b"), box.task("c")
        a >> b >> c
        return DAG("etl", tasks=[c])

    def run(constant):
        return pipeline(constant).run("serial", state=box.db, resume=True, raise_on_failure=False)

    box.inject("c", "fail")
    run(1)
    box.inject("b", "fail")
    assert run(2).outdated.keys() == {"a", "b"}
    with StateManager(box.db) as state:
        b = state.runs()[0].tasks["b"]
    assert (b.state, [each.outcome for each in b.attempts]) == ("failed", ["succeeded", "failed"])
    for name in "bc":
        box.repair(name)
    results = run(2)
    assert results.resumed == ("a",)
    with StateManager(box.db) as state:
        record = state.run(results.run_id)
    attempts = {name: [(each.execution, each.outcome) for each in task.attempts] for name, task in record.tasks.items()}
    assert attempts == {
        "a": [(1, "succeeded"), (2, "succeeded")],
        "b": [(1, "succeeded"), (2, "failed"), (3, "succeeded")],
        "c": [(1, "failed"), (3, "succeeded")],
    }


def test_forgotten_run_leaves_no_rows(box):
    results = DAG("etl", tasks=[Task(one)]).run("serial", state=box.db, params={})
    with StateManager(box.db) as state:
        state.forget(results.run_id)
    with closing(sqlite3.connect(box.db)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        counts = {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}  # noqa: S608
    assert {name: count for name, count in counts.items() if count} == {"settings": 1, "sqlite_sequence": 1}
