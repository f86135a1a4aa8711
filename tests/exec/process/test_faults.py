"""Faults of tasks and values in worker processes: each costs its own task; nothing hangs or is left behind."""

from __future__ import annotations

import array
import contextlib
import gc
import io
import itertools
import logging
import multiprocessing
import os
import random
import resource
import signal
import sys
import textwrap
import threading
import traceback
import weakref
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from urllib.error import HTTPError

import faulty_tasks
import pytest
from subprocess_harness import PROC, guarded, until

from flowkit_core import (
    DAG,
    ExecutorError,
    RemoteTaskError,
    SerializationError,
    Task,
    TaskFailed,
    TaskRetrying,
    TaskStarted,
    TaskSucceeded,
    WorkerDiedError,
)
from flowkit_exec import ProcessExecutor
from flowkit_exec.process import driver as process_driver

pytestmark = pytest.mark.slow


def run(executor, *tasks, **options):
    """Run these tasks, each with what is upstream of it."""
    return DAG("faults", tasks=tasks).run(executor, **options)


def outcome(executor, task, **options):
    """Run a task among others, which must not suffer from it; return what it raised, or its result."""
    others = [Task(faulty_tasks.ok, name=f"other_{number}") for number in range(6)]
    results = run(executor, *others[:3], task, *others[3:], fail_fast=False, raise_on_failure=False, **options)
    assert {name: value for name, value in results.items() if name != task.name} == dict.fromkeys(
        (other.name for other in others), "ok"
    )
    return results.failed.get(task.name, results.get(task.name))


def gone(pid):
    """Say whether a process has ended, whoever has to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may go between open() and read()
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def descriptors():
    """Return how many descriptors are open."""
    return len(list(Path("/dev/fd").iterdir()))


def at_rest():
    """Return the same once nothing of other tests waits for the collector of garbage, which would close it later."""
    gc.collect()
    return descriptors()


def children():
    """Return the ids of the child processes of this one, those included that nobody has waited for."""
    if not PROC.is_dir():
        pytest.skip("platform: processes are found in /proc")
    found = []
    for path in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            facts = path.read_text()
            if int(facts.rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(path.parent.name))
    return sorted(found)


def text_of(error):
    return "".join(traceback.format_exception(error))


# A worker that dies


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM", "0", "3"])
@guarded
def test_a_dying_worker_costs_its_own_task_only(executor, how):
    """The error names the task, the process and what ended it; exit code 0 is no success."""
    error = outcome(executor, Task(faulty_tasks.victim), params={"how": how})
    assert type(error) is WorkerDiedError
    number = getattr(signal, how) if how.startswith("SIG") else None
    assert (error.task, error.signal, error.exitcode) == (
        "victim",
        how if number else None,
        -number if number else int(how),
    )
    assert error.pid != os.getpid()
    assert "'victim'" in str(error)
    assert (how if number else f"code {how}") in str(error)
    assert outcome(executor, Task(faulty_tasks.pid)) != error.pid


@guarded
def test_results_that_were_sent_before_the_death_count():
    """They are read before the worker is given up."""
    before = [Task(faulty_tasks.ok, name=f"before_{number}") for number in range(50)]
    large = Task(faulty_tasks.buffer, name="large")
    after = [Task(faulty_tasks.ok, name=f"after_{number}") for number in range(50)]
    tasks = [*before, large, Task(faulty_tasks.victim), *after]
    with ProcessExecutor(max_workers=1) as executor:
        results = run(executor, *tasks, fail_fast=False, raise_on_failure=False, params={"how": "SIGKILL"})
    assert list(results.failed) == ["victim"]
    assert len(results) == 101


@guarded
def test_what_was_queued_behind_a_death_runs_once(executor, tmp_path):
    """Elsewhere, and not twice."""
    path = str(tmp_path / "tallies")
    tasks = [Task(faulty_tasks.tally, name=f"task_{number}") for number in range(40)]
    deaths = [Task(faulty_tasks.victim, name=f"victim_{number}") for number in range(3)]
    tasks[10:10], tasks[20:20], tasks[30:30] = deaths[:1], deaths[1:2], deaths[2:]
    results = run(executor, *tasks, fail_fast=False, raise_on_failure=False, params={"how": "SIGKILL", "tallies": path})
    assert set(results.failed) == {"victim_0", "victim_1", "victim_2"}
    assert len(results) == 40
    assert Path(path).stat().st_size == 40


@guarded
def test_an_idle_worker_that_dies_is_replaced(executor):
    """Silently: nobody is blamed, and the log tells who listens."""
    logger = logging.getLogger("flowkit")
    logger.addHandler(handler := Records())
    logger.setLevel(logging.INFO)
    try:
        for _ in range(3):
            handler.texts.clear()
            os.kill(worker := run(executor, Task(faulty_tasks.pid))["pid"], signal.SIGKILL)
            assert run(executor, Task(faulty_tasks.ok)) == {"ok": "ok"}
            text = f"Idle worker process {worker} was killed by SIGKILL; it is replaced when needed."
            assert handler.texts.count(text) == 1
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)


@guarded
def test_retries_apply_to_deaths(executor, tmp_path):
    """A death is one failed attempt."""
    task = Task(faulty_tasks.mortal, retries=3, delay=0)
    assert outcome(executor, task, params={"tries": str(tmp_path / "tries"), "deaths": 2}) == 3


@guarded
def test_an_endless_killer_stops_after_its_attempts(executor, tmp_path):
    """And retry_on sees the death as any other error."""
    path = tmp_path / "tries"
    task = Task(faulty_tasks.mortal, retries=2, delay=0, retry_on=WorkerDiedError)
    error = outcome(executor, task, params={"tries": str(path), "deaths": 99})
    assert error.exitcode == 9
    assert "flowkit: 3 workers have died while they ran task 'mortal'" in error.__notes__
    assert "failed after 3 attempts" in error.__notes__[-1]
    assert path.stat().st_size == 3


# The six places


@pytest.mark.parametrize("fault", ["raise", "exit", "interrupt", "mute", "SIGKILL", "0"])
@guarded
def test_a_fault_while_a_call_is_unpickled(executor, fault):
    """Or a death there: the task's own."""
    error = outcome(executor, Task(faulty_tasks.take), params={"value": faulty_tasks.Trap("unpickling", fault)})
    if fault in ("SIGKILL", "0"):
        assert type(error) is WorkerDiedError
    else:
        assert type(error) is SerializationError
        assert (error.task, error.what) == ("take", "argument")


# An exception without a text must not take more with it than any other.
SPRUNG = {"raise": "RuntimeError: sprung", "exit": "SystemExit: sprung", "mute": "NoText: <unprintable>"}


@pytest.mark.parametrize("fault", SPRUNG)
@guarded
def test_a_fault_while_a_call_is_pickled(executor, fault):
    """The error names the task and the parameter."""
    error = outcome(executor, Task(faulty_tasks.take), params={"value": faulty_tasks.Trap("pickling", fault)})
    assert type(error) is SerializationError
    assert (error.task, error.what) == ("take", "argument")
    assert "'value' is a Trap" in str(error)
    assert SPRUNG[fault] in str(error)


@pytest.mark.parametrize("fault", ["raise", "exit", "interrupt", "SIGKILL", "0"])
@guarded
def test_a_fault_while_a_task_runs(executor, fault):
    """An exit or an interrupt is the task's, and not the caller's; it ends the run all the same."""
    kinds = {"raise": RuntimeError, "exit": SystemExit, "interrupt": KeyboardInterrupt}
    try:
        run(executor, Task(faulty_tasks.run_into), params={"fault": fault})
    except BaseException as error:
        assert type(error) is kinds.get(fault, WorkerDiedError)
        assert error.flowkit_results.states == {"run_into": "failed"}
    else:
        pytest.fail("nothing was raised")
    assert run(executor, Task(faulty_tasks.ok)) == {"ok": "ok"}


