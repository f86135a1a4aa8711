"""Starts of worker threads."""

from __future__ import annotations

import textwrap
import threading

import pytest
from subprocess_harness import Program, guarded
from thread_checks import living_helpers, nothing, run

from flowkit_core import ExecutorError, Task

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("available", [0, 1, 3])
@guarded
def test_run_continues_with_fewer_threads_if_no_more_can_start(available):
    start, left = threading.Thread.start, [available]

    def limited(thread):
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    threading.Thread.start = limited
    try:
        first = Task(lambda: threading.Event().wait(1e-3), name="first")
        tasks = [Task(lambda *_inputs: threading.Event().wait(1e-3), name=f"task_{number}") for number in range(20)]
        first >> tasks
        assert len(run(8, *tasks, *[Task(nothing, name=name) for name in "ab"])) == 23
    finally:
        threading.Thread.start = start
    assert not living_helpers()


@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize("how", ["a tracer", "another run()"])
@guarded
def test_helper_that_ends_before_it_runs_tasks_is_an_error(how, workers):
    def end(*_arguments):
        raise RuntimeError("not here")

    def trace(frame, _event, _argument):
        if frame.f_code is threading.Thread.run.__code__:
            raise RuntimeError("not here")

    tasks = [Task(lambda: threading.Event().wait(1e-3), name=f"task_{number}") for number in range(20)]
    method, hook, threading.excepthook = threading.Thread.run, threading.excepthook, nothing
    if how == "a tracer":
        threading.settrace(trace)
    else:
        threading.Thread.run = end
    try:
        with pytest.raises(
            ExecutorError, match=r"worker thread 'flowkit-\d' ended before it could take part"
        ) as caught:
            run(workers, *tasks)
        assert set(caught.value.flowkit_results.states.values()) <= {"succeeded", "cancelled"}
    finally:
        threading.settrace(None)
        threading.Thread.run, threading.excepthook = method, hook
    assert not living_helpers()
    assert len(run(workers, *tasks)) == 20


def test_run_in_an_atexit_function():
    script = """
        import atexit, time
        from flowkit_core import DAG, Task
        from flowkit_exec import ThreadExecutor

        def late():
            tasks = [Task(lambda: time.sleep(1e-3), name=f"task_{n}") for n in range(20)]
            print(len(DAG("late", tasks=tasks).run(ThreadExecutor(4))))
        atexit.register(late)
    """
    with Program("-c", textwrap.dedent(script)) as program:
        assert program.wait() == "20\n"
