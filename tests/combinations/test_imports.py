"""Importing a layer imports what it requires, and no other layer."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest

STAR = ["flowkit", "flowkit-core", "flowkit-exec", "flowkit-flow", "flowkit-log", "flowkit-state"]
COMPANIONS = ["flowkit-dask", "flowkit-view"]
INSTALLED = {dist.name for dist in importlib.metadata.distributions()}


def module(name):
    return name.replace("-", "_")


def required_by(name):
    lines = importlib.metadata.requires(name) or []
    return {re.split(r"[=<>]", line)[0] for line in lines if "extra ==" not in line}


def modules_after_import_of(name, *options):
    """Import a distribution in a new process; return the top-level modules that are not of the standard library."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        f"import {module(name)}\n"
        "print(*{module.split('.')[0] for module in sys.modules} - sys.stdlib_module_names - {'__main__'})"
    )
    done = subprocess.run(
        [sys.executable, "-S", *options, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize("name", sorted(INSTALLED.intersection(STAR)))
def test_import_of_distribution_imports_only_what_it_requires(name):
    assert modules_after_import_of(name, "-W", "error") == set(map(module, {name, *required_by(name)}))


def test_import_of_companion_imports_no_other_distribution_of_flowkit():
    for name in INSTALLED.intersection(COMPANIONS):
        found = {each for each in modules_after_import_of(name) if each.startswith("flowkit")}
        assert {module(name)} <= found <= set(map(module, {name, *required_by(name)}))
