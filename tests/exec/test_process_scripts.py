"""Programs that use process workers: how they begin, how they are interrupted, and that nothing is left of them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from harness import Program, until

pytestmark = pytest.mark.slow

TASKS = """
from flowkit_core import DAG, task

@task
def start():
    return 20

@task
def double(start):
    return 2 * start

start >> double
dag = DAG("script", max_workers=2, tasks=[double])
"""
RUN = """
print(dag.run("process"))
"""
RESULTS = "{'start': 20, 'double': 40}\n"

# Beside a second thread there is no fork that could help.
WITH_A_THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
"""


SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at, not used


@pytest.fixture
def script(tmp_path):
    """Return a function that writes a script and starts it."""
    programs = []

    def start(source, *arguments, name="script.py", **options):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(source))
        programs.append(Program(path, *arguments, **options))
        return programs[-1]

    yield start
    for program in programs:
        program.__exit__()


# How a script begins


@pytest.mark.parametrize(
    "source",
    [
        TASKS + RUN,
        TASKS + WITH_A_THREAD + RUN,
        TASKS + "if __name__ == '__main__':\n    print(dag.run('process'))\n",
        TASKS + "def main():\n    print(dag.run('process'))\nif __name__ == '__main__':\n    main()\n",
        "import sys\nprint(end='')\n" + TASKS + "sys.stdout.write(str(dag.run('process')) + chr(10))\nsys.exit(0)\n",
        TASKS
        + "import threading\nthread = threading.Thread(target=lambda: print(dag.run('process')))\n"
        + "thread.start()\nthread.join()\n",
        TASKS
        + "from flowkit_exec import ProcessExecutor\nwith ProcessExecutor(2) as executor:\n"
        + "    dag.run(executor)\n    print(dag.run(executor))\n",
    ],
    ids=["unguarded", "beside a thread", "guarded", "main()", "exits", "in a thread", "warm"],
)
def test_a_script(script, source):
    """With and without a guard; what it prints is printed once."""
    assert script(source).wait() == RESULTS


def test_a_script_that_prints_and_reads(script):
    """At its top level: workers do not repeat the output, and do not read its input."""
    source = "name = input()\nprint('hello', name)\n" + WITH_A_THREAD
    program = script(TASKS + source + RUN, stdin=subprocess.PIPE)
    program.process.stdin.write(b"Ada\nmore\n")
    program.process.stdin.close()
    assert program.wait() == "hello Ada\n" + RESULTS


def test_a_script_with_arguments(script):
    """Workers see the same sys.argv."""
    source = """
    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, required=True)
    options = parser.parse_args()
    from flowkit_core import DAG, task
    @task
    def size():
        return options.size
    print(DAG("arguments", tasks=[size]).run("process"))
    """
    assert script(source, "--size", "7").wait() == "{'size': 7}\n"


@pytest.mark.parametrize("guard", ["", "if __name__ == '__main__':\n    "])
def test_classes_of_the_script(script, guard):
    """As values, exceptions and sources of truth about types: they are the script's own when they come back."""
    source = """
    import dataclasses, enum, typing
    from flowkit_core import DAG, Task, task

    class Color(enum.Enum):
        RED = 1

    @dataclasses.dataclass
    class Point:
        x: int
        color: Color = Color.RED

    class __Hidden(typing.NamedTuple):
        y: int

    class Wrong(Exception):
        def __init__(self, name):
            super().__init__(f"wrong: {name}")

    @task
    def make(point):
        assert type(point) is Point and point.color is Color.RED
        return Point(point.x + 1), __Hidden(2), Color.RED

    @task
    def check(make):
        assert [type(value) for value in make] == [Point, __Hidden, Color]
        raise Wrong("x")

    make >> check
    """
    run = """
    results = DAG("classes", tasks=[check]).run("process", params={"point": Point(1)}, raise_on_failure=False)
    error = results.failed["check"]
    print(results["make"] == (Point(2), __Hidden(2), Color.RED), type(error) is Wrong, error)
    """
    body = dedent(run).strip().replace("\n", "\n    " if guard else "\n")
    assert script(dedent(source) + WITH_A_THREAD + guard + body).wait() == "True True wrong: x\n"


