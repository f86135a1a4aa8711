"""What a worker has of its own: random numbers, the name of the script in pickles, processes that tasks leave."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.slow

SEEDED = """
import random
random.seed(1)
from flowkit_core import DAG, Task
from flowkit_exec import ProcessExecutor
def draw(*_): return random.random()
expected = random.random()
def show(executor):
    tasks = [Task(draw, name=f"draw_{number}") for number in range(3)]
    return list(DAG("draws", max_workers=1, tasks=tasks).run(executor).values())
"""


def test_workers_draw_random_numbers_of_their_own_if_the_script_seeds(script):
    source = """
    found = show("process") + show("process")
    print(len(set(found)), expected in found)
    """
    assert script(SEEDED + source.replace("\n    ", "\n")).wait() == "6 False\n"


def test_seed_of_an_initializer_holds(script):
    source = """
    def set_up(): random.seed(5)
    with ProcessExecutor(1, initializer=set_up) as executor: first = show(executor)
    with ProcessExecutor(1, initializer=set_up) as executor: second = show(executor)
    print(first == second)
    """
    assert script(SEEDED + source.replace("\n    ", "\n")).wait() == "True\n"


def test_module_that_seeds_does_not_make_workers_draw_the_same(script, tmp_path):
    (tmp_path / "seeded.py").write_text("import random\nrandom.seed(1)\ndef draw(): return random.random()\n")
    source = """
    import seeded
    from flowkit_core import DAG, Task
    print(*{DAG("draws", tasks=[Task(seeded.draw)]).run("process")["draw"] for _ in range(3)}, sep="\\n")
    """
    assert len(script(source, cwd=tmp_path).wait().split()) == 3


def test_pickle_made_by_a_task_can_be_loaded_by_the_next_program(script, tmp_path):
    source = """
    import dataclasses, enum, pickle, sys
    from pathlib import Path
    from flowkit_core import DAG, Task
    class Color(enum.Enum):
        RED = 1
    @dataclasses.dataclass
    class Point:
        class Kind(enum.Enum):
            FIRST = 1
        x: int
        kind: Kind = Kind.FIRST
    def helper(): pass
    def save():
        data = pickle.dumps([Point(1), Color.RED, helper, Point.Kind.FIRST])
        Path("data").write_bytes(data)
        return b"__mp_main__" in data
    if not Path("data").exists():
        print(DAG("save", tasks=[Task(save)]).run("process"))
    else:
        print(pickle.loads(Path("data").read_bytes())[:2])
    """
    assert script(source, cwd=tmp_path).wait() == "{'save': False}\n"
    assert script(source, cwd=tmp_path).wait() == ("[Point(x=1, kind=<Kind.FIRST: 1>), <Color.RED: 1>]\n")


@pytest.mark.parametrize(
    "start",
    [
        "threading.Thread(target=run).start()",
        "threading.Timer(0.05, run).start()",
        "DAG('early', tasks=[Task(one)]).run(executor); threading.Thread(target=run).start()",
    ],
    ids=["thread", "timer", "warm workers"],
)
def test_run_in_a_thread_after_the_main_thread_has_left_the_script(script, start):
    source = f"""
    import threading, time
    from flowkit_core import DAG, Task
    from flowkit_exec import ProcessExecutor
    def one(): return 1
    executor = ProcessExecutor(1)
    def run():
        while "__file__" in globals():
            if not threading.main_thread().is_alive():
                return  # in a worker that ends
            time.sleep(0.01)
        print(DAG("late", tasks=[Task(one)]).run(executor), flush=True)
    {start}
    """
    assert script(source).wait() == "{'one': 1}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="platform: only Linux has subreapers")
def test_process_that_inherits_what_tasks_leave_reaps_it(script):
    source = """
    import ctypes, os, subprocess, sys, time
    from pathlib import Path
    from flowkit_core import DAG, Task
    PR_SET_CHILD_SUBREAPER = 36
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1) == 0  # like process 1 of a container
    def leave(how):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        if how == "exit": os._exit(3)
        if how == "killed": os.kill(os.getpid(), 9)
    for how in ("returns", "exit", "killed"):
        dag = DAG("leave", max_workers=1, tasks=[Task(leave)])
        dag.run("process", params={"how": how}, raise_on_failure=False)
    time.sleep(0.1)
    DAG("more", max_workers=1, tasks=[Task(int, name="zero")]).run("process")
    try:
        print(os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        print("no children")
    """
    assert script(source).wait() == "no children\n"


@pytest.mark.parametrize(
    ("library", "module", "function"),
    [("gevent", "gevent.monkey", "is_module_patched"), ("eventlet", "eventlet.patcher", "is_monkey_patched")],
)
def test_patched_standard_library_is_one_error(script, library, module, function):
    source = f"""
    import sys, types
    from flowkit_core import DAG, ExecutorError, Task
    patched = sys.modules["{module}"] = types.ModuleType("{module}")
    dag = DAG("patched", tasks=[Task(int, name="zero")])
    for names in ((), ("select", "thread")):
        patched.{function} = names.__contains__
        try:
            print(dag.run("process"))
        except ExecutorError as error:
            print(error)
    """
    output = script(source).wait()
    assert output.startswith("{'zero': 0}\n" + library + " has patched modules of the standard library")
    assert "use executor='thread'" in output
