"""Ends of workers: in order, and they leave no descriptor, thread or process."""

from __future__ import annotations

import gc
import logging
import threading
from functools import partial
from textwrap import dedent

import faulty_tasks as faults
import pytest
from process_checks import RecordingHandler, child_pids, count_descriptors, has_ended, outcome, run
from script_sources import FORKS, RESULTS, TASKS
from subprocess_harness import guarded, until

from flowkit_core import (
    Task,
)
from flowkit_exec import ProcessExecutor
from flowkit_exec.process.workers import handle as worker_handle

pytestmark = pytest.mark.slow


AT_TOP = """
import atexit, csv, gzip, os, sys, tempfile, threading, time, weakref
from pathlib import Path
from flowkit_core import DAG, Task
from flowkit_exec import ProcessExecutor
Path("out").mkdir(exist_ok=True)
text = open(f"out/{os.getpid()}.txt", "w")
table = csv.writer(open(f"out/{os.getpid()}.csv", "w", newline=""))
packed = gzip.open(f"out/{os.getpid()}.gz", "wt")
folder = tempfile.TemporaryDirectory(dir="out", prefix="temporary")
atexit.register(lambda: Path(f"out/{os.getpid()}.atexit").touch())
class Owner: pass
owner = Owner()
weakref.finalize(owner, Path(f"out/{os.getpid()}.finalize").touch)
def write():
    text.write("text")
    table.writerow(["row"])
    packed.write("packed")
    def late():
        time.sleep(0.3)
        Path(f"out/{os.getpid()}.thread").touch()
    threading.Thread(target=late).start()
    return os.getpid()
"""

IN_TASK = """
import atexit, csv, gzip, os, sys, tempfile, threading, time, weakref
from pathlib import Path
from flowkit_core import DAG, Task
from flowkit_exec import ProcessExecutor
sys.modules["cloudpickle"] = None
Path("out").mkdir()
before = open("out/before", "w")
before.write("once")
atexit.register(lambda: print("the exit function of the caller", flush=True))
folder = tempfile.TemporaryDirectory(dir="out", prefix="of-the-caller")
class Owner: pass
owner = Owner()
weakref.finalize(owner, print, "the finalizer of the caller", flush=True)
kept = []
def write():
    text = open(f"out/{os.getpid()}.txt", "w")
    text.write("text")
    file = open(f"out/{os.getpid()}.csv", "w", newline="")
    csv.writer(file).writerow(["row"])
    packed = gzip.open(f"out/{os.getpid()}.gz", "wt")
    packed.write("packed")
    own = tempfile.TemporaryDirectory(dir="out", prefix="temporary")
    kept.extend([text, file, packed, own, own_owner := Owner()])
    weakref.finalize(own_owner, Path(f"out/{os.getpid()}.finalize").touch)
    atexit.register(lambda: Path(f"out/{os.getpid()}.atexit").touch())
    def late():
        time.sleep(0.3)
        Path(f"out/{os.getpid()}.thread").touch()
    threading.Thread(target=late).start()
    return os.getpid()
"""

SHOW = """
pid = results["write"]
assert Path(f"out/{pid}.txt").read_text() == "text"
assert Path(f"out/{pid}.csv").read_text() == "row\\n"
assert gzip.open(f"out/{pid}.gz", "rt").read() == "packed"
print(*sorted(path.suffix for path in Path("out").glob(f"{pid}.*")))
print(len(list(Path("out").glob("temporary*"))), len(list(Path("out").glob("of-the-caller*"))))
"""

RUNS = {
    "run": "results = dag.run('process')\n",
    "failed run": "results = dag.run('process', raise_on_failure=False)\n",
    "warm": "with ProcessExecutor(1) as executor: results = dag.run(executor)\n",
}


@pytest.mark.parametrize("how", RUNS)
def test_spawned_worker_ends_like_any_python_program(script, tmp_path, how):
    tasks = "dag = DAG('top', max_workers=1, tasks=[Task(write)])\n"
    if how == "failed run":
        tasks = "def fail(_): 1 / 0\ntask = Task(write)\ndag = DAG('top', max_workers=1, tasks=[task >> Task(fail)])\n"
    program = script(AT_TOP + tasks + RUNS[how] + SHOW, cwd=tmp_path)
    assert program.wait() == ".atexit .csv .finalize .gz .thread .txt\n1 0\n"


