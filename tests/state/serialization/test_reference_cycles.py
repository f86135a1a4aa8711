"""Storing, loading and caching values leave no reference cycle, which would keep large values until it is collected."""

from __future__ import annotations

import gc

import pytest
from reference_cycles import find_garbage

from flowkit_state import StateManager, TaskCache, UnsupportedValueError

VALUE = [(1, [2, {3, 4}], {"a": (frozenset([5]),)}), b"text"]


def store_unsupported(state):
    with pytest.raises(UnsupportedValueError):
        state.set("key", [(object(),)])


def call_cached(state):
    TaskCache(state)(sorted_values)([VALUE, VALUE])


def sorted_values(values):
    return [sorted(map(str, value)) for value in values]


ACTIONS = {
    "set": lambda state: state.set("key", VALUE),
    "get": lambda state: state.get("key"),
    "set unsupported": store_unsupported,
    "cached": call_cached,
}


@pytest.mark.parametrize("name", ACTIONS)
def test_no_reference_cycle(name):
    with StateManager() as state:
        state.set("key", VALUE)
        ACTIONS[name](state)
        gc.collect()
        gc.disable()
        try:
            ACTIONS[name](state)
            assert find_garbage(lambda each: type(each).__module__.startswith("flowkit_state")) == []
        finally:
            gc.enable()
