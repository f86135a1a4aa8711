"""Programs that are killed while worker processes run tasks."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from textwrap import dedent

import pytest
from script_sources import BUSY, SPAWNED_AND_FORKED, start_busy
from subprocess_harness import PROC, until

pytestmark = [pytest.mark.slow, pytest.mark.sampled(2)]


@SPAWNED_AND_FORKED
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_workers_end_with_a_killed_program(script, busily, number):
    program = start_busy(script, busily + "dag.run('process')\n")
    program.signal(number)
    program.wait(code=-number)
    until(lambda: not program.descendants())


def test_workers_of_workers_end_with_a_killed_program(script):
    source = """
    def outer():
        DAG("inner", max_workers=1, tasks=[Task(busy, name="inner")]).run("process")
    dag = DAG("outer", max_workers=2, tasks=[Task(outer, name=f"outer_{number}") for number in range(2)])
    dag.run("process")
    """
    program = start_busy(script, BUSY + dedent(source))
    until(lambda: len(program.descendants()) >= 1 + 2 + 2 + 2)
    program.signal(signal.SIGKILL)
    program.wait(code=-signal.SIGKILL)
    until(lambda: not program.descendants())


@pytest.mark.posix
@pytest.mark.skipif(
    sys.platform != "linux", reason="platform: elsewhere a worker that holds the GIL ends when it releases it"
)
def test_workers_that_hold_the_gil_end_with_a_killed_program(script):
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
    program.wait_for_output("holding")
    program.signal(signal.SIGKILL)
    program.wait(code=-signal.SIGKILL)
    until(lambda: not program.descendants())


@pytest.mark.posix
@pytest.mark.skipif(
    sys.platform != "linux", reason="platform: elsewhere workers end when the last copy of their lifeline is closed"
)
def test_workers_end_with_a_killed_program_that_has_forked(script):
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
    """Return the inodes of the segments of shared memory that processes have open or mapped."""
    found = set()
    for folder in PROC.glob(str(processes)):
        with contextlib.suppress(OSError):
            paths = list((folder / "fd").iterdir())
            found |= {path.stat().st_ino for path in paths if "memfd:flowkit" in str(path.readlink())}
        with contextlib.suppress(OSError):
            maps = (folder / "maps").read_text().splitlines()
            found |= {int(line.split()[4]) for line in maps if "memfd:flowkit" in line}
    return found


@pytest.mark.posix
@pytest.mark.skipif(sys.platform != "linux", reason="platform: segments of shared memory are found in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_shared_memory_is_freed_after_the_run_and_with_the_program(script, number):
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
    program.wait_for_output("2000000")
    assert segments(program.process.pid) == set()
    program.process.stdin.write(b"\n")
    program.process.stdin.close()
    until(lambda: program.output.count("at work") == 2)
    held = segments(program.process.pid)
    assert len(held) == 2
    program.signal(number)
    program.wait(code=-number)
    until(lambda: not held & segments())
