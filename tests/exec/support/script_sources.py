"""Source text of scripts that run pipelines in process workers."""

from __future__ import annotations

import pytest
from subprocess_harness import until

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


# Beside a second thread, a fork is not safe.
WITH_A_THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
"""


FORKS = pytest.mark.forks


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


# With lambdas, which are sent by a fork.
FORKED = (
    BUSY.replace("Task(busy,", "Task(lambda: busy(),").replace("Task(large)", "Task(lambda: large(), name='large')")
    + "sys.modules['cloudpickle'] = None\n"
)


SPAWNED_AND_FORKED = pytest.mark.parametrize(
    "busily", [BUSY, pytest.param(FORKED, marks=FORKS)], ids=["fresh", "forked"]
)


CAUGHT = """
try:
    dag.run("process")
except KeyboardInterrupt as error:
    states = error.flowkit_results.states
    ran = [state for name, state in states.items() if name.startswith("queued") and state != "cancelled"]
    print("interrupted", states["large"], states["one"], len(ran), flush=True)
"""


def start_busy(script, source, **options):
    """Start a program and wait until both of its workers run their endless tasks."""
    program = script(source, **options)
    until(lambda: program.output.count("at work") == 2 or program.process.poll() is not None)
    assert program.process.poll() is None, program.output
    until(lambda: len(program.descendants()) >= 5)
    return program
