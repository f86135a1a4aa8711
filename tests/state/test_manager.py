"""What a StateManager does, the same in memory, in a JSON file and in SQLite."""

from __future__ import annotations

import pickle

import pytest

from flowkit_state import StateClosedError, StateError, StateManager, StateOptionError, StateOptionTypeError

NAN = float("nan")
INF = float("inf")


def test_set_and_get(make_state):
    state = make_state()
    state.set("a", [1, 2])
    assert state.get("a") == [1, 2]
    assert state.get("b") is None
    assert state.get("b", "other") == "other"


def test_none_is_a_value(make_state):
    state = make_state()
    state.set("a", None)
    assert state.has("a")
    assert state.get("a", "other") is None


def test_delete_tells_whether_there_was_something(make_state):
    state = make_state()
    state.set("a", 1)
    assert state.delete("a") is True
    assert state.delete("a") is False
    assert not state.has("a")


def test_get_all_and_keys_are_in_order_of_first_setting(make_state):
    state = make_state()
    for key in "cab":
        state.set(key, key.upper())
    state.set("c", "again")
    assert state.keys() == ["c", "a", "b"]
    assert list(state.get_all().items()) == [("c", "again"), ("a", "A"), ("b", "B")]


def test_clear(make_state):
    state = make_state()
    state.set("a", 1)
    state.clear()
    assert state.get_all() == {}


@pytest.mark.parametrize(
    "key", ["", "a b", "../../etc/passwd", "nul\0", "new\nline", "\ud800", "\ud83d\ude00", "😀", "k" * 99_999, "%s"]
)
def test_any_text_is_a_key(make_state, key):
    state = make_state()
    state.set(key, "value")
    assert state.get(key) == "value"
    assert state.keys() == [key]
    assert state.delete(key)


def test_two_spellings_of_one_character_are_two_keys(make_state):
    state = make_state()
    state.set("\ud83d\ude00", "two surrogates")
    state.set("😀", "one character")
    assert state.get("\ud83d\ude00") == "two surrogates"
    assert len(state.keys()) == 2


def test_the_store_holds_a_snapshot(make_state):
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


def test_metadata(make_state):
    state = make_state()
    state.set("a", 1, metadata={"source": ("api", 2)})
    state.set("b", 1)
    assert state.get_metadata("a") == {"source": ("api", 2)}
    assert state.get_metadata("b") == {}
    assert state.get_metadata("c") is None
    state.set("a", 2)
    assert state.get_metadata("a") == {}


# Expiry


def test_an_entry_expires_after_its_ttl(make_state, clock):
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
def test_ttl_goes_before_default_ttl(make_state, clock, default_ttl, ttl, lives):
    state = make_state(default_ttl=default_ttl)
    state.set("a", 1, ttl=ttl)
    clock.advance(min(lives, 1e9) - 1)
    assert state.has("a")
    clock.advance(1)
    assert state.has("a") is (lives == INF)


def test_ttl_zero_is_at_once_and_default_ttl_zero_is_a_number(make_state):
    state = make_state()
    state.set("a", "old")
    state.set("a", "new", ttl=0)
    assert not state.has("a")
    brief = make_state(default_ttl=0)
    brief.set("b", 1)
    assert not brief.has("b")
    brief.set("b", 1, ttl=1)
    assert brief.has("b")


def test_a_huge_ttl_is_for_ever(make_state):
    state = make_state()
    state.set("a", 1, ttl=10**400)
    assert state.has("a")


@pytest.mark.parametrize("ttl", [-1, -0.001, NAN, -INF])
def test_a_ttl_that_cannot_be_is_refused(make_state, ttl):
    state = make_state()
    with pytest.raises(StateOptionError, match=r"ttl is .*, but must be 0 or more seconds"):
        state.set("a", 1, ttl=ttl)
    assert not state.has("a")
    with pytest.raises(StateOptionError, match="default_ttl is"):
        make_state(default_ttl=ttl)


@pytest.mark.parametrize("ttl", [True, "60", [1], 1j])
def test_a_ttl_that_is_no_number_is_refused(make_state, ttl):
    with pytest.raises(StateOptionTypeError, match=r"ttl is .* but must be a number of seconds"):
        make_state().set("a", 1, ttl=ttl)
    with pytest.raises(StateOptionTypeError, match="default_ttl is"):
        make_state(default_ttl=ttl)


def test_invalidate_expired_counts_and_removes(make_state, clock):
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


def test_what_expired_does_not_come_back_when_the_clock_is_set_back(path, clock):
    with StateManager(path, clock=clock) as state:
        state.set("a", 1, ttl=10)
        clock.advance(11)
        assert not state.has("a")
        state.set("b", 2)
        clock.advance(-11)
        assert not state.has("a")
    with StateManager(path, clock=clock) as state:
        assert state.keys() == ["b"]


def test_setting_another_key_does_not_prolong(path, clock):
    with StateManager(path, clock=clock) as state:
        state.set("a", 1, ttl=10)
        clock.advance(9)
        state.set("b", 2)
    with StateManager(path, clock=clock) as state:
        assert state.has("a")
        clock.advance(1)
        assert not state.has("a")


