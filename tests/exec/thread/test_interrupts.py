"""Interrupts while threads run tasks."""

from __future__ import annotations

import signal
import sys
import textwrap
import threading

import pytest
from subprocess_harness import Program, guarded, until
from thread_checks import SECONDS, living_helpers, run

from flowkit_core import Task

pytestmark = pytest.mark.slow


PHASES = {
    "in a task of the calling thread": """
        def work():
            say("ready")
            time.sleep(3600)
        tasks = [Task(work)]
    """,
    "while the calling thread rests": """
        both = threading.Barrier(2)
        def part():
            both.wait()
            if threading.current_thread() is not threading.main_thread():
                say("ready")
                stopping.wait()
        tasks = [Task(part, name="one"), Task(part, name="two")]
    """,
    "while all wait for a retry": """
        def fail():
            raise ValueError("boom")
        tasks = [Task(fail, retries=3, delay=3600)]
        observers = [lambda event: isinstance(event, TaskRetrying) and say("ready")]
    """,
    "in a condition": """
        def condition():
            say("ready")
            time.sleep(3600)
        tasks = [Task(lambda: 1, name="one", when=condition)]
    """,
    "in a run inside a task": """
        def inner():
            say("ready")
            time.sleep(3600)
        def outer():
            DAG("inner", tasks=[Task(inner)]).run(ThreadExecutor(2))
        tasks = [Task(outer)]
    """,
}


