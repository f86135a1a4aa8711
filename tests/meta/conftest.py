"""Fixtures of tests of several distributions: a folder to run in, modules from source text, all executors."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent / "support"

# Worker processes inherit sys.path, so they import the helpers as the tests do.
sys.path.insert(0, str(SUPPORT))
sys.path.append(str(Path(__file__).parent.parent / "exec" / "support"))  # random_tasks


# Data libraries are optional.
LIBRARIES = ("attrs", "numpy", "pandas", "polars", "pyarrow", "pydantic")
INSTALLED = all(map(importlib.util.find_spec, LIBRARIES))
collect_ignore = [] if INSTALLED else ["recording/test_data_libraries.py"]


@pytest.fixture
def box(tmp_path):
    from durable_tasks import Box

    box = Box(tmp_path)
    yield box
    box.close()


@pytest.fixture
def elements(tmp_path):
    from element_tasks import Elements

    return Elements(tmp_path)


@pytest.fixture(scope="module", params=["serial", "thread", "process"])
def executor(request):
    """Each executor, with the same workers for all tests of a module."""
    from flowkit import ProcessExecutor, SerialExecutor, ThreadExecutor

    make = {"serial": SerialExecutor, "thread": ThreadExecutor, "process": ProcessExecutor}[request.param]
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "process":  # on a slow machine, tasks that run when another one fails must still finish
            patch.setattr("flowkit_core.runs.session.STOP_GRACE", 60.0)
        with make() if request.param == "serial" else make(max_workers=2) as executor:
            yield executor


@pytest.fixture
def load_module(tmp_path, monkeypatch):
    """Return a function that creates a module from source text, as its import in a new process would."""

    def load(source, name="etl"):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        module = types.ModuleType(name)
        module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(source, path, "exec"), vars(module))
        return module

    return load


@pytest.fixture
def script(tmp_path):
    """Return a function that runs a script in ``tmp_path`` in a new process, and returns its standard output."""
    import subprocess

    def run(source, *arguments, code=0, name="script.py", **variables):
        path = tmp_path / name
        path.write_text(source)
        search = os.pathsep.join([str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1", **variables}
        command = [sys.executable, str(path), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, f"exit code {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
