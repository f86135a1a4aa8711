"""TaskCache: the same call is made once, and never is one call taken for another."""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import os
import subprocess
import sys
import threading
import typing

import pytest

from flowkit_state import (
    CacheKeyError,
    StateClosedError,
    StateManager,
    StateOptionError,
    StateOptionTypeError,
    TaskCache,
    UnsupportedValueError,
    result_cache,
)
from flowkit_state.storage import syscalls


@pytest.fixture
def calls():
    return []


def results(state):
    return [key for key in state.keys() if key.startswith("flowkit.cache:")]  # noqa: SIM118


def double(x):
    """Twice as much."""
    return 2 * x


def test_a_call_is_made_once(calls):
    @TaskCache()
    def add(a, b=2, *rest, scale=1, **more):
        calls.append(a)
        return a + b

    assert add(1) == add(1, 2) == add(1, b=2) == add(a=1, b=2, scale=1) == 3
    assert calls == [1]
    for other in (
        lambda: add(1, 3),
        lambda: add(1, 2, 3),
        lambda: add(1, scale=2),
        lambda: add(1, x=1),
        lambda: add(2),
    ):
        other()
    assert len(calls) == 6


def test_none_is_remembered(calls):
    @TaskCache()
    def nothing():
        calls.append(1)

    assert nothing() is None
    assert nothing() is None
    assert calls == [1]


def test_types_count(calls):
    @TaskCache()
    def kind(x):
        calls.append(x)
        return type(x).__name__

    values = [1, True, 1.0, "1", b"1", (1,), [1], {1}, {1: 1}, {"1": 1}, 0.0, -0.0, None]
    for _ in range(2):
        assert [kind(value) for value in values] == [type(value).__name__ for value in values]
    assert len(calls) == len(values)


def test_large_arguments_are_compared_by_content(calls):
    @TaskCache()
    def total(rows):
        calls.append(len(rows))
        return sum(rows)

    assert total(list(range(10_000))) == total(list(range(10_000)))
    total([*range(9_999), 0])
    assert len(calls) == 2


def test_exceptions_are_not_remembered(calls):
    @TaskCache()
    def fail():
        calls.append(1)
        raise ValueError(len(calls))

    for number in (1, 2):
        with pytest.raises(ValueError, match=str(number)):
            fail()


def test_it_looks_like_the_function():
    cached = TaskCache()(double)
    assert inspect.isfunction(cached)
    assert (cached.__name__, cached.__doc__, cached.__wrapped__) == ("double", "Twice as much.", double)
    assert inspect.signature(cached) == inspect.signature(double)
    with pytest.raises(TypeError, match=r"double\(\) missing 1 required positional argument: 'x'"):
        cached()


def test_ttl(calls, clock):
    state = StateManager(clock=clock)

    @TaskCache(state, ttl=10)
    def now():
        calls.append(1)
        return len(calls)

    assert now() == now() == 1
    clock.advance(10)
    assert now() == 2


def test_the_ttl_of_the_state_is_the_default(calls, clock):
    @TaskCache(StateManager(default_ttl=5, clock=clock))
    def now():
        calls.append(1)

    now()
    clock.advance(5)
    now()
    assert len(calls) == 2


def test_key_says_what_counts(calls):
    @TaskCache(key=lambda connection, query: query)
    def ask(connection, query):
        calls.append(query)
        return query.upper()

    assert ask(object(), "a") == ask(object(), "a") == "A"
    ask(object(), "b")
    assert calls == ["a", "b"]


def test_version_forgets(calls, path):
    for version in (None, 1, 2, (2, "b"), 2):
        with StateManager(path) as state:
            TaskCache(state, version=version)(lambda x: calls.append(x) or x)(1)
    with StateManager(path) as state:
        assert len(results(state)) == 4


def test_results_last(path, calls):
    def slow(x):
        calls.append(x)
        return (x, {x})

    with StateManager(path) as state:
        assert TaskCache(state)(slow)(1) == (1, {1})
    cache = TaskCache(path)
    assert cache(slow)(1) == (1, {1})
    assert calls == [1]
    cache.state.close()


SCRIPT = """
import sys
from flowkit_state import TaskCache

@TaskCache(sys.argv[1])
def slow(x, tags=frozenset("abc")):
    print("computing")
    return {x: sorted(tags)}

print(slow(1), slow(2, frozenset("cab")))
"""


def test_another_process_finds_the_result(path):
    outputs = []
    for seed in "12":
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, path], env=environment, capture_output=True, text=True, check=True
        )
        outputs.append(done.stdout)
    assert outputs[0].count("computing") == 2
    assert outputs[1] == "{1: ['a', 'b', 'c']} {2: ['a', 'b', 'c']}\n"


