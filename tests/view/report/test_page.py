"""The commands of the page on the command line, in order, the docstrings of flowkit_view, and the main example."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

import flowkit_view

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "pages/command-line.md").read_text("utf-8")
SCRIPT = DOCS / "examples/stdlib_report.py"
MODULES = ["flowkit_view", *[info.name for info in pkgutil.walk_packages(flowkit_view.__path__, "flowkit_view.")]]


def test_commands_of_page(folder, flowkit):
    (source,) = re.findall(r'```python title="etl.py"\n(.*?)```', PAGE, re.DOTALL)
    (folder / "etl.py").write_text(source)
    lines = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    commands = [line.partition("  #") for line in lines if line.startswith("flowkit ")]
    assert len(commands) > 12
    for command, _, comment in commands:
        answer = flowkit(*shlex.split(command.partition(" > ")[0])[1:])
        assert (command, answer.code, answer.err) == (command, 1 if "exits with 1" in comment else 0, answer.err)


def test_table_of_page_has_all_commands(flowkit):
    commands = re.findall(r"^    (\w+) ", flowkit("--help").out, re.MULTILINE)
    assert [name for name in commands if f"| `{name}` |" not in PAGE] == []


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_of_docstrings(name):
    if name in ("flowkit_view.opentelemetry", "flowkit_view.recorded_spans"):
        pytest.importorskip("opentelemetry.sdk")
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_main_example_ends_with_path_of_report(folder, monkeypatch, capfd):
    (folder / "code").mkdir()
    (folder / "code" / "module.py").write_text("import os\n\ndef work():\n    return os.name\n")
    options = ["--root", "code", "--executor", "serial", "--workers", "1", "--quiet", "--report", "run.html"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capfd.readouterr().out.splitlines()[-1] == "What the run did: run.html"
    text = (folder / "run.html").read_text("utf-8")
    assert "<title>stdlib_report: succeeded</title>" in text
    assert ">measure<" in text