SCRIPT = """
import os, signal, sys, threading, time
from flowkit_core import DAG, Task, TaskRetrying
from flowkit_exec import ThreadExecutor
from flowkit_exec.thread import lane as thread_lane

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

join, stopping, observers = threading.Thread.join, threading.Event(), []

def stop(thread, timeout=None):
    stopping.set()
    join(thread, timeout)

threading.Thread.join = stop
thread_lane.JOIN_TIMEOUT = 60.0  # tasks that are stopped have time to end on a slow machine
{phase}
below = Task(lambda: say("a task started after the stop"), name="below")
tasks >> below
handler = signal.getsignal(signal.SIGINT)
try:
    DAG("interrupted", tasks=[below]).run(ThreadExecutor(2), observers=observers)
except KeyboardInterrupt as error:
    say("interrupted", sorted(set(error.flowkit_results.states.values()) - {{"succeeded"}}))
assert signal.getsignal(signal.SIGINT) is handler
say("left", [thread.name for thread in threading.enumerate() if thread.name.startswith("flowkit-")])
say("next", DAG("next", tasks=[Task(lambda: 1, name=name) for name in "ab"]).run(ThreadExecutor(2)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="platform: Ctrl-C cannot be sent to one process")
@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_ends_the_run_in_every_phase(phase):
    script = SCRIPT.format(phase=textwrap.dedent(PHASES[phase]))
    with Program("-c", script) as program:
        program.wait_for_output("ready")
        program.signal(signal.SIGINT)
        output = program.wait()
    assert "interrupted" in output
    assert "left []" in output
    assert "after the stop" not in output
    assert "next {'a': 1, 'b': 1}" in output


@pytest.mark.skipif(sys.platform == "win32", reason="platform: Ctrl-C cannot be sent to one process")
def test_second_ctrl_c_ends_the_wait_for_running_tasks():
    phase = "thread_lane.JOIN_TIMEOUT = 3600.0\n" + textwrap.dedent(PHASES["while the calling thread rests"])
    script = SCRIPT.format(phase=phase.replace("stopping.wait()", "threading.Event().wait()"))
    script = script.replace('say("left"', 'sys.exit(7); say("left"')
    with Program("-c", script) as program:
        program.wait_for_output("ready")

        def ended():
            if program.process.poll() is None:
                program.signal(signal.SIGINT)
            return program.process.poll() is not None

        until(ended)
        assert program.process.returncode in (7, 1, -signal.SIGINT), program.output
        assert "Fatal" not in program.output


@pytest.mark.skipif(sys.platform == "win32", reason="platform: there is no interval timer")
def test_ctrl_c_at_any_moment():
    script = """
        import random, signal, sys, threading, time
        from flowkit_core import DAG, Task
        from flowkit_exec import ThreadExecutor

        sys.setswitchinterval(1e-6)
        armed = False
        def interrupt(*_):
            if armed:
                raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        sys.unraisablehook = lambda _: None  # interrupts in finalizers are lost
        def nap(*_):
            time.sleep(1e-4)
        chosen = random.Random(0)
        interrupted = 0
        for _ in range(300):
            tasks = []
            for number in range(20):
                tasks.append(Task(chosen.choice((nap, lambda *_: None)), name=f"task_{number}"))
                for above in chosen.sample(tasks[:-1], min(len(tasks) - 1, 2)):
                    above >> tasks[-1]
            dag = DAG("interrupted", tasks=tasks)
            dag.graph()
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, chosen.uniform(1e-5, 2e-3))
                results = dag.run(ThreadExecutor(chosen.choice((1, 2, 4))))
                armed = False
            except KeyboardInterrupt:
                interrupted += 1
            else:
                assert len(results) == 20
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        end = time.monotonic() + 60
        while [thread for thread in threading.enumerate() if thread.name.startswith("flowkit-") and thread.is_alive()]:
            assert time.monotonic() < end, threading.enumerate()
            time.sleep(0.001)
        print("interrupted" if interrupted else "never interrupted")
    """
    with Program("-c", textwrap.dedent(script)) as program:
        assert program.wait().endswith("interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="platform: a process cannot send itself SIGINT")
@pytest.mark.parametrize("workers", [1, 2])
def test_ignored_sigint_stays_ignored(workers):
    script = f"""
        import os, signal
        from flowkit_core import DAG, Task
        from flowkit_exec import ThreadExecutor

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        tasks = [Task(lambda: os.kill(os.getpid(), signal.SIGINT), name=f"task_{{n}}") for n in range(3)]
        assert len(DAG("ignored", tasks=tasks).run(ThreadExecutor({workers}))) == 3
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        print("all ran")
    """
    with Program("-c", textwrap.dedent(script)) as program:
        assert program.wait() == "all ran\n"


@pytest.mark.skipif(sys.platform == "win32", reason="platform: SIGTERM cannot be handled")
def test_system_exit_gives_other_threads_a_grace_period():
    script = """
        import os, signal, sys, threading, time
        from flowkit_core import DAG, Task
        from flowkit_exec import ThreadExecutor

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
        both = threading.Barrier(2)

        def part():
            both.wait()
            if threading.current_thread() is threading.main_thread():
                os.write(1, b"ready\\n")
            time.sleep(3600)

        def clean_up():
            time.sleep(1.5)  # longer than the grace period
            print("cleaned up")

        parts = [Task(part, name=name) for name in ("one", "two")]
        after = Task(lambda *_: print("a task started after the stop"), name="after")
        parts >> after
        for one in parts:
            one >> Task(clean_up, name=f"clean up after {one.name}", trigger="all_done")
        try:
            DAG("terminated").run(ThreadExecutor(2), grace=1)
        except SystemExit as error:
            print(sorted(error.flowkit_results.states.values()))
            raise
    """
    with Program("-c", textwrap.dedent(script)) as program:
        program.wait_for_output("ready")
        program.signal(signal.SIGTERM)
        output = program.wait(3)
    assert "after the stop" not in output
    assert output.count("cleaned up") == 2
    assert "['cancelled', 'failed', 'succeeded', 'succeeded', 'upstream_failed']" in output


@guarded
def test_keyboard_interrupt_in_a_helper_ends_the_run_while_the_caller_is_idle():
    caller, both = threading.current_thread(), threading.Barrier(2, timeout=SECONDS)

    def part():
        both.wait()
        if threading.current_thread() is not caller:
            threading.Event().wait(0.3)
            raise KeyboardInterrupt

    parts = [Task(part, name=name) for name in "ab"]
    below = [Task(lambda _input: None, name=f"below_{number}") for number in range(6)]
    parts[0] >> below[:3]
    parts[1] >> below[3:]
    with pytest.raises(KeyboardInterrupt) as caught:
        run(2, *below)
    assert sorted(caught.value.flowkit_results.states.values())[:3] == ["cancelled"] * 3
    assert not living_helpers()


@pytest.mark.skipif(sys.platform == "win32", reason="platform: Ctrl-C cannot be sent to one process")
@pytest.mark.parametrize("workers", ["ThreadExecutor(2)", "ProcessExecutor(2)"])
def test_keyboard_interrupt_lists_running_tasks(workers):
    script = f"""
        import os, sys, time
        from flowkit_core import DAG, Task, TaskNotRun, TaskStarted
        from flowkit_exec import ProcessExecutor, ThreadExecutor
        from flowkit_exec.thread import lane as thread_lane

        thread_lane.JOIN_TIMEOUT = 0.2
        def first():
            return 1
        def stuck(_):
            os.write(1, b"stuck\\n")
            time.sleep(3600)
        def after(_):
            return 2
        ends, started = {{}}, []
        def listen(event):
            if isinstance(event, TaskNotRun):
                ends[event.task] = event.started
            elif isinstance(event, TaskStarted):
                started.append(event.task)
        first, stucks = Task(first), [Task(stuck, name=name) for name in ("stuck", "stuck too", "stuck three")]
        first >> stucks
        for one in stucks:
            one >> Task(after, name="after " + one.name)
        if __name__ == "__main__":
            try:
                DAG("h").run({workers}, observers=[listen])
            except KeyboardInterrupt as error:
                print(*error.__notes__)
                states = error.flowkit_results.states
                print({{states[name] for name in states if name.startswith("after")}})
                print(sorted(name for name in started if name not in (*ends, "first", *error.flowkit_results.failed)))
    """
    with Program("-c", textwrap.dedent(script)) as program:
        until(lambda: program.output.count("stuck") == 2)
        program.signal(signal.SIGINT)
        output = program.wait()
    assert "1 task had succeeded" in output
    assert "did not start; 'stuck" in output
    assert ("abandoned" if "Thread" in workers else "were ended") in output
    assert "{{'cancelled'}}\n[]".format() in output


@guarded
def test_abandoned_task_changes_no_result():
    from flowkit_exec.thread import lane as thread_lane

    grace, thread_lane.JOIN_TIMEOUT = thread_lane.JOIN_TIMEOUT, 0.0
    caller, both, go = threading.current_thread(), threading.Barrier(2, timeout=SECONDS), threading.Event()

    def part():
        both.wait()
        if threading.current_thread() is caller:
            raise KeyboardInterrupt
        go.wait(SECONDS)
        return "late"

    with pytest.raises(KeyboardInterrupt) as caught:
        run(2, *[Task(part, name=name) for name in "ab"])
    thread_lane.JOIN_TIMEOUT = grace
    left = living_helpers()
    go.set()
    for thread in left:
        thread.join(SECONDS)
    results = caught.value.flowkit_results
    assert results == {}
    assert sorted(results.states.values()) == ["cancelled", "failed"]
    assert len(results.durations) == 1
