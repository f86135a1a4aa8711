"""Tests of what depends on the layers that are installed: a file runs where the layers that it needs are."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

NEEDED = {
    "test_core.py": {"core"},
    "test_core_and_log.py": {"core", "log"},
    "test_core_and_state.py": {"core", "state"},
    "test_core_log_and_state.py": {"core", "log", "state"},
    "test_flow.py": {"flow"},
    "test_log.py": {"log"},
    "test_state.py": {"state"},
}
INSTALLED = {
    layer for layer in ("core", "exec", "flow", "log", "state") if importlib.util.find_spec(f"flowkit_{layer}")
}

collect_ignore = [name for name, needed in NEEDED.items() if not needed <= INSTALLED]

# Worker processes inherit sys.path, so they import the tasks as the tests do.
sys.path.insert(0, str(Path(__file__).parent / "support"))


@pytest.fixture(scope="session")
def installed():
    """The installed layers, by their short names."""
    return INSTALLED


def pytest_generate_tests(metafunc):
    """Run tests with an argument ``executor`` with the default and with each executor that is installed."""
    if "executor" in metafunc.fixturenames:
        metafunc.parametrize("executor", [None, "serial", *(["thread", "process"] if "exec" in INSTALLED else [])])
