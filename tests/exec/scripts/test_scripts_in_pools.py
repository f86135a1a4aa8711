"""Functions of a script in a pool of another library, whose processes do not execute the script."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

SCRIPT = """
import loky
from dataclasses import dataclass
from functools import cache, partial
from flowkit_core import DAG, Task, task
from flowkit_exec import FuturesExecutor

@dataclass
class Row:
    name: str

@cache
def table():
    return {"tea": 4.5}, object()

@task
def rows():
    return [Row("tea")]

@task
def prices(rows):
    return [table()[0][row.name] for row in rows], isinstance(rows[0], Row), id(table()[1])

@task
def is_same(prices):
    return prices[2] == id(table()[1])

def length(value):
    return len(value)

rows >> prices >> is_same
tasks = [is_same, Task(partial(length, "abc"), name="partial"), Task(lambda: table()[0], name="lambda")]
with loky.ProcessPoolExecutor(1) as pool:
    found = DAG("script", tasks=tasks).run(FuturesExecutor(pool))
    print(found["prices"][:2], found["is_same"], found["partial"], found["lambda"])
"""

if importlib.util.find_spec("loky"):

    def test_functions_of_a_script_run_in_loky(tmp_path):
        path = tmp_path / "script.py"
        path.write_text(SCRIPT)
        done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=False)
        assert (done.stdout, done.returncode) == ("([4.5], True) True 3 {'tea': 4.5}\n", 0), done.stderr