def test_a_clock_set_back_prolongs_by_one_ttl_at_most(make_state, clock):
    """The entry seems to come from the future: its time to live counts from when that is first seen."""
    state = make_state()
    state.set("a", 1, ttl=60)
    clock.advance(-1_000_000)
    assert state.get("a") == 1
    clock.advance(59)
    assert state.get("a") == 1
    clock.advance(1)
    assert not state.has("a")


# Batches


def test_a_batch_is_all_or_nothing(make_state):
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


def test_an_inner_batch_belongs_to_the_outer_one(make_state):
    state = make_state()
    with pytest.raises(RuntimeError), state.batch():
        with state.batch():
            state.set("a", 1)
        raise RuntimeError
    assert state.get_all() == {}
    with state.batch(), state.batch():
        state.set("a", 1)
    assert state.get_all() == {"a": 1}


def test_a_batch_of_nothing_changes_nothing(path):
    with StateManager(path) as state:
        with state.batch():
            pass
        assert state.get_all() == {}


def test_the_manager_works_after_a_failed_batch(make_state):
    state = make_state()
    for _ in range(3):
        with pytest.raises(StateError), state.batch():
            state.set("a", 1)
            state.set("b", object())
    state.set("c", 1)
    assert state.get_all() == {"c": 1}


# Opening and closing


def test_files_remember(path):
    with StateManager(path) as state:
        state.set("a", (1, 2), metadata={"n": 1})
    with StateManager(path) as state:
        assert state.get("a") == (1, 2)
        assert state.get_metadata("a") == {"n": 1}


def test_what_was_set_is_there_without_close(path):
    state = StateManager(path)
    state.set("a", 1)
    with StateManager(path) as other:
        assert other.get("a") == 1
        other.set("b", 2)
    assert state.get("b") == 2
    state.close()


@pytest.mark.parametrize("suffix", [".json", ".db", ".sqlite", ".sqlite3", ".JSON", ".Db"])
def test_the_suffix_decides(tmp_path, suffix):
    path = tmp_path / f"state{suffix}"
    with StateManager(path) as state:
        state.set("a", 1)
    assert path.read_bytes().startswith(b"SQLite format 3" if "json" not in suffix.lower() else b"{")


@pytest.mark.parametrize("name", ["state", "state.txt", "state.json.gz", ".json", "", "folder.db/"])
def test_an_unknown_suffix_names_those_that_are_known(tmp_path, name):
    with pytest.raises(StateOptionError, match=r"\.json \(JSON\) or \.db, \.sqlite, \.sqlite3 \(SQLite\)"):
        StateManager(name)
    assert list(tmp_path.iterdir()) == []


def test_bad_options():
    with pytest.raises(StateOptionTypeError, match="storage_path is 7"):
        StateManager(7)
    with pytest.raises(StateOptionError, match="NUL"):
        StateManager("a\0b.json")
    with pytest.raises(StateOptionError, match='serializer is \'yaml\', but must be "json" or "pickle"'):
        StateManager(serializer="yaml")
    with pytest.raises(StateOptionError, match="lock_timeout is -1"):
        StateManager(lock_timeout=-1)


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize("key", [1, None, b"a", ("a",), Name("a")])
def test_a_key_is_a_plain_text(make_state, key):
    state = make_state()
    for use in (state.has, state.get, state.delete, state.get_metadata, lambda k: state.set(k, 1)):
        with pytest.raises(StateOptionTypeError, match=r"key is .* but must be a str"):
            use(key)


def test_metadata_is_a_dict(make_state):
    with pytest.raises(StateOptionTypeError, match="metadata is"):
        make_state().set("a", 1, metadata=[1])


def test_a_closed_manager_says_so(make_state):
    state = make_state()
    state.close()
    state.close()
    uses = [state.keys, state.get_all, state.clear, state.invalidate_expired, state.batch, state.__enter__]
    for use in [*uses, lambda: state.get("a"), lambda: state.set("a", 1), lambda: state.has("a")]:
        with pytest.raises(StateClosedError, match="is closed"):
            use()


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with StateManager("sub/state.json") as state:
        monkeypatch.chdir("elsewhere")
        state.set("a", 1)
        assert state.path == str(tmp_path / "sub" / "state.json")
    assert (tmp_path / "sub" / "state.json").exists()


def test_repr(tmp_path):
    path = str(tmp_path / "state.json")
    assert repr(StateManager()) == "StateManager(default_ttl=None)"
    with StateManager(path, 60, serializer="pickle") as state:
        assert repr(state) == f'StateManager({path!r}, default_ttl=60.0, serializer="pickle")'
    assert repr(state).endswith(" (closed)")


def test_a_manager_over_a_file_can_be_sent_to_another_process(path):
    with StateManager(path, default_ttl=60) as state:
        state.set("a", 1)
        with pickle.loads(pickle.dumps(state)) as copy:
            assert copy.get("a") == 1
            assert copy.default_ttl == 60
    with pytest.raises(TypeError, match="over a file"):
        pickle.dumps(StateManager())


def test_ten_thousand_sets_are_not_quadratic_in_sqlite(tmp_path):
    with StateManager(tmp_path / "state.db") as state:
        with state.batch():
            for number in range(10_000):
                state.set(f"key {number}", number)
        size = (tmp_path / "state.db-wal").stat().st_size
        state.set("one more", 1)
        assert (tmp_path / "state.db-wal").stat().st_size - size < 50_000
        assert len(state.keys()) == 10_001
