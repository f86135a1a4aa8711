"""Programs that use process workers: how they begin, how they are interrupted, and that nothing is left of them."""

from __future__ import annotations

import contextlib
import os
import py_compile
import re
import select
import signal
import subprocess
import sys
from textwrap import dedent

import pytest
from subprocess_harness import PROC, SECONDS, Program, until

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


FORKS = pytest.mark.skipif(
    sys.platform != "linux",
    reason="platform: only Linux tells how many threads there are, so only there is a fork safe",
)


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
        + "import threading\ndone = threading.Event()\n"
        + "threading.Thread(target=lambda: (print(dag.run('process')), done.set())).start()\ndone.wait()\n",
        TASKS
        + "from flowkit_exec import ProcessExecutor\nwith ProcessExecutor(2) as executor:\n"
        + "    dag.run(executor)\n    print(dag.run(executor))\n",
    ],
    ids=["unguarded", "beside a thread", "guarded", "main()", "exits", "in a thread", "waits for a thread", "warm"],
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
            "'late' is defined at or after the first run() of the script, in line ",
        ),
        (
            (
                "if __name__ == '__main__':\n    @task\n    def late():\n        return 1\n"
                "    DAG('late', tasks=[late]).run('process')\n"
            ),
            "without those under if __name__ == '__main__'",
        ),
        (
            (
                "import os\nif os.environ.get('FLOWKIT_DEPTH'):\n    1 / 0\n@task\ndef late():\n    return 1\n"
                "DAG('late', tasks=[late]).run('process')\n"
            ),
            "ZeroDivisionError",
        ),
        (
            (
                "import os\nclass Mute(Exception):\n    def __str__(self):\n        raise RuntimeError\n"
                "if os.environ.get('FLOWKIT_DEPTH'):\n    raise Mute\n@task\ndef late():\n    return 1\n"
                "DAG('late', tasks=[late]).run('process')\n"
            ),
            "raised Mute: <unprintable> in line",
        ),
    ],
    ids=["after a run", "under the guard", "after an error", "after an error without a text"],
)
def test_what_a_worker_cannot_see_of_a_script(script, late, words):
    """The error names the task and says why, beside threads, where no fork helps."""
    output = script(TASKS + WITH_A_THREAD + "import sys\nsys.modules['cloudpickle'] = None\n" + late).wait(code=1)
    assert "SerializationError: task 'late': its function could not be found in the worker" in output
    assert words in output


@pytest.mark.parametrize(
    ("once", "why"),
    [
        ("os.mkdir('made once')", "FileExistsError"),
        ("sys.exit(0) if os.path.exists('here') else open('here', 'x')", "SystemExit"),
    ],
    ids=["an error", "an exit"],
)
def test_half_a_script_is_not_taken_for_the_whole(script, tmp_path, once, why):
    """What fails when it is executed once more stands above what a task reads: an error, which says the line."""
    source = f"""
    import os, sys
    from flowkit_core import DAG, task
    factor = 1
    def scale(number):
        return number * factor
    @task
    def scaled():
        return scale(10)
    {once}
    factor = 5
    print(DAG("half").run(sys.argv[1]))
    """
    assert script(source, "thread", cwd=tmp_path).wait() == "{'scaled': 50}\n"
    for path in (tmp_path / "made once", tmp_path / "here"):
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
    output = script(source, "process", cwd=tmp_path).wait(code=1)
    assert "task 'scaled': its function could not be found in the worker" in output
    assert f"executed in the worker, raised {why}" in output
    assert "in line 10, before 'factor' was defined" in output
    assert "under if __name__ == '__main__', into a task, or after run()" in output


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


@FORKS
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


