"""Functions of a script, with the helpers that cloudpickle alone cannot send."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from threading import Lock

import cloudpickle
import pytest

from flowkit_core import DAG, SerializationError, Task
from flowkit_dask import DaskExecutor

SCRIPT = """
import sys
from dataclasses import dataclass
from functools import cache, partial, singledispatch

from distributed import Client
from flowkit_core import DAG, Task, task
from flowkit_dask import DaskExecutor
from flowkit_exec import FuturesExecutor


@cache
def table():
    return {"tea": 4.5}, object()


@cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@singledispatch
def kind(value):
    return "other"


@kind.register
def _(value: int):
    return "int"


@kind.register
def _(value: list):
    return [kind(item) for item in value]


@dataclass
class Row:
    name: str


@task
def rows():
    return [Row("tea")]


@task
def prices(rows):
    return [table()[0][row.name] for row in rows], isinstance(rows[0], Row)


@task
def tables(rows):
    return rows[0].name, id(table()[1]), fibonacci(30), kind([1, 2.0, [3]])


@task
def same_table(prices, tables):
    return tables[1] == id(table()[1])


def length(value):
    return len(value)


rows >> [prices, tables] >> same_table
tasks = [same_table, Task(partial(length, "abc"), name="partial"), Task(lambda: table()[0], name="lambda")]

if __name__ == "__main__":
    with Client(sys.argv[2], set_as_default=False) as client:
        executor = FuturesExecutor(client.get_executor()) if sys.argv[1] == "pool" else DaskExecutor(client)
        found = DAG("script", tasks=tasks).run(executor)
    print(found["prices"], found["tables"][::2], found["tables"][3])
    print(found["same_table"], found["partial"], found["lambda"])
"""


@pytest.mark.parametrize("kind", ["pool", "dask"])
def test_functions_of_a_script_run_on_a_cluster(kind, lonely_cluster, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    command = [sys.executable, str(path), kind, lonely_cluster.address]
    done = subprocess.run(command, env=lonely_cluster.env, capture_output=True, text=True, timeout=120, check=False)
    expected = "([4.5], True) ('tea', 832040) ['int', 'other', ['int']]\nTrue 3 {'tea': 4.5}\n"
    assert (done.stdout, done.returncode) == (expected, 0), done.stderr


CACHED = """
import sys
from dataclasses import dataclass, field

from flowkit_core import DAG, task
from flowkit_dask import DaskExecutor
from flowkit_state import StateManager


@dataclass(frozen=True)
class Options:
    number: int
    names: list = field(default_factory=list)


@task
def options():
    return Options(1)


@task(cache=True)
def number(options):
    return options.number


options >> number
if __name__ == "__main__":
    with DaskExecutor(sys.argv[1]) as executor, StateManager() as state:
        for _ in range(2):
            print(DAG("script", tasks=[number]).run(executor, state=state).cached)
"""


def test_dataclass_of_a_script_with_a_default_factory_is_compared_for_the_cache(lonely_cluster, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(CACHED)
    command = [sys.executable, "-W", "error", str(path), lonely_cluster.address]
    done = subprocess.run(command, env=lonely_cluster.env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == ("()\n('number',)\n", 0), done.stderr


LOCK = Lock()


def use_lock():
    with LOCK:
        return 1


class Locked:
    def __init__(self):
        self.lock = Lock()

    def use(self):
        return 1


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: LOCK, "refers to the global 'LOCK', a lock"),
        (lambda: [LOCK for _ in range(2)], "refers to the global 'LOCK', a lock"),
        (Locked().use, "refers to its object, a Locked"),
        (partial(len, Lock()), "refers to its argument 0, a lock"),
        (lambda lock=LOCK: lock, "refers to a default of its parameters, a lock"),
    ],
)
def test_function_that_cannot_be_pickled_fails_with_what_it_refers_to(function, reason, client):
    with DaskExecutor(client) as executor, pytest.raises(SerializationError) as caught:
        DAG("locks", tasks=[Task(function, name="locked")]).run(executor)
    assert reason in str(caught.value)
    assert "create it in the task" in str(caught.value)


def test_helper_that_refers_to_a_lock_is_named(client):
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        with DaskExecutor(client) as executor, pytest.raises(SerializationError) as caught:
            DAG("locks", tasks=[Task(lambda: use_lock(), name="locked")]).run(executor)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert "its function uses 'use_lock', which refers to the global 'LOCK', a lock" in str(caught.value)
