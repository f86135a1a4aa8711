"""Formatting of any source does not change the fingerprint."""

from __future__ import annotations

import ast
import linecache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit_state.fingerprint import components
from flowkit_state.fingerprint.code import syntax

STATEMENTS = [
    "y = x + 1",
    "y = {'a': [x, (1, 2)], 'b': f'{x!r:>10} {y}'}",
    "if x and y: y = 2",
    "for z in range(3): print(z, x)",
    "while x: x -= 1",
    "def g(a, *b, c=1, **d): return a, b, c, d",
    "class A(dict): b = 1",
    "with x as z, y: pass",
    "try: z = x[0]\nexcept (KeyError, IndexError) as error: z = str(error)\nfinally: y = 1",
    "x = [a * b for a in x if a for b in a if b]",
    "y = lambda a, b=1: a if b else -a",
    "assert x, 'no x'",
    "import json as j; y = j.dumps(x)",
    "x[1:2], y = y, x.a.b[y](x, *x, a=y, **y)",
    "y: int = 'a' 'b'",
    "del x[0], y",
    "global w; w = x",
]
functions = st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=6, unique=True).map(
    lambda statements: "def f(x, y=1):\n" + indented("\n".join(statements))
)


def indented(text):
    return "".join(f"    {line}\n" for line in text.splitlines())


def reformatted(draw, source):
    """Return the source with other line breaks, parentheses, quotes, comments and blank lines."""
    if draw(st.booleans()):
        source = ast.unparse(ast.parse(source)) + "\n"
    width = draw(st.integers(1, 8))
    lines = []
    for line in source.splitlines():
        text = line.lstrip(" ")
        depth = (len(line) - len(text)) // 4
        lines += draw(st.sampled_from([[], [""], ["", "# a comment"], [" " * 40 + "# another one"]]))
        lines.append(" " * (width * depth) + text + draw(st.sampled_from(["", " ", "  # a comment"])))
    return "\n".join(lines) + "\n"


def made(source):
    """Return the function `f` of a module whose source is known, as in a notebook."""
    name = "<formatted source>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    namespace = {"__name__": "etl"}
    exec(compile(source, name, "exec"), namespace)
    return namespace["f"]


@given(functions, st.data())
def test_formatting_keeps_components(source, data):
    old, new = components(made(source)), components(made(reformatted(data.draw, source)))
    assert old == new
    assert "python" not in old


@given(functions, st.integers(0, 5))
def test_docstrings_annotations_and_idle_statements_keep_components(source, place):
    tree = ast.parse(source)
    function = tree.body[0]
    function.args.args[0].annotation = function.returns = ast.parse("dict[str, x]", mode="eval").body
    idle = ast.parse("'A text.'\n1.5\npass\n...").body
    place = min(place, len(function.body))
    function.body[place:place] = idle
    decorated = "from __future__ import annotations\n" + ast.unparse(ast.fix_missing_locations(tree))
    assert components(made(decorated)) == components(made(source))


@given(functions, st.data())
def test_change_of_a_name_a_constant_or_an_operator_changes_components(source, data):
    tree = ast.parse(source)
    nodes = [node for node in ast.walk(tree.body[0]) if isinstance(node, (ast.Constant, ast.Attribute, ast.BinOp))]
    if not nodes:
        return
    node = data.draw(st.sampled_from(nodes))
    if isinstance(node, ast.Constant):
        node.value = "other" if isinstance(node.value, str) else 77
    elif isinstance(node, ast.Attribute):
        node.attr = "other"
    else:
        node.op = ast.LShift()
    before, after = (syntax(each.body[0]) for each in (ast.parse(source), tree))
    in_default = node in tree.body[0].args.defaults
    assert (before == after) == in_default  # defaults are components of their own


FILES = sorted(Path(ast.__file__).parent.glob("[a-d]*.py"))[::4]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_unparsed_functions_of_the_standard_library_have_the_same_syntax(path):
    tree = ast.parse(path.read_text("utf-8"))
    other = ast.parse(ast.unparse(tree))
    both = zip(ast.walk(tree), ast.walk(other), strict=True)
    functions = [pair for pair in both if isinstance(pair[0], (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))]
    assert [old for old, new in functions if syntax(old) != syntax(new)] == []