@pytest.mark.parametrize("fault", ["raise", "exit", "interrupt", "mute", "SIGKILL", "0"])
@guarded
def test_a_fault_while_a_result_is_pickled(executor, fault):
    """The error names the task and the type of the result."""
    error = outcome(executor, Task(faulty_tasks.make_trap), params={"place": "pickling", "fault": fault})
    if fault in ("SIGKILL", "0"):
        assert type(error) is WorkerDiedError
    else:
        assert type(error) is SerializationError
        assert (error.task, error.what) == ("make_trap", "result")
        assert "is a Trap" in str(error)


@pytest.mark.parametrize("fault", SPRUNG)
@guarded
def test_a_fault_while_a_result_is_unpickled(executor, fault):
    """What came with it arrives, and what stands below it does not run, nor anything twice."""
    start = Task(faulty_tasks.make_trap)
    below = Task(faulty_tasks.take)
    start >> below
    error = outcome(executor, start, params={"place": "unpickling", "fault": fault})
    assert type(error) is SerializationError
    assert (error.task, error.what) == ("make_trap", "result")
    assert SPRUNG[fault] in str(error)
    results = run(executor, below, raise_on_failure=False, params={"place": "unpickling", "fault": fault})
    assert results.states == {"make_trap": "failed", "take": "upstream_failed"}


@guarded
def test_a_value_whose_type_has_no_name(executor):
    """As an argument and as a result: the error says what can be said."""
    error = outcome(executor, Task(faulty_tasks.take), params={"value": faulty_tasks.Nameless()})
    assert "'value' is a <unprintable>, which cannot be pickled (NoText: <unprintable>)" in str(error)
    error = outcome(executor, Task(faulty_tasks.make_nameless))
    assert "is a <unprintable>, which cannot be pickled (NoText: <unprintable>)" in str(error)


@guarded
def test_what_follows_a_result_that_cannot_be_unpickled_is_ended(executor):
    """It was sent along as one chain, may have begun, and would never end: nobody wants it any more."""
    bad, endless = Task(faulty_tasks.hand_over_trap), Task(faulty_tasks.endless)
    bad >> endless
    results = run(executor, endless, fail_fast=False, raise_on_failure=False)
    assert results.states == {"hand_over_trap": "failed", "endless": "upstream_failed"}
    assert outcome(executor, Task(faulty_tasks.pid)) != os.getpid()


@guarded
def test_a_result_that_cannot_be_unpickled_leaves_other_chains_alone(tmp_path):
    """Each of their tasks runs once."""
    path = tmp_path / "tallies"
    ends = []
    for number in range(20):
        start, middle, end = (
            Task(faulty_tasks.tally, name=f"{place}_{number}") for place in ("start", "middle", "end")
        )
        if number % 5 == 0:
            start = Task(faulty_tasks.make_trap, name=f"start_{number}")
        start >> middle >> end
        ends.append(end)
    with ProcessExecutor(max_workers=1) as executor:
        params = {"place": "unpickling", "fault": "raise", "tallies": str(path)}
        results = run(executor, *ends, fail_fast=False, raise_on_failure=False, params=params)
    assert sorted(results.failed) == ["start_0", "start_10", "start_15", "start_5"]
    assert len(results) == 16 * 3
    assert path.stat().st_size >= 16 * 3
    assert max(value for name, value in results.items()) == path.stat().st_size


@pytest.mark.parametrize("fault", ["crash", "hang"])
@guarded
def test_what_hangs_or_crashes_at_the_end_of_a_worker(fault):
    """Handlers at exit, destructors and threads of a task do not hold up close()."""
    with ProcessExecutor(max_workers=1) as executor:
        assert run(executor, Task(faulty_tasks.leave_relic), params={"fault": fault}) == {"leave_relic": fault}
        worker = run(executor, Task(faulty_tasks.pid))["pid"]
    assert gone(worker)


# Exceptions


@pytest.mark.parametrize(
    ("kind", "args", "expected"),
    [
        ("TwoArguments", (7, "boom"), ("7: boom",)),
        ("OwnMessage", ("it",), ("no such thing: it",)),
        ("OwnReduce", (1, 2), (1, 2)),
        ("Holder", ("held",), ("held",)),
        ("NoText", (1,), (1,)),
        ("ExitText", (1,), (1,)),
        ("NoAttributes", ("x", 1), ("x", 1)),
        ("NoState", ("x",), ("x",)),
        ("NoReduce", ("x",), ("x",)),
        ("OddText", ("x",), ("x",)),
    ],
)
@guarded
def test_an_odd_exception_comes_back_as_itself(executor, kind, args, expected):
    """Its type, its arguments, its attributes and its notes."""
    error = outcome(executor, Task(faulty_tasks.raise_it), params={"kind": kind, "args": args})
    assert type(error) is getattr(faulty_tasks, kind)
    assert error.args == expected
    if kind == "TwoArguments":
        assert error.code == 7
    if kind == "OwnMessage":
        assert error.name == "it"
    if kind == "OwnReduce":
        assert "a note of the user" in error.__notes__
    if kind == "Holder":
        assert error.number == 7
        assert "lock" in error.__notes__[0]
    if kind not in ("NoText", "ExitText"):
        assert "faulty_tasks.py" in text_of(error)


@pytest.mark.parametrize(
    ("task", "params"),
    [
        (faulty_tasks.raise_local, {}),
        (faulty_tasks.raise_it, {"kind": "NoName", "args": ("x",)}),
        (faulty_tasks.raise_it, {"kind": "Exotic", "args": None}),
    ],
    ids=["local", "no name", "exotic"],
)
@guarded
def test_an_exception_that_cannot_come_back_has_a_stand_in(executor, task, params):
    """Of the original's type where that can be, with its text and traceback."""
    if "args" in params:
        params = params | {"args": params["args"] or (os.getpid(),)}
    error = outcome(executor, Task(task), params=params)
    assert isinstance(error, RemoteTaskError)
    assert error.task == task.__name__
    if task is faulty_tasks.raise_local:
        assert isinstance(error, ValueError)
        assert (error.type_name, error.text) == ("faulty_tasks.raise_local.<locals>.Local", "from a function")
        assert 'raise Local("from a function")' in error.traceback_text


@guarded
def test_a_stand_in_is_caught_by_what_is_above_the_original(executor, tmp_path):
    """By except and by retry_on, as in threads: by the nearest class that can be imported and is an exception."""
    params = {"path": str(tmp_path / "tries"), "failures": 2}
    task = Task(faulty_tasks.raise_local_until, retries=2, delay=0, retry_on=ValueError)
    assert outcome(executor, task, params=params) == 3
    params["path"] += "_not"
    error = outcome(executor, task.with_options(retry_on=KeyError), params=params)
    assert isinstance(error, ValueError)
    assert Path(params["path"]).stat().st_size == 1
    error = outcome(executor, Task(faulty_tasks.raise_local_mixed))
    assert isinstance(error, RemoteTaskError)
    assert isinstance(error, faulty_tasks.OwnMessage)
    assert not isinstance(error, faulty_tasks.Point)


