"""All distributions in a Python that lacks what Windows lacks; see ``tests/meta/windows/sitecustomize.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

IMITATION = Path(__file__).parent / "windows"
SECONDS = 240

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="platform: the imitation needs Linux"),
]


@pytest.fixture
def windows(request, tmp_path):
    """Return a function that runs a script in the imitation of Windows and returns its output."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def run(source, *arguments, code=0):
        path = tmp_path / "script.py"
        path.write_text(dedent(source))
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(IMITATION), os.environ.get("PYTHONPATH")])),
            "TMPDIR": str(temporary),
        }
        environment.pop("FLOWKIT_TRANSPORT", None)
        done = subprocess.run(
            [sys.executable, path, *arguments],
            check=False,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == code, done.stdout
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    yield run
    if "killed" not in request.node.name:  # its workers cannot delete what they have mapped
        assert list(temporary.iterdir()) == []


def test_all_modules_but_those_of_the_posix_transport_can_be_imported(windows):
    source = """
    import importlib, pkgutil, sys
    assert sys.platform == "win32"
    for name in ("flowkit_core", "flowkit_exec", "flowkit_flow", "flowkit_log", "flowkit_state", "flowkit"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, name + "."):
            try:
                if ".posix" not in module.name:
                    importlib.import_module(module.name)
            except ModuleNotFoundError as error:  # of a library that is optional
                if error.name in sys.modules or error.name.startswith("flowkit"):
                    raise
    print("imported")
    """
    assert windows(source) == "imported\n"


MODULE = """
import logging, os

def numbers():
    in_worker = os.getppid() == int(os.environ["CALLER"])
    logging.getLogger("numbers").warning("made in a %s", "worker" if in_worker else "thread")
    return bytes(1_000_000)

def size(numbers):
    return len(numbers)

def fails(name):
    if os.path.exists(name):
        return "second try"
    open(name, "w").close()
    if os.getppid() == int(os.environ["CALLER"]):
        os._exit(3)
    raise OSError("first try")

async def waits():
    return "awaited"
"""


@pytest.mark.sampled(3)
@pytest.mark.parametrize("executor", ["serial", "thread", "process"])
def test_pipeline_runs_on_every_executor(windows, tmp_path, executor):
    (tmp_path / "module.py").write_text(MODULE)
    source = """
    import logging, os, sys
    import module
    from flowkit import DAG, Task
    os.environ["CALLER"] = str(os.getpid())
    logging.basicConfig(stream=sys.stdout, format="%(name)s: %(message)s")
    logging.getLogger("flowkit").setLevel(logging.ERROR)
    numbers, size = Task(module.numbers), Task(module.size)
    numbers >> size
    tasks = [size, Task(module.fails, retries=1, delay=0.01), Task(module.waits)]
    results = DAG("everywhere", tasks=tasks).run(sys.argv[1], params={"name": "tried"})
    print(results["size"], results["fails"], results["waits"], results.attempts["fails"])
    """
    where = "worker" if executor == "process" else "thread"
    assert windows(source, executor) == f"numbers: made in a {where}\n1000000 second try awaited 2\n"


@pytest.mark.exhaustive
def test_process_executor_passes_checks_of_executors(windows):
    source = """
    from flowkit_core.testing import check_executor, executor_checks
    from flowkit_exec import ProcessExecutor
    some = executor_checks()[::8]  # each takes the time that Python needs to start twice in the imitation
    print(len(check_executor(lambda: ProcessExecutor(2), only=some, timeout=None)) > len(some) // 2)
    """
    assert windows(source) == "True\n"


def test_worker_that_dies_is_blamed_on_its_task(windows, tmp_path):
    source = """
    import os
    from flowkit import DAG, Task, WorkerDiedError
    def dies():
        os._exit(7)
    def lives():
        return "lives"
    results = DAG("death", tasks=[Task(dies), Task(lives)]).run("process", fail_fast=False, raise_on_failure=False)
    print(results, repr(results.failed["dies"].exitcode))
    """
    assert windows(source) == "{'lives': 'lives'} 7\n"


@pytest.mark.exhaustive
def test_workers_of_a_program_that_is_killed_end(windows, tmp_path):
    source = """
    import os, subprocess, sys, time
    from flowkit import DAG, Task
    def waits():
        print(os.getpid(), flush=True)
        time.sleep(3600)
    if sys.argv[1:]:
        DAG("killed", tasks=[Task(waits)]).run("process")
    with subprocess.Popen([sys.executable, sys.argv[0], "run"], stdout=subprocess.PIPE, text=True) as program:
        worker = int(program.stdout.readline())
        os.kill(program.pid, 9)
        program.wait()
        while os.path.exists(f"/proc/{worker}"):
            time.sleep(0.01)
    print("ended")
    """
    assert windows(source) == "ended\n"


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["state.json", "state.db"])
def test_state_is_shared_by_processes(windows, name):
    source = """
    import subprocess, sys
    from flowkit import StateManager
    state = StateManager(sys.argv[1])
    if sys.argv[2:]:
        for _ in range(50):
            with state.batch():
                state.set("count", state.get("count", 0) + 1)
    else:
        others = [subprocess.Popen([sys.executable, *sys.argv, "count"]) for _ in range(2)]
        print([other.wait() for other in others], state.get("count"))
    """
    assert windows(source, name) == "[0, 0] 100\n"


@pytest.mark.exhaustive
def test_run_of_a_process_that_was_killed_is_resumed(windows):
    source = """
    import os, subprocess, sys
    from flowkit import DAG, RunInUseError, StateManager, task
    @task
    def first():
        print("first", flush=True)
        return 1
    @task
    def second(first):
        if sys.argv[1:]:
            print("second", flush=True)
            sys.stdin.read()
        return first + 1
    first >> second
    dag = DAG("resumed")
    state = StateManager("state.db")
    if sys.argv[1:]:
        dag.run("serial", state=state)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, sys.argv[0], "run"], **pipes) as program:
        print(program.stdout.readline(), program.stdout.readline(), sep="", end="")
        try:
            dag.run("serial", state=state, resume=True)
        except RunInUseError as error:
            print(error.pid == program.pid)
        os.kill(program.pid, 9)
    print(dag.run("serial", state=state, resume=True)["second"])
    """
    assert windows(source) == "first\nsecond\nTrue\n2\n"
