"""The `key` function of a `TaskCache`."""

from __future__ import annotations

import functools

import pytest
from cached_functions import coroutine, double, generator

from flowkit_state import (
    CacheKeyError,
    StateOptionError,
    StateOptionTypeError,
    TaskCache,
)


def test_key_function_identifies_result(calls):
    @TaskCache(key=lambda connection, query: query)
    def ask(connection, query):
        calls.append(query)
        return query.upper()

    assert ask(object(), "a") == ask(object(), "a") == "A"
    ask(object(), "b")
    assert calls == ["a", "b"]


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
def test_key_function_with_other_parameters_is_refused(function, key, reason):
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


def test_error_of_key_function_names_both_signatures():
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
def test_key_function_that_accepts_some_calls_is_accepted(function, key):
    cache = TaskCache(key=key)
    assert cache.check(function, "orders") is None
    assert cache(function)


def test_check_without_key_function_does_nothing():
    assert TaskCache().check(ask) is None


def test_key_function_may_omit_ignored_parameters():
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


def test_key_function_with_other_parameter_order_is_refused():
    def report(day, region):
        return day, region

    reason = "it takes 'region' in the place of 'day', and arguments are passed in order"
    cached = TaskCache(key=lambda region, day: region)(report)
    assert cached(region="eu", day="monday") == ("monday", "eu")
    with pytest.raises(CacheKeyError, match=reason):
        cached("monday", "eu")
    with pytest.raises(CacheKeyError, match=reason):
        TaskCache(key=lambda region, day: region).check(report, "report")


def test_call_that_key_function_does_not_accept_raises(calls):
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


def test_exception_of_key_function_has_note_with_function_name(calls):
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
def test_async_key_function_is_refused(key):
    with pytest.raises(StateOptionError, match="must be a plain function: the result of an async one is never awaited"):
        TaskCache(key=key)


def test_generator_key_function_is_refused():
    with pytest.raises(StateOptionError, match="a generator cannot be compared"):
        TaskCache(key=generator)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("key", [lambda x: coroutine(), lambda x: (each for each in x)])
def test_key_function_returning_coroutine_or_generator_is_refused(key):
    with pytest.raises(StateOptionError, match=r"the result of the key function of 'double' is <.* must be a value"):
        TaskCache(key=key)(double)([1])


def test_key_without_comparable_content_is_logged_once(caplog):
    cached = TaskCache(key=lambda x: [object()])(double)
    assert cached(1) == cached(1) == 2
    (record,) = caplog.records
    assert "the result of key()[0] is of type object" in record.getMessage()
    assert "return plain data from it, such as a text or a tuple of texts and numbers" in record.getMessage()
    assert "pickle" not in record.getMessage()


@pytest.mark.parametrize("key", [7, "query", ["query"]])
def test_key_that_is_not_callable_is_refused(key):
    with pytest.raises(StateOptionTypeError, match="such as key=lambda connection, query: query"):
        TaskCache(key=key)