@guarded
def test_an_exception_with_slots(executor):
    """What is in them arrives, or a note says that it could not."""
    error = outcome(executor, Task(faulty_tasks.raise_slotted), params={"locked": False})
    assert type(error) is faulty_tasks.Slotted
    assert (error.args, error.code, error.private(), error.note) == (("slotted",), 9, 8, "in the dict")
    assert not hasattr(error, "unset")
    assert not any("not sent from the worker" in note for note in error.__notes__)
    error = outcome(executor, Task(faulty_tasks.raise_slotted), params={"locked": True})
    assert (error.args, error.code, error.private(), error.note) == (("slotted",), 9, 8, "in the dict")
    assert error.lock is None
    assert "not sent from the worker process, because it cannot be pickled: lock" in error.__notes__[0]


@guarded
def test_an_exception_whose_pickling_ends_the_process(executor):
    """Costs that task."""
    error = outcome(executor, Task(faulty_tasks.raise_it), params={"kind": "Dying", "args": ("x",)})
    assert (type(error), error.exitcode) == (WorkerDiedError, 5)


@guarded
def test_an_exception_that_counts_on_what_cannot_travel(executor):
    """As the HTTPError of the standard library: it can be shown, asked, and judged by retry_on."""
    task = Task(faulty_tasks.raise_http, retries=2, delay=0, retry_on=lambda error: error.code >= 500)
    results = run(executor, task, raise_on_failure=False)
    error = results.failed["raise_http"]
    assert type(error) is HTTPError
    assert (error.code, error.url, error.reason, hasattr(error, "nothing")) == (503, "http://localhost", "busy", False)
    assert results.attempts == {"raise_http": 3}
    assert "HTTP Error 503: busy\nflowkit: not sent from the worker process, because it cannot be pickled: " in text_of(
        error
    )


@guarded
def test_what_of_an_exception_cannot_travel_is_told(executor):
    """The rest arrives."""
    error = outcome(executor, Task(faulty_tasks.raise_locked))
    assert type(error) is ValueError
    assert error.args[0] == "locked"
    assert "lock" in error.args[1]
    assert "args[1]" in error.__notes__[0]


@guarded
def test_causes_and_contexts_come_back(executor):
    """As exceptions, not only as text."""
    error = outcome(executor, Task(faulty_tasks.raise_chain))
    assert type(error) is TypeError
    assert type(error.__context__) is faulty_tasks.OwnMessage
    assert type(error.__context__.__cause__) is KeyError
    circle = outcome(executor, Task(faulty_tasks.raise_circle))
    assert (type(circle), circle.args) == (ValueError, ("one",))


@guarded
def test_the_members_of_a_group(executor):
    """Come back as any exception does: as themselves, with notes and causes; or with a stand-in."""
    error = outcome(executor, Task(faulty_tasks.raise_group))
    assert (type(error), error.message) == (ExceptionGroup, "several")
    odd, plain, (local,) = *error.exceptions[:2], error.exceptions[2].exceptions
    assert (type(odd), str(odd), odd.code) == (faulty_tasks.TwoArguments, "7: odd", 7)
    assert (type(plain), str(plain)) == (ValueError, "plain")
    assert [type(member.__cause__) for member in (odd, plain)] == [KeyError, KeyError]
    assert [member.__notes__ for member in (odd, plain)] == [["a note on TwoArguments"], ["a note on ValueError"]]
    assert isinstance(local, RemoteTaskError)
    assert isinstance(local, LookupError)
    assert (local.task, local.text) == ("raise_group", "local")
    assert "faulty_tasks.py" in str(error.__cause__)


@guarded
def test_a_long_message(executor):
    """It arrives whole."""
    error = outcome(executor, Task(faulty_tasks.raise_long))
    assert type(error) is ValueError
    assert len(str(error)) == 20_000_000


@guarded
def test_a_condition_that_leaves(executor):
    """SystemExit out of when= is the task's failure."""
    with pytest.raises(SystemExit):
        run(executor, Task(faulty_tasks.ok, when=lambda: sys.exit(3)))


# Values


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(1 << 9000),
        1.5,
        "text",
        "x" * 100_000,
        b"x",
        bytes(100_000),
        bytearray(100_000),
        array.array("d", range(20_000)),
        (1, [2, {3: {4}}]),
        range(5),
        Ellipsis,
        faulty_tasks.Color.RED,
        faulty_tasks.Point(1, 2),
        int,
        faulty_tasks.Point,
        len,
    ],
    ids=lambda value: type(value).__name__,
)
@guarded
def test_a_value_comes_back_as_it_went(executor, value):
    """Equal and of its own type, small or large."""
    found = run(executor, Task(faulty_tasks.echo), params={"value": value})["echo"]
    assert type(found) is type(value)
    assert found == value


@guarded
def test_large_values_both_ways_at_once(executor):
    """More than any pipe holds, to and from two workers that are both sending."""
    tasks = [Task(faulty_tasks.double, name=f"task_{number}") for number in range(4)]
    data = bytes(range(256)) * 40_000
    results = run(executor, *tasks, params={"data": data})
    assert all(value == data + data for value in results.values())


class Known:
    """A cache that knows one result."""

    def __init__(self, value):
        self.value = value

    def over(self, _state):
        return self

    def find(self, *_args, **_options):
        return SimpleNamespace(known=True, value=self.value, why="known", token=None)

    def keep(self, _token, _value):
        raise NotImplementedError


@pytest.mark.parametrize("task", [faulty_tasks.size, faulty_tasks.size_of])
@guarded
def test_a_large_value_of_the_caller_is_pickled_once(executor, task):
    """However many tasks it goes to, by position or by name: they find it in shared memory."""
    pickled = []
    for count in (2, 40):
        faulty_tasks.Counted.pickled = 0
        tasks = [Task(task, name=f"task_{number}") for number in range(count)]
        value = faulty_tasks.Counted()
        if task is faulty_tasks.size:
            Task(faulty_tasks.ok, cache=Known(value)) >> tasks
        results = run(executor, *tasks, params={} if task is faulty_tasks.size else {"value": value})
        assert {results[task.name] for task in tasks} == {faulty_tasks.LARGE}
        pickled.append(faulty_tasks.Counted.pickled)
    assert pickled[0] == pickled[1] <= 3


@guarded
def test_a_shared_value_is_each_tasks_own(executor):
    """What one changes, no other sees."""
    start = Task(faulty_tasks.buffer)
    tasks = [Task(faulty_tasks.spoil, name=f"task_{number}") for number in range(40)]
    start >> tasks
    results = run(executor, *tasks)
    assert [results[task.name] for task in tasks] == [1] * 40
    assert bytes(results["buffer"].data) == b"\1" * faulty_tasks.LARGE


@guarded
def test_the_same_large_value_twice(executor):
    """In one call: it is put into shared memory once, and nothing of it stays open."""
    value = faulty_tasks.Counted()
    params = {"large": value, "same": value, "small": faulty_tasks.Counted(1)}
    run(executor, Task(faulty_tasks.ok))
    before = at_rest()
    assert run(executor, Task(faulty_tasks.sizes), params=params) == {
        "sizes": [faulty_tasks.LARGE, faulty_tasks.LARGE, 1]
    }
    assert descriptors() == before


@pytest.mark.parametrize("count", [70, 300])
@guarded
def test_many_large_values_into_one(executor, count):
    """More than descriptors fit into a message."""
    sources, end = (
        [Task(faulty_tasks.buffer, name=f"buffer_{number}") for number in range(count)],
        Task(faulty_tasks.total),
    )
    sources >> end
    assert run(executor, end)["total"] == count


