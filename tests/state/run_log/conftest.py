"""Fixtures of the tests of recorded runs."""

from __future__ import annotations

import pytest

from flowkit_state import StateManager


@pytest.fixture(params=["file", "memory"])
def state(request, tmp_path):
    with StateManager(tmp_path / "runs.db" if request.param == "file" else None) as manager:
        yield manager


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"