def test_text_without_an_end_of_line_is_not_lost(script):
    """Neither in a fresh worker, nor in one that was forked for a lambda."""
    source = """
    import sys
    from flowkit_core import DAG, Task
    def say(): sys.stdout.write("fresh ")
    DAG("fresh", tasks=[Task(say)]).run("process", max_workers=1)
    DAG("fork", tasks=[Task(lambda: sys.stdout.write("fork "), name="say")]).run("process", max_workers=1)
    """
    assert script(source).wait() == "fresh fork "


def test_a_fork_right_after_threads_have_ended(script):
    """The system may still list a thread that was joined; it is not in the way."""
    source = """
    from flowkit_core import DAG, Task
    quick = [Task(lambda: None, name=f"quick_{number}") for number in range(3)]
    for _ in range(10):
        DAG("threads", tasks=quick).run("thread", max_workers=8)
        DAG("forks", tasks=quick[:1]).run("process", max_workers=1)
    print("none was refused")
    """
    assert script(source).wait() == "none was refused\n"


def test_no_fork_once_there_are_threads(script):
    """The run was begun without; a worker has died since, and its place cannot be taken safely."""
    source = """
    import os, threading
    from flowkit_core import DAG, ExecutorError, Task
    done = threading.Event()
    start = Task(lambda: None, name="start")
    def condition(_):
        threading.Thread(target=done.wait).start()
        return True
    dies = Task(lambda _: os._exit(3), name="dies", when=condition, retries=1, delay=0)
    start >> dies
    try:
        DAG("forks", tasks=[dies]).run("process", max_workers=1)
    except ExecutorError as error:
        print(error)
    finally:
        done.set()
    """
    output = script(source).wait()
    assert "has started threads since the run began" in output
    assert "or use executor='thread'" in output


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="platform: there are no pseudo-terminals")
def test_a_task_that_talks_to_the_terminal(script):
    """Workers are in the background of it: they must not be stopped for that, or nothing would go on."""
    main, terminal = os.openpty()
    source = """
    import fcntl, subprocess, termios
    if __name__ == "__main__":
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        subprocess.run(["stty", "tostop"], check=True)
    from flowkit_core import DAG, task
    @task
    def talk():
        print("from the task", flush=True)
        subprocess.run(["stty", "-F", "/dev/tty", "sane"], check=False)
        return 1
    print(DAG("terminal", tasks=[talk]).run("process"), flush=True)
    """
    program = script(source, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    said = b""
    with contextlib.suppress(OSError):  # the end of the program is the end of the terminal
        while b"}" not in said and select.select([main], [], [], SECONDS)[0]:
            said += os.read(main, 1024)
    program.wait()
    os.close(main)
    assert b"from the task" in said
    assert b"{'talk': 1}" in said


def test_a_program_that_was_compiled(script, tmp_path):
    """There is no source to be looked at."""
    source = tmp_path / "source.py"
    source.write_text(TASKS + RUN)
    compiled = py_compile.compile(str(source), cfile=str(tmp_path / "compiled.pyc"))
    source.unlink()
    with Program(compiled) as program:
        assert program.wait() == RESULTS


@pytest.mark.parametrize("what", ["executor.close()", "DAG('inner', tasks=[one]).run(executor)"])
def test_a_handler_of_a_signal_that_uses_the_executor(script, what):
    """At any moment of a run of the same executor."""
    source = f"""
    import signal, sys
    from flowkit_core import DAG, ExecutorError, Task
    from flowkit_exec import ProcessExecutor
    one = Task(int, name="one")
    DAG("first", tasks=[one]).run("process")  # a handler that comes upon an import finds half a module
    heard, within = [], []
    def handler(*_):
        heard.append(1)
        if len(heard) >= 300:  # where a handler takes longer than the timer, nothing else would get on
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


def test_a_handler_that_exits_while_results_are_taken_in(script):
    """It means the program: no task is to blame for what its result seems to raise then."""
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


def test_large_results_under_fire(script):
    """An interrupt at any moment loses results at most: what there is, is what its task returned."""
    source = """
    import random, signal, sys, time
    from flowkit_core import DAG, Task
    from flowkit_exec import ProcessExecutor
    sys.unraisablehook = lambda _: None  # some arrive while Python cleans up, and are lost there
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
            while turn < 60 or not interrupted:
                turn += 1
                if turn % 3:  # else most interrupts would come upon the start of workers
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


def test_workers_leave_descriptors_for_results(script):
    """No more of them start than this process may have files for."""
    source = """
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    from flowkit_core import DAG, Task
    def make(): return bytes(100_000)
    if __name__ == "__main__":
        tasks = [Task(make, name=f"make_{number}") for number in range(120)]
        print(len(DAG("many", tasks=tasks).run("process", max_workers=16)))
    """
    assert script(source).wait() == "120\n"


def test_ticket_pipes_that_hold_little(script):
    """As the system gives them to a user who has many; long chains and many of them."""
    source = """
    import fcntl, os
    make = os.pipe
    def small():
        ends = make()
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
        return ends
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        small = make
    os.pipe = small
    from flowkit_core import DAG, Task
    ends = []
    for number in range(2000):
        chain = [Task(kind, name=f"{kind.__name__}_{number}") for kind in (int, float, abs)]
        chain[0] >> chain[1] >> chain[2]
        ends.append(chain[2])
    print(len(DAG("chains", tasks=ends).run("process", max_workers=1)))
    """
    assert script(source).wait() == "6000\n"


def test_a_default_timeout_of_sockets(script, tmp_path):
    """As programs set it that talk to the network: it is none of the connections to workers."""
    source = """
    import socket, time
    from flowkit_core import DAG, Task
    socket.setdefaulttimeout(0.05)
    def seed(): return ["x" * 40, 3] * 900
    def work(rows, *, number=0):
        if number == 20: time.sleep(0.5)
        return len(rows)
    def make(number):
        def call(rows): return work(rows, number=number)
        return call
    seed, rest = Task(seed), [Task(make(number), name=f"work_{number}") for number in range(200)]
    seed >> rest
    print(len(DAG("timeout", tasks=rest).run("process", max_workers=1)))
    """
    assert script(source).wait() == "201\n"


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_module_that_runs_a_pipeline_when_it_is_imported(script, tmp_path, executor):
    """Workers do not run it again: they say what is to be done about it, and that is all."""
    count = "with open('imports', 'a') as file:\n    file.write('.')\n"
    module = count + TASKS + f"try:\n    print(dag.run({executor!r}))\nexcept TypeError as error:\n    print(error)\n"
    (tmp_path / "jobs.py").write_text(module)
    source = "import jobs\nprint(jobs.dag.run('process', raise_on_failure=False).failed['start'])\n"
    lines = script(WITH_A_THREAD + source, cwd=tmp_path).wait().splitlines()
    words = "could not be found in the worker (RunDuringImport: importing its module runs a pipeline: put that under if"
    assert words in lines[1]
    assert lines[0] == RESULTS.strip() if executor == "thread" else words in lines[0]
    assert (tmp_path / "imports").stat().st_size <= 1 + 2 * (1 + (executor == "process"))


def test_a_system_that_is_not_posix(script):
    """One error, where the executor is made; importing it is fine, and so are threads."""
    source = """
    import sys
    sys.modules["fcntl"] = sys.modules["resource"] = None
    from flowkit_core import DAG, ExecutorError, Task
    from flowkit_exec import ProcessExecutor
    dag = DAG("windows", tasks=[Task(int, name="zero")])
    for attempt in (ProcessExecutor, lambda: dag.run("process")):
        try:
            attempt()
        except ExecutorError as error:
            print(error)
    print(dag.run("thread"))
    """
    sentence = "the process executor needs a POSIX system, such as Linux or macOS: use executor='thread' here\n"
    assert script(source).wait() == 2 * sentence + "{'zero': 0}\n"


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


@pytest.mark.parametrize(
    "around",
    [
        "try:\n    {run}\nexcept ValueError:\n    pass\nfinally:\n    shutil.rmtree('work')",
        "try:\n    try:\n        {run}\n    except:\n        shutil.rmtree('work')\n        raise\nfinally:\n    pass",
        "with folder():\n    {run}",
        "with contextlib.ExitStack() as stack:\n    stack.callback(shutil.rmtree, 'work')\n    {run}",
        "for data in folders():\n    {run}",
    ],
    ids=["finally", "except", "with", "stack", "generator"],
)
def test_statement_around_the_first_run_is_not_executed_in_workers(script, tmp_path, around):
    """It would delete a folder that the tasks use."""
    source = """
    import contextlib, os, shutil
    from flowkit_core import DAG, task

    @contextlib.contextmanager
    def folder():
        try:
            yield "data"
        finally:
            shutil.rmtree("work")

    def folders():
        try:
            yield 2
        finally:
            shutil.rmtree("work")

    @task
    def write():
        with open("work/a", "w") as file:
            file.write("a")

    @task
    def read(write):
        with open("work/a") as file:
            return file.read()

    write >> read
    os.makedirs("work", exist_ok=True)
    """
    run = "print(DAG('around', max_workers=1, tasks=[read]).run('process')['read'])"
    program = script(dedent(source) + WITH_A_THREAD + around.format(run=run), cwd=tmp_path)
    assert program.wait() == "a\n"
    assert not (tmp_path / "work").exists() or "except" in around


@pytest.mark.parametrize(
    "source",
    [
        "DAG('first', tasks=[one]).run('serial')\nrate = 5\n{run}",
        "DAG('first', tasks=[one]).run('serial')\nrates.append(5)\nrates[0] = 5\n{run}",
        "DAG('first', tasks=[one]).run('serial')\nif True:\n    rate = 5\n    {run}",
        "DAG('first', tasks=[one]).run('serial'); rate = 5; {run}",
        "try:\n    DAG('first', tasks=[one]).run()\n    rate = 5\n    {run}\nfinally:\n    pass",
        "with open(__file__) as rate:\n    {run}",
        "for rate in (2, 3):\n    {run}",
        "if (rate := 2):\n    {run}",
        "with ProcessExecutor(1) as executor:\n    rate = 5\n    {run}",
        "executor = ProcessExecutor(1)\nDAG('first', tasks=[one]).run(executor)\nrate = 5\n{run}",
    ],
)
def test_global_bound_at_or_after_the_first_run_is_an_error(script, tmp_path, source):
    """A task must not read the value that was assigned before."""
    head = """
    from flowkit_core import DAG, task
    from flowkit_exec import ProcessExecutor
    rate, rates = 1, [1]
    @task
    def one():
        return rate, rates
    """
    run = f"DAG('one', tasks=[one]).run({'executor' if 'executor' in source else repr('process')})"
    output = script(dedent(head) + WITH_A_THREAD + source.format(run=run), cwd=tmp_path).wait(code=1)
    assert "SerializationError: task 'one': its function could not be found in the worker" in output
    assert re.search("'rates?' is defined at or after the first run\\(\\) of the script, in line ", output)


@pytest.mark.parametrize(
    "source",
    [
        "rate = print({run})",
        "import os\nprint({run})",
        "print({run})\nrate = 5",
        "results = {run}\nimport os\nos.altsep = None\nprint({run})",
    ],
    ids=["binds its result", "imports again before", "binds later", "imports again between"],
)
def test_global_not_rebound_when_run_is_called_is_found(script, source):
    head = """
    import os
    from flowkit_core import DAG, task
    rate = 1
    @task
    def one():
        return rate, os.sep
    """
    run = "DAG('one', tasks=[one]).run('process')['one']"
    assert script(dedent(head) + WITH_A_THREAD + source.format(run=run)).wait() == "(1, '/')\n"


def test_task_in_the_statement_of_the_first_run_is_an_error(script):
    source = """
    from flowkit_core import DAG, task
    with open(__file__) as file:
        @task
        def one():
            return 1
        DAG("whole", tasks=[one]).run("process")
    """
    output = script(WITH_A_THREAD + dedent(source)).wait(code=1)
    assert "'one' is defined at or after the first run() of the script, in line " in output


@pytest.mark.parametrize(
    "source",
    [
        "while True:\n    try:\n        print(dag.run('process'))\n        break\n    except:\n        pass\n",
        "for _ in range(9):\n    try:\n        print(dag.run('process'))\n        break\n    except:\n        pass\n",
    ],
    ids=["while", "for"],
)
def test_a_script_that_would_never_get_past_its_run(script, source):
    """Workers do not wait for what only the program itself can have."""
    assert script(TASKS + WITH_A_THREAD + source).wait() == RESULTS


def test_a_script_that_takes_long_is_told(script):
    """Here a worker waits for what the program has; that is warned of, and only then is it let go."""
    source = """
    import fcntl, warnings
    lock = open(__file__)
    fcntl.flock(lock, fcntl.LOCK_EX)
    warnings.showwarning = lambda message, *_: (print(message), fcntl.flock(lock, fcntl.LOCK_UN))
    """
    output = script(dedent(source) + TASKS + WITH_A_THREAD + RUN).wait()
    assert "has been executing the script for 5 s, up to its first run(), to define its tasks" in output
    assert output.endswith(RESULTS)


@pytest.mark.parametrize(
    "change",
    [
        "os.chdir('..')",
        "os.mkdir('below') if not os.path.isdir('below') else None\nos.chdir('below')",
        "del sys.argv[1]",
        "os.environ['ADDED'] = os.environ.get('ADDED', '') + '+'",
    ],
)
def test_a_script_that_changes_its_surroundings_changes_them_once(script, tmp_path, change):
    """Executed once more it begins where the program began, and what tasks see is what there was at run()."""
    source = """
    from flowkit_core import DAG, task
    import os, sys
    CHANGE
    @task
    def seen():
        return os.getcwd(), sys.argv, os.environ.get("ADDED")
    print(DAG("surroundings", tasks=[seen]).run("process")["seen"] == (os.getcwd(), sys.argv, os.environ.get("ADDED")))
    """
    (tmp_path / "here").mkdir()
    program = script(dedent(source).replace("CHANGE", change) + WITH_A_THREAD, "an argument", cwd=tmp_path / "here")
    assert program.wait() == "True\n"


def test_two_scripts_in_one_process(script, tmp_path):
    """Each has its own classes, also where they have one name."""
    for name, more in (("first", ""), ("second", "y: int = 7")):
        source = f"""
        import dataclasses
        from flowkit_core import DAG, task
        @dataclasses.dataclass
        class Point:
            x: int
            {more}
        @task
        def point():
            return Point(1)
        value = DAG("point", tasks=[point]).run("process")["point"]
        print(value, type(value) is Point)
        """
        (tmp_path / f"{name}.py").write_text(dedent(source))
    source = "import runpy\nfor name in ('first.py', 'second.py'):\n    runpy.run_path(name, run_name='__main__')\n"
    assert script(source, cwd=tmp_path).wait() == "Point(x=1) True\nPoint(x=1, y=7) True\n"


@pytest.mark.parametrize("own", ["", "log.addHandler(logging.StreamHandler(sys.stdout))\nlog.propagate = False\n"])
def test_log_records_of_a_script_are_handled_once(script, tmp_path, own):
    """With the name and level of the logger of the script; also in a log file that each worker opens again."""
    source = """
    import logging, sys
    from flowkit_core import DAG, task
    logging.basicConfig(format="%(name)s %(message)s", stream=sys.stdout)
    logging.getLogger().addHandler(logging.FileHandler("log"))
    log = logging.getLogger(__name__)
    log.setLevel(logging.DEBUG)
    OWN
    log.warning("before the run")
    @task
    def one():
        log.debug("in the task")
    DAG("logs", tasks=[one]).run("process")
    """
    lines = ["before the run", "in the task"]
    output = script(dedent(source).replace("OWN", own) + WITH_A_THREAD, cwd=tmp_path).wait()
    assert output.splitlines() == lines if own else [f"__main__ {line}" for line in lines]
    assert (tmp_path / "log").read_text().splitlines() == ([] if own else lines)


def test_a_module_that_changes(script, tmp_path):
    """Warm workers know a module that was reloaded; of a file that is newer than the program there is an error."""
    source = """
    import importlib, os, sys
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.getcwd())
    from flowkit_core import DAG, SerializationError, Task
    from flowkit_exec import ProcessExecutor
    def edit(text):
        with open("jobs.py", "w") as file:
            file.write(f"text = {text!r} # {len(text)}\\ndef job(): return text, {text!r}")
    def run(executor):
        return "+".join(DAG("jobs", tasks=[Task(jobs.job)]).run(executor)["job"])
    if __name__ == "__main__":
        edit("old")
        import jobs
        with ProcessExecutor(1) as executor:
            print(run(executor))
            edit("newer")
            importlib.reload(jobs)
            print(run(executor), run(executor))
            edit("newest")
            print(run(executor))
        try:
            run("process")
        except SerializationError as error:
            print(error)
    """
    lines = script(source, cwd=tmp_path).wait().splitlines()
    assert lines[:3] == ["old+old", "newer+newer newer+newer", "newer+newer"]
    assert "job is another function there: its code is not the same; perhaps it was defined again" in lines[3]


def test_functions_behind_a_cache(script):
    """By name, as the functions that they are."""
    source = """
    import functools
    from flowkit_core import DAG, task
    @task
    @functools.cache
    def kept():
        return 1
    """
    run = 'print(DAG("kept", tasks=[kept]).run("process"))\n'
    assert script(dedent(source) + WITH_A_THREAD + run).wait() == "{'kept': 1}\n"
    other = dedent(source).replace(
        "@functools.cache", "@(lambda f: f if os.environ.get('FLOWKIT_DEPTH') else functools.cache(f))"
    )
    output = script("import os\n" + other + WITH_A_THREAD + run, name="other.py").wait(code=1)
    assert "kept is another function there" in output


def test_a_worker_that_may_open_no_more_files(script):
    """A large argument says so; and a fork that a task makes there does not answer for the task."""
    source = """
    import os, resource
    from flowkit_core import DAG, task

    @task
    def big():
        return bytes(1_000_000)

    @task
    def forks(big):
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
        try:
            while True:
                kept.append(os.dup(2))
        except OSError:
            pass
        if os.fork() == 0:
            return "the fork"
        os.wait()
        return "the worker"

    @task
    def use(big, forks):
        return len(big)

    kept = []
    big >> forks
    [big, forks] >> use
    results = DAG("full", tasks=[use], max_workers=1).run("process", raise_on_failure=False)
    print(results["forks"], results.failed["use"])
    """
    output = script(source).wait()
    assert output.startswith("the worker task 'use': its argument could not be unpickled in the worker (OSError: ")
    assert "a large value needs a file descriptor, and this worker may open no more" in output


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


def test_a_broken_standard_output(script, tmp_path):
    """What a task prints fails in that task, as Python says; nothing else does."""
    source = """
    import sys
    from flowkit_core import DAG, Task
    def loud():
        print("x" * 100_000)
    def quiet():
        return bytes(200_000)
    tasks = [Task(loud), *[Task(quiet, name=f"quiet_{number}") for number in range(6)]]
    sys.stdin.read()
    results = DAG("broken", max_workers=2, tasks=tasks).run("process", fail_fast=False, raise_on_failure=False)
    open("done", "w").write(f"{len(results)} {results.failed!r}")
    """
    program = script(source, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    program.process.stdout.close()
    program.process.stdin.close()
    program.wait()
    assert (tmp_path / "done").read_text() == "6 {'loud': BrokenPipeError(32, 'Broken pipe')}"


def test_a_crash_shows_its_stack(script):
    """Once, on standard error, with the line of the task."""
    source = """
    import ctypes, os
    os.environ.pop("PYTHONFAULTHANDLER", None)
    from flowkit_core import DAG, Task
    def crash():
        ctypes.string_at(0)
    print(DAG("crash", tasks=[Task(crash)]).run("process", raise_on_failure=False).failed["crash"].signal)
    """
    output = script(source).wait()
    assert output.count("Fatal Python error: Segmentation fault") == 1
    assert output.count(" in crash\n") == 1
    assert output.endswith("SIGSEGV\n")


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
# As lambdas, which get to workers with a fork of the program.
FORKED = (
    BUSY.replace("Task(busy,", "Task(lambda: busy(),").replace("Task(large)", "Task(lambda: large(), name='large')")
    + "sys.modules['cloudpickle'] = None\n"
)
BOTH = pytest.mark.parametrize("busily", [BUSY, pytest.param(FORKED, marks=FORKS)], ids=["fresh", "forked"])
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


@BOTH
@pytest.mark.parametrize("group", [True, False], ids=["group", "alone"])
def test_ctrl_c(script, busily, group):
    """From a terminal, or sent to the process alone: one KeyboardInterrupt, nothing queued begins, nothing is left."""
    program = busy(script, busily + CAUGHT)
    program.signal(signal.SIGINT, group=group)
    output = program.wait()
    began, (*_, large, one, ended) = output.count("began"), output.split()
    assert output.endswith(f"interrupted {large} {one} {ended}\n")
    assert one == "cancelled"
    # "large" has run; but one result, which is being taken in at the moment of the interrupt, may be lost
    assert began <= (large == "succeeded") + int(ended) <= began + 1
    until(lambda: not program.descendants())  # what tasks have started was killed, and may take a moment to be gone


def test_ctrl_c_that_nobody_catches(script):
    """One traceback, the shell's exit code."""
    program = busy(script, BUSY + "dag.run('process')\n")
    program.signal(signal.SIGINT, group=True)
    output = program.wait(code=-signal.SIGINT)
    assert output.count("Traceback") == 1
    until(lambda: not program.descendants())


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
    until(lambda: not program.descendants())


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


@BOTH
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_killed_program(script, busily, number):
    """Its workers go with it, and so does what their tasks have started."""
    program = busy(script, busily + "dag.run('process')\n")
    program.signal(number)
    program.wait(code=-number)
    until(lambda: not program.descendants())


@BOTH
@pytest.mark.parametrize(
    ("handler", "code", "said"),
    [("signal.default_int_handler", 0, "interrupted"), ("lambda *_: sys.exit(7)", 7, "")],
    ids=["interrupt", "exit"],
)
def test_sigterm_with_a_handler(script, busily, handler, code, said):
    """The program ends as the handler says, and nothing is left."""
    program = busy(script, f"{busily}signal.signal(signal.SIGTERM, {handler})\n{CAUGHT}")
    program.signal(signal.SIGTERM)
    output = program.wait(code=code)
    assert ("interrupted" in output) == bool(said)
    assert "Traceback" not in output
    until(lambda: not program.descendants())


def test_a_killed_program_whose_task_runs_a_pipeline(script):
    """The workers of its workers go too."""
    source = """
    def outer():
        DAG("inner", max_workers=1, tasks=[Task(busy, name="inner")]).run("process")
    dag = DAG("outer", max_workers=2, tasks=[Task(outer, name=f"outer_{number}") for number in range(2)])
    dag.run("process")
    """
    program = busy(script, BUSY + dedent(source))
    until(lambda: len(program.descendants()) >= 1 + 2 + 2 + 2)
    program.signal(signal.SIGKILL)
    program.wait(code=-signal.SIGKILL)
    until(lambda: not program.descendants())


@FORKS
def test_a_fork_that_dies(script, tmp_path):
    """Costs its own task, and its retries; after a failure, what else runs is ended before run() raises."""
    source = """
    import contextlib, os, pathlib, sys, time
    from flowkit_core import DAG, Task, WorkerDiedError
    sys.modules["cloudpickle"] = None
    def die():
        with open("tries", "ab") as file:
            file.write(b".")
        os._exit(3)
    def wait():
        pathlib.Path("pid").write_text(str(os.getpid()))
        time.sleep(3600)
    def fail():
        while not pathlib.Path("pid").exists() or not pathlib.Path("pid").read_text():
            time.sleep(0.005)
        1 / 0
    others = [Task(lambda: "ok", name=f"other_{number}") for number in range(20)]
    dying = Task(lambda: die(), name="dying", retries=1, delay=0)
    dag = DAG("deaths", max_workers=2, tasks=[*others[:10], dying, *others[10:]])
    results = dag.run("process", fail_fast=False, raise_on_failure=False)
    print(len(results), results.failed["dying"].exitcode, len(open("tries").read()))
    try:
        ends = [Task(lambda: wait(), name="w"), Task(lambda: fail(), name="f")]
        DAG("stop", max_workers=2, tasks=ends).run("process")
    except ZeroDivisionError as error:
        print(error.flowkit_results.states["w"])
    try:
        os.kill(int(open("pid").read()), 0)
    except ProcessLookupError:
        print("gone")
    """
    assert script(source, cwd=tmp_path).wait() == "20 3 2\ncancelled\ngone\n"


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


def segments(processes="[0-9]*"):
    """Return what identifies the segments of shared memory that processes have open or mapped."""
    found = set()
    for folder in PROC.glob(str(processes)):
        with contextlib.suppress(OSError):
            paths = list((folder / "fd").iterdir())
            found |= {path.stat().st_ino for path in paths if "memfd:flowkit" in str(path.readlink())}
        with contextlib.suppress(OSError):
            maps = (folder / "maps").read_text().splitlines()
            found |= {int(line.split()[4]) for line in maps if "memfd:flowkit" in line}
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="platform: segments of shared memory are found in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_shared_memory_is_freed(script, number):
    """With the last process that uses it, however that ends; and when a run has ended, before the program does."""
    source = """
    def hold(large, param):
        print("at work", flush=True)
        time.sleep(3600)
    def use(large, param):
        return len(large) + len(param)
    params = {"param": bytes(1_000_000)}
    user, holders = Task(use), [Task(hold, name=f"hold_{number}") for number in range(2)]
    big >> [user, *holders]
    print(DAG("over", tasks=[user]).run("process", params=params)["use"], flush=True)
    sys.stdin.readline()
    DAG("under way", max_workers=2, tasks=holders).run("process", params=params)
    """
    program = script(BUSY + dedent(source), stdin=subprocess.PIPE)
    program.says("2000000")
    assert segments(program.process.pid) == set()
    program.process.stdin.write(b"\n")
    program.process.stdin.close()
    until(lambda: program.output.count("at work") == 2)
    held = segments(program.process.pid)
    assert len(held) == 2
    program.signal(number)
    program.wait(code=-number)
    until(lambda: not held & segments())


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
    program = script("import time\nprint('here', flush=True) or time.sleep(3600)\n")
    program.says("here")  # before that, nothing shows stacks yet
    with pytest.raises(pytest.fail.Exception, match="it hung") as caught:
        program.wait(seconds=0.5)
    assert 'script.py", line 2' in str(caught.value)