def test_invalidate_and_clear(calls):
    cache = TaskCache()

    @cache
    def f(x):
        calls.append(x)

    @cache
    def g(x):
        calls.append(-x)

    for x in (1, 2, 3):
        f(x)
    g(1)
    assert f.invalidate(x=1) is True
    assert f.invalidate(1) is False
    f(1)
    assert calls == [1, 2, 3, -1, 1]
    assert f.clear() == 3
    assert f.clear() == 0
    f(2)
    g(1)
    assert calls == [1, 2, 3, -1, 1, 2]
    assert cache.clear() == 2
    cache.state.set("mine", 1)
    cache.clear()
    assert cache.state.keys() == ["mine"]


# One function is not taken for another


def test_functions_of_one_name_are_told_apart_by_code_closure_and_defaults(path):
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


def test_a_decorated_helper_in_the_closure_counts():
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


def test_a_lock_in_a_closure_does_not_count():
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


def test_recursion():
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


def test_a_default_that_cannot_be_kept_is_still_a_default(calls):
    missing = object()

    @TaskCache()
    def f(x, other=missing):
        calls.append(x)
        return x

    assert f(1) == f(1, missing) == 1
    assert calls == [1]


def test_methods(calls):
    class Shop(typing.NamedTuple):
        name: str

        @staticmethod
        @TaskCache()
        def price(x):
            calls.append(x)
            return x

    assert Shop.price(1) == Shop("a").price(1) == 1
    assert calls == [1]


# What a function uses


RATE = 2
CLIENT = itertools.count()
seen = []


def rated(x):
    return x * RATE


def test_what_a_function_uses_counts(monkeypatch):
    cached = TaskCache()(lambda x: rated(x) + 1)
    assert cached(2) == 5
    assert cached.explain(2).startswith("cached since ")
    monkeypatch.setattr(sys.modules[__name__], "RATE", 3)
    assert cached.explain(2) == f"constant {__name__}.RATE has changed"
    assert cached(2) == 7
    monkeypatch.setattr(sys.modules[__name__], "RATE", 2)
    assert cached(2) == 5


def test_what_it_changes_does_not(calls):
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


def test_a_constant_without_content_is_not_cached_and_said_once(caplog):
    cached = TaskCache()(use_client)
    with caplog.at_level(logging.WARNING, logger="flowkit.state"):
        assert cached() + 1 == cached()
    (record,) = caplog.records
    text = record.getMessage()
    assert f"is not cached: constant {__name__}.CLIENT is of type itertools.count, " in text
    assert "give TaskCache(version=...)" in text
    assert cached.explain().startswith(f"it cannot be cached: constant {__name__}.CLIENT")


def test_with_a_version_it_is_cached():
    cached = TaskCache(version=1)(use_client)
    assert cached() == cached()


def test_explain(clock, monkeypatch):
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


def test_explain_other_versions_and_keys():
    cache = TaskCache(version=1, key=abs)
    state = cache.state
    cached = cache(double)
    cached(-1)
    assert cached.explain(1).startswith("cached")
    assert cached.explain(2) == "result of key() has changed"
    assert TaskCache(state, version=2, key=abs)(double).explain(1) == "version of the cache has changed"


# For pipelines


async def fetch(x):
    return x


def test_find_and_keep():
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


def test_find_what_cannot_be_cached(caplog):
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


def test_find_ignores_what_does_not_count():
    def f(rows, idempotency_key): ...

    cache = TaskCache()
    cache.keep(cache.find(f, (1, "a"), {}, ignore=("idempotency_key",)).token, 1)
    assert cache.find(f, (1, "b"), {}, ignore=("idempotency_key",)).known
    assert not cache.find(f, (1, "b"), {}).known


def test_over():
    state = StateManager()
    own = TaskCache(StateManager(), ttl=5)
    assert own.over(state) is own
    shared = TaskCache(ttl=5, version=1, key=abs).over(state)
    assert shared.state is state
    shared.keep(shared.find(double, (-1,), {}).token, 1)
    assert TaskCache(version=1, key=abs).over(state).find(double, (1,), {}).known
    assert not TaskCache(version=2, key=abs).over(state).find(double, (1,), {}).known


def test_what_an_entry_was_made_of_is_beside_it():
    cache = TaskCache()
    cache(rated)(1)
    (key,) = results(cache.state)
    assert sorted(cache.state.get_metadata(key)["components"]) == [
        f"constant {__name__}.RATE",
        "fingerprint format",
        f"function {__name__}.rated",
        "input x",
    ]


