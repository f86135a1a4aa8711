"""Python files and folders of the repository have a limited size."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = [path for folder in ("packages", "tests", "docs/examples") for path in sorted((ROOT / folder).rglob("*.py"))]

MAX_LINES = 600
MAX_FILES = 20
DESCRIBED = re.compile(r"((?:`[a-z_]+`(?:, | and )?)+):")
"""Names of modules in the docstring of a package, before the colon and what they are for."""


def name(path):
    return path.relative_to(ROOT).as_posix()


def test_file_has_at_most_600_lines():
    lengths = {name(path): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert {file: length for file, length in lengths.items() if length > MAX_LINES} == {}


def test_folder_has_at_most_20_python_files():
    counts = Counter(name(path.parent) for path in FILES if path.name not in ("__init__.py", "conftest.py"))
    assert {folder: count for folder, count in counts.items() if count > MAX_FILES} == {}


def test_support_modules_have_distinct_names():
    """Their folders are in ``sys.path`` together if pytest runs the tests of several folders."""
    counts = Counter(path.name for path in FILES if path.parent.name == "support")
    assert [file for file, count in counts.items() if count > 1] == []


def test_docstring_of_package_that_lists_modules_names_each():
    """A reader of a package starts from it. Packages of few modules have no list."""
    wrong = {}
    for path in sorted((ROOT / "packages").glob("*/src/*/**/__init__.py")):
        text = " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split())
        parts = [part for part in path.parent.iterdir() if part.suffix == ".py" or (part / "__init__.py").exists()]
        modules = {part.stem for part in parts if not part.stem.startswith("__")}
        described = {module for head in DESCRIBED.findall(text) for module in re.findall("`([a-z_]+)`", head)}
        missing = modules - set(re.findall("`([a-z_]+)`", text))
        if "* `" in text and (missing or not described <= modules):
            wrong[name(path)] = missing, described - modules
    assert wrong == {}
