"""Files: private, whole, never silently lost."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import sys
import threading
import warnings

import pytest

from flowkit_state import (
    DamagedStateWarning,
    StateFileError,
    StateLockedError,
    StateManager,
    StateVersionError,
    UntrustedPickleError,
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
def test_files_and_folders_are_private(tmp_path, open_umask):
    for name in ("state.json", "state.db"):
        with StateManager(tmp_path / "a" / "b" / name) as state:
            state.set("a", 1)
            assert {mode(entry) for entry in (tmp_path / "a" / "b").iterdir()} == {0o600}
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700


@posix
def test_the_mode_of_a_file_is_kept(path, open_umask):
    with StateManager(path) as state:
        state.set("a", 1)
    path.chmod(0o640)
    with StateManager(path) as state:
        state.set("a", 2)
    assert mode(path) == 0o640


@posix
def test_a_link_is_followed_once_and_kept(path, tmp_path):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / path.name
    path.symlink_to(target)
    with StateManager(path) as state:
        state.set("a", 1)
        assert state.path == str(target)
    assert path.is_symlink()
    assert target.exists()


@posix
def test_links_planted_later_are_not_followed(tmp_path):
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
def test_the_lock_file_is_not_truncated(tmp_path):
    (tmp_path / "state.json.lock").write_text("precious")
    with StateManager(tmp_path / "state.json") as state:
        state.set("a", 1)
    assert (tmp_path / "state.json.lock").read_text() == "precious"


def test_nothing_is_created_before_the_first_change(tmp_path):
    with StateManager(tmp_path / "sub" / "state.json") as state:
        assert state.get_all() == {}
        assert not state.has("a")
        state.invalidate_expired()
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_dead_writers_are_removed(tmp_path):
    stale = tmp_path / "state.json.123-abc.tmp"
    other = tmp_path / "other.json.123-abc.tmp"
    stale.write_text("{")
    other.write_text("{")
    with StateManager(tmp_path / "state.json") as state:
        state.set("a", 1)
    assert not stale.exists()
    assert other.exists()


# Damage


def one_entry(entry):
    return b'{"format": "flowkit-state", "version": 1, "entries": [%s]}' % entry


DAMAGE = {
    "empty": b"",
    "truncated": b'{"format": "flowkit-state", "version": 1, "entries": [{"key"',
    "garbage": bytes(range(256)),
    "utf-16": '{"format": "flowkit-state"}'.encode("utf-16"),
    "zeros": b"\0" * 5000,
    "list": b"[]",
    "null": b"null",
    "number": b"7",
    "nan": b'{"format": "flowkit-state", "version": 1, "entries": NaN}',
    "other program": b'{"name": "left-pad"}',
    "version": b'{"format": "flowkit-state", "version": "1", "entries": []}',
    "entries": b'{"format": "flowkit-state", "version": 1, "entries": {}}',
    "entry": b'{"format": "flowkit-state", "version": 1, "entries": [1]}',
    "key": one_entry(b'{"key": 1, "stored": 1, "expires": 1, "metadata": 1, "value": 1}'),
    "time": one_entry(b'{"key": "a", "stored": "", "expires": 1, "metadata": 1, "value": 1}'),
    "pickle": one_entry(b'{"key": "a", "stored": 1, "expires": 1, "metadata": 1, "pickle": 1}'),
}
TOO_DEEP = {
    "list": b"[" * 20_000,
    "object": b'{"a":' * 20_000,
    "closed": b"[" * 20_000 + b"]" * 20_000,
    "entry": one_entry(b'{"key": "a", "stored": 1, "expires": 1, "metadata": 1, "value": %b}' % (b"[" * 20_000)),
}


@pytest.mark.parametrize("data", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_json_file_is_set_aside_and_named(tmp_path, data):
    path = tmp_path / "state.json"
    path.write_bytes(data)
    with pytest.warns(DamagedStateWarning) as caught:
        state = StateManager(path)
    with state:
        kept = [entry for entry in tmp_path.iterdir() if ".corrupt-" in entry.name]
        assert len(kept) == 1
        assert kept[0].read_bytes() == data
        message = str(caught[0].message)
        assert str(path) in message
        assert str(kept[0]) in message
        assert caught[0].filename == __file__
        assert state.get_all() == {}
        state.set("a", 1)
    with StateManager(path) as state:
        assert state.get_all() == {"a": 1}


@pytest.mark.parametrize("data", TOO_DEEP.values(), ids=TOO_DEEP)
def test_json_file_nested_too_deeply_is_refused_and_unchanged(tmp_path, data):
    path = tmp_path / "state.json"
    path.write_bytes(data)
    with pytest.raises(StateFileError, match="nested more deeply than the json module of this Python supports"):
        StateManager(path)
    assert path.read_bytes() == data


@pytest.mark.parametrize("data", [b"garbage", bytes(range(256)) * 64, b"SQLite format 3\0" + b"x" * 4080, "cut"])
def test_a_damaged_database_is_set_aside_and_named(tmp_path, data):
    path = tmp_path / "state.db"
    if data == "cut":
        with StateManager(path) as state:
            state.set("a", "b" * 50_000)
        data = path.read_bytes()[:3000]
    path.write_bytes(data)
    with pytest.warns(DamagedStateWarning, match=r"state\.db is damaged .* renamed to .*state\.db\.corrupt-"):
        state = StateManager(path)
    with state:
        kept = [entry for entry in tmp_path.iterdir() if ".corrupt-" in entry.name]
        assert [entry.read_bytes() for entry in kept] == [data]
        state.set("a", 1)
        assert state.get_all() == {"a": 1}


def test_damage_while_open_is_noticed_and_kept(tmp_path):
    path = tmp_path / "state.json"
    with StateManager(path) as state:
        state.set("a", 1)
        for number in range(3):
            path.write_text(f"oops {number}")
            with pytest.warns(DamagedStateWarning):
                state.set("b", number)
            assert state.get_all() == {"b": number}
    kept = {entry.read_text() for entry in tmp_path.iterdir() if ".corrupt-" in entry.name}
    assert kept == {"oops 0", "oops 1", "oops 2"}


def test_a_warning_that_is_an_error_loses_nothing(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("oops")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DamagedStateWarning):
            StateManager(path)
    assert [entry.read_text() for entry in tmp_path.iterdir() if ".corrupt-" in entry.name] == ["oops"]
    with StateManager(path) as state:
        assert state.get_all() == {}


def test_a_file_that_vanishes_is_an_empty_store(tmp_path):
    path = tmp_path / "state.json"
    with StateManager(path) as state:
        state.set("a", 1)
        path.unlink()
        assert state.get_all() == {}
        state.set("b", 2)
        assert state.get_all() == {"b": 2}


def test_an_edited_file_is_read_again(tmp_path):
    path = tmp_path / "state.json"
    with StateManager(path) as state:
        state.set("a", [1, "x"])
        tree = json.loads(path.read_text())
        tree["entries"][0]["value"].append({"$tuple": []})
        path.write_text("\ufeff" + json.dumps(tree, indent=4), encoding="utf-8")
        assert state.get("a") == [1, "x", ()]


# Versions and other programs


def test_a_newer_json_file_is_refused_untouched(tmp_path):
    path = tmp_path / "state.json"
    path.write_text('{"format": "flowkit-state", "version": 9, "something": "new"}')
    before = path.read_bytes()
    with pytest.raises(
        StateVersionError, match=r"format version 9, and this .* supports versions up to 1; update"
    ) as caught:
        StateManager(path)
    assert (caught.value.found, caught.value.supported, caught.value.path) == (9, 1, str(path))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_becomes_newer_is_not_written(tmp_path):
    path = tmp_path / "state.json"
    with StateManager(path) as state:
        state.set("a", 1)
        path.write_text('{"format": "flowkit-state", "version": 9}')
        for use in (lambda: state.set("a", 2), lambda: state.get("a"), state.clear):
            with pytest.raises(StateVersionError):
                use()
    assert path.read_text() == '{"format": "flowkit-state", "version": 9}'


def test_a_newer_database_is_refused_untouched(tmp_path):
    path = tmp_path / "state.db"
    with StateManager(path) as state:
        state.set("a", 1)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateVersionError, match="format version 9"):
        StateManager(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "setup", ["CREATE TABLE people (name)", "PRAGMA application_id = 7", "PRAGMA user_version = 3"]
)
def test_a_database_of_another_program_is_refused_untouched(tmp_path, setup):
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute(setup)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateFileError, match="database of another program"):
        StateManager(path)
    assert path.read_bytes() == before


# Places that cannot be


def test_a_path_under_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateFileError, match="must be a folder"):
        StateManager(tmp_path / "file" / "state.db")
    with pytest.raises(StateFileError, match="must be a folder") as caught:
        StateManager(tmp_path / "file" / "state.json").set("a", 1)
    assert isinstance(caught.value, OSError)
    assert caught.value.path == str(tmp_path / "file" / "state.json")


def test_a_folder_is_no_file(path):
    path.mkdir()
    with pytest.raises(StateFileError, match="it is a folder"):
        StateManager(path)


@posix
@pytest.mark.parametrize("suffix", [".json", ".db"])
def test_a_path_is_shown_on_one_line_and_drives_no_terminal(tmp_path, suffix):
    """The attribute has it as it is."""
    path = tmp_path / f"red\x1b[31m\nforged\u202e{suffix}"
    path.mkdir()
    with pytest.raises(StateFileError) as caught:
        StateManager(path).set("key", 1)
    assert str(caught.value).isprintable()
    assert r"red\x1b[31m\nforged\u202e" in str(caught.value)
    assert caught.value.path == str(path)


def test_a_pipe_is_no_file_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "state.json")
    with pytest.raises(StateFileError, match="not a regular file"):
        StateManager(tmp_path / "state.json")


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="platform: permissions do not bind Windows folders or root"
)
def test_a_read_only_folder(tmp_path):
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


# Locks


def test_a_locked_file_says_so(path):
    with StateManager(path) as holder, StateManager(path, lock_timeout=0.05) as state:
        with holder.batch():
            holder.set("a", 1)
            failed = []

            def attempt():
                try:
                    state.set("b", 2)
                except StateLockedError as error:
                    failed.append(error)

            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join()
            assert "locked for 0.05 s" in str(failed[0])
            assert isinstance(failed[0], TimeoutError)
        state.set("b", 2)
        assert holder.get_all() == {"a": 1, "b": 2}


def test_closing_moves_the_log_into_the_database(tmp_path):
    with StateManager(tmp_path / "state.db") as state:
        state.set("a", 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.db"]


# Pickle


def test_pickle_keeps_what_json_cannot_only_when_asked(path):
    with StateManager(path, serializer="pickle") as state:
        state.set("a", {1: ValueError("x")}, metadata={"n": 1})
        assert repr(state.get("a")) == "{1: ValueError('x')}"
    with StateManager(path) as state:
        assert state.has("a")
        assert state.get_metadata("a") == {"n": 1}
        with pytest.raises(ValueError, match=r"it is a pickle, .*serializer=\"pickle\""):
            state.get("a")
        state.set("b", (1,))
    with StateManager(path, serializer="pickle") as state:
        assert state.get("b") == (1,)


class TwoFactsError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


@pytest.mark.parametrize("value", [lambda: 1, threading.Lock(), TwoFactsError(1, 2)])
def test_what_pickle_cannot_keep_is_refused(make_state, value):
    state = make_state(serializer="pickle")
    with pytest.raises(TypeError, match=r"cannot store the value of key 'a': .*which pickle cannot store"):
        state.set("a", value)
    assert not state.has("a")


@posix
def test_a_pickle_that_others_could_have_written_is_refused(path):
    with StateManager(path, serializer="pickle") as state:
        state.set("a", 1)
    path.chmod(0o660)
    with StateManager(path, serializer="pickle") as state:
        with pytest.raises(UntrustedPickleError, match=r"can be written by other users \(mode 0660\).*chmod 600"):
            state.get("a")
        assert state.has("a")
        path.chmod(0o600)
        assert state.get("a") == 1
        path.parent.chmod(0o777)
        with pytest.raises(UntrustedPickleError, match="mode 0777"):
            state.get_all()
        path.parent.chmod(0o1777)
        assert state.get("a") == 1


@posix
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="platform: only root may give files away")
def test_a_pickle_of_another_user_is_refused(path):
    with StateManager(path, serializer="pickle") as state:
        state.set("a", 1)
    os.chown(path, 12345, 12345)
    with StateManager(path, serializer="pickle") as state:
        with pytest.raises(UntrustedPickleError, match="belongs to another user"):
            state.get("a")
        state.set("b", 1)
    assert path.stat().st_uid == 12345
