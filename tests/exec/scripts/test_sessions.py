"""Code that workers cannot import: sessions, standard input, compiled scripts."""

from __future__ import annotations

import py_compile
import subprocess
from textwrap import dedent

import pytest
from script_sources import FORKS, RESULTS, RUN, TASKS, WITH_A_THREAD
from subprocess_harness import Program

pytestmark = pytest.mark.slow


@FORKS
@pytest.mark.parametrize("how", ["-c", "stdin", "cells", "interpreter"])
def test_code_without_a_file_is_sent_by_fork(how):
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


def test_session_with_threads_and_without_cloudpickle_is_an_error():
    source = "import sys\nsys.modules['cloudpickle'] = None\n" + TASKS + WITH_A_THREAD + RUN
    with Program("-c", source) as program:
        output = program.wait(code=1)
    assert "SerializationError: task 'start': its function is defined in an interactive session" in output
    assert "executor='thread'" in output


@FORKS
def test_fork_right_after_threads_have_ended(script):
    source = """
    from flowkit_core import DAG, Task
    quick = [Task(lambda: None, name=f"quick_{number}") for number in range(3)]
    for _ in range(10):
        DAG("threads", tasks=quick).run("thread", max_workers=8)
        DAG("forks", tasks=quick[:1]).run("process", max_workers=1)
    print("none was refused")
    """
    assert script(source).wait() == "none was refused\n"


@FORKS
def test_fork_is_refused_after_a_condition_has_started_a_thread(script):
    source = """
    import os, sys, threading
    from flowkit_core import DAG, ExecutorError, Task
    sys.modules["cloudpickle"] = None
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


@FORKS
def test_script_without_source_is_sent_by_fork(script, tmp_path):
    source = tmp_path / "source.py"
    source.write_text(TASKS + RUN)
    compiled = py_compile.compile(str(source), cfile=str(tmp_path / "compiled.pyc"))
    source.unlink()
    with Program(compiled) as program:
        assert program.wait() == RESULTS


def test_run_after_the_end_of_the_script(script):
    source = """
    import sys, threading
    sys.modules["cloudpickle"] = None
    def later():
        threading.main_thread().join()
        print(dag.run("process"))
    threading.Thread(target=later).start()
    """
    assert script(TASKS + dedent(source)).wait() == RESULTS
