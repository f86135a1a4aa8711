"""State files: creation, permissions, symbolic links, and paths that cannot be used."""

from __future__ import annotations

import json
import os
import stat
import sys

import pytest

from flowkit_state import (
    StateFileError,
    StateManager,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="platform: modes and owners are those of POSIX")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@posix
def test_new_files_and_folders_are_private(tmp_path, open_umask):
    for name in ("state.json", "state.db"):
        with StateManager(tmp_path / "a" / "b" / name) as state:
            state.set("a", 1)
            assert {mode(entry) for entry in (tmp_path / "a" / "b").iterdir()} == {0o600}
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700


@posix
def test_file_mode_is_preserved(path, open_umask):
    with StateManager(path) as state:
        state.set("a", 1)
    path.chmod(0o640)
    with StateManager(path) as state:
        state.set("a", 2)
    assert mode(path) == 0o640


@posix
def test_symlink_is_resolved_when_opened_and_preserved(path, tmp_path):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / path.name
    path.symlink_to(target)
    with StateManager(path) as state:
        state.set("a", 1)
        assert state.path == str(target)
    assert path.is_symlink()
    assert target.exists()


@posix
def test_symlink_created_after_opening_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "state.json"
    with StateManager(path) as state:
        (tmp_path / "state.json.lock").symlink_to(victim)
        with pytest.raises(StateFileError, match="symbolic link"):
            state.set("a", 1)
        (tmp_path / "state.json.lock").unlink()
        path.symlink_to(victim)
        with pytest.raises(StateFileError, match="symbolic link"):
            state.set("a", 1)
    assert victim.read_text() == "precious"


@posix
def test_lock_file_is_not_truncated(tmp_path):
    (tmp_path / "state.json.lock").write_text("precious")
    with StateManager(tmp_path / "state.json") as state:
        state.set("a", 1)
    assert (tmp_path / "state.json.lock").read_text() == "precious"


def test_json_file_is_created_by_first_change(tmp_path):
    with StateManager(tmp_path / "sub" / "state.json") as state:
        assert state.get_all() == {}
        assert not state.has("a")
        state.invalidate_expired()
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_dead_writers_are_removed(tmp_path):
    stale = tmp_path / "state.json.123-abc.tmp"
    other = tmp_path / "other.json.123-abc.tmp"
    stale.write_text("{")
    other.write_text("{")
    with StateManager(tmp_path / "state.json") as state:
        state.set("a", 1)
    assert not stale.exists()
    assert other.exists()


def test_deleted_json_file_is_empty_store(tmp_path):
    path = tmp_path / "state.json"
    with StateManager(path) as state:
        state.set("a", 1)
        path.unlink()
        assert state.get_all() == {}
        state.set("b", 2)
        assert state.get_all() == {"b": 2}


def test_edited_json_file_is_read_again(tmp_path):
    path = tmp_path / "state.json"
    with StateManager(path) as state:
        state.set("a", [1, "x"])
        tree = json.loads(path.read_text())
        tree["entries"][0]["value"].append({"$tuple": []})
        path.write_text("\ufeff" + json.dumps(tree, indent=4), encoding="utf-8")
        assert state.get("a") == [1, "x", ()]


def test_path_below_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateFileError, match="must be a folder"):
        StateManager(tmp_path / "file" / "state.db")
    with pytest.raises(StateFileError, match="must be a folder") as caught:
        StateManager(tmp_path / "file" / "state.json").set("a", 1)
    assert isinstance(caught.value, OSError)
    assert caught.value.path == str(tmp_path / "file" / "state.json")


def test_path_of_folder_is_refused(path):
    path.mkdir()
    with pytest.raises(StateFileError, match="it is a folder"):
        StateManager(path)


@posix
@pytest.mark.parametrize("suffix", [".json", ".db"])
def test_path_in_message_is_escaped(tmp_path, suffix):
    path = tmp_path / f"red\x1b[31m\nforged\u202e{suffix}"
    path.mkdir()
    with pytest.raises(StateFileError) as caught:
        StateManager(path).set("key", 1)
    assert str(caught.value).isprintable()
    assert r"red\x1b[31m\nforged\u202e" in str(caught.value)
    assert caught.value.path == str(path)


def test_path_of_fifo_is_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "state.json")
    with pytest.raises(StateFileError, match="not a regular file"):
        StateManager(tmp_path / "state.json")


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="platform: permissions do not bind Windows folders or root"
)
def test_read_only_folder_allows_only_reading(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("state.json", "state.db"):
        with StateManager(folder / name, clock=lambda: 1000.0) as state:
            state.set("a", 1, ttl=1)  # expired long ago
    folder.chmod(0o500)
    try:
        with StateManager(folder / "state.json") as state:
            assert state.get_all() == {}
            with pytest.raises(StateFileError, match="permission denied"):
                state.set("a", 2)
        with pytest.raises(StateFileError, match=r"state\.db"):
            StateManager(folder / "state.db").set("a", 2)
    finally:
        folder.chmod(0o700)
