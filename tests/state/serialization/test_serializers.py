"""The option `serializer`: custom serializers, and pickle."""

from __future__ import annotations

import os
import pickle
import sys
import threading

import pytest
from recorded_runs import Money

from flowkit_state import (
    RestoreError,
    StateManager,
    StateOptionError,
    StateOptionTypeError,
    UnsupportedValueError,
    UntrustedPickleError,
)


def other(rows):
    return sorted(rows, reverse=True)


class MoneySerializer:
    name, type = "money", Money

    def dump(self, value):
        return str(value.cents).encode()

    def load(self, data):
        return Money(int(data))


def test_custom_serializer_stores_values_of_its_type(tmp_path):
    path = tmp_path / "state.json"
    with StateManager(path, serializer=MoneySerializer()) as state:
        state.set("price", {"net": [Money(5)], "tax": Money(1)})
        assert state.get("price") == {"net": [Money(5)], "tax": Money(1)}
    with StateManager(path) as state:
        with pytest.raises(
            RestoreError, match="it was stored by the serializer 'money', which this StateManager does not have"
        ):
            state.get("price")
        with pytest.raises(UnsupportedValueError):
            state.set("price", Money(5))


def test_failing_serializer_is_named_in_error(tmp_path):
    class Broken(MoneySerializer):
        def dump(self, value):
            raise ValueError("no change")

        def load(self, data):
            raise ValueError("no change")

    class Wrong(MoneySerializer):
        def dump(self, value):
            return "text"

    state = StateManager(serializer=[Broken()])
    with pytest.raises(UnsupportedValueError, match=r"serializer 'money' failed to dump .ValueError: no change"):
        state.set("price", Money(5))
    with pytest.raises(UnsupportedValueError, match="returned a str"):
        StateManager(serializer=Wrong()).set("price", Money(5))
    path = tmp_path / "state.db"
    with StateManager(path, serializer=MoneySerializer()) as state:
        state.set("price", Money(5))
    with StateManager(path, serializer=Broken()) as state, pytest.raises(RestoreError, match="cannot load it"):
        state.get("price")


def test_invalid_serializers_are_refused():
    with pytest.raises(StateOptionTypeError, match="serializer"):
        StateManager(serializer=MoneySerializer)
    with pytest.raises(StateOptionTypeError, match="serializer"):
        StateManager(serializer=7)
    with pytest.raises(StateOptionError, match="different names"):
        StateManager(serializer=[MoneySerializer(), MoneySerializer()])


posix = pytest.mark.skipif(sys.platform == "win32", reason="platform: modes and owners are those of POSIX")


def test_pickle_is_loaded_only_with_pickle_serializer(path):
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
def test_value_that_pickle_cannot_store_is_refused(make_state, value):
    state = make_state(serializer="pickle")
    with pytest.raises(TypeError, match=r"cannot store the value of key 'a': .*which pickle cannot store"):
        state.set("a", value)
    assert not state.has("a")


@posix
def test_pickle_writable_by_other_users_is_refused(path):
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
def test_pickle_owned_by_other_user_is_refused(path):
    with StateManager(path, serializer="pickle") as state:
        state.set("a", 1)
    os.chown(path, 12345, 12345)
    with StateManager(path, serializer="pickle") as state:
        with pytest.raises(UntrustedPickleError, match="belongs to another user"):
            state.get("a")
        state.set("b", 1)
    assert path.stat().st_uid == 12345


class Blob:
    def __init__(self, data):
        self.data = data

    def __eq__(self, other):
        return self.data == other.data

    __hash__ = None


class BlobSerializer:
    name = "blob"
    type = Blob

    def dump(self, value):
        return value.data

    def load(self, data):
        return Blob(data)


@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_serializers_option_adds_types(make_state, size):
    state = make_state(serializers=[BlobSerializer()])
    value = {"a": [Blob(bytes(size)), Blob(b"x" * size)], "b": 1}
    state.set("a", value)
    assert state.get("a") == value
    assert "serializers=" in repr(state)


def test_serializers_option_is_pickled_and_needed_to_load(path):
    with StateManager(path, serializers=(BlobSerializer(),)) as state:
        state.set("a", Blob(b"x" * 50_000))
        with pickle.loads(pickle.dumps(state)) as copy:
            assert copy.get("a") == Blob(b"x" * 50_000)
    with StateManager(path) as state, pytest.raises(RestoreError, match=r"serializers=\[\.\.\.\]"):
        state.get("a")


def test_invalid_serializers_option_is_refused():
    with pytest.raises(StateOptionTypeError, match=r"serializers is .*, but must be a list of serializer objects"):
        StateManager(serializers=BlobSerializer())
    with pytest.raises(StateOptionTypeError, match="serializers is 'json'"):
        StateManager(serializers=["json"])
    with pytest.raises(StateOptionError, match="different names"):
        StateManager(serializer=BlobSerializer(), serializers=[BlobSerializer()])
    with pytest.raises(StateOptionError, match='empty with serializer="pickle"'):
        StateManager(serializer="pickle", serializers=[BlobSerializer()])
