"""Interrupts and signals while worker processes run tasks."""

from __future__ import annotations

import signal
from textwrap import dedent

import pytest
from script_sources import BUSY, CAUGHT, SPAWNED_AND_FORKED, TASKS, start_busy
from subprocess_harness import until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("what", ["executor.close()", "DAG('inner', tasks=[one]).run(executor)"])
def test_signal_handler_that_uses_the_executor(script, what):
    source = f"""
    import signal, sys
    from flowkit_core import DAG, ExecutorError, Task
    from flowkit_exec import ProcessExecutor
    one = Task(int, name="one")
    DAG("first", tasks=[one]).run("process")  # imports all modules: a handler must not interrupt an import
    heard, within = [], []
    def handler(*_):
        heard.append(1)
        if len(heard) >= 300:  # if the handler takes longer than the interval, the program does not progress
            signal.setitimer(signal.ITIMER_REAL, 0)
        if not within:
            within.append(1)
            {what}
            within.clear()
    signal.signal(signal.SIGALRM, handler)
    while len(heard) < 100:
        executor = ProcessExecutor(2)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.0007)
        try:
            for _ in range(100):
                DAG("outer", tasks=[one]).run(executor)
        except ExecutorError as error:
            assert "is closed" in str(error), error
        signal.setitimer(signal.ITIMER_REAL, 0)
        executor.close()
    print("done")
    """
    assert script(source).wait() == "done\n"


def test_signal_handler_that_exits_while_a_result_is_unpickled(script):
    source = """
    import os, signal, sys
    from flowkit_core import DAG, Task
    from flowkit_exec import ProcessExecutor
    class Slow:
        def __init__(self): self.home = os.getpid()
        def __reduce__(self): return rebuild, (self.home,)
    def rebuild(home):
        if os.getpid() != home:
            signal.raise_signal(signal.SIGTERM)
        return "rebuilt"
    def make(): return Slow()
    if __name__ == "__main__":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        with ProcessExecutor(1) as executor:
            DAG("exit", tasks=[Task(make)]).run(executor, fail_fast=False, raise_on_failure=False)
        print("went on")
    """
    assert script(source).wait(code=7) == ""


@pytest.mark.exhaustive
def test_interrupt_at_any_moment_corrupts_no_large_result(script):
    source = """
    import random, signal, sys, time
    from flowkit_core import DAG, Task
    from flowkit_exec import ProcessExecutor
    sys.unraisablehook = lambda _: None  # interrupts in finalizers are lost
    def value(number): return (b"%05d" % number) * 14000
    class Make:
        def __init__(self, number): self.number = number
        def __call__(self): return value(self.number)
    if __name__ == "__main__":
        tasks = [Task(Make(number), name=f"t{number}") for number in range(30)]
        dag, chosen, turn, interrupted = DAG("fire", tasks=tasks), random.Random(0), 0, 0
        before = DAG("before", tasks=[Task(int, name="zero"), Task(float, name="one")])
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        def seconds():
            began = time.perf_counter()
            dag.run(executor)
            return time.perf_counter() - began
        with ProcessExecutor(2) as executor:
            before.run(executor)
            undisturbed = min(seconds() for _ in range(5))
            while turn < 25 or not interrupted:
                turn += 1
                if turn % 3:  # else most interrupts would be raised while workers start
                    before.run(executor)
                try:
                    signal.setitimer(signal.ITIMER_REAL, chosen.uniform(1e-4, undisturbed))
                    results = dag.run(executor)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt as error:
                    interrupted += 1
                    results = getattr(error, "flowkit_results", {})
                for name, found in results.items():
                    assert found == value(int(name[1:])), name
        print("done")
    """
    assert script(source).wait() == "done\n"


@SPAWNED_AND_FORKED
@pytest.mark.parametrize("group", [True, False], ids=["group", "alone"])
def test_ctrl_c_raises_keyboard_interrupt_and_kills_workers(script, busily, group):
    program = start_busy(script, busily + CAUGHT)
    program.signal(signal.SIGINT, group=group)
    output = program.wait()
    began, (*_, large, one, ended) = output.count("began"), output.split()
    assert output.endswith(f"interrupted {large} {one} {ended}\n")
    assert one == "cancelled"
    # "large" has run; but one result, that is being read when the interrupt is raised, may be lost
    assert began <= (large == "succeeded") + int(ended) <= began + 1
    until(lambda: not program.descendants())  # processes started by tasks were killed, which may take a moment


def test_uncaught_ctrl_c_prints_one_traceback(script):
    program = start_busy(script, BUSY + "dag.run('process')\n")
    program.signal(signal.SIGINT, group=True)
    output = program.wait(code=-signal.SIGINT)
    assert output.count("Traceback") == 1
    until(lambda: not program.descendants())


def test_repeated_ctrl_c_ends_the_program(script):
    program = start_busy(script, BUSY + "dag.run('process')\n")

    def ended():
        if program.process.poll() is None:
            program.signal(signal.SIGINT, group=True)
        return program.process.poll() is not None

    until(ended)
    until(lambda: not program.descendants())


def test_ctrl_c_while_another_thread_runs_the_pipeline(script):
    source = """
    thread = threading.Thread(target=dag.run, args=("process",), daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    """
    program = start_busy(script, BUSY + dedent(source))
    program.signal(signal.SIGINT, group=True)
    assert program.wait().endswith("interrupted\n")
    until(lambda: not program.descendants())


def test_ctrl_c_in_pytest(script, tmp_path):
    (tmp_path / "test_busy.py").write_text(BUSY + "def test_busy():\n    dag.run('process')\n")
    source = "import sys, pytest\nsys.exit(pytest.main(['-s', '-p', 'no:cacheprovider', 'test_busy.py']))\n"
    program = start_busy(script, source, cwd=tmp_path)
    program.signal(signal.SIGINT, group=True)
    assert "KeyboardInterrupt" in program.wait(code=2)
    until(lambda: not program.descendants())


def test_executor_runs_again_after_an_interrupt(script):
    source = """
    from flowkit_exec import ProcessExecutor
    with ProcessExecutor(2) as executor:
        try:
            dag.run(executor)
        except KeyboardInterrupt:
            print(len(DAG("next", tasks=[big]).run(executor)["large"]))
    """
    program = start_busy(script, BUSY + dedent(source))
    program.signal(signal.SIGINT)
    assert program.wait().endswith("1000000\n")


@SPAWNED_AND_FORKED
@pytest.mark.parametrize(
    ("handler", "code", "said"),
    [("signal.default_int_handler", 0, "interrupted"), ("lambda *_: sys.exit(7)", 7, "")],
    ids=["interrupt", "exit"],
)
def test_sigterm_with_a_handler(script, busily, handler, code, said):
    program = start_busy(script, f"{busily}signal.signal(signal.SIGTERM, {handler})\n{CAUGHT}")
    program.signal(signal.SIGTERM)
    output = program.wait(code=code)
    assert ("interrupted" in output) == bool(said)
    assert "Traceback" not in output
    until(lambda: not program.descendants())


def test_ignored_sigint_stays_ignored(script):
    source = """
    import signal
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import os
    os.kill(os.getpid(), signal.SIGINT)
    dag.run("process")
    os.kill(os.getpid(), signal.SIGINT)
    print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
    """
    assert script(TASKS + dedent(source)).wait() == "True\n"
