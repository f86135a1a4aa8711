"""Standard streams of worker processes."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from textwrap import dedent

import pytest
from subprocess_harness import SECONDS, Program

pytestmark = pytest.mark.slow


@pytest.mark.forks
def test_printed_text_without_newline_is_not_lost(script):
    source = """
    import sys
    from flowkit_core import DAG, Task
    def say(): sys.stdout.write("fresh ")
    DAG("fresh", tasks=[Task(say)]).run("process", max_workers=1)
    DAG("fork", tasks=[Task(lambda: sys.stdout.write("fork "), name="say")]).run("process", max_workers=1)
    """
    assert script(source).wait() == "fresh fork "


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="platform: there are no pseudo-terminals")
def test_task_that_uses_the_terminal_is_not_stopped(script):
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
    with contextlib.suppress(OSError):  # EIO when the program has ended
        while b"}" not in said and select.select([main], [], [], SECONDS)[0]:
            said += os.read(main, 1024)
    program.wait()
    os.close(main)
    assert b"from the task" in said
    assert b"{'talk': 1}" in said


@pytest.mark.parametrize("redirection", ["<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(tmp_path, redirection):
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


def test_broken_standard_output_fails_only_the_task_that_prints(script, tmp_path):
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
