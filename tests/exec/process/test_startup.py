"""Starts of worker processes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from time import monotonic

import faulty_tasks as faults
import pytest
from process_checks import child_pids, count_descriptors, count_descriptors_after_gc, has_ended, run
from subprocess_harness import guarded, until

from flowkit_core import (
    DAG,
    ExecutorError,
    Task,
)
from flowkit_exec import ProcessExecutor
from flowkit_exec.process import lane as process_lane

pytestmark = pytest.mark.slow


@guarded
def test_run_continues_with_fewer_workers_if_no_more_can_start(executor):
    real, started = process_lane.WorkerHandle, []

    def scarce(functions=None, options=None):
        if started:
            raise ExecutorError("no worker process could be started (Too many open files): use fewer max_workers")
        started.append(real(functions, options))
        return started[-1]

    process_lane.WorkerHandle = scarce
    try:
        with ProcessExecutor(4) as own:
            results = run(own, *[Task(faults.pid, name=f"pid_{number}") for number in range(8)])
    finally:
        process_lane.WorkerHandle = real
    assert len(set(results.values())) == 1


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError, ConnectionError])
@guarded
def test_exception_of_a_signal_handler_while_workers_start_is_raised_and_leaks_nothing(kind):
    armed, fired, lost = False, [], []

    def handle(_number, _frame):
        if armed:
            fired.append(kind("enough"))
            raise fired[-1]

    dag = DAG("started", tasks=[Task(faults.ok, name=name) for name in "ab"], max_workers=2)
    with ProcessExecutor(2) as own:
        began = monotonic()
        dag.run(own)
        usual = monotonic() - began  # most of it is the start of the workers
    before, old = (count_descriptors_after_gc(), child_pids()), signal.signal(signal.SIGALRM, handle)
    hook, sys.unraisablehook = sys.unraisablehook, lost.append  # exceptions that are raised in finalizers are lost
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
    fired.clear()  # their tracebacks refer to workers
    lost.clear()
    own = None  # an executor whose close() was interrupted keeps its workers until it is freed
    with ProcessExecutor(2) as last:  # a process whose Popen was lost is reaped when the next one starts
        dag.run(last)
    until(lambda: count_descriptors_after_gc() <= before[0] and set(child_pids()) <= set(before[1]))


@guarded
def test_frozen_application_is_an_error():
    sys.frozen = True
    try:
        with pytest.raises(ExecutorError, match="use executor='thread'"), ProcessExecutor(1) as own:
            run(own, Task(faults.ok))
    finally:
        del sys.frozen


@guarded
def test_closed_executor_is_an_error():
    executor = ProcessExecutor(max_workers=1)
    executor.close()
    executor.close()
    with pytest.raises(ExecutorError, match="closed"):
        run(executor, Task(faults.ok))


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false", "", None])
@guarded
def test_interpreter_that_does_not_start_is_an_error(program):
    python, sys.executable = sys.executable, program
    try:
        with ProcessExecutor(max_workers=2) as executor, pytest.raises(ExecutorError, match=r"worker|sys\.executable"):
            run(executor, Task(faults.ok))
    finally:
        sys.executable = python
    assert run("process", Task(faults.ok)) == {"ok": "ok"}


@pytest.mark.parametrize("silent", [1, 99])
@guarded
def test_worker_that_does_not_respond_is_killed_after_the_startup_timeout(tmp_path, silent):
    python, startup_timeout, real, before = (
        sys.executable,
        process_lane.STARTUP_TIMEOUT,
        process_lane.WorkerHandle,
        (count_descriptors_after_gc(), child_pids()),
    )
    starts, program, made = tmp_path / "starts", tmp_path / "python", []
    starts.touch()
    program.write_text(
        f"#!/bin/sh\nprintf . >>{starts}\n"
        f'if [ $(wc -c <{starts}) -le {silent} ]; then exec sleep 3600; fi\nexec {python} "$@"\n'
    )
    program.chmod(0o755)

    def watched(
        functions=None, options=None
    ):  # the timeout is short for workers that do not respond, and only once they run
        child = real(functions, options)
        made.append(child.process.pid)
        until(lambda: starts.stat().st_size == len(made))
        process_lane.STARTUP_TIMEOUT = 0.1 if len(made) <= silent else startup_timeout
        return child

    sys.executable, process_lane.WorkerHandle = str(program), watched
    try:
        with ProcessExecutor(max_workers=1) as executor:
            if silent == 1:
                assert run(executor, Task(faults.ok)) == {"ok": "ok"}
            else:
                with pytest.raises(
                    ExecutorError, match=r"failed to start; the last one did not respond within 0.1 s and was killed"
                ):
                    run(executor, Task(faults.ok))
                assert starts.stat().st_size == process_lane.MAX_FAILED_STARTS
    finally:
        sys.executable, process_lane.STARTUP_TIMEOUT, process_lane.WorkerHandle = python, startup_timeout, real
    assert (count_descriptors(), child_pids()) == before


@pytest.mark.parametrize("killed", [4, 99])
@guarded
def test_workers_that_are_killed_while_they_start_fail_no_task(tmp_path, killed):
    python, starts, program = sys.executable, tmp_path / "starts", tmp_path / "python"
    starts.touch()
    program.write_text(
        f"#!/bin/sh\nprintf . >>{starts}\n"
        f'if [ $(wc -c <{starts}) -le {killed} ]; then kill -9 $$; fi\nexec {python} "$@"\n'
    )
    program.chmod(0o755)
    sys.executable = str(program)
    try:
        with ProcessExecutor(max_workers=1) as executor:
            if killed == 4:
                results = run(executor, Task(faults.ok))
                assert (results, results.attempts) == ({"ok": "ok"}, {"ok": 1})
            else:
                with pytest.raises(ExecutorError, match=r"was killed by SIGKILL: .*out of memory"):
                    run(executor, Task(faults.ok, retries=3))
                assert starts.stat().st_size == process_lane.MAX_KILLED_STARTS
    finally:
        sys.executable = python


@guarded
def test_run_continues_with_the_workers_that_start(tmp_path):
    python, starts, program = sys.executable, tmp_path / "starts", tmp_path / "python"
    starts.touch()
    program.write_text(
        f'#!/bin/sh\nprintf . >>{starts}\nif [ $(wc -c <{starts}) -gt 1 ]; then exit 3; fi\nexec {python} "$@"\n'
    )
    program.chmod(0o755)
    sys.executable = str(program)
    try:
        with ProcessExecutor(max_workers=3) as executor:
            run(executor, Task(faults.ok))
            results = run(executor, *[Task(faults.nap, name=f"nap_{number}") for number in range(4)])
    finally:
        sys.executable = python
    assert len(results) == 4


@pytest.mark.posix  # elsewhere the event loop turns more often during a start, and each turn counts a little
@pytest.mark.parametrize("jumps", [[60.0] * 1000, [0.0, 0.0, 86_400.0], [0.0, 0.0, 0.0, 600.0] * 200])
@guarded
def test_time_in_which_the_caller_is_suspended_does_not_count_for_the_start(jumps):
    real, clock, jumps = process_lane.monotonic, {"ahead": 0.0}, iter(jumps)

    def jumping():  # as if the process had been suspended between calls
        clock["ahead"] += next(jumps, 0.0)
        return real() + clock["ahead"]

    process_lane.monotonic = jumping
    try:
        assert run("process", Task(faults.ok)) == {"ok": "ok"}
    finally:
        process_lane.monotonic = real


@guarded
def test_fork_of_the_calling_process_starts_workers_of_its_own(executor):
    worker = run(executor, Task(faults.pid))["pid"]
    child = os.fork()
    if not child:
        code = 1
        try:
            code = run(executor, Task(faults.pid))["pid"] == worker
            executor.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not has_ended(worker)
    assert run(executor, Task(faults.ok)) == {"ok": "ok"}


@guarded
def test_daemonic_process_of_multiprocessing_may_run_pipelines():
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=faults.in_a_daemon, args=(theirs,), daemon=True)
    process.start()
    assert mine.recv() == "ok"
    process.join()


IN_SUB_INTERPRETER = """
import os, sys
CODE = '''
from flowkit_core import DAG, ExecutorError, Task
try:
    print(DAG("sub", tasks=[Task(int, name="zero")]).run("process"), flush=True)
except ExecutorError as error:
    print(error, flush=True)
'''
isolated = "isolated" in sys.argv
if sys.version_info >= (3, 13):
    import _interpreters
    _interpreters.exec(_interpreters.create("isolated" if isolated else "legacy"), CODE)
else:
    import _xxsubinterpreters
    _xxsubinterpreters.run_string(_xxsubinterpreters.create(isolated=isolated), CODE)
os._exit(0)  # CPython may crash when it ends with a sub-interpreter that has imported extension modules
"""


@pytest.mark.parametrize("kind", ["isolated", "legacy"])
def test_sub_interpreter_runs_tasks_or_is_one_error(script, kind):
    output = script(IN_SUB_INTERPRETER, kind).wait()
    assert output == "{'zero': 0}\n" or "cannot be started in this sub-interpreter" in output