@pytest.mark.parametrize(
    ("late", "words"),
    [
        (
            "print(dag.run('process'))\n@task\ndef late():\n    return 1\nDAG('late', tasks=[late]).run('process')\n",
            "up to its first run()",
        ),
        (
            (
                "if __name__ == '__main__':\n    @task\n    def late():\n        return 1\n"
                "    DAG('late', tasks=[late]).run('process')\n"
            ),
            "__main__ guard",
        ),
        (
            (
                "import os\nif os.environ.get('FLOWKIT_DEPTH'):\n    1 / 0\n@task\ndef late():\n    return 1\n"
                "DAG('late', tasks=[late]).run('process')\n"
            ),
            "ZeroDivisionError",
        ),
    ],
    ids=["after a run", "under the guard", "after an error"],
)
def test_what_a_worker_cannot_see_of_a_script(script, late, words):
    """The error names the task and says why, beside threads, where no fork helps."""
    output = script(TASKS + WITH_A_THREAD + "import sys\nsys.modules['cloudpickle'] = None\n" + late).wait(code=1)
    assert "SerializationError: task 'late': its function could not be found in the worker" in output
    assert words in output


def test_a_module_that_runs_as_a_program(tmp_path):
    """python -m package, and python -m package.module, with relative imports."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tools.py").write_text("def add(x):\n    return x + 1\n")
    source = """
    from flowkit_core import DAG, task
    from .tools import add
    @task
    def three():
        return add(2)
    @task
    def nested():
        return DAG("nested", tasks=[three.with_options(name="inner")]).run("process")["inner"]
    """
    run = "print(DAG('module', tasks=[three, nested]).run('process'))\n"
    for name in ("__main__", "module"):
        (package / f"{name}.py").write_text(dedent(source) + WITH_A_THREAD + run)
    for name in ("package", "package.module"):
        with Program("-m", name, cwd=tmp_path) as program:
            assert program.wait() == "{'three': 3, 'nested': 3}\n"


@pytest.mark.skipif(
    sys.platform != "linux",
    reason="platform: only Linux tells how many threads there are, so only there is a fork safe",
)
@pytest.mark.parametrize("how", ["-c", "stdin", "cells", "interpreter"])
def test_what_is_no_file(how):
    """python -c, a script on standard input, cells of a notebook: by a fork of the process, while it has one thread."""
    cells = [
        "from flowkit_core import DAG, task\nclass Point:\n    x = 1\n",
        "@task\ndef point():\n    return Point()\n",
    ]
    cells += [
        "one = DAG('cells', tasks=[point]).run('process')\n",
        "@task\ndef use(p):\n    return type(p) is Point\npoint >> use\n",
    ]
    cells += ["print(DAG('cells', tasks=[use]).run('process')['use'])\n"]
    plain = "".join(cells)
    alone = "import code, sys\nsys.modules['cloudpickle'] = None\n"
    by_exec = f"{alone}for cell in {cells!r}:\n    exec(cell, vars(sys.modules['__main__']))\n"
    by_code = (
        f"{alone}shell = code.InteractiveInterpreter(vars(sys.modules['__main__']))\n"
        f"for cell in {cells!r}:\n    shell.runsource(cell, symbol='exec')\n"
    )
    source = {"cells": by_exec, "interpreter": by_code}.get(
        how, "import sys\nsys.modules['cloudpickle'] = None\n" + plain
    )
    with Program(*(["-"] if how == "stdin" else ["-c", source]), stdin=subprocess.PIPE) as program:
        program.process.stdin.write(source.encode() if how == "stdin" else b"")
        program.process.stdin.close()
        assert program.wait() == "True\n"


def test_a_session_with_threads_and_no_cloudpickle():
    """One error that says what to do; no fork beside threads."""
    source = "import sys\nsys.modules['cloudpickle'] = None\n" + TASKS + WITH_A_THREAD + RUN
    with Program("-c", source) as program:
        output = program.wait(code=1)
    assert "SerializationError: task 'start': its function is defined in an interactive session" in output
    assert "executor='thread'" in output


def test_no_bomb(script):
    """A script without a guard whose task starts processes that import the script, as multiprocessing does by spawn."""
    source = """
    import multiprocessing, sys
    from flowkit_core import DAG, task
    print("imported")
    def square(x):
        return x * x
    @task
    def pool():
        process = multiprocessing.get_context("spawn").Process(target=square, args=(2,))
        process.start()
        process.join()
        return process.exitcode
    print(DAG("bomb", max_workers=1, tasks=[pool]).run("process"))
    """
    output = script(source).wait()
    assert output.count("imported") <= 2
    assert output.endswith("}\n")


def test_a_run_that_begins_when_the_script_has_ended(script):
    """In a thread that outlives it: the script is no longer there to be executed again, so it is as a session."""
    source = """
    import sys, threading
    sys.modules["cloudpickle"] = None
    def later():
        threading.main_thread().join()
        try:
            dag.run("process")
        except TypeError as error:
            print(error)
    threading.Thread(target=later).start()
    """
    assert "is defined in an interactive session" in script(TASKS + dedent(source)).wait()


@pytest.mark.parametrize(
    "when",
    [
        (
            "while True:\n    if not os.environ.get('FLOWKIT_DEPTH'):\n        print(dag.run('process'))\n"
            "        break\n    time.sleep(1)\n"
        ),
        (
            "def forever():\n    if not os.environ.get('FLOWKIT_DEPTH'):\n        return print(dag.run('process'))\n"
            "    time.sleep(3600)\nforever()\n"
        ),
    ],
    ids=["loop", "call"],
)
def test_a_script_that_waits_for_the_right_time(script, when):
    """Workers do not wait with it."""
    assert script("import os, time\n" + TASKS + WITH_A_THREAD + when).wait() == RESULTS


def test_a_script_is_compiled_as_it_is(script):
    """With its own __future__ imports, and with no others."""
    source = """
    from flowkit_core import DAG, task
    def typed(x: int): ...
    @task
    def kind():
        return type(typed.__annotations__["x"]).__name__
    print(DAG("future", tasks=[kind]).run("process")["kind"])
    """
    assert script(source).wait() == "type\n"
    assert script("from __future__ import annotations\n" + dedent(source)).wait() == "str\n"


@pytest.mark.parametrize("redirection", ["<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(tmp_path, redirection):
    """As daemons have: what a task prints does not get between a worker and its run."""
    source = """
    import sys
    from flowkit_core import DAG, Task
    def large():
        print("out")
        print("err", file=sys.stderr)
        return bytes(200_000)
    tasks = [Task(large, name=f"task_{number}") for number in range(3)]
    results = DAG("closed", tasks=tasks).run("process")
    open("done", "w").write(str(len(results)))
    """
    (tmp_path / "script.py").write_text(dedent(source))
    with Program(
        "-c",
        f"import os; os.execv('/bin/sh', ['sh', '-c', {f'exec {sys.executable} script.py {redirection}'!r}])",
        cwd=tmp_path,
    ) as program:
        program.wait()
    assert (tmp_path / "done").read_text() == "3"


def test_a_broken_pipe_is_not_the_end_of_the_caller(script):
    """A script that has set SIGPIPE back to its default survives a worker that dies while it is being sent to."""
    source = """
    import os, signal
    from flowkit_core import DAG, Task
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    def die(*data):
        os._exit(3)
    tasks = [Task(die, name=f"task_{number}") for number in range(4)]
    dag = DAG("pipes", max_workers=1, tasks=tasks)
    failed = dag.run("process", fail_fast=False, raise_on_failure=False).failed
    print(len(failed))
    """
    assert script(source).wait() == "4\n"


# Interrupts and ends

BUSY = """
import os, signal, subprocess, sys, threading, time
from flowkit_core import DAG, Task