@FORKS
@pytest.mark.parametrize("how", ["run", "warm"])
def test_forked_worker_runs_only_what_was_registered_after_the_fork(script, tmp_path, how):
    tasks = "dag = DAG('fork', max_workers=1, tasks=[Task(lambda: write(), name='write')])\n"
    before = "print(repr(Path('out/before').read_text()))\nbefore.flush()\nprint(Path('out/before').read_text())\n"
    program = script(IN_TASK + tasks + RUNS[how] + SHOW + before, cwd=tmp_path)
    own = "the finalizer of the caller\nthe exit function of the caller\n"
    found = program.wait()
    assert found.startswith(".atexit .csv .finalize .gz .thread .txt\n0 1\n''\nonce\n")
    assert sorted(found.splitlines()[-2:]) == sorted(own.splitlines())
    assert found.count("of the caller") == 2
    assert list((tmp_path / "out").glob("of-the-caller*")) == []


def test_worker_that_ends_by_itself_runs_no_exit_functions(script, tmp_path):
    source = """
    dag = DAG("top", max_workers=1, tasks=[Task(lambda: 1, name="one"), Task(write)])
    def die():
        pid = write()
        Path("pid").write_text(str(pid))
        os._exit(3)
    results = DAG("death", max_workers=1, tasks=[Task(die)]).run("process", raise_on_failure=False)
    pid = Path("pid").read_text()
    print(results.failed["die"].exitcode, *sorted(path.suffix for path in Path("out").glob(f"{pid}.*")))
    """
    assert script(AT_TOP + dedent(source), cwd=tmp_path).wait() == "3 .csv .gz .txt\n"


def test_records_that_exit_functions_log_are_handled(script):
    source = """
    import atexit, logging, sys
    from flowkit_core import DAG, Task
    logging.basicConfig(format="%(message)s", stream=sys.stdout, level="INFO")
    def leave():
        for number in range(5_000):
            logging.getLogger("app").info("closing %s", number)
    def register():
        atexit.register(leave)
    DAG("logs", max_workers=1, tasks=[Task(register)]).run("process")
    """
    lines = script(source).wait().splitlines()
    assert [line for line in lines if line.startswith("closing")] == [f"closing {number}" for number in range(5_000)]


@pytest.mark.parametrize("fault", ["crash", "hang"])
@guarded
def test_worker_that_does_not_end_is_killed_and_logged(fault):
    logger, handler = logging.getLogger("flowkit"), RecordingHandler()
    timeout, worker_handle.shut_down_all.__defaults__ = worker_handle.shut_down_all.__defaults__, (0.5,)
    logger.addHandler(handler)
    try:
        with ProcessExecutor(max_workers=1) as executor:
            assert run(executor, Task(faults.leave_relic), params={"fault": fault}) == {"leave_relic": fault}
            worker = run(executor, Task(faults.pid))["pid"]
    finally:
        logger.removeHandler(handler)
        worker_handle.shut_down_all.__defaults__ = timeout
    assert has_ended(worker)
    text = (
        f"Worker process {worker} did not end in time and was killed: an exit function, a finalizer or a thread that "
        f"a task has started was still running; end threads in the task that starts them."
    )
    assert (text in handler.texts) == (fault == "hang")


@pytest.mark.parametrize("how", ["live", "SIGKILL", "0"])
@guarded
def test_process_started_by_a_task_ends_with_its_worker(tmp_path, how):
    path = tmp_path / "pid"
    with ProcessExecutor(max_workers=1) as executor:
        outcome(executor, Task(faults.leave_child), params={"path": str(path), "how": how})
    pid = int(path.read_text())
    until(lambda: has_ended(pid))


@pytest.mark.exhaustive
@guarded
def test_runs_leave_no_descriptor_thread_or_process():
    before = None
    gc.collect()  # objects of other tests may hold descriptors
    for number in range(50):
        source = Task(faults.buffer)
        ends = [Task(faults.total), Task(partial(faults.end_with, deadly=number % 5 == 4), name="end")]
        source >> ends
        with ProcessExecutor(max_workers=1) as executor:
            results = run(executor, *ends, raise_on_failure=False, params={"large": faults.Counted()})
            assert list(results.failed) == (["end"] if number % 5 == 4 else [])
            del results
        if before is None:
            before = count_descriptors(), threading.active_count(), child_pids()
    assert (count_descriptors(), threading.active_count(), child_pids()) == before


def test_workers_end_with_a_program_that_does_not_close_the_executor(script):
    source = """
    from flowkit_exec import ProcessExecutor
    executor = ProcessExecutor(2)
    print(dag.run(executor))
    """
    program = script(TASKS + dedent(source))
    assert program.wait() == RESULTS
    assert program.descendants() == []
