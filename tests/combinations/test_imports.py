"""Importing a layer imports what it requires, and no other layer."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest

NAMES = ["flowkit", "flowkit-core", "flowkit-exec", "flowkit-flow", "flowkit-log", "flowkit-state"]
INSTALLED = sorted({dist.name for dist in importlib.metadata.distributions()}.intersection(NAMES))


@pytest.mark.parametrize("name", INSTALLED)
def test_import_of_distribution_imports_only_what_it_requires(name):
    lines = importlib.metadata.requires(name) or []
    required = {re.split(r"[=<>]", line)[0] for line in lines if "extra ==" not in line}
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        f"import {name.replace('-', '_')}\n"
        "print(*{module.split('.')[0] for module in sys.modules} - sys.stdlib_module_names - {'__main__'})"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert set(done.stdout.split()) == {one.replace("-", "_") for one in {name, *required}}
    assert done.stderr == ""
