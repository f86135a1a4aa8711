"""Limits of the number and the size of entries."""

from __future__ import annotations

import pickle

import pytest

from flowkit_state import StateManager, StateOptionError, StateOptionTypeError, TaskCache, ValueTooLargeError

FILES = ["state.json", "state.db"]


def stored_size(*keys):
    """The size of entries `key: "x" * 100` as JSON text."""
    return sum(len(key) + 102 for key in keys)


def test_store_in_memory_keeps_entries_that_were_used_last(clock):
    state = StateManager(max_entries=3, clock=clock)
    for key in "abc":
        state.set(key, key)
    assert state.get("a") == "a"
    state.set("d", "d")
    assert state.keys() == ["a", "c", "d"]
    assert state.has("c")
    state.touch("a")
    state.set("e", "e")
    assert state.keys() == ["a", "c", "e"]


@pytest.mark.parametrize("name", FILES)
def test_store_in_file_keeps_entries_that_were_stored_last(tmp_path, clock, name):
    with StateManager(tmp_path / name, max_entries=3, clock=clock) as state:
        for key in "abcd":
            state.set(key, key)
            assert state.get("a", "a") == "a"
            clock.advance(1)
        assert state.keys() == ["b", "c", "d"]
        state.set("b", "again")
        clock.advance(1)
        state.touch("c")
        clock.advance(1)
        state.set("e", "e")
        assert state.keys() == ["b", "c", "e"]


def test_max_bytes_limits_total_size(make_state, clock):
    state = make_state(max_bytes=stored_size("a", "b", "c"))
    for key in "abcd":
        state.set(key, "x" * 100)
        clock.advance(1)
    assert state.keys() in (["b", "c", "d"], ["c", "d"])  # a database removes some more than necessary
    state.set("e", "x" * 290)
    assert state.keys() == ["e"]


def test_replaced_and_removed_entries_free_their_size(make_state, clock):
    state = make_state(max_bytes=1000)
    for _ in range(20):
        state.set("a", "x" * 400)
        state.set("b", "x" * 400)
        state.delete("b")
        clock.advance(1)
    assert state.keys() == ["a"]
    state.clear()
    for number in range(8):
        state.set(f"{number}", "x" * 90)
    assert len(state) == 8


def test_metadata_and_key_count_to_size(make_state):
    state = make_state(max_bytes=1000)
    with pytest.raises(ValueTooLargeError):
        state.set("a", 1, metadata={"text": "x" * 1000})
    with pytest.raises(ValueTooLargeError):
        state.set("ä" * 500, 1)
    state.set("a" * 900, 1)


def test_entry_larger_than_limit_is_refused(make_state):
    state = make_state(max_bytes=200)
    state.set("a", 1)
    with pytest.raises(ValueTooLargeError, match=r"it takes 303 bytes, .* at most 200 in all") as caught:
        state.set("b", "x" * 300)
    assert (caught.value.key, caught.value.size, caught.value.limit) == ("b", 303, 200)
    assert pickle.loads(pickle.dumps(caught.value)).size == 303
    with pytest.raises(ValueTooLargeError):
        state.add("b", "x" * 300)
    assert state.get_all() == {"a": 1}


def test_expired_entries_are_removed_first(make_state, clock):
    state = make_state(max_entries=3)
    state.set("a", 1)
    clock.advance(1)
    state.set("b", 1, ttl=5)
    state.set("c", 1, ttl=5)
    clock.advance(5)
    state.set("d", 1)
    state.set("e", 1)
    assert state.keys() == ["a", "d", "e"]


def test_batch_that_raises_restores_removed_entries(make_state, clock):
    state = make_state(max_entries=2)
    state.set("a", 1)
    clock.advance(1)
    state.set("b", 1)
    clock.advance(1)
    with pytest.raises(RuntimeError), state.batch():
        state.set("c", 1)
        state.set("d", 1)
        raise RuntimeError
    assert state.keys() == ["a", "b"]
    state.set("c", 1)
    assert state.keys() == ["b", "c"]


def test_limit_holds_for_many_entries(make_state, clock):
    state = make_state(max_entries=100, max_bytes=20_000)
    with state.batch():
        for number in range(1000):
            state.set(f"key {number}", "x" * 50)
            clock.advance(0.001)
            assert len(state) <= 100
    assert "key 999" in state
    assert 90 <= len(state) <= 100


@pytest.mark.parametrize("name", FILES)
def test_managers_of_one_file_share_its_limit(tmp_path, clock, name):
    path = tmp_path / name
    with (
        StateManager(path, max_entries=5, clock=clock) as one,
        StateManager(path, max_entries=5, clock=clock) as two,
        StateManager(path, clock=clock) as unlimited,
    ):
        for number in range(10):
            for index, state in enumerate((one, two)):
                state.set(f"{number} {index}", number)
                clock.advance(1)
            assert len(one) <= 5
        for number in range(10):
            unlimited.set(f"unlimited {number}", number)
        assert len(one) == 15
        clock.advance(1)
        two.set("last", 1)
        assert len(one) == 5
        assert "last" in one


def test_expired_entries_are_removed_from_memory_without_being_read(clock):
    state = StateManager(clock=clock)
    for number in range(1000):
        state.set(f"key {number}", number, ttl=10)
        clock.advance(1)
    assert len(state._store._entries) <= 11
    state.set("forever", 1)
    state.set("a", 1, ttl=5)
    state.touch("a", 50)
    clock.advance(49)
    state.set("b", 1)
    assert [*state._store._entries] == ["forever", "a", "b"]


def test_expired_entries_are_removed_after_batch_that_raised(clock):
    state = StateManager(clock=clock)
    state.set("a", 1, ttl=10)
    with pytest.raises(RuntimeError), state.batch():
        clock.advance(10)
        state.set("b", 1)
        raise RuntimeError
    state.set("c", 1)
    assert [*state._store._entries] == ["c"]


@pytest.mark.parametrize("option", ["max_entries", "max_bytes"])
def test_invalid_limit_is_refused(option):
    for value in (0, -1):
        with pytest.raises(StateOptionError, match=f"{option} is {value}, but must be 1 or more"):
            StateManager(**{option: value})
    for value in (1.5, "10", True):
        with pytest.raises(StateOptionTypeError, match=f"{option} is .*, but must be an int"):
            StateManager(**{option: value})


def test_limits_are_part_of_repr_and_pickle(tmp_path):
    with StateManager(tmp_path / "state.db", max_entries=7, max_bytes=1000) as state:
        assert "max_entries=7, max_bytes=1000" in repr(state)
        with pickle.loads(pickle.dumps(state)) as copy:
            for number in range(10):
                copy.set(f"{number}", number)
            assert len(copy) == 7


def test_results_of_cache_are_removed_with_their_files(tmp_path, clock):
    path = tmp_path / "state.db"
    with StateManager(path, max_bytes=3_000_000, clock=clock) as state:
        cache = TaskCache(state)

        @cache
        def text(number):
            clock.advance(1)
            return f"{number}" * 1_000_000

        for number in range(10):
            assert text(number) == f"{number}" * 1_000_000
        files = [file for file in path.with_name("state.db.files").rglob("*") if file.is_file()]
        assert len(files) == 2
        assert state.gc().files == 0


def test_cache_in_memory_has_limit():
    assert "max_bytes=268435456" in repr(TaskCache().state)