@guarded
def test_many_large_values_and_few_descriptors(executor):
    """All arrive, and all are kept."""
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, old[1]))
    try:
        sources, end = (
            [Task(faulty_tasks.buffer, name=f"buffer_{number}") for number in range(200)],
            Task(faulty_tasks.total),
        )
        sources >> end
        results = run(executor, end)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    assert results["total"] == 200
    assert all(len(value.data) == faulty_tasks.LARGE for name, value in results.items() if name != "total")


@pytest.mark.skipif(sys.platform != "linux", reason="platform: limits mean other things elsewhere")
@pytest.mark.parametrize(("name", "soft"), [("RLIMIT_FSIZE", 1), ("RLIMIT_NOFILE", 0), ("RLIMIT_AS", 1 << 30)])
@guarded
def test_resources_that_are_short_in_a_worker(name, soft):
    """A large result takes another way; a MemoryError is the task's."""
    with ProcessExecutor(max_workers=1) as executor:
        result = outcome(executor, Task(faulty_tasks.limited), params={"name": name, "soft": soft})
    assert type(result) is MemoryError if name == "RLIMIT_AS" else result == bytes(faulty_tasks.LARGE)


# Manners


@guarded
def test_a_task_that_closes_the_streams(executor):
    """The worker goes on."""
    assert outcome(executor, Task(faulty_tasks.close_streams)) == "closed"


@guarded
def test_a_task_that_closes_all_descriptors(executor):
    """Its worker has lost the run, so that is the end of it."""
    assert type(outcome(executor, Task(faulty_tasks.close_descriptors))) is WorkerDiedError
    assert run(executor, Task(faulty_tasks.ok)) == {"ok": "ok"}


@guarded
def test_a_task_that_moves(tmp_path):
    """Folder, environment and signal handlers are its worker's alone; that it ignores SIGTERM does not save it."""
    here = Path.cwd()
    with ProcessExecutor(max_workers=1) as executor:
        worker = outcome(executor, Task(faulty_tasks.move), params={"folder": str(tmp_path)})
    assert gone(worker)
    assert Path.cwd() == here
    assert "FLOWKIT_TEST_MOVED" not in os.environ
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@guarded
def test_a_warm_worker_is_where_the_caller_is(tmp_path):
    """Whatever a task has changed: the next of the same run shares that, the next run does not."""
    first, second = Task(faulty_tasks.move_away), Task(faulty_tasks.is_moved)
    first >> second
    here = Path.cwd()
    with ProcessExecutor(max_workers=1) as executor:
        before = run(executor, Task(faulty_tasks.surroundings))["surroundings"]
        results = run(executor, second, params={"path": str(tmp_path / "gone")})
        assert results["is_moved"] == "1"
        assert run(executor, Task(faulty_tasks.surroundings))["surroundings"] == before
        assert before == (str(here), {**os.environ, "FLOWKIT_DEPTH": "1"}, sys.path, sys.argv)
        try:
            os.chdir(tmp_path)
            os.environ["FLOWKIT_TEST_HERE"] = "1"
            sys.argv.append("more")
            found = run(executor, Task(faulty_tasks.surroundings))["surroundings"]
            assert found == (str(Path.cwd()), {**os.environ, "FLOWKIT_DEPTH": "1"}, sys.path, sys.argv)
        finally:
            os.chdir(here)
            del os.environ["FLOWKIT_TEST_HERE"], sys.argv[-1]
        assert run(executor, Task(faulty_tasks.pid))["pid"] == results["move_away"]


@guarded
def test_a_folder_that_a_worker_cannot_enter(tmp_path):
    """Because its path is too long for the system: one error, and nothing runs elsewhere."""
    here, ran = Path.cwd(), tmp_path / "ran"
    params = {"tallies": str(ran)}
    with ProcessExecutor(max_workers=1) as executor:
        run(executor, Task(faulty_tasks.ok))
        try:
            os.chdir(tmp_path)
            while len(str(Path.cwd())) <= os.pathconf("/", "PC_PATH_MAX"):
                Path("x" * 200).mkdir()
                os.chdir("x" * 200)
            with pytest.raises(ExecutorError, match="cannot enter the current folder"):
                run(executor, Task(faulty_tasks.tally), params=params)
            assert not ran.exists()
        finally:
            os.chdir(here)
        assert run(executor, Task(faulty_tasks.ok)) == {"ok": "ok"}


@guarded
def test_a_folder_that_was_removed(executor, tmp_path):
    """No worker can get there: one error, and nothing runs elsewhere."""
    here, folder, ran = Path.cwd(), tmp_path / "folder", tmp_path / "ran"
    folder.mkdir()
    run(executor, Task(faulty_tasks.ok))
    try:
        os.chdir(folder)
        folder.rmdir()
        with pytest.raises(ExecutorError, match="folder of this process was removed"):
            run(executor, Task(faulty_tasks.tally), params={"tallies": str(ran)})
        assert not ran.exists()
    finally:
        os.chdir(here)


@guarded
def test_a_task_that_prints_megabytes():
    """Nothing waits for anybody."""
    sys.stdout.flush()
    keep = [os.dup(1), os.dup(2)]
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            with ProcessExecutor(max_workers=2) as fresh:
                assert outcome(fresh, Task(faulty_tasks.shout)) == "shouted"
        finally:
            os.dup2(keep[0], 1)
            os.dup2(keep[1], 2)


@guarded
def test_endless_recursion(executor):
    """RecursionError, and the worker goes on."""
    assert type(outcome(executor, Task(faulty_tasks.recurse))) is RecursionError


@pytest.mark.parametrize(("task", "code"), [(faulty_tasks.fork_and_return, 0), (faulty_tasks.fork_and_exit, 3)])
@guarded
def test_a_task_that_forks(executor, task, code):
    """The copy does not speak for the task."""
    assert outcome(executor, Task(task)) == code


@pytest.mark.parametrize("method", ["fork", "spawn"])
@guarded
def test_a_task_with_a_pool_of_its_own(executor, method):
    """Workers are not daemonic."""
    assert outcome(executor, Task(faulty_tasks.pool), params={"method": method}) == [1, 2]


@pytest.mark.parametrize("how", ["live", "SIGKILL", "0"])
@guarded
def test_what_a_task_has_started_ends_with_its_worker(tmp_path, how):
    """Whether that leaves, or dies."""
    path = tmp_path / "pid"
    with ProcessExecutor(max_workers=1) as executor:
        outcome(executor, Task(faulty_tasks.leave_child), params={"path": str(path), "how": how})
    pid = int(path.read_text())
    until(lambda: gone(pid))


@guarded
def test_nested_runs(executor):
    """Each level has workers of its own, up to a depth."""
    pids = outcome(executor, Task(faulty_tasks.nested), params={"levels": 2})
    assert len(set(pids)) == 3
    os.environ["FLOWKIT_DEPTH"] = "8"
    try:
        with ProcessExecutor(max_workers=1) as deep, pytest.raises(ExecutorError, match="10 deep"):
            run(deep, Task(faulty_tasks.nested), params={"levels": 2})
    finally:
        del os.environ["FLOWKIT_DEPTH"]


@guarded
def test_a_handler_that_logs_while_the_worker_sends(executor):
    """No deadlock."""
    logger = logging.getLogger("flowkit")
    logger.addHandler(handler := Records())
    try:
        error = outcome(executor, Task(faulty_tasks.log_while_sending))
    finally:
        logger.removeHandler(handler)
    assert type(error) is ValueError


