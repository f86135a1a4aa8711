"""`TaskCache` as a decorator of partials and bound methods."""

from __future__ import annotations

import inspect
from functools import partial

import pytest

from flowkit_state import StateManager, StateOptionError, StateOptionTypeError, TaskCache


def area(width, height, unit="m"):
    return width * height, unit


class Shop:
    def __init__(self, rate):
        self.rate = rate

    def price(self, amount):
        """Return the price."""
        return amount * self.rate


def test_partials_are_decorated_and_distinguished_by_what_they_bind():
    cache, calls = TaskCache(), []

    def area(width, height, unit="m"):
        calls.append(unit)
        return width * height, unit

    kilo, centi, three = cache(partial(area, unit="km")), cache(partial(area, unit="cm")), cache(partial(area, 3))
    assert kilo(2, 3) == (6, "km")
    assert kilo.explain(2, 4) == "input 'height' has changed"
    for _ in range(2):
        assert kilo(2, 3) == (6, "km")
        assert centi(2, height=3) == (6, "cm")
        assert three(4) == (12, "m")
    assert calls == ["km", "cm", "m"]
    assert kilo.__name__ == "area"
    assert list(inspect.signature(three).parameters) == ["height", "unit"]
    assert kilo.explain(2, 3).startswith("cached since")
    assert kilo.invalidate(2, 3)
    assert cache.clear() == 2


def test_explain_names_what_a_partial_binds_once():
    cache = TaskCache()
    cache(partial(area, 3, unit="km"))(4)
    assert cache(partial(area, 3, unit="cm")).explain(4) == "input 'unit' has changed"
    assert cache(partial(area, 2, unit="km")).explain(4) == 'argument "0" of the partial has changed'
    reasons = cache(partial(area, 2, unit="cm")).explain(5).split("; ")
    assert sorted(reasons) == [
        'argument "0" of the partial has changed',
        "input 'height' has changed",
        "input 'unit' has changed",
    ]


def test_bound_methods_are_decorated_and_distinguished_by_their_objects(tmp_path):
    with StateManager(tmp_path / "cache.db") as state:
        cache = TaskCache(state)
        prices = [cache(Shop(rate).price) for rate in (2, 3, 2)]
        assert [price(5) for price in prices] == [10, 15, 10]
        assert len([key for key in state if "Shop.price" in key]) == 3, "two results, and the last one"
        assert (prices[0].__name__, prices[0].__doc__) == ("price", "Return the price.")
        assert prices[0].explain(amount=5).startswith("cached since")
        nested = cache(partial(partial(Shop(2).price), amount=7))
        assert nested() == 14


@pytest.mark.parametrize("function", [len, Shop, Shop(1), 7, partial(len), partial(Shop)])
def test_other_callables_cannot_be_decorated(function):
    with pytest.raises(StateOptionTypeError, match=r"must be a function, a bound method or a functools\.partial"):
        TaskCache()(function)


def test_partial_of_generator_or_async_function_cannot_be_decorated():
    async def wait():
        pass

    def numbers():
        yield 1

    for function in (wait, numbers):
        with pytest.raises(StateOptionError, match="neither async nor a generator"):
            TaskCache()(partial(function))
