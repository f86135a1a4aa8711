"""The names that a function reads from outside, and those that it binds itself."""

from __future__ import annotations

import ast
import sys

import pytest

from flowkit_state.fingerprint import components
from flowkit_state.fingerprint.data_flow import DataFlow

BOUND_INSIDE = {
    "parameter": "def f(A): return A",
    "positional parameter": "def f(A, /): return A",
    "keyword parameter": "def f(*, A=2): return A",
    "rest": "def f(*A): return A",
    "keywords": "def f(**A): return A",
    "assignment": "def f():\n    A = 2\n    return A",
    "assignment after the use": "def f():\n    print(A)\n    A = 2",
    "target of a tuple": "def f():\n    x, (A, *y) = 1, (2, 3)\n    return A",
    "augmented assignment": "def f():\n    A += 1",
    "annotation": "def f():\n    A: int\n    return A",
    "deletion": "def f():\n    del A",
    "loop": "def f():\n    for A in []: pass\n    return A",
    "context manager": "def f():\n    with x as A: return A",
    "exception": "def f():\n    try: pass\n    except ValueError as A: return A",
    "walrus": "def f():\n    if (A := 2): return A",
    "walrus in a comprehension": "def f(): return [A := 2 for x in 'a'], A",
    "comprehension": "def f(): return [A for A in 'a']",
    "nested comprehension": "def f(): return {A: B for A in 'a' for B in A}",
    "lambda": "def f(): return lambda A: A",
    "function": "def f():\n    def A(): return A\n    return A",
    "class": "def f():\n    class A: pass\n    return A",
    "import": "def f():\n    import json as A\n    return A",
    "import of a name": "def f():\n    from json import dumps as A\n    return A",
    "capture": "def f(x):\n    match x:\n        case [A, *_]: return A",
    "capture of the rest": "def f(x):\n    match x:\n        case [*A]: return A",
    "capture of keys": "def f(x):\n    match x:\n        case {**A}: return A",
    "capture with as": "def f(x):\n    match x:\n        case 1 as A: return A",
    "enclosing function": "def f():\n    A = 2\n    def g(): return [A for x in 'a']\n    return g",
    "nonlocal": "def f():\n    A = 2\n    def g():\n        nonlocal A\n        A = 3\n    return g",
    "attribute": "def f(x): return x.A",
    "keyword of a call": "def f(x): return x(A=1)",
    "annotation of an inner function": "def f():\n    def g(x: A) -> A: pass\n    return g",
    "annotation of a variable": "def f():\n    x: A = 1\n    return x",
}
READ_OUTSIDE = {
    "expression": "def f(): return A",
    "default of an inner function": "def f():\n    def g(A=A): return A\n    return g",
    "default of a lambda": "def f(): return lambda A=A: A",
    "decorator of an inner function": "def f():\n    @A\n    def g(): pass\n    return g",
    "first iterable of a comprehension": "def f(): return [A for A in A]",
    "second iterable of a comprehension": "def f(): return [x for y in 'a' for x in A]",
    "inner function beside a local of another": "def f():\n    def g(): A = 2\n    def h(): return A\n    return g, h",
    "class body": "def f():\n    class C:\n        A = A\n    return C",
    "method beside an attribute of the class": (
        "def f():\n    class C:\n        A = 2\n        def m(self): return A\n    return C"
    ),
    "nested class beside an attribute of the outer one": (
        "def f():\n    class C:\n        A = 2\n        class D:\n            b = A\n    return C"
    ),
    "base class": "def f():\n    class C(A): pass\n    return C",
    "keyword of a class": "def f():\n    class C(metaclass=A): pass\n    return C",
    "f-string": "def f(x): return f'{x:{A}}'",
    "subscript": "def f(x): return x[A:1]",
    "pattern": "def f(x):\n    match x:\n        case A.b: pass",
    "class pattern": "def f(x):\n    match x:\n        case A(): pass",
    "exception handler": "def f():\n    try: pass\n    except A: pass",
    "global in an inner function": "def f():\n    A = 2\n    def g():\n        global A\n        A\n    return g",
    "field of an inner dataclass": "def f():\n    class C:\n        x: A = 1\n    return C",
    "yield": "def f(): yield A",
    "await": "async def f(): await A",
    "receiver of a method": "def f(): return A.items().x",
    "argument": "def f(x): return x(*[A])",
}


