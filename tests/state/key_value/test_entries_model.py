"""A `StateManager` behaves like a dict with expiry, for random sequences of operations."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from flowkit_state import StateManager

keys = st.sampled_from(["a", "b", "\ud800", "", "$x"])


values = (
    st.none() | st.integers() | st.text(max_size=3) | st.tuples(st.integers()) | st.lists(st.booleans(), max_size=2)
)


ttls = st.none() | st.sampled_from([0, 1, 5, 20, float("inf")])


class Model(RuleBasedStateMachine):
    name = ""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now = 1000.0
        self.model = {}
        self.states = [self.open(), self.open()]

    def open(self):
        path = self.folder / self.name if self.name else None
        return StateManager(path, clock=lambda: self.now)

    def live(self):
        return {key: value for key, (value, expires) in self.model.items() if self.now < expires}

    which = st.integers(0, 1)

    def pick(self, which):
        return self.states[which if self.name else 0]

    def put(self, key, value, ttl):
        self.model.pop(key, None) if ttl == 0 else None
        if ttl != 0:
            self.model[key] = (value, float("inf") if ttl is None else self.now + ttl)

    @rule(which=which, key=keys, value=values, ttl=ttls)
    def set(self, which, key, value, ttl):
        self.pick(which).set(key, value, ttl=ttl)
        self.put(key, value, ttl)

    @rule(which=which, key=keys)
    def delete(self, which, key):
        assert self.pick(which).delete(key) == (key in self.live())
        self.model.pop(key, None)

    @rule(which=which)
    def clear(self, which):
        self.pick(which).clear()
        self.model.clear()

    @rule(which=which, seconds=st.sampled_from([0.5, 1, 5, 20]))
    def wait(self, which, seconds):
        self.now += seconds

    @rule(which=which)
    def invalidate(self, which):
        self.pick(which).invalidate_expired()

    @rule(which=which, changes=st.lists(st.tuples(keys, values, ttls), max_size=4), fails=st.booleans())
    def batch(self, which, changes, fails):
        state = self.pick(which)
        with contextlib.suppress(ZeroDivisionError), state.batch():
            for key, value, ttl in changes:
                state.set(key, value, ttl=ttl)
            1 / (not fails)
        if fails:
            return
        for change in changes:
            self.put(*change)

    @rule(which=which)
    def reopen(self, which):
        if self.name:
            self.states[which].close()
            self.states[which] = self.open()

    @invariant()
    def same(self):
        for state in self.states if self.name else self.states[:1]:
            assert state.get_all() == self.live()
            assert sorted(state.keys()) == sorted(self.live())
            for key in ("a", "\ud800"):
                assert state.has(key) == (key in self.live())
                assert state.get(key, "nothing") == self.live().get(key, "nothing")

    def teardown(self):
        for state in self.states:
            state.close()
        shutil.rmtree(self.folder)


@pytest.mark.parametrize("name", ["", "state.json", "state.db"], ids=["memory", "json", "sqlite"])
def test_state_manager_behaves_like_dict_with_expiry(name):
    machine = type("Machine", (Model,), {"name": name})
    run_state_machine_as_test(machine, settings=settings(max_examples=8, stateful_step_count=15, deadline=None))
