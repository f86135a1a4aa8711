"""The commands of the page on the command line, in order, and the docstrings of flowkit_view."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import pytest

import flowkit_view

PAGE = (Path(__file__).parents[2] / "docs/pages/command-line.md").read_text("utf-8")
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
    if name == "flowkit_view.opentelemetry":
        pytest.importorskip("opentelemetry.sdk")
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0
