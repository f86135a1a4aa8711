"""The modules of each distribution have no import cycle, and neither have its sub-packages, each taken as a whole.

An import counts if it is outside of functions; imports for type checkers count as well.
"""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / "packages"
SOURCES = {
    ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): path
    for source in sorted(PACKAGES.glob("*/src"))
    for path in sorted(source.rglob("*.py"))
}
DISTRIBUTIONS = [
    "flowkit",
    "flowkit_core",
    "flowkit_dask",
    "flowkit_exec",
    "flowkit_flow",
    "flowkit_log",
    "flowkit_state",
    "flowkit_view",
]


def modules(distribution):
    return {name: path for name, path in SOURCES.items() if name.split(".")[0] == distribution}


def statements(body):
    """Yield the statements that the import of a module executes, and those for type checkers."""
    for statement in body:
        yield statement
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                yield from statements(getattr(statement, field, ()))


def imports(name, text, sources):
    """Return the modules of the package that a module imports outside of functions."""
    package = name if sources[name].name == "__init__.py" else name.rpartition(".")[0]
    imported = set()
    for statement in statements(ast.parse(text).body):
        if isinstance(statement, ast.Import):
            imported.update(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            parents = package.split(".")[: -statement.level + 1 or None] if statement.level else []
            base = ".".join([*parents, *filter(None, [statement.module])])
            names = {f"{base}.{alias.name}" for alias in statement.names}
            imported |= {name if name in sources else base for name in names}
    return imported & sources.keys() - {name}


def test_modules_found():
    assert set(DISTRIBUTIONS) == {name.split(".")[0] for name in SOURCES}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import a.b", {"a.b"}),
        ("from a import b", {"a.b"}),
        ("from a.b import name", {"a.b"}),
        ("from a import name", {"a"}),
        ("from . import b", {"a.b"}),
        ("from .b import name", {"a.b"}),
        ("if TYPE_CHECKING:\n from .b import name", {"a.b"}),
        ("try:\n import a.b\nexcept ImportError:\n import a", {"a", "a.b"}),
        ("class C:\n from .b import name", {"a.b"}),
        ("def function():\n import a.b", set()),
        ("import sys", set()),
    ],
)
def test_imports_of_statement(statement, expected):
    sources = {"a": Path("a/__init__.py"), "a.b": Path("a/b.py"), "a.c": Path("a/c.py")}
    assert imports("a.c", statement, sources) == expected


def package_of(name, sources):
    """Return the sub-package below the top level that contains a module; the module itself if there is none."""
    root, _, rest = name.partition(".")
    package = f"{root}.{rest.partition('.')[0]}"
    return package if rest and sources[package].name == "__init__.py" else name


def check_acyclic(graph):
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(reversed(error.args[1]))}", pytrace=False)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_distribution_has_no_import_cycle(distribution):
    sources = modules(distribution)
    graph = {name: imports(name, path.read_text("utf-8"), sources) for name, path in sources.items()}
    check_acyclic(graph)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_sub_packages_have_no_import_cycle(distribution):
    sources = modules(distribution)
    graph = {}
    for name, path in sources.items():
        package = package_of(name, sources)
        imported = {package_of(each, sources) for each in imports(name, path.read_text("utf-8"), sources)}
        graph.setdefault(package, set()).update(imported - {package})
    check_acyclic(graph)
