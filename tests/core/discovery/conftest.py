"""Fixtures for the tests of discovery: modules, packages, notebooks and programs that are written for one test."""

from __future__ import annotations

import importlib
import linecache
import os
import subprocess
import sys
import textwrap

import pytest

HEADER = "from flowkit_core import DAG, Task, task\n"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Return a function that writes a source as a module, imports it and returns it; a dotted name makes packages."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(source, name="script"):
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(tmp_path).parents:
            if folder.name:
                (tmp_path / folder / "__init__.py").touch()
                names.append(".".join(folder.parts))
        path.write_text(HEADER + textwrap.dedent(source))
        names.append(name)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield write
    for name in names:
        sys.modules.pop(name, None)
    linecache.clearcache()


@pytest.fixture
def program(tmp_path):
    """Return a function that runs a source as a script in a new process, and returns the lines that it prints."""

    def run(source, *options):
        path = tmp_path / "program.py"
        path.write_text(HEADER + textwrap.dedent(source))
        done = subprocess.run(
            [sys.executable, "-W", "error", *options, str(path)],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout.splitlines()

    return run


class Notebook:
    """Cells that are executed one after the other in one namespace; some versions of IPython name their code."""

    def __init__(self, code_name):
        self.names = {"__name__": "__main__"}
        self.code_name = code_name
        self.cells = 0
        self.run(HEADER)

    def run(self, source):
        """Execute a new cell."""
        self.cells += 1
        code = compile(textwrap.dedent(source), f"<cell {self.cells}>", "exec")
        exec(code.replace(co_name=self.code_name), self.names)

    def __getitem__(self, name):
        return self.names[name]


@pytest.fixture(params=["<module>", "<cell line: 1>"])
def notebook(request):
    """An empty notebook."""
    return Notebook(request.param)
