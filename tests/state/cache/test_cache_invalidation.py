"""Changes of a function, and of the code and the values that it uses, make its cached results invalid."""

from __future__ import annotations

import functools
import itertools
import logging
import sys
import threading
import typing

import pytest
from cached_functions import double, results

from flowkit_state import (
    StateManager,
    TaskCache,
    result_cache,
)


def test_functions_of_one_name_with_different_code_closure_or_defaults_have_different_results(path):
    cache = TaskCache(path)

    def scaled(by, offset):
        @cache
        def scale(x, plus=offset):
            return by * x + plus

        return scale

    assert [scaled(2, 0)(3), scaled(3, 0)(3), scaled(3, 1)(3), scaled(2, 0)(3)] == [6, 9, 10, 6]
    assert [cache(f)(3) for f in (lambda x: x + 1, lambda x: x + 2, lambda x: x - 1)] == [4, 5, 2]
    assert [cache(f)(3) for f in (lambda x: x.real, lambda x: x.imag)] == [3, 0]
    cache.state.close()


def test_change_of_decorated_function_in_closure_invalidates_results():
    cache = TaskCache()

    def shout(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)

        return wrapper

    def variant(constant):
        @cache
        @shout
        def same_name(x):
            return x + constant

        return same_name

    assert [variant(1)(1), variant(2)(1), variant(1)(1)] == [2, 3, 2]


def test_lock_in_closure_is_compared_by_type():
    cache = TaskCache()

    def with_lock(lock, n):
        @cache
        def locked(x):
            with lock:
                return x + n

        return locked

    one, two = with_lock(threading.Lock(), 1), with_lock(threading.Lock(), 2)
    assert [one(1), two(1), one(1)] == [2, 3, 2]
    assert with_lock(threading.Lock(), 2).explain(1).startswith("cached")
    assert len(results(cache.state)) == 2


def test_recursive_functions_are_cached():
    cache = TaskCache()

    @cache
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    @cache
    def even(n):
        return n == 0 or odd(n - 1)

    @cache
    def odd(n):
        return n != 0 and even(n - 1)

    assert fibonacci(40) == 102334155
    assert even(10)
    assert len(results(cache.state)) == 41 + 11


def test_opaque_default_is_the_same_argument_as_no_argument(calls):
    missing = object()

    @TaskCache()
    def f(x, other=missing):
        calls.append(x)
        return x

    assert f(1) == f(1, missing) == 1
    assert calls == [1]


def test_static_method_is_cached(calls):
    class Shop(typing.NamedTuple):
        name: str

        @staticmethod
        @TaskCache()
        def price(x):
            calls.append(x)
            return x

    assert Shop.price(1) == Shop("a").price(1) == 1
    assert calls == [1]


RATE = 2
CLIENT = itertools.count()
seen = []


def rated(x):
    return x * RATE


def test_change_of_constant_in_helper_invalidates_results_until_it_is_undone(monkeypatch):
    cached = TaskCache()(lambda x: rated(x) + 1)
    assert cached(2) == 5
    assert cached.explain(2).startswith("cached since ")
    monkeypatch.setattr(sys.modules[__name__], "RATE", 3)
    assert cached.explain(2) == f"constant {__name__}.RATE has changed"
    assert cached(2) == 7
    monkeypatch.setattr(sys.modules[__name__], "RATE", 2)
    assert cached(2) == 5


def test_list_changed_by_helper_keeps_results(calls):
    def note(x):
        seen.append(x)
        return len(seen)

    @TaskCache()
    def f(x):
        calls.append(x)
        return note(x)

    assert f(1) == f(1)
    assert calls == [1]


def use_client():
    return next(CLIENT)


def test_function_with_opaque_constant_is_not_cached_and_logged_once(caplog):
    cached = TaskCache()(use_client)
    with caplog.at_level(logging.WARNING, logger="flowkit.state"):
        assert cached() + 1 == cached()
    (record,) = caplog.records
    text = record.getMessage()
    assert f"is not cached: constant {__name__}.CLIENT is of type itertools.count, " in text
    assert "pass TaskCache(version=...)" in text
    assert cached.explain().startswith(f"it cannot be cached: constant {__name__}.CLIENT")


def test_function_with_opaque_constant_is_cached_with_a_version():
    cached = TaskCache(version=1)(use_client)
    assert cached() == cached()


def make_entries_old(state):
    """Store the entries as flowkit-state did when fingerprints had no component for their format."""
    keyed = results(state)
    for key in [*state.keys()]:
        value, metadata = state.get(key), state.get_metadata(key)
        del metadata["components"]["fingerprint format"]
        state.delete(key)
        state.set(key[:-64] + "0" * 64 if key in keyed else key, value, metadata=metadata)


@pytest.fixture
def old_results(tmp_path, monkeypatch):
    """The path of a store with results of `double` under fingerprints of another format."""
    path = tmp_path / "results.db"
    with StateManager(path) as state:
        cache = TaskCache(state)
        cache(double)(1)
        cache(rated)(1)
        make_entries_old(state)
    monkeypatch.setattr(result_cache, "_logged_by_path", {})  # as in another process
    return path


def test_results_of_another_fingerprint_format_are_computed_again_with_one_warning_per_store(old_results):
    with StateManager(old_results) as state:
        cache = TaskCache(state)
        f, g = cache(double), cache(rated)
        assert f.explain(1) == "the format of fingerprints has changed with flowkit-state"
        with pytest.warns(RuntimeWarning, match="are not used") as caught:
            assert [f(1), g(1), f(1), g(1), f(2)] == [double(1), rated(1)] * 2 + [double(2)]
        assert f.explain(1).startswith("cached since")
        assert f.clear() == 3
    (warning,) = caught
    assert warning.filename == __file__
    assert str(warning.message) == (
        f"the results cached in {str(old_results)!r} are not used: another version of flowkit-state stored them, and "
        "its fingerprints of code have another format. Each call is computed once more; there is nothing to do. "
        "clear() deletes the old results."
    )


def test_warning_about_another_fingerprint_format_never_raises(old_results, capsys):
    with StateManager(old_results) as state:
        assert TaskCache(state)(double)(1) == 2  # pytest turns warnings into errors
    assert "RuntimeWarning: the results cached in " in capsys.readouterr().err


def test_results_of_the_same_fingerprint_format_give_no_warning(path):
    for _ in range(2):
        with StateManager(path) as state:
            f = TaskCache(state)(double)
            assert [f(1), f(2), f(1)] == [2, 4, 2]  # a warning would be an error