@pytest.mark.parametrize("name", BOUND_INSIDE)
def test_name_bound_in_the_function_is_not_a_component(load, name):
    assert "constant etl.A" not in components(load("A = B = x = 1\n" + BOUND_INSIDE[name]).f)


@pytest.mark.parametrize("name", READ_OUTSIDE)
def test_name_read_from_the_module_is_a_component(load, name):
    assert "constant etl.A" in components(load("A = 1\n" + READ_OUTSIDE[name]).f)


def test_private_name_in_a_class_is_read_under_its_mangled_name(load):
    source = "_C__A = 1\nclass C:\n    def f(self): return __A\nf = C.f"
    assert "constant etl._C__A" in components(load(source).f)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="platform: type parameters are new in Python 3.12")
def test_type_parameter_is_not_a_component(load):
    assert "constant etl.A" not in components(load("A = 1\ndef f[A](x: A) -> A: return x").f)


FLOWS = {
    "attributes": ("a.b.c", [("global", "a", "b", "c")], [], []),
    "attribute of a call": ("a.b(1).c", [("global", "a", "b")], [], []),
    "attribute of an item": ("a[0].c", [("global", "a")], [], []),
    "store": ("a.b = 1", [("global", "a")], [("global", "a", "b")], []),
    "deletion": ("del a.b", [("global", "a")], [("global", "a", "b")], []),
    "augmented attribute": ("a.b += 1", [("global", "a", "b")], [("global", "a", "b")], []),
    "item": ("a.b[0] = 1", [("global", "a", "b")], [], [("global", "a", "b")]),
    "item of an item": ("a[0]['b'] += 1", [("global", "a")], [], [("global", "a")]),
    "deleted slice": ("del a[1:]", [("global", "a")], [], [("global", "a")]),
    "method": ("a.b.append(1)", [("global", "a", "b", "append")], [], [("global", "a", "b")]),
    "method of an item": ("a[0].add(1)", [("global", "a")], [], [("global", "a")]),
    "method in a chain": ("a.pop.x", [("global", "a", "pop", "x")], [], [("global", "a")]),
    "method of a result": ("a().append(1)", [("global", "a")], [], []),
    "global": ("global a; a = b", [("global", "b")], [("global", "a")], []),
    "augmented global": ("global a; a += 1", [("global", "a")], [("global", "a")], []),
    "loop over a global": ("global a\n    for a in b: pass", [("global", "b")], [("global", "a")], []),
    "import as a global": ("global a; import a.b", [("package", "a.b")], [("global", "a")], []),
    "import": ("import a.b; a.b.c", [("package", "a.b", "b", "c")], [], []),
    "import with a name": ("import a.b as x; x.c", [("package", "a.b", "b", "c")], [], []),
    "import of a name": ("from a.b import c as x; x.d", [("module", "a.b", "c", "d")], [], []),
    "relative import": ("from ..a import b; b", [("module", "..a", "b")], [], []),
    "unused import": ("import a.b", [("package", "a.b")], [], []),
    "alternatives": ("import a as x; import b as x; x.c", [("package", "a", "c"), ("package", "b", "c")], [], []),
    "item of an imported value": (
        "from a import b; b['c'] = 1", [("module", "a", "b")], [], [("module", "a", "b")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOWS)
def test_data_flow_of_statement(name):
    source, *expected = FLOWS[name]
    flow = DataFlow(ast.parse("def f():\n    " + source).body[0], "", ())
    assert [[*flow.loads], [*flow.rebinds], [*flow.changes]] == expected
