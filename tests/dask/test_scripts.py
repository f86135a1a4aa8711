"""Functions of a script, with the helpers that cloudpickle alone cannot send."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
