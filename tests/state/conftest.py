"""What the tests of flowkit-state share: a clock they set, and one store of each kind."""

from __future__ import annotations

import pytest

from flowkit_state import StateManager


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "json", "sqlite"])
def make_state(request, tmp_path, clock):
    """Make a manager over the same place each time (in memory: over a new one)."""
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
    """The path of a state file that is not there yet, of either kind."""
    return tmp_path / request.param
