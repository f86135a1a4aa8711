"""Time to live of entries."""

from __future__ import annotations

import pytest

from flowkit_state import StateManager, StateOptionError, StateOptionTypeError

NAN = float("nan")


INF = float("inf")


def test_entry_expires_after_ttl(make_state, clock):
    state = make_state()
    state.set("a", 1, ttl=10)
    clock.advance(9.9)
    assert state.get("a") == 1
    clock.advance(0.1)
    assert state.get("a", "gone") == "gone"
    assert not state.has("a")
    assert state.get_metadata("a") is None
    assert state.get_all() == {}
    assert state.delete("a") is False


@pytest.mark.parametrize(
    ("default_ttl", "ttl", "lives"), [(5, None, 5), (5, 20, 20), (None, 3, 3), (5, INF, INF), (INF, None, INF)]
)
def test_ttl_overrides_default_ttl(make_state, clock, default_ttl, ttl, lives):
    state = make_state(default_ttl=default_ttl)
    state.set("a", 1, ttl=ttl)
    clock.advance(min(lives, 1e9) - 1)
    assert state.has("a")
    clock.advance(1)
    assert state.has("a") is (lives == INF)


def test_ttl_zero_expires_at_once(make_state):
    state = make_state()
    state.set("a", "old")
    state.set("a", "new", ttl=0)
    assert not state.has("a")
    brief = make_state(default_ttl=0)
    brief.set("b", 1)
    assert not brief.has("b")
    brief.set("b", 1, ttl=1)
    assert brief.has("b")


def test_huge_ttl_never_expires(make_state):
    state = make_state()
    state.set("a", 1, ttl=10**400)
    assert state.has("a")


@pytest.mark.parametrize("ttl", [-1, -0.001, NAN, -INF])
def test_negative_or_nan_ttl_is_refused(make_state, ttl):
    state = make_state()
    with pytest.raises(StateOptionError, match=r"ttl is .*, but must be 0 or more seconds"):
        state.set("a", 1, ttl=ttl)
    assert not state.has("a")
    with pytest.raises(StateOptionError, match="default_ttl is"):
        make_state(default_ttl=ttl)


@pytest.mark.parametrize("ttl", [True, "60", [1], 1j])
def test_ttl_of_other_type_is_refused(make_state, ttl):
    with pytest.raises(StateOptionTypeError, match=r"ttl is .* but must be a number of seconds"):
        make_state().set("a", 1, ttl=ttl)
    with pytest.raises(StateOptionTypeError, match="default_ttl is"):
        make_state(default_ttl=ttl)


def test_invalidate_expired_removes_and_counts_entries(make_state, clock):
    state = make_state()
    state.set("a", 1, ttl=1)
    state.set("b", 1, ttl=2)
    state.set("c", 1, ttl=3)
    state.set("d", 1)
    assert state.invalidate_expired() == 0
    clock.advance(2)
    assert state.invalidate_expired() == 2
    assert state.invalidate_expired() == 0
    assert state.keys() == ["c", "d"]


def test_expired_entry_stays_expired_if_clock_is_set_back(path, clock):
    with StateManager(path, clock=clock) as state:
        state.set("a", 1, ttl=10)
        clock.advance(11)
        assert not state.has("a")
        state.set("b", 2)
        clock.advance(-11)
        assert not state.has("a")
    with StateManager(path, clock=clock) as state:
        assert state.keys() == ["b"]


def test_set_of_other_key_does_not_extend_ttl(path, clock):
    with StateManager(path, clock=clock) as state:
        state.set("a", 1, ttl=10)
        clock.advance(9)
        state.set("b", 2)
    with StateManager(path, clock=clock) as state:
        assert state.has("a")
        clock.advance(1)
        assert not state.has("a")


def test_clock_set_back_extends_ttl_once_at_most(make_state, clock):
    """An entry stored in the future lives for its ttl from the first time that it is read."""
    state = make_state()
    state.set("a", 1, ttl=60)
    clock.advance(-1_000_000)
    assert state.get("a") == 1
    clock.advance(59)
    assert state.get("a") == 1
    clock.advance(1)
    assert not state.has("a")
