"""The package: the cost of its import, and its version."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import flowkit_core

# What costs more than all of the core, or has effects of its own.
COSTLY = set(
    """
    asyncio concurrent dataclasses datetime hashlib importlib.metadata inspect json logging multiprocessing pickle
    random re signal socket sqlite3 subprocess tempfile threading traceback typing unicodedata uuid
    """.split()  # noqa: SIM905 - a list would be a line for each
)


def after(*lines):
    """Run lines in a new Python without site packages; return what it printed, and the modules it ended with."""
    modules = "import sys; print(*sys.modules)"
    source = "\n".join([f"import sys; sys.path[:] = {sys.path!r}", *lines, modules])
    command = [sys.executable, "-S", "-W", "error", "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    *printed, modules = done.stdout.splitlines()
    return printed, done.stderr, set(modules.split())


UNTOUCHED = (
    "import _thread, os, sys",
    "before = dict(os.environ), os.getcwd(), sys.excepthook, sys.displayhook, sys.getswitchinterval()",
    "import flowkit_core",
    "print(before == (dict(os.environ), os.getcwd(), sys.excepthook, sys.displayhook, sys.getswitchinterval()))",
    "print('threads', _thread._count())",
)


def test_import_is_cheap_and_silent():
    """It imports few modules of the standard library and no others, starts no thread, and prints nothing."""
    printed, errors, modules = after(*UNTOUCHED)
    assert (printed, errors) == (["True", "threads 0"], "")
    assert sorted(modules.intersection(COSTLY)) == []
    assert {name.split(".")[0] for name in modules} - {"__main__", "flowkit_core"} <= sys.stdlib_module_names


def test_serial_run_imports_no_more_modules():
    """With retries, conditions and failures."""
    printed, errors, modules = after(
        "from flowkit_core import DAG, Task",
        "broken, skipped = Task(lambda: 1 / 0, name='broken'), Task(lambda x: x, name='skipped', when=lambda x: False)",
        "one, two = Task(lambda: 1, name='one', retries=3), Task(lambda x: x + 1, name='two')",
        "one >> [two, skipped]",
        "dag = DAG('package', tasks=[two, skipped, broken])",
        "print(dag.run('serial', fail_fast=False, raise_on_failure=False))",
    )
    assert (printed, errors) == (["{'one': 1, 'two': 2}"], "")
    assert sorted(modules.intersection(COSTLY)) == []


def test_run_without_standard_streams():
    """As under pythonw, or in a daemon."""
    printed, errors, _ = after(
        "import sys",
        "streams, sys.stdout, sys.stderr = (sys.stdout, sys.stderr), None, None",
        "from flowkit_core import DAG, Task",
        "DAG('empty', tasks=[]).run('serial')",
        "tasks = [Task(lambda: print('lost') or 1, name='one'), Task(lambda: 1 / 0, name='two')]",
        "results = DAG('silent', tasks=tasks).run('serial', raise_on_failure=False)",
        "sys.stdout, sys.stderr = streams",
        "print(results)",
    )
    assert (printed, errors) == (["{'one': 1}"], "")


def test_version_is_that_of_the_metadata(monkeypatch):
    versions = {"flowkit-core": "1.2.3"}
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    assert flowkit_core.__version__ == "1.2.3"


def test_version_without_metadata_is_no_attribute(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert not hasattr(flowkit_core, "__version__")
