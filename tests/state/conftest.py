"""Fixtures of the tests of flowkit-state: a clock, a manager of each kind, and the path of a new file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from flowkit_state import StateManager

# Data libraries are optional.
LIBRARIES = ("attrs", "numpy", "pandas", "polars", "pyarrow", "pydantic")
INSTALLED = all(map(importlib.util.find_spec, LIBRARIES))
collect_ignore = [] if INSTALLED else ["serialization/test_library_values.py"]

# Subprocesses inherit sys.path, so they import the helpers as the tests do.
sys.path.insert(0, str(Path(__file__).parent / "support"))


class Clock:
    """A clock that only moves when a test advances it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def calls():
    """A list for the arguments of calls."""
    return []


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "json", "sqlite"])
def make_state(request, tmp_path, clock):
    """Return a function that opens a manager of the same file each time; in memory, of a new store."""
    path = {"memory": None, "json": tmp_path / "state.json", "sqlite": tmp_path / "state.db"}[request.param]
    made = []

    def make(**options):
        made.append(StateManager(path, **{"clock": clock, **options}))
        return made[-1]

    yield make
    for state in made:
        state.close()


@pytest.fixture(params=["state.json", "state.db"])
def path(request, tmp_path):
    """The path of a state file of each kind, which does not exist yet."""
    return tmp_path / request.param