@guarded
def test_falsy_callables_and_methods(executor):
    """Functions of all kinds get to a worker, also beside a second thread, where no fork helps."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        tasks = [
            Task(faulty_tasks.Empty(), name="callable"),
            Task(faulty_tasks.Empty().method, name="method"),
            Task(faulty_tasks.Empty.of_class, name="of_class"),
        ]
        assert run(executor, *tasks) == {"callable": "called", "method": "method", "of_class": "Empty"}
    finally:
        stop.set()
        thread.join()


@guarded
def test_a_function_that_no_worker_can_have(executor):
    """One error before anything runs: the task, the reason, the way out."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)  # no fork beside it
    thread.start()
    try:
        sys.modules["cloudpickle"] = None
        for function, words in (
            (lambda: 1, "is a lambda"),
            (
                partial(faulty_tasks.ok, faulty_tasks.Trap("pickling", "mute")),
                "that cannot be pickled (NoText: <unprintable>)",
            ),
        ):
            with pytest.raises(SerializationError) as caught:
                run(executor, Task(faulty_tasks.ok), Task(function, name="local"))
            assert (caught.value.task, caught.value.what) == ("local", "function")
            assert words in str(caught.value)
            assert "executor='thread'" in str(caught.value)
            assert caught.value.flowkit_results == {}
    finally:
        del sys.modules["cloudpickle"]
        stop.set()
        thread.join()


# Logs, contexts, observers


class Records(logging.Handler):
    """Keeps what arrives."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


@pytest.mark.parametrize("name", ["", "flowkit", "app", "app.part"])
@guarded
def test_a_log_record_arrives_once(executor, name):
    """At the handlers of the process that runs the pipeline, by its levels, whichever logger they are on."""
    logger = logging.getLogger(name or None)
    logger.addHandler(handler := Records())
    old = logger.level
    logger.setLevel(logging.INFO)
    spoken = "app.part" if name.startswith("app") else name
    try:
        tasks = [Task(faulty_tasks.speak, name=f"speak_{number}") for number in range(3)]
        run(executor, *tasks, params={"name": spoken, "level": logging.INFO, "text": "hello"})
        run(executor, *tasks, params={"name": spoken, "level": logging.DEBUG, "text": "quiet"})
    finally:
        logger.setLevel(old)
        logger.removeHandler(handler)
    assert handler.texts.count("hello") == 3
    assert handler.texts.count("quiet") == 0


@guarded
def test_a_log_handler_that_fails(executor):
    """Is warned of, and costs nobody anything."""
    logger = logging.getLogger("app")
    logger.addHandler(handler := Records())
    handler.emit = lambda record: 1 / 0
    try:
        with pytest.warns(RuntimeWarning, match="a log handler failed: ZeroDivisionError"):
            assert outcome(
                executor, Task(faulty_tasks.speak), params={"name": "app", "level": logging.ERROR, "text": "hello"}
            )
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("place", ["pickling", "unpickling"])
@guarded
def test_a_log_record_with_a_value_that_cannot_travel(executor, place):
    """Arrives without it, or costs only itself."""
    logger = logging.getLogger("app")
    logger.addHandler(handler := Records())
    try:
        for fault in ("raise", "exit", "mute"):
            assert (
                outcome(executor, Task(faulty_tasks.speak_of_a_trap), params={"place": place, "fault": fault})
                == "spoke"
            )
    finally:
        logger.removeHandler(handler)
    assert handler.texts == (["hello"] * 3 if place == "pickling" else [])


setting: ContextVar[str] = ContextVar("setting", default="unset")


@guarded
def test_conditions_and_retry_on_are_judged_by_the_caller(executor, tmp_path):
    """Lambdas, with the caller's context, and with the exception itself."""
    setting.set("set")
    start = Task(faulty_tasks.ok)
    yes = Task(faulty_tasks.pid, name="yes", when=lambda value: value == "ok" and setting.get() == "set")
    no = Task(faulty_tasks.pid, name="no", when=lambda: setting.get() == "unset")
    again = Task(faulty_tasks.count_before, retries=5, delay=0, retry_on=lambda error: error.code < 3)
    start >> yes
    params = {"path": str(tmp_path / "tries"), "fails": 9}
    results = run(executor, yes, no, again, fail_fast=False, raise_on_failure=False, params=params)
    assert results.states == {"ok": "succeeded", "yes": "succeeded", "no": "skipped", "count_before": "failed"}
    assert results.failed["count_before"].code == 3


@guarded
def test_observers_hear_of_deaths_and_retries(executor, tmp_path):
    """In order, with the attempt."""
    heard = []
    task = Task(faulty_tasks.mortal, retries=1, delay=0)
    params = {"tries": str(tmp_path / "tries"), "deaths": 9}
    run(executor, task, raise_on_failure=False, params=params, observers=[heard.append])
    kinds = [
        type(event) for event in heard if isinstance(event, (TaskStarted, TaskRetrying, TaskFailed, TaskSucceeded))
    ]
    assert kinds == [TaskStarted, TaskRetrying, TaskStarted, TaskFailed]


# Sharing and stopping


@guarded
def test_uneven_tasks_are_shared_out(executor, tmp_path):
    """An idle worker takes what another has been given and has not begun: else this one would wait for ever."""
    path = str(tmp_path / "tallies")
    pace = [Task(faulty_tasks.ok, name=f"pace_{number}") for number in range(100)]
    last = Task(faulty_tasks.wait_for_others)
    others = [Task(faulty_tasks.tally, name=f"tally_{number}") for number in range(60)]
    pace >> last
    for other in others:
        pace >> other
    results = run(executor, last, *others, params={"tallies": path, "others": 60})
    assert results["wait_for_others"] == "last"


@guarded
def test_tasks_run_at_once_after_any_number_of_trivial_ones(executor, tmp_path):
    """Although trivial ones are best left to one worker: each of these would wait for ever behind the other."""
    last = Task(faulty_tasks.ok, name="start")
    for layer in range(12):
        before, last = last, Task(faulty_tasks.ok, name=f"end_{layer}")
        for number in range(30):
            before >> Task(faulty_tasks.ok, name=f"trivial_{layer}_{number}") >> last
    meeting = [Task(faulty_tasks.meet, name=f"meet_{number}") for number in range(2)]
    last >> meeting
    assert run(executor, *meeting, params={"path": str(tmp_path / "met")})["meet_1"] is None


@guarded
def test_the_longest_roads_begin_first(executor, tmp_path):
    """Also when nothing is known yet of how long tasks take."""
    path = tmp_path / "met"
    tasks = [Task(partial(faulty_tasks.meet, mark="s"), name=f"short_{number}") for number in range(20)]
    for number in (6, 13):
        tasks[number] = Task(partial(faulty_tasks.meet, mark="L"), name=f"long_{number}")
        tasks[number] >> Task(faulty_tasks.ok, name=f"end_{number}")
    run(executor, *tasks, *(after for task in tasks for after in task.downstream), params={"path": str(path)})
    assert path.read_text()[:2] == "LL"


@guarded
def test_a_failure_ends_what_else_runs(executor, tmp_path):
    """Before run() raises: its process is gone by then; the next run works."""
    path = str(tmp_path / "started")
    with pytest.raises(ValueError, match="failed"):
        run(executor, Task(faulty_tasks.sleep_for_ever), Task(faulty_tasks.fail_when), params={"started": path})
    assert gone(int(Path(f"{path}.pid").read_text()))
    assert run(executor, Task(faulty_tasks.ok)) == {"ok": "ok"}


