"""Functions and classes of an interactive session or a script, sent by value with cloudpickle."""

from __future__ import annotations

import subprocess
from textwrap import dedent

import pytest
from script_sources import FORKS
from subprocess_harness import Program

SESSION = """
import dataclasses, enum, pickle, threading, time
from flowkit_core import DAG, Task, task
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()  # beside it, a fork is not safe

@dataclasses.dataclass
class Point:
    x: int

class Color(enum.Enum):
    RED = 1

class Wrong(Exception):
    pass

class Large:
    def __init__(self, data):
        self.data = data
    def __reduce_ex__(self, protocol):
        return Large, (pickle.PickleBuffer(self.data),)

def show(*tasks, **params):
    dag = DAG("session", max_workers=2, tasks=tasks)
    results = dag.run("process", fail_fast=False, raise_on_failure=False, params=params)
    return dict(results) | results.failed
"""


def session(cells):
    """Execute cells as an interactive session does, and return the output."""
    with Program("-", stdin=subprocess.PIPE) as program:
        program.process.stdin.write((SESSION + dedent(cells)).encode())
        program.process.stdin.close()
        return program.wait()


def test_closures_and_lambdas_are_sent_by_value():
    cells = """
    offset = 3
    def make(number):
        return Task(lambda: number + offset, name="lambda"), Task(lambda: (lambda: number)(), name="nested")
    print(show(*make(4)))
    """
    assert session(cells) == "{'lambda': 7, 'nested': 4}\n"


def test_classes_of_a_session_are_the_same_in_results_and_exceptions():
    cells = """
    @task
    def point(): return Point(1)
    @task
    def use(point):
        if point != Point(1) or type(point) is not Point: raise TypeError(point)
        return Color.RED
    @task
    def wrong(): raise Wrong("no")
    point >> use
    found = show(use, wrong)
    print(found["point"] == Point(1), found["use"] is Color.RED, type(found["wrong"]) is Wrong)
    """
    assert session(cells) == "True True True\n"


def test_large_values_beside_instances_of_session_classes():
    cells = """
    @task
    def point(): return Point(1)
    @task
    def large(): return Large(bytearray(200_000))
    @task
    def both(large, point): return len(large.data), point.x
    [large, point] >> both
    print(show(both)["both"])
    """
    assert session(cells) == "(200000, 1)\n"


def test_large_instance_of_a_session_class_is_shared():
    cells = """
    pickled = []
    class Counted(Large):
        def __reduce_ex__(self, protocol):
            pickled.append(1)
            return Counted, (pickle.PickleBuffer(self.data),)
    def size(large): return len(large.data)
    found = show(*[Task(size, name=f"size_{number}") for number in range(20)], large=Counted(bytearray(200_000)))
    print(set(found.values()), len(pickled) <= 3)
    """
    assert session(cells) == "{200000} True\n"


def test_exceptions_of_session_classes_are_instances_of_their_bases():
    cells = """
    @task
    def local():
        class Local(Wrong, ValueError): pass
        raise Local("no")
    error = show(local)["local"]
    print(isinstance(error, Wrong), isinstance(error, ValueError), "no" in str(error))
    """
    assert session(cells) == "True True True\n"


def test_redefined_function_is_used_by_warm_workers():
    cells = """
    from flowkit_exec import ProcessExecutor
    with ProcessExecutor(1) as executor:
        for number in range(3):
            @task
            def again(n=number): return n
            print(DAG("again", tasks=[again]).run(executor)["again"])
    """
    assert session(cells) == "0\n1\n2\n"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("threading.Lock()", "cannot pickle '_thread.lock' object"),
        ("(n for n in [])", "cannot pickle 'generator' object"),
        ("Mute()", "cannot pickle it either (NoText: <unprintable>)"),
    ],
    ids=["lock", "generator", "error without a text"],
)
def test_value_that_cloudpickle_refuses_is_an_error(value, words):
    cells = f"""
    class NoText(Exception):
        def __str__(self): raise self
    class Mute:
        def __reduce__(self): raise NoText
    thing = {value}
    holder = Task(lambda: thing, name="holder")
    try:
        print(show(holder))
    except TypeError as error:
        print(type(error).__name__, error)
    """
    output = session(cells)
    assert output.startswith("SerializationError task 'holder'")
    assert words in output


SCRIPT = """
import dataclasses, enum, sys, threading, time
from flowkit_core import DAG, SerializationError, Task, task
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()  # beside it, a fork is not safe

class Status(enum.Enum):
    OPEN = 1

@dataclasses.dataclass
class Order:
    status: Status

class Wrong(Exception):
    pass

calls = []

def helper(value):
    calls.append(value)
    return len(calls), calls is sys.modules["__main__"].calls

def fail():
    raise Wrong("wrong")
"""


