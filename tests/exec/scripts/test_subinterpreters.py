"""Runs in sub-interpreters: they work, or one error says that worker processes cannot be started there."""

from __future__ import annotations

import sys

import pytest

SOURCE = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

KIND = sys.argv[1]
CODE = '''
import sys
sys.path[:] = %r
from math import sqrt
from flowkit_core import DAG, ExecutorError, Task
def tasks():
    one, two = Task(dict, name="one"), Task(list, name="two")
    one >> two
    return [two]
for place in ("serial", "thread", "process"):
    try:
        for _ in range(3):
            results = DAG("inside", tasks=tasks()).run(place)
        print(place, results, flush=True)
    except ExecutorError as error:
        print(place, "ExecutorError", error, flush=True)
''' % (sys.path,)

def create():
    if sys.version_info >= (3, 13):
        return interpreters.create(KIND)
    return interpreters.create(isolated=KIND == "isolated")

for _ in range(2):
    interpreter = create()
    print(getattr(interpreters, "exec", interpreters.run_string)(interpreter, CODE))
    interpreters.destroy(interpreter)
"""


@pytest.mark.parametrize("kind", ["isolated", "legacy"])
def test_run_in_a_sub_interpreter(script, kind):
    lines = script(SOURCE, kind).wait().splitlines()
    assert lines[:4] == lines[4:]
    assert lines[:2] == ["serial {'one': {}, 'two': []}", "thread {'one': {}, 'two': []}"]
    if kind == "isolated" and sys.version_info < (3, 12):
        assert lines[2].startswith("process ExecutorError worker processes cannot be started in this sub-interpreter")
        assert "use executor='thread', or call run() in the main interpreter" in lines[2]
    else:
        assert lines[2] == "process {'one': {}, 'two': []}"
    assert lines[3] == "None"
