"""Static analysis of the main script: names that statements bind, and names that functions read."""

from __future__ import annotations

import ast
import os

import pytest

from flowkit_core import Task
from flowkit_exec.process.functions.main_module import _begun
from flowkit_exec.process.functions.main_module_analysis import bound_names, names_read


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a = b = 1", {"a", "b"}),
        ("a, (b, *c) = x", {"a", "b", "c"}),
        ("a += 1", {"a"}),
        ("a: int = 1", {"a"}),
        ("del a", {"a"}),
        ("print(a := 1)", {"a"}),
        ("for a in x:\n    b = 1", {"a", "b"}),
        ("with x as a:\n    pass", {"a"}),
        ("def a(): pass", {"a"}),
        ("async def a(): pass", {"a"}),
        ("class a: pass", {"a"}),
        ("match x:\n    case [a, *b]:\n        pass", {"a", "b"}),
        ("import a.b", {"a"}),
        ("import a.b as c", {"c"}),
        ("from x import a as c", {"c"}),
        ("a.b.c = 1", {"a"}),
        ("a[0].b = 1", {"a"}),
        ("f().b = 1", {""}),
        ("print(a)", set()),
        ("a.append(1)", set()),
        ("import os", set()),
        ("os.altsep = None", set()),
        ("os = None", {"os"}),
    ],
)
def test_bound_names_of_statements(source, names):
    assert bound_names(ast.parse(source).body, {"os": os}) == names


MODULE = """
def reads(): return rate
def calls(): return reads()
def nested(): return [factor for _ in range(1)] and (lambda: offset)
def local():
    rate = 1
    return rate
class Reader:
    def method(self): return rate
def creates(): return Reader()
def default(value=rate): return value
def module(): return os.path
"""


@pytest.mark.parametrize(
    ("function", "names"),
    [
        ("reads", {"rate"}),
        ("calls", {"reads", "rate"}),
        ("nested", {"factor", "offset", "range"}),
        ("local", set()),
        ("Reader", {"rate"}),
        ("creates", {"Reader", "rate"}),
        ("default", set()),
        ("module", {"os"}),
    ],
)
def test_names_read_by_function(function, names):
    module_dict = {"rate": 1, "os": os}
    exec(MODULE, module_dict)
    found = names_read(module_dict[function], module_dict) - {"__name__"}
    assert found == names
    if function != "Reader":
        assert names_read(Task(module_dict[function]), module_dict) - {"__name__"} == names


SCRIPT = """\
a = run()
b = run(
    1,
)
with c as d:
    run()
e = 1; run()
f = 1
"""


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (1, []),
        (3, ["a"]),
        (6, ["a", "b", "d"]),
        (7, ["a", "b", "d", "e"]),
        (8, ["a", "b", "d", "e"]),
        (None, ["a", "b", "d", "e", "f"]),
    ],
)
def test_statements_begun_when_a_line_calls_run(line, names):
    begun = _begun(ast.parse(SCRIPT).body, line)
    assert sorted(bound_names(begun, {})) == names