@guarded
def test_clean_up_has_all_the_time_it_needs(executor, tmp_path):
    """More than running tasks have, which it does not save."""
    path = str(tmp_path / "started")
    pace = [Task(faulty_tasks.ok, name=f"pace_{number}") for number in range(100)]
    endless, broken = Task(faulty_tasks.sleep_for_ever), Task(faulty_tasks.fail_when)
    clean = [Task(faulty_tasks.slow_clean_up, name=f"clean_{number}", trigger="all_done") for number in range(2)]
    pace >> endless
    pace >> broken
    broken >> clean
    with pytest.raises(ValueError, match="failed") as caught:
        run(executor, endless, *clean, params={"started": path})
    states = caught.value.flowkit_results.states
    assert (states["sleep_for_ever"], states["clean_0"], states["clean_1"]) == ("cancelled", "succeeded", "succeeded")


@guarded
def test_a_retry_far_away_is_no_overflow(executor):
    """Its delay is waited for in pieces, and a failure elsewhere ends the wait."""
    far = Task(faulty_tasks.victim, name="far", retries=1, delay=1e8, max_delay=1e9)
    broken = Task(faulty_tasks.run_into, retries=1, delay=0.01)
    with pytest.raises(RuntimeError, match="sprung"):
        run(executor, far, broken, params={"how": "3", "fault": "raise"})


# Executors


@guarded
def test_fifty_runs_leave_nothing_open():
    """No descriptor, no thread, no process, whether they succeed or not; nor what lay in shared memory at a death."""
    before = None
    gc.collect()  # what other tests have left would be closed in between
    for number in range(50):
        source = Task(faulty_tasks.buffer)
        ends = [Task(faulty_tasks.total), Task(partial(faulty_tasks.end_with, deadly=number % 5 == 4), name="end")]
        source >> ends
        with ProcessExecutor(max_workers=1) as executor:
            results = run(executor, *ends, raise_on_failure=False, params={"large": faulty_tasks.Counted()})
            assert list(results.failed) == (["end"] if number % 5 == 4 else [])
            del results
        if before is None:
            before = descriptors(), threading.active_count(), children()
    assert (descriptors(), threading.active_count(), children()) == before


@guarded
def test_a_warm_executor_forgets_what_went_by_value(executor):
    """A callable object and its data live for one run, here and in the workers."""
    seen = []

    def call_by_value(number):
        call = partial(faulty_tasks.echo, faulty_tasks.Point(number, 0))
        seen.append(weakref.ref(call))
        assert run(executor, Task(call, name="call"))["call"] == faulty_tasks.Point(number, 0)

    for number in range(3):
        call_by_value(number)
    gc.collect()
    assert [ref() for ref in seen] == [None] * 3


@guarded
def test_a_large_result_that_is_an_object_of_ours(executor):
    """Unpickling gives the same object each time: only one of its segments is kept, and none after the run."""
    run(executor, *[Task(faulty_tasks.ok, name=f"ok_{number}") for number in range(9)])  # so that its workers are there
    before = at_rest()
    makers = [Task(faulty_tasks.flyweight, name=f"maker_{number}") for number in range(8)]
    use = Task(faulty_tasks.count_arguments, name="use", when=lambda *all_: len(set(map(id, all_))) == 1)
    makers >> use
    assert run(executor, use)["use"] == 8
    assert descriptors() == before


@guarded
def test_large_results_are_not_handed_on_to_other_programs(executor):
    """Their descriptors are closed in what this process starts."""
    inheritable = []

    def look(_value):
        inheritable.extend(number for number in range(3, 256) if _inheritable(number))
        return True

    large, use = Task(faulty_tasks.large), Task(faulty_tasks.ok, when=look)
    large >> use
    already = [number for number in range(3, 256) if _inheritable(number)]
    assert run(executor, use)["ok"] == "ok"
    assert set(inheritable) <= set(already)


def _inheritable(number):
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


@guarded
def test_a_task_that_logs_all_the_time_keeps_no_other_waiting(executor, tmp_path):
    """What waits behind it goes to the idle worker, although there is always news."""
    path = str(tmp_path / "tally")
    first = Task(faulty_tasks.ok, name="first")
    chatty = Task(faulty_tasks.log_until, name="chatty")
    quick = [Task(faulty_tasks.tally, name=f"quick_{number}") for number in range(40)]
    first >> [chatty, *quick]
    logger = logging.getLogger("faulty_tasks")
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    logger.setLevel(logging.INFO)
    results = run(executor, chatty, *quick, params={"path": path, "tallies": path, "size": 40})
    assert results["chatty"] == "heard"


@guarded
def test_where_no_more_workers_can_start_the_run_makes_do(executor):
    """With those that there are."""
    real, started = process_driver.WorkerHandle, []

    def scarce(functions=None):
        if started:
            raise ExecutorError("no worker process could be started (Too many open files): use fewer max_workers")
        started.append(real(functions))
        return started[-1]

    process_driver.WorkerHandle = scarce
    try:
        with ProcessExecutor(4) as own:
            results = run(own, *[Task(faulty_tasks.pid, name=f"pid_{number}") for number in range(8)])
    finally:
        process_driver.WorkerHandle = real
    assert len(set(results.values())) == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError, ConnectionError])
@guarded
def test_what_the_handler_of_a_signal_raises_while_workers_start(kind):
    """Comes out of run() as it is, also where it looks like an error of the system; and nothing is left behind."""
    armed, fired, lost = False, [], []

    def handle(_number, _frame):
        if armed:
            fired.append(kind("enough"))
            raise fired[-1]

    dag = DAG("started", tasks=[Task(faulty_tasks.ok, name=name) for name in "ab"], max_workers=2)
    with ProcessExecutor(2) as own:
        began = monotonic()
        dag.run(own)
        usual = monotonic() - began  # most of which it takes to start the workers
    before, old = (at_rest(), children()), signal.signal(signal.SIGALRM, handle)
    hook, sys.unraisablehook = sys.unraisablehook, lost.append  # where Python cleans up, what is raised is lost
    chosen = random.Random(0)
    try:
        for _ in range(30):
            fired.clear()
            lost.clear()
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, chosen.uniform(1e-4, usual))
                with ProcessExecutor(2) as own:
                    results = dag.run(own)
                armed = False
            except kind as error:
                assert error is fired[0]
            else:
                assert results == {"a": "ok", "b": "ok"}
                assert len(fired) == len(lost)
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, old)
        sys.unraisablehook = hook
    fired.clear()  # whose tracebacks hold what was at hand
    lost.clear()
    own = None  # an executor whose close() was interrupted keeps its workers as long as somebody keeps it
    until(lambda: at_rest() <= before[0] and set(children()) <= set(before[1]))


def test_a_run_right_after_one_that_failed(executor):
    """Warm workers may be handing back calls of the one when those of the other arrive: none is made twice for that."""
    chain = [Task(faulty_tasks.ok, name=f"ok_{number}") for number in range(4)]
    for one, after in itertools.pairwise(chain):
        one >> after
    last = Task(faulty_tasks.fail)
    chain[-1] >> last
    dag, states = DAG("chain", tasks=[last]), {task.name: "succeeded" for task in chain} | {"fail": "failed"}
    for _ in range(300):
        assert dag.run(executor, raise_on_failure=False).states == states


@pytest.mark.parametrize("entries", [2_000, 200_000])
@guarded
def test_a_long_import_path(entries):
    """Build systems make paths of thousands of entries; where it is too long for the system, the error says so."""
    path = sys.path[:]
    sys.path += [f"/nowhere/external/site-packages/packages_of_the_\N{SNOWMAN}/number_{n}" for n in range(entries)]
    try:
        with ProcessExecutor(max_workers=1) as executor:
            if entries < 10_000:
                assert run(executor, Task(faulty_tasks.ok)) == {"ok": "ok"}
            else:
                with pytest.raises(ExecutorError, match=r"make the import path \(sys.path\)"):
                    run(executor, Task(faulty_tasks.ok))
    finally:
        sys.path[:] = path


