"""Functions and classes of an interactive session, sent by value with cloudpickle."""

from __future__ import annotations

import subprocess
from textwrap import dedent

import pytest
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
