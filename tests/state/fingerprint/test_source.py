"""Functions are compared by their source if it compiles to the running code, else by their bytecode."""

from __future__ import annotations

import functools
import linecache
import sys
import warnings
from pathlib import Path

import pytest

from flowkit_state import TaskCache
from flowkit_state.fingerprint import changes, components

KINDS = {
    "function": "def f(): return {}",
    "lambda": "f = lambda: {}",
    "second lambda on a line": "g, f = (lambda: 0), (lambda: {})",
    "lambda of the second statement on a line": "g = lambda: 0; f = lambda: {}",
    "lambda after a long statement": "g = [\n    lambda: 0,\n]; f = lambda: {}",
    "lambda in a lambda": "f = (lambda: lambda: {})()",
    "lambda as an argument": "f = dict(a=lambda: 0, b=lambda x=(lambda: 1): {})['b']",
    "lambda on several lines": "f = (\n    lambda:\n    {}\n)",
    "decorated": "def d(g): return g\n@d\n@d\ndef f(): return {}",
    "async": "async def f(): return {}",
    "generator": "def f(): yield {}",
    "in a condition": "if True:\n    def f(): return {}\nelse:\n    def f(): return 0",
    "in a try": "try:\n    def f(): return {}\nfinally:\n    pass",
    "in a loop": "for i in range(2):\n    def f(): return {}",
    "in a function": "def make():\n    def f(): return {}\n    return f\nf = make()",
    "lambda in a function": "def make(): return lambda: {}\nf = make()",
    "in a class": "class C:\n    def f(self): return {}\nf = C.f",
    "static method": "class C:\n    @staticmethod\n    def f(): return {}\nf = C.f",
    "property": "class C:\n    @property\n    def f(self): return {}\nf = C.f.fget",
    "in a class in a function": "def make():\n    class C:\n        def f(self): return {}\n    return C\nf = make().f",
    "dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass C:\n    a: int = 1\n    def f(self): return {}\nf = C.f"
    ),
    "dataclass with slots": (
        "import dataclasses\n@dataclasses.dataclass(slots=True)\nclass C:\n    a: int = 1\n    def f(self): return {}\n"
        "f = C.f"
    ),
    "method that calls super": "class C:\n    def f(self): return super(), {}\nf = C.f",
    "with private names": "class C:\n    __a = 1\n    def f(self): return self.__a, {}\nf = C.f",
    "second of one name": "def f(): return 0\ndef f(): return {}",
    "with postponed annotations": "from __future__ import annotations\ndef f(x: int = 1): return {}",
    "with calls of imported modules": "import json\ndef f(): return json.dumps({})",
    "with an inner class": "def f():\n    class A:\n        b = {}\n    return A",
    "with a doctest": 'def f():\n    """\n    >>> f()\n    """\n    return {}',
}


@pytest.mark.parametrize("kind", KINDS)
def test_function_of_every_kind_is_compared_by_source(load, kind):
    old, same, new = (components(load(KINDS[kind].replace("{}", value)).f) for value in ("1 + 1", "1  +  1", "2"))
    assert "python" not in old | new
    assert changes(old, same) == []
    assert len(changes(old, new)) == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="platform: type parameters are new in Python 3.12")
def test_generic_function_is_compared_by_source(load):
    old, new = (
        components(load(f"def f[T: int](x: T) -> T:\n    type A = list[T]\n    return {value}").f) for value in (1, 2)
    )
    assert "python" not in old | new
    assert len(changes(old, new)) == 1


def test_other_spelling_of_the_same_bytecode_is_a_change(differences):
    assert differences("def f(): return 2", "def f(): return 1 + 1") == ["function etl.f has changed"]


def test_two_lambdas_of_one_line_with_the_same_bytecode_have_different_fingerprints(load):
    module = load("def d(*x): return x\nf, g = d(lambda x: (x, 1 + 1), lambda x: (x, 2))")
    alone = load("f = lambda x: (x, 2)")
    digests = [components(function)["function etl.<lambda>"] for function in (module.f, module.g, alone.f)]
    assert digests[0] != digests[1] == digests[2]


# Without source


def executed(source):
    namespace = {"__name__": "etl"}
    exec(source, namespace)
    return namespace["f"]


