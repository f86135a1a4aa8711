"""Calls and results that cannot be cached, and invalid uses of `TaskCache`."""

from __future__ import annotations

import functools
import logging

import pytest
from cached_functions import coroutine, double, generator, results

from flowkit_state import (
    StateClosedError,
    StateManager,
    StateOptionError,
    StateOptionTypeError,
    TaskCache,
    UnsupportedValueError,
)
from flowkit_state.storage import syscalls


def test_argument_without_fingerprint_is_not_cached_and_logged_once(calls, caplog):
    @TaskCache()
    def ask(connection, query):
        calls.append(query)
        return query

    with caplog.at_level(logging.WARNING, logger="flowkit.state"):
        for _ in range(3):
            assert ask({"db": object()}, 1) == 1
    assert len(calls) == 3
    assert len(caplog.records) == 1
    text = caplog.records[0].getMessage()
    assert caplog.records[0].name == "flowkit.state"
    assert 'ask" is not cached: argument "connection"[\'db\'] is of type object, ' in text
    assert "pass TaskCache(key=...)" in text
    assert ask.invalidate(object(), 1) is False


def opaque():
    return object()


def test_unsupported_result_is_returned_and_logged_once(caplog):
    cache = TaskCache()
    make = cache(opaque)
    with caplog.at_level(logging.WARNING, logger="flowkit.state"):
        assert make() is not make()
    assert len(caplog.records) == 1
    assert "its result is of type object, " in caplog.text
    assert cache.state.keys() == []


def test_result_is_returned_if_storing_it_fails(tmp_path, monkeypatch, caplog):
    cache = TaskCache(tmp_path / "cache.json")
    cached = cache(double)

    def full(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(syscalls, "write", full)
    with caplog.at_level(logging.WARNING, logger="flowkit.state"):
        assert cached(2) == cached(2) == 4
    assert caplog.text.count("the disk is full") == 1


def test_result_that_cannot_be_restored_is_computed_again(tmp_path, caplog):
    path = tmp_path / "cache.json"
    with StateManager(path) as state:
        cached = TaskCache(state)(double)
        cached(2)
        path.write_text(path.read_text().replace('"value": 4', '"value": {"$future": 4}'))
        assert cached(2) == 4
        assert "unknown type $future" in caplog.text
        assert state.get_all()[results(state)[0]] == 4


def test_closed_state_raises_state_closed_error():
    state = StateManager()
    cached = TaskCache(state)(double)
    state.close()
    with pytest.raises(StateClosedError):
        cached(1)


@pytest.mark.parametrize("target", [functools.partial(int, 1), len, int, 7, "".join])
def test_decorating_other_callables_is_refused(target):
    with pytest.raises(StateOptionTypeError, match="must be a function, a bound method"):
        TaskCache()(target)


@pytest.mark.parametrize("target", [coroutine, generator])
def test_decorating_coroutine_or_generator_function_is_refused(target):
    with pytest.raises(StateOptionError, match="neither async nor a generator"):
        TaskCache()(target)


def test_invalid_options_are_refused():
    with pytest.raises(StateOptionTypeError, match=r"@TaskCache\(\)"):
        TaskCache(double)
    with pytest.raises(StateOptionTypeError, match="key is 7"):
        TaskCache(key=7)
    with pytest.raises(StateOptionError, match="ttl is -1"):
        TaskCache(ttl=-1)
    with pytest.raises(UnsupportedValueError, match="version is of type object"):
        TaskCache(version=object())
    assert repr(TaskCache(ttl=5)) == "TaskCache(StateManager(default_ttl=None, max_bytes=268435456), ttl=5)"


def ask(connection, query, limit=10):
    return query, limit
