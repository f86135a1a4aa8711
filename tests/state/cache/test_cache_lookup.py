"""`TaskCache.find`, `keep` and `over`, which pipelines use, and `explain`."""

from __future__ import annotations

from cached_functions import double, results

from flowkit_state import (
    StateManager,
    TaskCache,
)

RATE = 2


def rated(x):
    return x * RATE


def test_explain_names_reason(clock, monkeypatch):
    state = StateManager(clock=clock)

    @TaskCache(state, ttl=10)
    def f(x, y=0):
        return x * RATE

    assert f.explain(1) == "never computed before"
    f(1)
    assert f.explain(1) == "cached since 2023-11-14 22:13:20+00:00"
    assert f.explain(2) == "input 'x' has changed"
    assert f.explain("a", y=2) == "input 'x' has changed; input 'y' has changed"
    clock.advance(10)
    assert f.explain(1) == "expired"
    assert f.explain(2) == "expired, or never computed with these inputs"
    f(1)
    assert f.invalidate(1)
    assert f.explain(1) == "its result was deleted"
    f.clear()
    assert f.explain(1) == "never computed before"
    assert state.keys() == []
    assert f.explain(1, 2, 3) == "it cannot be cached: too many positional arguments"
    assert f.explain(object()).startswith('it cannot be cached: argument "x" is of type object')


def test_explain_names_version_and_key_function():
    cache = TaskCache(version=1, key=abs)
    state = cache.state
    cached = cache(double)
    cached(-1)
    assert cached.explain(1).startswith("cached")
    assert cached.explain(2) == "result of key() has changed"
    assert TaskCache(state, version=2, key=abs)(double).explain(1) == "version of the cache has changed"


async def fetch(x):
    return x


def test_find_returns_result_stored_by_keep():
    cache = TaskCache()
    found = cache.find(fetch, (1,), {}, name="load")
    assert (found.known, found.value, found.why) == (False, None, "never computed before")
    cache.keep(found.token, [1])
    found = cache.find(fetch, (), {"x": 1}, name="load")
    assert (found.known, found.value, found.token) == (True, [1], None)
    assert found.why == "its code and its inputs are the same"
    assert repr(found) == "<Found known=True why='its code and its inputs are the same'>"
    assert cache.find(fetch, (1,), {}, name="other").why == "never computed before"
    assert cache.find(fetch, (1,), {}).why == "never computed before"
    again = cache.find(fetch, (1,), {}, name="load", refresh=True)
    assert (again.known, again.why) == (False, "refresh was requested")
    cache.keep(again.token, [2])
    assert cache.find(fetch, (1,), {}, name="load").value == [2]
    assert cache.find(fetch, (2,), {}, name="load").why == "input 'x' has changed"


def test_find_of_uncacheable_call_returns_no_token(caplog):
    cache = TaskCache()
    found = cache.find(fetch, (object(),), {})
    assert (found.known, found.token) == (False, None)
    assert found.why.startswith('it cannot be cached: argument "x" is of type object')
    cache.keep(found.token, 1)
    assert cache.state.keys() == []
    assert cache.find(fetch, (), {}).why == "it cannot be cached: missing a required argument: 'x'"
    token = cache.find(fetch, (1,), {}).token
    cache.keep(token, object())
    assert "its result is of type object" in caplog.text
    assert cache.state.keys() == []


def test_find_ignores_parameters_in_ignore():
    def f(rows, idempotency_key): ...

    cache = TaskCache()
    cache.keep(cache.find(f, (1, "a"), {}, ignore=("idempotency_key",)).token, 1)
    assert cache.find(f, (1, "b"), {}, ignore=("idempotency_key",)).known
    assert not cache.find(f, (1, "b"), {}).known


def test_over_keeps_own_state_or_uses_given_one():
    state = StateManager()
    own = TaskCache(StateManager(), ttl=5)
    assert own.over(state) is own
    shared = TaskCache(ttl=5, version=1, key=abs).over(state)
    assert shared.state is state
    shared.keep(shared.find(double, (-1,), {}).token, 1)
    assert TaskCache(version=1, key=abs).over(state).find(double, (1,), {}).known
    assert not TaskCache(version=2, key=abs).over(state).find(double, (1,), {}).known


def test_metadata_of_entry_contains_components_of_key():
    cache = TaskCache()
    cache(rated)(1)
    (key,) = results(cache.state)
    assert sorted(cache.state.get_metadata(key)["components"]) == [
        f"constant {__name__}.RATE",
        "fingerprint format",
        f"function {__name__}.rated",
        "input x",
    ]
