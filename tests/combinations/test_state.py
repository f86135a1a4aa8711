"""Stored values and cached functions, whatever else is installed."""

from __future__ import annotations

import pytest

from flowkit_state import StateManager, TaskCache


@pytest.mark.parametrize("name", [None, "state.json", "state.db"])
def test_value_is_stored_and_cached_function_called_once(name, tmp_path):
    calls = []
    with StateManager(name and tmp_path / name) as state:

        @TaskCache(state)
        def rate(currency):
            calls.append(currency)
            return 1.08

        state.set("order", (4711, "paid"))
        assert state.get("order") == (4711, "paid")
        assert [rate("USD"), rate("USD")] == [1.08, 1.08]
    assert calls == ["USD"]