def busy():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    print("at work", flush=True)
    while True:
        time.sleep(3600)

def queued():
    print("began", flush=True)

def large():
    return bytes(1_000_000)

big = Task(large)
tasks = [Task(busy, name="one"), Task(busy, name="two"), *[Task(queued, name=f"queued_{n}") for n in range(100)]]
dag = DAG("busy", max_workers=2, tasks=[big, *tasks])
"""
CAUGHT = """
try:
    dag.run("process")
except KeyboardInterrupt as error:
    states = error.flowkit_results.states
    ran = [state for name, state in states.items() if name.startswith("queued") and state != "cancelled"]
    print("interrupted", states["large"], states["one"], len(ran), flush=True)
"""


def busy(script, source, **options):
    """Start a program and wait until both of its workers are at their endless tasks."""
    program = script(source, **options)
    until(lambda: program.output.count("at work") == 2 or program.process.poll() is not None)
    assert program.process.poll() is None, program.output
    until(lambda: len(program.descendants()) >= 5)
    return program


@pytest.mark.parametrize("group", [True, False], ids=["group", "alone"])
def test_ctrl_c(script, group):
    """From a terminal, or sent to the process alone: one KeyboardInterrupt, nothing queued begins, nothing is left."""
    program = busy(script, BUSY + CAUGHT)
    program.signal(signal.SIGINT, group=group)
    output = program.wait()
    began, ended = output.count("began"), int(output.split()[-1])
    assert output.endswith(f"interrupted succeeded cancelled {ended}\n")
    assert began - 1 <= ended <= began  # what is being taken in at the moment of the interrupt may be lost
    assert program.descendants() == []


def test_ctrl_c_that_nobody_catches(script):
    """One traceback, the shell's exit code."""
    program = busy(script, BUSY + "dag.run('process')\n")
    program.signal(signal.SIGINT, group=True)
    output = program.wait(code=-signal.SIGINT)
    assert output.count("Traceback") == 1
    assert program.descendants() == []


