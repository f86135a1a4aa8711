"""The options of tasks and of runs are the same in signatures, in types and in the documentation."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from flowkit_core import Pipeline, Task, task
from flowkit_core.pipelines import options

ROOT = Path(__file__).parents[2]


def keyword_only(function):
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def fields(source, name):
    """Return the names of the annotated fields of a class that is defined anywhere in a module."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef) and node.name == name]
    return [each.target.id for found in classes for each in found.body if isinstance(each, ast.AnnAssign)]


@pytest.mark.parametrize("function", [task, Task], ids=["task", "Task"])
def test_signature_has_the_options_of_tasks(function):
    assert keyword_only(function) == options.DEFAULT_OF


def test_types_have_the_options_of_tasks():
    assert fields(Path(options.__file__).read_text("utf-8"), "TaskOptions") == list(options.DEFAULT_OF)


def test_run_has_the_options_of_runs():
    assert sorted(("executor", *keyword_only(Pipeline.run))) == sorted(options.RUN_OPTIONS)


@pytest.mark.parametrize(("page", "names"), [("tasks.md", options.OPTIONS), ("running.md", options.RUN_OPTIONS)])
def test_page_describes_every_option(page, names):
    text = (ROOT / "docs/pages" / page).read_text("utf-8")
    assert [name for name in names if f"| `{name}" not in text] == []