def test_classes_of_a_script_are_the_same_in_lambdas_and_functions(script):
    source = """
    def make():
        return Order(Status.OPEN)
    def check(order):
        return order.status is Status.OPEN, type(order) is Order
    make, check = Task(make, name="make"), Task(check, name="check")
    by_value = Task(lambda order: (order.status is Status.OPEN, type(order) is Order), name="by_value")
    made_by_value = Task(lambda: Order(Status.OPEN), name="made_by_value")
    for made in (make, made_by_value):
        made >> [check.with_options(name=f"check_{made.name}"), by_value.with_options(name=f"by_value_{made.name}")]
    results = DAG("classes", tasks=[make, made_by_value, *make.downstream, *made_by_value.downstream]).run("process")
    print([value for name, value in results.items() if "_made_by" in name or "_make" in name])
    print(results["made_by_value"] == Order(Status.OPEN), results["make"].status is Status.OPEN)
    """
    assert script(SCRIPT + dedent(source)).wait() == f"{[(True, True)] * 4}\nTrue True\n"


def test_exceptions_of_a_script_are_caught_by_their_class(script):
    source = """
    def catch(function):
        try:
            function()
        except Wrong:
            return "caught"
    tasks = [
        Task(lambda: catch(fail), name="inside"),
        Task(lambda: fail(), name="raised", retries=2, delay=0, retry_on=Wrong),
    ]
    results = DAG("wrong", tasks=tasks).run("process", fail_fast=False, raise_on_failure=False)
    print(results["inside"], type(results.failed["raised"]) is Wrong, results.attempts["raised"])
    """
    assert script(SCRIPT + dedent(source)).wait() == "caught True 3\n"


def test_functions_of_a_script_share_its_globals(script):
    source = """
    tasks = [Task(lambda: helper(1), name="first"), Task(lambda: helper(2), name="second"), Task(helper)]
    tasks[0] >> tasks[1] >> tasks[2]
    print(DAG("globals", max_workers=1, tasks=tasks).run("process"))
    """
    output = script(SCRIPT + dedent(source)).wait()
    assert output == "{'first': (1, True), 'second': (2, True), 'helper': (3, True)}\n"


def test_class_that_workers_do_not_have_is_sent_by_value(script):
    source = """
    print(DAG("first", tasks=[Task(lambda: 1, name="one")]).run("process"))
    class Late:
        def value(self):
            return 5
    def late():
        return Late().value()
    if __name__ == "__main__":
        class Guarded(Late):
            pass
        tasks = [Task(lambda: late(), name="late"), Task(lambda: Guarded().value(), name="guarded")]
        print(DAG("second", tasks=tasks).run("process"))
    """
    assert script(SCRIPT + dedent(source)).wait() == "{'one': 1}\n{'late': 5, 'guarded': 5}\n"


def test_function_that_was_defined_again_is_sent_by_value(script):
    source = """
    def chosen():
        return "old"
    print(DAG("first", tasks=[Task(lambda: chosen(), name="first")]).run("process"))
    def chosen():
        return "new"
    print(DAG("second", tasks=[Task(lambda: chosen(), name="second")]).run("process"))
    """
    assert script(SCRIPT + dedent(source)).wait() == "{'first': 'old'}\n{'second': 'new'}\n"


def test_check_finds_only_what_cloudpickle_refuses():
    cells = """
    lock = threading.Lock()
    def make(inner):
        return Task(lambda: inner.locked(), name="refused"), Task(lambda: 1, name="lambda"), Task(show, name="function")
    for problem in DAG("session", tasks=make(lock)).check("process"):
        print(problem.kind, problem.task, "cloudpickle cannot pickle it either" in problem.message)
    """
    assert session(cells) == "transfer refused True\n"


@FORKS
def test_function_that_cloudpickle_refuses_is_sent_by_fork(script):
    source = """
    import threading
    from flowkit_core import DAG, Task
    lock = threading.Lock()
    numbers = iter(range(9))
    def locked():
        with lock:
            return 1
    def make(inner, rows, file):
        yield Task(lambda: (inner.locked(), locked()), name="lock")
        yield Task(lambda: next(rows), name="generator")
        yield Task(lambda: file.name == __file__, name="file")
        yield Task(lambda: type(inner).__name__, name="class of a lock")
    tasks = [*make(lock, (number for number in numbers), open(__file__))]
    print(DAG("lock", tasks=[*tasks, Task(lambda: 2, name="two")]).run("process"))
    """
    results = {"lock": (False, 1), "generator": 0, "file": True, "class of a lock": "lock", "two": 2}
    assert script(source).wait() == f"{results}\n"


def test_module_that_runs_as_a_script_is_referred_to(script, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "job.py").write_text(
        SCRIPT + "print(DAG('m', tasks=[Task(lambda: Order(Status.OPEN), name='o')]).run('process')['o'])\n"
    )
    source = """
    import runpy, sys
    sys.path.insert(0, "")
    runpy.run_module("package.job", run_name="__main__", alter_sys=True)
    """
    assert script(source, cwd=tmp_path).wait() == "Order(status=<Status.OPEN: 1>)\n"