# What cannot be cached


def make_entries_old(state):
    """Store the entries as flowkit-state did when fingerprints had no component for their format."""
    keyed = results(state)
    for key in [*state.keys()]:
        value, metadata = state.get(key), state.get_metadata(key)
        del metadata["components"]["fingerprint format"]
        state.delete(key)
        state.set(key[:-64] + "0" * 64 if key in keyed else key, value, metadata=metadata)


def test_results_of_another_fingerprint_format_are_computed_again_and_reported_once(
    tmp_path, calls, caplog, monkeypatch
):
    path = tmp_path / "results.db"

    def functions(state):
        @TaskCache(state)
        def f(x):
            calls.append(x)
            return x

        @TaskCache(state)
        def g(x):
            calls.append(x)
            return x

        return f, g

    with StateManager(path) as state:
        for function in functions(state):
            function(1)
        make_entries_old(state)
    monkeypatch.setattr(result_cache, "_logged_by_path", {})  # as in another process
    with StateManager(path) as state:
        f, g = functions(state)
        assert f.explain(1) == "the format of fingerprints has changed with flowkit-state"
        for _ in range(2):
            assert [f(1), g(1), f(2)] == [1, 1, 2]
        assert calls == [1, 1, 1, 1, 2]
        assert f.clear() == 3
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("flowkit.state", "WARNING")
    assert record.getMessage() == (
        f"The results cached in {path} are not used: another version of flowkit-state stored them, and its "
        "fingerprints of code have another format. Each call is computed once more; there is nothing to do. "
        "clear() deletes the old results."
    )


def test_results_of_the_same_fingerprint_format_are_not_reported(calls, caplog):
    cache = TaskCache()
    f = cache(double)
    assert [f(1), f(2), f(1)] == [2, 4, 2]
    assert caplog.records == []


def test_an_argument_without_a_fingerprint_is_not_cached_and_said_once(calls, caplog):
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
    assert "give TaskCache(key=...)" in text
    assert ask.invalidate(object(), 1) is False


def opaque():
    return object()


def test_a_result_that_cannot_be_kept_is_returned_and_said_once(caplog):
    cache = TaskCache()
    make = cache(opaque)
    with caplog.at_level(logging.WARNING, logger="flowkit.state"):
        assert make() is not make()
    assert len(caplog.records) == 1
    assert "its result is of type object, " in caplog.text
    assert cache.state.keys() == []


