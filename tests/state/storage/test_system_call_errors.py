"""Each system call fails in turn: a store then has its old or its new contents."""

from __future__ import annotations

import errno
import itertools
import sqlite3

import pytest

from flowkit_state import StateFileError, StateManager
from flowkit_state.storage import syscalls

CALLS = [name for name, item in vars(syscalls).items() if callable(item) and item.__module__ == syscalls.__name__]


class Fault:
    """Counts system calls while armed, and fails the n-th one: once, or it and all later ones."""

    def __init__(self, monkeypatch):
        self.count = 0
        self.fail_at = None
        self.lasting = False
        for name in CALLS:
            monkeypatch.setattr(syscalls, name, self.wrap(name, getattr(syscalls, name)))

    def wrap(self, name, call):
        def wrapped(*args):
            if self.fail_at is not None:
                self.count += 1
                if self.count == self.fail_at or (self.lasting and self.count > self.fail_at):
                    if name == "close":
                        call(*args)  # as on Linux: the descriptor is closed even if close() fails
                    if name in ("connect", "execute", "execute_many"):
                        raise sqlite3.OperationalError("disk I/O error")
                    raise OSError(errno.ENOSPC, "No space left on device")
            return call(*args)

        return wrapped

    def arm(self, n, *, lasting):
        self.count, self.fail_at, self.lasting = 0, n, lasting

    def disarm(self):
        hit = self.fail_at is not None and self.count >= self.fail_at
        self.fail_at = None
        return hit


@pytest.fixture
def fault(monkeypatch):
    return Fault(monkeypatch)


def change_one(state):
    state.set("a", "new")


def change_many(state):
    with state.batch():
        state.set("a", "new")
        state.delete("b")
        state.set("c", [1])


def remove(state):
    state.delete("a")


def wipe(state):
    state.clear()


OLD = {"a": "old", "b": "kept"}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize(
    ("change", "new"),
    [
        (change_one, {"a": "new", "b": "kept"}),
        (change_many, {"a": "new", "c": [1]}),
        (remove, {"b": "kept"}),
        (wipe, {}),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".db"])
def test_failed_change_leaves_old_or_new_contents(tmp_path, fault, suffix, change, new, lasting):
    for n in itertools.count(1):
        path = tmp_path / f"{n}{suffix}"
        with StateManager(path) as state:
            state.set("a", "old")
            state.set("b", "kept")
        state = StateManager(path)
        fault.arm(n, lasting=lasting)
        try:
            change(state)
        except StateFileError:
            failed = True
        else:
            failed = False
        hit = fault.disarm()
        with StateManager(path) as reopened:
            found = reopened.get_all()
        assert found == new if not failed else found in (OLD, new), f"call {n}"
        assert state.get_all() == found, f"call {n}: the memory disagrees with the file"
        state.set("after", 1)
        state.close()
        with StateManager(path) as reopened:
            assert reopened.get_all() == {**found, "after": 1}
        if not hit:
            break
    assert n > 1
    assert not list(tmp_path.glob("*.tmp")) or lasting


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("suffix", [".json", ".db"])
def test_failed_opening_names_path_and_can_be_repeated(tmp_path, fault, suffix, lasting):
    for n in itertools.count(1):
        path = tmp_path / str(n) / "deep" / f"state{suffix}"
        fault.arm(n, lasting=lasting)
        state, done = None, False
        try:
            state = StateManager(path)
            state.set("a", 1)
            done = True
        except StateFileError as error:
            named = str(error)
        else:
            named = str(path)
        assert str(path) in named
        hit = fault.disarm()
        if state is not None:
            state.close()
        with StateManager(path) as reopened:
            assert reopened.get_all() == {"a": 1} if done else reopened.get_all() in ({}, {"a": 1})
            reopened.set("b", 2)
            assert reopened.get("b") == 2
        if not hit:
            break


def test_failed_read_raises_and_can_be_repeated(path, fault):
    with StateManager(path) as state:
        state.set("a", 1)
    for n in itertools.count(1):
        fault.arm(n, lasting=True)
        state = None
        try:
            state = StateManager(path)
            assert state.get("a") == 1
        except StateFileError:
            pass
        hit = fault.disarm()
        if state is not None:
            assert state.get("a") == 1
            state.close()
        if not hit:
            break


def test_full_disk_is_named_in_error(tmp_path, fault):
    with StateManager(tmp_path / "state.json") as state:
        state.set("a", 1)
        fault.arm(1, lasting=True)
        with pytest.raises(StateFileError) as caught:
            state.set("a", 2)
        fault.disarm()
        assert "the disk is full; free some space and try again" in str(caught.value)
        assert caught.value.errno == errno.ENOSPC
        assert state.get("a") == 1


def test_full_database_is_named_in_error(tmp_path):
    with StateManager(tmp_path / "state.db") as state:
        state.set("a", 1)
        connection = state._store._connection().connection
        connection.execute("PRAGMA max_page_count = 10")
        with pytest.raises(StateFileError, match="the disk is full"):
            state.set("b", "x" * 100_000)
        assert state.get_all() == {"a": 1}


def test_short_write_is_continued(tmp_path, monkeypatch):
    write = syscalls.write
    monkeypatch.setattr(syscalls, "write", lambda fd, data: write(fd, data[:7]))
    with StateManager(tmp_path / "state.json") as state:
        state.set("a", list(range(100)))
    with StateManager(tmp_path / "state.json") as state:
        assert state.get("a") == list(range(100))