@guarded
def test_a_frozen_application_says_so():
    """Its own program is no Python that workers could be started with."""
    sys.frozen = True
    try:
        with pytest.raises(ExecutorError, match="use executor='thread'"), ProcessExecutor(1) as own:
            run(own, Task(faulty_tasks.ok))
    finally:
        del sys.frozen


@guarded
def test_a_closed_executor_says_so():
    """And closing it twice is fine."""
    executor = ProcessExecutor(max_workers=1)
    executor.close()
    executor.close()
    with pytest.raises(ExecutorError, match="closed"):
        run(executor, Task(faulty_tasks.ok))


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false", "", None])
@guarded
def test_workers_that_cannot_start(program):
    """One error, soon."""
    python, sys.executable = sys.executable, program
    try:
        with ProcessExecutor(max_workers=2) as executor, pytest.raises(ExecutorError, match="worker"):
            run(executor, Task(faulty_tasks.ok))
    finally:
        sys.executable = python
    assert run("process", Task(faulty_tasks.ok)) == {"ok": "ok"}


@pytest.mark.parametrize("silent", [1, 99])
@guarded
def test_workers_that_never_come_to_life(tmp_path, silent):
    """Are ended after a time, and replaced; after some in a row there is one error. Nothing is left open."""
    python, infancy, real, before = (
        sys.executable,
        process_driver.STARTUP_TIMEOUT,
        process_driver.WorkerHandle,
        (at_rest(), children()),
    )
    starts, program, made = tmp_path / "starts", tmp_path / "python", []
    starts.touch()
    program.write_text(
        f"#!/bin/sh\nprintf . >>{starts}\n"
        f'if [ $(wc -c <{starts}) -le {silent} ]; then exec sleep 3600; fi\nexec {python} "$@"\n'
    )
    program.chmod(0o755)

    def watched(functions=None):  # however slow the machine is: a silent one has begun, and no other is hurried
        child = real(functions)
        made.append(child.pid)
        until(lambda: starts.stat().st_size == len(made))
        process_driver.STARTUP_TIMEOUT = 0.1 if len(made) <= silent else infancy
        return child

    sys.executable, process_driver.WorkerHandle = str(program), watched
    try:
        with ProcessExecutor(max_workers=1) as executor:
            if silent == 1:
                assert run(executor, Task(faulty_tasks.ok)) == {"ok": "ok"}
            else:
                with pytest.raises(
                    ExecutorError, match=r"failed to start; the last one did not respond within 0.1 s and was killed"
                ):
                    run(executor, Task(faulty_tasks.ok))
                assert starts.stat().st_size == process_driver.MAX_FAILED_STARTS
    finally:
        sys.executable, process_driver.STARTUP_TIMEOUT, process_driver.WorkerHandle = python, infancy, real
    assert (descriptors(), children()) == before


@guarded
def test_no_descriptors_for_a_worker():
    """The error says so, and what was opened for it is closed."""
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = at_rest()
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 4, old[1]))
    try:
        with ProcessExecutor(max_workers=1) as executor, pytest.raises(ExecutorError, match="Too many open files"):
            run(executor, Task(faulty_tasks.ok))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    assert descriptors() == before


@guarded
def test_more_descriptors_than_select_takes():
    """A server may have thousands open."""
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (old[1] if old[1] != resource.RLIM_INFINITY else 4096, old[1]))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with ProcessExecutor(max_workers=2) as executor:
            assert type(outcome(executor, Task(faulty_tasks.victim), params={"how": "SIGKILL"})) is WorkerDiedError
            assert len(run(executor, Task(faulty_tasks.buffer))["buffer"].data) == faulty_tasks.LARGE
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, old)


@guarded
def test_a_fork_of_the_process_has_no_workers_yet(executor):
    """It starts its own, and the parent's stay the parent's."""
    worker = run(executor, Task(faulty_tasks.pid))["pid"]
    child = os.fork()
    if not child:
        code = 1
        try:
            code = run(executor, Task(faulty_tasks.pid))["pid"] == worker
            executor.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not gone(worker)
    assert run(executor, Task(faulty_tasks.ok)) == {"ok": "ok"}


@guarded
def test_a_daemonic_process_of_multiprocessing():
    """May run pipelines: workers are not processes of multiprocessing."""
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=faulty_tasks.in_a_daemon, args=(theirs,), daemon=True)
    process.start()
    assert mine.recv() == "ok"
    process.join()


@guarded
def test_children_that_the_user_does_not_want_to_wait_for(tmp_path):
    """With SIGCHLD ignored nobody learns how a worker ended, but that it did; what it has started ends with it."""
    path = tmp_path / "child"
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with ProcessExecutor(max_workers=2) as executor:
            error = outcome(executor, Task(faulty_tasks.leave_child), params={"path": str(path), "how": "3"})
            assert (type(error), error.exitcode, error.signal) == (WorkerDiedError, None, None)
            assert "ended with an unknown exit status" in str(error)
            until(lambda: gone(int(path.read_text())))
            idle = run(executor, Task(faulty_tasks.pid))["pid"]
            os.kill(idle, signal.SIGKILL)
            until(lambda: gone(idle))
            assert run(executor, Task(faulty_tasks.ok)) == {"ok": "ok"}
    finally:
        signal.signal(signal.SIGCHLD, old)


# Exceptions that belong to one another, and classes that make it hard


def raised(executor, source):
    """Return the exception that this source raises in a worker, which comes back as one."""
    return outcome(executor, Task(partial(exec, textwrap.dedent(source), {}), name="source"))


@guarded
def test_members_that_are_shared_stay_shared(executor):
    """Through any number of levels, each of which would double what there is to send."""
    error = raised(
        executor,
        """
        error = ValueError("x")
        for level in range(100):
            error = ExceptionGroup(f"level {level}", [error, error])
        raise error
        """,
    )
    for level in reversed(range(100)):
        assert (type(error), error.message) == (ExceptionGroup, f"level {level}")
        first, second = error.exceptions
        assert first is second
        error = first
    assert (type(error), error.args) == (ValueError, ("x",))


@guarded
def test_causes_and_contexts_that_are_shared_stay_shared(executor):
    """As when each attempt at something fails in several ways, while the one before is being handled."""
    error = raised(
        executor,
        """
        def attempt(left):
            errors = []
            for mirror in ("a", "b"):
                try:
                    raise ConnectionError(mirror)
                except ConnectionError as error:
                    errors.append(error)
            try:
                raise ExceptionGroup(f"{left} left", errors)
            except ExceptionGroup:
                if not left:
                    raise
                attempt(left - 1)

        attempt(50)
        """,
    )
    for left in range(50):
        assert error.message == f"{left} left"
        assert [member.args for member in error.exceptions] == [("a",), ("b",)]
        assert {id(member.__context__) for member in error.exceptions} == {id(error.__context__)}
        error = error.__context__
    text = str(error.__cause__)
    assert [text.count(f": {left} left (2 sub-exceptions)\n") for left in range(51)] == [1] * 51
    assert text.count("During handling of the above exception, another exception occurred:") == 50
    shared = raised(
        executor,
        """
        members = [ValueError("one"), KeyError("two")]
        members[0].__cause__ = members[1].__cause__ = OSError("reason")
        raise ExceptionGroup("both", members)
        """,
    )
    one, two = shared.exceptions
    assert one.__cause__ is two.__cause__
    assert type(one.__cause__) is OSError