def test_ctrl_c_again_and_again(script):
    """However often, and whenever: it ends, and nothing is left."""
    program = busy(script, BUSY + "dag.run('process')\n")

    def ended():
        if program.process.poll() is None:
            program.signal(signal.SIGINT, group=True)
        return program.process.poll() is not None

    until(ended)
    until(lambda: not program.descendants())


def test_ctrl_c_while_another_thread_runs_the_pipeline(script):
    """The main thread is interrupted; the program ends when it wants to, and takes the workers with it."""
    source = """
    thread = threading.Thread(target=dag.run, args=("process",), daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    """
    program = busy(script, BUSY + dedent(source))
    program.signal(signal.SIGINT, group=True)
    assert program.wait().endswith("interrupted\n")
    until(lambda: not program.descendants())


def test_ctrl_c_in_pytest(script, tmp_path):
    """The session ends as interrupted."""
    (tmp_path / "test_busy.py").write_text(BUSY + "def test_busy():\n    dag.run('process')\n")
    source = "import sys, pytest\nsys.exit(pytest.main(['-s', '-p', 'no:cacheprovider', 'test_busy.py']))\n"
    program = busy(script, source, cwd=tmp_path)
    program.signal(signal.SIGINT, group=True)
    assert "KeyboardInterrupt" in program.wait(code=2)
    assert program.descendants() == []


def test_an_executor_survives_an_interrupt(script):
    """The next run on it works."""
    source = """
    from flowkit_exec import ProcessExecutor
    with ProcessExecutor(2) as executor:
        try:
            dag.run(executor)
        except KeyboardInterrupt:
            print(len(DAG("next", tasks=[big]).run(executor)["large"]))
    """
    program = busy(script, BUSY + dedent(source))
    program.signal(signal.SIGINT)
    assert program.wait().endswith("1000000\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_killed_program(script, number):
    """Its workers go with it, and so does what their tasks have started."""
    program = busy(script, BUSY + "dag.run('process')\n")
    program.signal(number)
    program.wait(code=-number)
    until(lambda: not program.descendants())


@pytest.mark.skipif(
    sys.platform != "linux", reason="platform: elsewhere a worker that holds the GIL ends when it lets go of it"
)
def test_a_killed_program_whose_workers_hold_the_gil(script):
    """The kernel ends them."""
    source = """
    import ctypes, os
    from flowkit_core import DAG, task
    @task
    def hold():
        print("holding", flush=True)
        ctypes.PyDLL(None).sleep(3600)
    DAG("gil", tasks=[hold]).run("process")
    """
    program = script(source)
    program.says("holding")
    program.signal(signal.SIGKILL)
    program.wait(code=-signal.SIGKILL)
    until(lambda: not program.descendants())


@pytest.mark.skipif(
    sys.platform != "linux", reason="platform: elsewhere workers end when the last copy of their lifeline is closed"
)
def test_a_killed_program_that_has_forked(script):
    """A child of its own, which lives on, does not keep the workers alive."""
    source = """
    def child():
        if not os.fork():
            time.sleep(3600)
    from flowkit_exec import ProcessExecutor
    executor = ProcessExecutor(2)
    DAG("warm", tasks=[big, Task(queued)]).run(executor)
    child()
    print("forked", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    program = script(BUSY + dedent(source))
    program.wait(code=-signal.SIGKILL)
    until(lambda: len(program.descendants()) == 1)


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="platform: shared memory has no folder here")
def test_shared_memory_is_freed(script):
    """Also when the program is killed: segments have no names."""
    before = set(SHARED_MEMORY.iterdir())
    program = busy(script, BUSY + "dag.run('process')\n")
    assert {
        name for name in set(SHARED_MEMORY.iterdir()) - before if "flowkit" in name.name or "psm" in name.name
    } == set()
    program.signal(signal.SIGKILL)
    program.wait(code=-signal.SIGKILL)


def test_an_executor_that_is_never_closed(script):
    """Its workers end with the program, in bounded time."""
    source = """
    from flowkit_exec import ProcessExecutor
    executor = ProcessExecutor(2)
    print(dag.run(executor))
    """
    program = script(TASKS + dedent(source))
    assert program.wait() == RESULTS
    assert program.descendants() == []


def test_interrupts_that_are_ignored_stay_ignored(script):
    """As under nohup."""
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


def test_the_time_limit_of_these_tests_works(script):
    """A hang is a failure that shows where."""
    program = script("import time\ntime.sleep(3600)\n")
    with pytest.raises(pytest.fail.Exception, match="it hung") as caught:
        program.wait(seconds=0.5)
    assert 'script.py", line 2' in str(caught.value)