def test_function_without_source_is_compared_by_bytecode():
    old, same, new = (components(executed(f"def f(x): return x + {value}")) for value in (1, 1, 2))
    assert old["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert old == same
    assert changes(old, new) == ["function etl.f has changed"]


def test_huge_integer_and_surrogates_are_compared(differences):
    source = f"def f(x): return 0x{'f' * 5000}, '\\udc80'"
    assert differences(source, source.replace("dc80", "dc81")) == ["function etl.f has changed"]
    old, new = (components(executed(text)) for text in (source, source.replace("0xf", "0xe")))
    assert changes(old, new) == ["function etl.f has changed"]


def test_code_inside_function_without_source_is_compared():
    old, new = (components(executed(f"def f(x): return [lambda: {value} for y in x]")) for value in (1, 2))
    assert changes(old, new) == ["function etl.f has changed"]


@pytest.mark.parametrize("use", ["g(x)", "[g(y) for y in x]", "(lambda: g)()", "A", "A[0].pop", "C.m", "C().m()"])
def test_names_in_function_without_source_are_compared(use):
    source = "A = [[@]]\ndef g(x): return A\nclass C:\n    def m(self): return g(1)\ndef f(x): return " + use
    old, new = (components(executed(source.replace("@", value))) for value in "12")
    assert changes(old, new) == ["constant etl.A has changed"]


@pytest.mark.usefixtures("load")
def test_loaded_module_imported_in_function_without_source_is_compared(load):
    source = "def f():\n    from helpers import A\n    return A"
    parts = []
    for value in "12":
        load("import helpers", helpers=f"A = {value}")
        parts.append(components(executed(source)))
    assert changes(*parts) == ["constant helpers.A has changed"]


def test_closure_of_function_without_source_is_compared():
    source = "def make(a):\n    def f(): return a\n    return f\nf = make(@)"
    old, new = (components(executed(source.replace("@", value))) for value in "12")
    assert changes(old, new) == ["closure a of etl.make.<locals>.f has changed"]


def test_notebook_cell_has_source():
    source = "import asyncio\nawait asyncio.sleep(0)\ndef f(x):\n    return x  # a comment\n"
    name = "<ipython-input-1-0123456789ab>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    namespace = {"__name__": "__main__"}
    function_source = "\n\n" + source[source.index("def") :]  # exec() does not await
    exec(compile(function_source, name, "exec"), namespace)
    try:
        assert "python" not in components(namespace["f"])
    finally:
        del linecache.cache[name]


# Source that is not that of the running code


def edit(module, source):
    Path(module.__file__).write_text(source)


SOURCE = "A = 1\ndef f(x):\n    return x + 1, A"


@pytest.mark.parametrize("edited", ["\n\n# moved\n" + SOURCE, "def g(x): return 1\n" + SOURCE + "\ndef h(): pass"])
def test_function_that_moved_in_its_file_after_import_is_compared_by_source(load, edited):
    module, other = load(SOURCE), load(SOURCE)
    edit(module, edited)
    assert components(module.f) == components(other.f)


@pytest.mark.parametrize(
    "edited",
    [SOURCE.replace("+", "-"), "", "def f(x):\n    return (", "def f(x): return 1\n", "\0"],
    ids=["changed", "empty", "invalid", "replaced", "binary"],
)
def test_function_edited_in_its_file_after_import_is_compared_by_bytecode(load, edited):
    before = components(load(SOURCE).f)
    module = load(SOURCE)
    edit(module, edited)
    after = components(module.f)
    assert sorted(changes(before, after)) == ["function etl.f has changed", "python is new"]
    assert after["constant etl.A"] == before["constant etl.A"]


def test_function_that_is_looked_at_before_the_edit_keeps_its_fingerprint(load):
    module = load(SOURCE)
    before = components(module.f)
    edit(module, SOURCE.replace("+", "-"))
    assert components(module.f) == before


def test_syntax_warnings_of_the_source_are_not_repeated(load):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = load("A = '\\d'\ndef f(x): return x is 1, '\\d'")
    assert "python" not in components(module.f)  # a warning would be an error here


def test_expression_that_is_too_deep_for_a_recursive_visitor_is_compared(differences):
    source = "def f(x): return " + " + ".join(["x"] * 1000)
    assert differences(source, source + " - x") == ["function etl.f has changed"]


# Wrappers


def test_wrapper_of_a_cached_function_is_compared(load):
    source = """
        import functools
        from flowkit_state import TaskCache
        @TaskCache()
        def g(x): return x
        @functools.wraps(g)
        def f(x): return g(x) + 1
    """
    old, new = (components(load(text).f) for text in (source, source.replace("+ 1", "+ 2")))
    assert changes(old, new) == ["function etl.f has changed"]
    assert "function etl.g" in old


def test_cached_function_is_compared_by_the_function_inside():
    def f(x):
        return x

    assert components(TaskCache()(f)) == components(f) == components(functools.lru_cache(f))