@guarded
def test_groups_deep_in_one_another(executor):
    """Deeper than Python can call."""
    error = raised(
        executor,
        """
        error = ValueError("x")
        for level in range(990):
            error = ExceptionGroup("one of many", [error])
        raise error
        """,
    )
    depth = 0
    while isinstance(error, ExceptionGroup):
        (error,), depth = error.exceptions, depth + 1
    assert (type(error), error.args, depth) == (ValueError, ("x",), 990)


@pytest.mark.parametrize("how", ["deep", "wide", "causes"])
@guarded
def test_more_exceptions_than_can_travel(executor, how):
    """Those that are near do; of the others a note tells how many they are, and what."""
    error = raised(
        executor,
        f"""
        how = {how!r}
        error = ValueError(0)
        for number in range(1, 3000):
            one = ValueError(number) if how != "deep" else ExceptionGroup(f"number {{number}}", [error])
            one.__cause__ = error if how == "causes" else None
            error = one
        raise error if how != "wide" else ExceptionGroup("wide", [ValueError(number) for number in range(3000)])
        """,
    )
    (note, *listed), found = error.__notes__[0].splitlines(), 1
    if how == "wide":
        assert [member.args for member in error.exceptions] == [(number,) for number in range(len(error.exceptions))]
        found += len(error.exceptions)
    while how == "deep" and isinstance(error, ExceptionGroup):
        (error,), found = error.exceptions, found + 1
    while how == "causes" and error.args[0] in range(3000):
        error, found = error.__cause__, found + 1
    found -= how == "causes"  # the last is the traceback
    there = 3001 if how == "wide" else 3000
    assert note == f"flowkit: {there - found} more exceptions belong to this one, too many to be sent from the worker:"
    assert 100 <= found < there
    assert listed[-1] == ("ValueError: 2999" if how == "wide" else "ValueError: 0")


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ("None", []),
        ("5", []),
        ("'text'", []),
        ("('a', 'b')", ["a", "b"]),
        ("['a', Text('b'), 5]", ["a", "b", "5"]),
        ("['a', Bad(), 'c']", ["a", "<unprintable>", "c"]),
    ],
)
@guarded
def test_notes_that_are_no_notes(executor, notes, expected):
    """The exception comes back as itself, with those of them that can be shown."""
    error = raised(
        executor,
        f"""
        class Text(str):
            pass

        class Bad:
            def __str__(self):
                raise SystemExit("no text")

        error = ValueError("x")
        error.__notes__ = {notes}
        raise error
        """,
    )
    assert (type(error), error.args) == (ValueError, ("x",))
    assert error.__notes__[:-1] == expected
    assert error.__notes__[-1].startswith("flowkit: task 'source' of 'faults' failed")
    assert "Traceback (most recent call last):" in str(error.__cause__)


@pytest.mark.parametrize(
    "odd",
    [
        "class Odd(ValueError):\n    def __getattr__(self, name): raise RuntimeError(name)",
        "class Odd(ValueError):\n    def __getattribute__(self, name): raise RuntimeError(name)",
        "class Odd(ValueError):\n    __dict__ = __cause__ = __notes__ = property(lambda self: 1 / 0)",
        "class Meta(type):\n    def __getattribute__(cls, name): 1 / 0\nclass Odd(ValueError, metaclass=Meta): pass",
    ],
    ids=["getattr", "getattribute", "properties", "metaclass"],
)
@guarded
def test_a_class_that_answers_oddly(executor, odd):
    """Is known by what is above it, and the rest is there: message, traceback and causes."""
    error = raised(executor, f"{odd}\nraise Odd('x') from KeyError('reason')")
    assert isinstance(error, ValueError)
    assert isinstance(error, RemoteTaskError)
    assert (error.type_name.rpartition(".")[2], error.text) == ("Odd", "x")
    assert 'File "<string>", line' in error.traceback_text
    assert (type(error.__cause__), error.__cause__.args) == (KeyError, ("reason",))


@pytest.mark.parametrize(
    ("source", "kind", "expected"),
    [
        ("nothing_here", NameError, {"name": "nothing_here"}),
        ("[].nothing_here", AttributeError, {"name": "nothing_here"}),
        ("import nothing_here", ModuleNotFoundError, {"name": "nothing_here", "path": None}),
        ("from os import nothing_here", ImportError, {"name": "os", "path": os.__file__}),
        ("error = OSError('x')\nerror.filename = 'file'\nraise error", OSError, {"errno": None, "filename": "file"}),
        ("import faulty_tasks\nfaults.raise_http()", HTTPError, {"filename": "http://localhost", "errno": None}),
        ("b'\\xff'.decode()", UnicodeDecodeError, {"object": b"\xff", "start": 0, "end": 1}),
        ("compile('a b', 'file', 'exec')", SyntaxError, {"filename": "file", "lineno": 1}),
        ("raise StopIteration(5)", StopIteration, {"value": 5}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
@guarded
def test_the_attributes_of_builtin_exceptions(executor, source, kind, expected):
    """Come back, though many are in no ``__dict__`` and no ``args``."""
    error = raised(executor, source)
    assert type(error) is kind
    assert {name: getattr(error, name) for name in expected} == expected


OWN_GROUP = """
class Own(ExceptionGroup):
    __module__ = "faulty_tasks"

    def __new__(cls, code, errors):
        group = super().__new__(cls, f"code {code}", errors)
        group.code = code
        return group

    def __init__(self, code, errors):
        pass
"""


@guarded
def test_a_group_with_a_signature_of_its_own(executor):
    """Comes back as itself if its class is there, and else as a plain group of its members, which says so."""
    source = f"{OWN_GROUP}\nerror = Own(7, [ValueError('one'), KeyError('two')])\nerror.add_note('a note')\nraise error"
    error = raised(executor, source)
    assert (type(error), error.message, error.args[1]) == (ExceptionGroup, "code 7", [*error.exceptions])
    assert [(type(one), one.args) for one in error.exceptions] == [(ValueError, ("one",)), (KeyError, ("two",))]
    assert error.__notes__[0] == "a note"
    assert error.__notes__[1].startswith(
        "flowkit: it replaces faulty_tasks.Own, which cannot be sent from the worker: "
    )
    assert "faulty_tasks.Own: code 7 (2 sub-exceptions)" in str(error.__cause__)
    caught = []
    try:
        raise error
    except* KeyError as group:
        caught.extend(group.exceptions)
    except* ValueError as group:
        caught.extend(group.exceptions)
    assert caught == [*reversed(error.exceptions)]
    found = {}
    exec(OWN_GROUP, found)
    faulty_tasks.Own = found["Own"]
    try:
        error = raised(executor, source.replace("error = Own", "import faulty_tasks\nfaults.Own = Own\nerror = Own"))
    finally:
        del faulty_tasks.Own
    assert (type(error), error.message, error.code) == (found["Own"], "code 7", 7)
    assert [type(member) for member in error.exceptions] == [ValueError, KeyError]
    assert error.__notes__[0] == "a note"


@guarded
def test_a_cause_that_cannot_come_back_has_a_stand_in(executor):
    """And that its own cause."""
    error = raised(
        executor,
        """
        import faulty_tasks

        try:
            try:
                {}["key"]
            except KeyError:
                faulty_tasks.raise_local()
        except ValueError as local:
            raise TypeError("top") from local
        """,
    )
    assert type(error) is TypeError
    assert isinstance(error.__cause__, RemoteTaskError)
    assert isinstance(error.__cause__, ValueError)
    assert 'raise Local("from a function")' in error.__cause__.traceback_text
    assert type(error.__cause__.__context__) is KeyError
