"""Values, keys, metadata, order and batches of the entries of a `StateManager`."""

from __future__ import annotations

import pytest

from flowkit_state import StateError, StateManager, StateOptionTypeError


def test_get_returns_value_or_default(make_state):
    state = make_state()
    state.set("a", [1, 2])
    assert state.get("a") == [1, 2]
    assert state.get("b") is None
    assert state.get("b", "other") == "other"


def test_none_is_stored_as_value(make_state):
    state = make_state()
    state.set("a", None)
    assert state.has("a")
    assert state.get("a", "other") is None


def test_delete_returns_whether_key_existed(make_state):
    state = make_state()
    state.set("a", 1)
    assert state.delete("a") is True
    assert state.delete("a") is False
    assert not state.has("a")


def test_keys_and_get_all_keep_insertion_order(make_state):
    state = make_state()
    for key in "cab":
        state.set(key, key.upper())
    state.set("c", "again")
    assert state.keys() == ["c", "a", "b"]
    assert list(state.get_all().items()) == [("c", "again"), ("a", "A"), ("b", "B")]


def test_clear_removes_all_entries(make_state):
    state = make_state()
    state.set("a", 1)
    state.clear()
    assert state.get_all() == {}


@pytest.mark.parametrize(
    "key", ["", "a b", "../../etc/passwd", "nul\0", "new\nline", "\ud800", "\ud83d\ude00", "😀", "k" * 99_999, "%s"]
)
def test_any_text_is_valid_key(make_state, key):
    state = make_state()
    state.set(key, "value")
    assert state.get(key) == "value"
    assert state.keys() == [key]
    assert state.delete(key)


def test_surrogate_pair_and_character_are_different_keys(make_state):
    state = make_state()
    state.set("\ud83d\ude00", "two surrogates")
    state.set("😀", "one character")
    assert state.get("\ud83d\ude00") == "two surrogates"
    assert len(state.keys()) == 2


def test_set_stores_snapshot_of_value_and_metadata(make_state):
    state = make_state()
    value = {"rows": [1]}
    metadata = {"tags": ["x"]}
    state.set("a", value, metadata=metadata)
    value["rows"].append(2)
    metadata["tags"].append("y")
    state.get("a")["rows"].append(3)
    state.get_metadata("a")["tags"].append("z")
    assert state.get("a") == {"rows": [1]}
    assert state.get_metadata("a") == {"tags": ["x"]}


def test_get_metadata_returns_metadata_of_last_set(make_state):
    state = make_state()
    state.set("a", 1, metadata={"source": ("api", 2)})
    state.set("b", 1)
    assert state.get_metadata("a") == {"source": ("api", 2)}
    assert state.get_metadata("b") == {}
    assert state.get_metadata("c") is None
    state.set("a", 2)
    assert state.get_metadata("a") == {}


def test_batch_that_raises_is_rolled_back(make_state):
    state = make_state()
    state.set("a", "old")
    with pytest.raises(RuntimeError, match="stop"), state.batch():
        state.set("a", "new")
        state.set("b", 1)
        assert state.get("a") == "new"
        raise RuntimeError("stop")
    assert state.get_all() == {"a": "old"}
    with state.batch():
        state.delete("a")
        state.set("b", 1)
    assert state.get_all() == {"b": 1}


def test_inner_batch_is_part_of_outer_batch(make_state):
    state = make_state()
    with pytest.raises(RuntimeError), state.batch():
        with state.batch():
            state.set("a", 1)
        raise RuntimeError
    assert state.get_all() == {}
    with state.batch(), state.batch():
        state.set("a", 1)
    assert state.get_all() == {"a": 1}


def test_empty_batch_changes_nothing(path):
    with StateManager(path) as state:
        with state.batch():
            pass
        assert state.get_all() == {}


def test_manager_is_usable_after_failed_batch(make_state):
    state = make_state()
    for _ in range(3):
        with pytest.raises(StateError), state.batch():
            state.set("a", 1)
            state.set("b", object())
    state.set("c", 1)
    assert state.get_all() == {"c": 1}


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize("key", [1, None, b"a", ("a",), Name("a")])
def test_key_of_other_type_is_refused(make_state, key):
    state = make_state()
    for use in (state.has, state.get, state.delete, state.get_metadata, lambda k: state.set(k, 1)):
        with pytest.raises(StateOptionTypeError, match=r"key is .* but must be a str"):
            use(key)


def test_metadata_of_other_type_is_refused(make_state):
    with pytest.raises(StateOptionTypeError, match="metadata is"):
        make_state().set("a", 1, metadata=[1])


def test_sqlite_write_size_does_not_grow_with_number_of_entries(tmp_path):
    with StateManager(tmp_path / "state.db") as state:
        with state.batch():
            for number in range(10_000):
                state.set(f"key {number}", number)
        size = (tmp_path / "state.db-wal").stat().st_size
        state.set("one more", 1)
        assert (tmp_path / "state.db-wal").stat().st_size - size < 50_000
        assert len(state.keys()) == 10_001
