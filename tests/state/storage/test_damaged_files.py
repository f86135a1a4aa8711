"""Damaged state files are renamed with a warning, or refused; their contents are never lost."""

from __future__ import annotations

import warnings

import pytest

from flowkit_state import (
    DamagedStateWarning,
    StateFileError,
    StateManager,
)


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
    "infinite": one_entry(b'{"key": "a", "stored": 1, "expires": 1, "metadata": null, "value": 1e400}'),
    "infinite inside": one_entry(
        b'{"key": "a", "stored": 1, "expires": 1, "metadata": null, "value": [{"b": -1e999}]}'
    ),
    "infinite time": one_entry(b'{"key": "a", "stored": 1e400, "expires": 1, "metadata": null, "value": 1}'),
    "long number": one_entry(b'{"key": "a", "stored": 1, "expires": 1, "metadata": null, "value": %b}' % (b"9" * 5000)),
    "pickle": one_entry(b'{"key": "a", "stored": 1, "expires": 1, "metadata": 1, "pickle": 1}'),
}


TOO_DEEP = {
    "list": b"[" * 20_000,
    "object": b'{"a":' * 20_000,
    "closed": b"[" * 20_000 + b"]" * 20_000,
    "entry": one_entry(b'{"key": "a", "stored": 1, "expires": 1, "metadata": 1, "value": %b}' % (b"[" * 20_000)),
}


@pytest.mark.parametrize("data", DAMAGE.values(), ids=DAMAGE)
def test_damaged_json_file_is_renamed_with_warning(tmp_path, data):
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


@pytest.mark.parametrize(
    ("text", "damaged"),
    [
        (b"CREATE TABLE entries", b"CREATE T\xffBLE entries"),
        (b"CREATE TABLE runs", b"CREATE TABLE \xc3uns"),
        (b"CREATE", b"CR\xe9"),
    ],
)
def test_database_whose_schema_is_damaged_is_renamed_with_warning(tmp_path, text, damaged):
    path = tmp_path / "state.db"
    with StateManager(path) as state:
        state.set("a", 1)
    data = path.read_bytes().replace(text, damaged.ljust(len(text), b"\xff"))
    path.write_bytes(data)
    with pytest.warns(DamagedStateWarning, match=r"state\.db is damaged .* renamed to .*state\.db\.corrupt-"):
        state = StateManager(path)
    with state:
        assert [entry.read_bytes() for entry in tmp_path.glob("*.corrupt-*")] == [data]
        assert len(state) == 0


@pytest.mark.parametrize("data", [b"garbage", bytes(range(256)) * 64, b"SQLite format 3\0" + b"x" * 4080, "cut"])
def test_damaged_database_is_renamed_with_warning(tmp_path, data):
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


def test_json_file_damaged_while_open_is_renamed(tmp_path):
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


def test_warning_raised_as_error_keeps_renamed_file(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("oops")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DamagedStateWarning):
            StateManager(path)
    assert [entry.read_text() for entry in tmp_path.iterdir() if ".corrupt-" in entry.name] == ["oops"]
    with StateManager(path) as state:
        assert state.get_all() == {}
