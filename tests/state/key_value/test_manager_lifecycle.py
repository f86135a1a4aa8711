"""Opening, closing, pickling and describing a `StateManager`."""

from __future__ import annotations

import pickle

import pytest

from flowkit_state import (
    StateClosedError,
    StateManager,
    StateOptionError,
    StateOptionTypeError,
)


def test_entries_persist_in_file(path):
    with StateManager(path) as state:
        state.set("a", (1, 2), metadata={"n": 1})
    with StateManager(path) as state:
        assert state.get("a") == (1, 2)
        assert state.get_metadata("a") == {"n": 1}


def test_entry_is_visible_to_other_manager_before_close(path):
    state = StateManager(path)
    state.set("a", 1)
    with StateManager(path) as other:
        assert other.get("a") == 1
        other.set("b", 2)
    assert state.get("b") == 2
    state.close()


@pytest.mark.parametrize("suffix", [".json", ".db", ".sqlite", ".sqlite3", ".JSON", ".Db"])
def test_suffix_selects_file_format(tmp_path, suffix):
    path = tmp_path / f"state{suffix}"
    with StateManager(path) as state:
        state.set("a", 1)
    assert path.read_bytes().startswith(b"SQLite format 3" if "json" not in suffix.lower() else b"{")


@pytest.mark.parametrize("name", ["state", "state.txt", "state.json.gz", ".json", "", "folder.db/"])
def test_unknown_suffix_error_lists_known_suffixes(tmp_path, name):
    with pytest.raises(StateOptionError, match=r"\.json \(JSON\) or \.db, \.sqlite, \.sqlite3 \(SQLite\)"):
        StateManager(name)
    assert list(tmp_path.iterdir()) == []


def test_invalid_options_are_refused():
    with pytest.raises(StateOptionTypeError, match="storage_path is 7"):
        StateManager(7)
    with pytest.raises(StateOptionError, match=r"'sqlite:///runs\.db', but must be the path of a file"):
        StateManager("sqlite:///runs.db")
    with pytest.raises(StateOptionError, match="NUL"):
        StateManager("a\0b.json")
    with pytest.raises(StateOptionError, match='serializer is \'yaml\', but must be "json" or "pickle"'):
        StateManager(serializer="yaml")
    with pytest.raises(StateOptionError, match="lock_timeout is -1"):
        StateManager(lock_timeout=-1)


def test_closed_manager_raises_state_closed_error(make_state):
    state = make_state()
    state.close()
    state.close()
    uses = [state.keys, state.get_all, state.clear, state.invalidate_expired, state.batch, state.__enter__]
    for use in [*uses, lambda: state.get("a"), lambda: state.set("a", 1), lambda: state.has("a")]:
        with pytest.raises(StateClosedError, match="is closed"):
            use()


def test_relative_path_is_made_absolute_when_opened(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with StateManager("sub/state.json") as state:
        monkeypatch.chdir("elsewhere")
        state.set("a", 1)
        assert state.path == str(tmp_path / "sub" / "state.json")
    assert (tmp_path / "sub" / "state.json").exists()


def test_repr_shows_path_options_and_closed(tmp_path):
    path = str(tmp_path / "state.json")
    assert repr(StateManager()) == "StateManager(default_ttl=None)"
    with StateManager(path, 60, serializer="pickle") as state:
        assert repr(state) == f'StateManager({path!r}, default_ttl=60.0, serializer="pickle")'
    assert repr(state).endswith(" (closed)")


def test_manager_of_file_can_be_pickled(path):
    with StateManager(path, default_ttl=60) as state:
        state.set("a", 1)
        with pickle.loads(pickle.dumps(state)) as copy:
            assert copy.get("a") == 1
            assert copy.default_ttl == 60
    with pytest.raises(TypeError, match="over a file"):
        pickle.dumps(StateManager())


def test_close_moves_write_ahead_log_into_database(tmp_path):
    with StateManager(tmp_path / "state.db") as state:
        state.set("a", 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.db"]