def test_work_is_not_lost_when_it_cannot_be_stored(tmp_path, monkeypatch, caplog):
    cache = TaskCache(tmp_path / "cache.json")
    cached = cache(double)

    def full(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(syscalls, "write", full)
    with caplog.at_level(logging.WARNING, logger="flowkit.state"):
        assert cached(2) == cached(2) == 4
    assert caplog.text.count("the disk is full") == 1


def test_an_entry_that_cannot_be_restored_is_computed_again(tmp_path, caplog):
    path = tmp_path / "cache.json"
    with StateManager(path) as state:
        cached = TaskCache(state)(double)
        cached(2)
        path.write_text(path.read_text().replace('"value": 4', '"value": {"$future": 4}'))
        assert cached(2) == 4
        assert "unknown type $future" in caplog.text
        assert state.get_all()[results(state)[0]] == 4


def test_a_closed_state_is_an_error():
    state = StateManager()
    cached = TaskCache(state)(double)
    state.close()
    with pytest.raises(StateClosedError):
        cached(1)


async def coroutine():
    pass


def generator():
    yield 1


@pytest.mark.parametrize("target", [functools.partial(double, 1), len, int, 7, "".join])
def test_only_plain_functions_are_decorated(target):
    with pytest.raises(StateOptionTypeError, match="must be a plain function"):
        TaskCache()(target)


@pytest.mark.parametrize("target", [coroutine, generator])
def test_functions_that_return_no_result_are_refused(target):
    with pytest.raises(StateOptionError, match="neither async nor a generator"):
        TaskCache()(target)


def test_bad_options():
    with pytest.raises(StateOptionTypeError, match=r"@TaskCache\(\)"):
        TaskCache(double)
    with pytest.raises(StateOptionTypeError, match="key is 7"):
        TaskCache(key=7)
    with pytest.raises(StateOptionError, match="ttl is -1"):
        TaskCache(ttl=-1)
    with pytest.raises(UnsupportedValueError, match="version is of type object"):
        TaskCache(version=object())
    assert repr(TaskCache(ttl=5)) == "TaskCache(StateManager(default_ttl=None), ttl=5)"


# Key functions


def ask(connection, query, limit=10):
    return query, limit


def ask_by_name(connection, *, query):
    return query


@pytest.mark.parametrize(
    ("function", "key", "reason"),
    [
        (ask, lambda query: query, "it does not take 'connection'"),
        (ask, lambda: 1, "it does not take 'connection' and 'query'"),
        (ask, lambda connection, query, limit, offset: 1, "it takes 'offset', which the function does not"),
        (ask, lambda connection, query, *, limitt: 1, "'limitt', which the function does not (did you mean 'limit'?)"),
        (ask_by_name, lambda connection, quary: quary, "'quary', which the function does not (did you mean 'query'?)"),
        (ask_by_name, lambda connection: 1, "it does not take 'query'"),
        (double, lambda: 1, "it does not take 'x'"),
        (double, isinstance, "it takes 'class_or_tuple', which the function does not"),
    ],
)
def test_key_that_does_not_fit_is_refused_at_decoration_and_by_check(function, key, reason):
    cache = TaskCache(key=key)
    with pytest.raises(CacheKeyError) as caught:
        cache(function)
    assert reason in str(caught.value)
    assert caught.value.name == function.__qualname__
    with pytest.raises(CacheKeyError) as caught:
        cache.check(function, "orders")
    assert reason in str(caught.value)
    assert str(caught.value).startswith("TaskCache(key=...) of 'orders': the key function takes (")
    assert caught.value.name == "orders"
    assert isinstance(caught.value, TypeError)


def test_key_that_does_not_fit_names_both_signatures_and_the_way_out():
    with pytest.raises(CacheKeyError) as caught:
        TaskCache(key=lambda query: query)(ask)
    assert str(caught.value) == (
        "TaskCache(key=...) of 'ask': the key function takes (query), but is called with the arguments of "
        "ask(connection, query, limit=...): it does not take 'connection'. Give it the parameters "
        "(connection, query, limit=...), and return those that identify the result."
    )
    assert (caught.value.asks, caught.value.takes) == ("(query)", "(connection, query, limit=...)")


@pytest.mark.parametrize(
    ("function", "key"),
    [
        (ask, lambda connection, query: query),
        (ask, lambda c, q: q),
        (ask, lambda connection, query, limit: limit),
        (ask, lambda connection, query, limit=10: limit),
        (ask, lambda *args: args[1]),
        (ask, lambda *args, **kwargs: 1),
        (ask, lambda connection, query, more=None: query),
        (ask, functools.partial(lambda more, connection, query: query, None)),
        (ask_by_name, lambda connection, query: query),
        (ask_by_name, lambda connection, *, query: query),
        (ask_by_name, lambda connection, **others: 1),
        (double, abs),
        (double, str),
        (lambda *parts: parts, lambda first, second: first),
        (lambda **parts: parts, lambda *, first: first),
    ],
)
def test_key_that_takes_some_calls_is_accepted(function, key):
    cache = TaskCache(key=key)
    assert cache.check(function, "orders") is None
    assert cache(function)


def test_cache_without_key_checks_nothing():
    assert TaskCache().check(ask) is None


def test_key_may_leave_out_what_is_ignored():
    cache = TaskCache(key=lambda query: query)
    cache.check(lambda query, idempotency_key: query, "pay", ignore=("idempotency_key",))
    cache.check(lambda query, *, idempotency_key: query, "pay", ignore=("idempotency_key",))
    with pytest.raises(CacheKeyError, match="does not take 'other'"):
        cache.check(lambda query, idempotency_key, other: query, "pay", ignore=("idempotency_key",))

    def pay(amount, idempotency_key, *, note):
        return amount

    cache = TaskCache(key=lambda amount, *, note: (amount, note))
    found = cache.find(pay, (1, "first"), {"note": "n"}, ignore=("idempotency_key",))
    cache.keep(found.token, 1)
    assert cache.find(pay, (1, "second"), {"note": "n"}, ignore=("idempotency_key",)).known
    assert not cache.find(pay, (1, "second"), {"note": "m"}, ignore=("idempotency_key",)).known


def test_key_with_the_parameters_in_another_order_is_refused():
    """It would get one argument for the other, and results would be mixed up."""

    def report(day, region):
        return day, region

    reason = "it takes 'region' in the place of 'day', and arguments are passed in order"
    cached = TaskCache(key=lambda region, day: region)(report)
    assert cached(region="eu", day="monday") == ("monday", "eu")
    with pytest.raises(CacheKeyError, match=reason):
        cached("monday", "eu")
    with pytest.raises(CacheKeyError, match=reason):
        TaskCache(key=lambda region, day: region).check(report, "report")


def test_key_that_does_not_take_one_call_is_an_error_of_that_call(calls):
    @TaskCache(key=lambda connection, query: query)
    def ask(connection, query, limit=10):
        calls.append(query)
        return query

    assert ask(1, "a") == ask(2, query="a") == "a"
    with pytest.raises(CacheKeyError, match="too many positional arguments"):
        ask(1, "a", 5)
    with pytest.raises(CacheKeyError, match="unexpected keyword argument 'limit'"):
        ask.explain(1, "a", limit=5)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        ask(1)
    assert calls == ["a"]


def test_key_that_raises_has_note_with_name_of_function(calls):
    @TaskCache(key=lambda x: x["id"])
    def load(x):
        calls.append(x)

    with pytest.raises(KeyError) as caught:
        load({})
    (note,) = caught.value.__notes__
    assert note.startswith("flowkit: the key function of ")
    assert "load', TaskCache(key=...), raised this" in note
    assert calls == []


class AsyncKey:
    """An object that is called with `await`."""

    async def __call__(self, x):
        return x


@pytest.mark.parametrize("key", [coroutine, functools.partial(coroutine), AsyncKey()])
def test_key_that_is_async_is_refused(key):
    with pytest.raises(StateOptionError, match="must be a plain function: the result of an async one is never awaited"):
        TaskCache(key=key)


def test_key_that_is_a_generator_function_is_refused():
    with pytest.raises(StateOptionError, match="a generator cannot be compared"):
        TaskCache(key=generator)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("key", [lambda x: coroutine(), lambda x: (each for each in x)])
def test_key_that_returns_a_coroutine_or_a_generator_is_refused(key):
    with pytest.raises(StateOptionError, match=r"the result of the key function of 'double' is <.* must be a value"):
        TaskCache(key=key)(double)([1])


def test_key_that_returns_what_cannot_be_compared_is_logged_once_with_the_way_out(caplog):
    cached = TaskCache(key=lambda x: [object()])(double)
    assert cached(1) == cached(1) == 2
    (record,) = caplog.records
    assert "the result of key()[0] is of type object" in record.getMessage()
    assert "return plain data from it, such as a text or a tuple of texts and numbers" in record.getMessage()
    assert "pickle" not in record.getMessage()


@pytest.mark.parametrize("key", [7, "query", ["query"]])
def test_key_that_is_not_callable_is_refused_with_an_example(key):
    with pytest.raises(StateOptionTypeError, match="such as key=lambda connection, query: query"):
        TaskCache(key=key)


# Threads


def test_threads_that_want_one_result_wait_for_the_first(calls):
    started, go_on = threading.Event(), threading.Event()

    @TaskCache()
    def slow(x):
        calls.append(x)
        started.set()
        go_on.wait()
        return [x]

    results = []
    threads = [threading.Thread(target=lambda: results.append(slow(1))) for _ in range(5)]
    for thread in threads:
        thread.start()
    started.wait()
    go_on.set()
    for thread in threads:
        thread.join()
    assert calls == [1]
    assert results == [[1]] * 5


def test_threads_that_want_different_results_do_not_wait(calls):
    both = threading.Barrier(2, timeout=60)

    @TaskCache()
    def meet(x):
        both.wait()
        return x

    threads = [threading.Thread(target=meet, args=(x,)) for x in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [meet(1), meet(2)] == [1, 2]


def test_after_a_failure_the_next_thread_tries(calls):
    started, go_on = threading.Event(), threading.Event()

    @TaskCache()
    def flaky():
        calls.append(1)
        if len(calls) == 1:
            started.set()
            go_on.wait()
            raise ValueError
        return "done"

    def first():
        with pytest.raises(ValueError):
            flaky()

    results = []
    threads = [threading.Thread(target=first), threading.Thread(target=lambda: results.append(flaky()))]
    threads[0].start()
    started.wait()
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert results == ["done"]


def test_a_serializer_tells_the_content_of_arguments():
    class Frame:
        def __init__(self, rows):
            self.rows = rows

    class FrameSerializer:
        name, type = "frame", Frame

        def dump(self, value):
            return repr(value.rows).encode()

        def load(self, data):
            return Frame(eval(data))

    calls = []

    @TaskCache(StateManager(serializer=FrameSerializer()))
    def total(frame):
        calls.append(1)
        return sum(frame.rows)

    assert [total(Frame([1, 2])), total(Frame([1, 2])), total(Frame([3]))] == [3, 3, 3]
    assert len(calls) == 2
