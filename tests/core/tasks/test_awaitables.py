"""Coroutines are awaited, other awaitables are values, and unsupported generators are refused."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect

import pytest

from flowkit_core import DAG, Task, TaskOptionError, TaskOptionTypeError, task


async def answer(x=20):
    await asyncio.sleep(0)
    return x + 1


async def returns_coroutine(x=20):
    return answer(x)


def passed_on(function):
    """Return a plain wrapper of a function, without ``functools.wraps``."""

    def wrapper(*args):
        return function(*args)

    return wrapper


class AsyncCall:
    """An object whose call is a coroutine, with an attribute named ``func``."""

    def __init__(self, func=None):
        self.func = func

    async def __call__(self, x=20):
        await asyncio.sleep(0)
        return x + 1


class ReturnsCoroutine:
    """An object whose plain ``__call__`` returns a coroutine."""

    def __call__(self, x=20):
        return answer(x)

    async def method(self, x=20):
        return x + 1

    def plain_method(self, x=20):
        return answer(x)


KINDS = {
    "async def": answer,
    "lambda": lambda x=20: answer(x),
    "wrapper": passed_on(answer),
    "wraps": functools.wraps(answer)(passed_on(answer)),
    "partial": functools.partial(answer, 20),
    "partial by name": functools.partial(answer, x=20),
    "partial of lambda": functools.partial(lambda x: answer(x), 20),
    "async __call__": AsyncCall(),
    "async __call__ with func": AsyncCall(func=len),
    "__call__ that returns one": ReturnsCoroutine(),
    "async method": ReturnsCoroutine().method,
    "method that returns one": ReturnsCoroutine().plain_method,
    "async def that returns one": returns_coroutine,
    "lambda that returns that": lambda x=20: returns_coroutine(x),
}


@pytest.mark.parametrize("func", KINDS.values(), ids=KINDS)
def test_coroutine_is_awaited_whatever_returns_it(func):
    """Functions, partials, wrappers and objects with an async __call__."""
    made = Task(func, name="made")
    assert DAG("awaited", tasks=[made]).run("serial") == {"made": 21}


@pytest.mark.parametrize("options", [{}, {"retries": 1}, {"timeout": 60}], ids=str)
@pytest.mark.parametrize("func", [returns_coroutine, lambda x: returns_coroutine(x)], ids=["async def", "lambda"])
def test_coroutine_that_a_coroutine_returns_is_awaited(func, options):
    """For tasks, elements and direct calls, with and without a timeout."""
    single, each = Task(func, name="single", **options), Task(func, name="each", **options)
    dag = DAG("nested", tasks=[single, each.map("x")])
    assert dag.run("serial", params={"single.x": 1, "each.x": [2, 3]}) == {"single": 2, "each": [3, 4]}
    if options:
        assert asyncio.run(_awaited(single, 5)) == 6


async def _awaited(function, *args):
    return await function(*args)


@pytest.mark.parametrize("func", [func for name, func in KINDS.items() if "partial" not in name])
def test_coroutine_gets_result_of_upstream_and_passes_its_own_on(func):
    """Downstream tasks get values, not coroutines."""
    start, made, end = Task(lambda: 1, name="start"), Task(func, name="made"), Task(lambda made: made * 10, name="end")
    start >> made >> end
    assert DAG("awaited", tasks=[end]).run("serial") == {"start": 1, "made": 2, "end": 20}


def failing_coroutines(returns_coroutine):
    """Return a function whose coroutine fails twice, and the list of its calls."""
    calls = []

    async def flaky():
        calls.append(1)
        await asyncio.sleep(0)
        if len(calls) < 3:
            raise ValueError(len(calls))
        return "done"

    return (lambda: flaky()) if returns_coroutine else flaky, calls


@pytest.mark.parametrize("returns_coroutine", [False, True])
def test_coroutine_that_fails_is_retried_in_run(returns_coroutine):
    """Each attempt creates a new coroutine."""
    func, calls = failing_coroutines(returns_coroutine)
    made = Task(func, name="made", retries=2, delay=0)
    assert DAG("awaited", tasks=[made]).run("serial") == {"made": "done"}
    assert len(calls) == 3


@pytest.mark.parametrize("returns_coroutine", [False, True])
@pytest.mark.parametrize("retries", [2, 5])
def test_coroutine_that_fails_is_retried_in_direct_call(returns_coroutine, retries):
    """The call returns a coroutine that retries."""
    func, calls = failing_coroutines(returns_coroutine)
    made = Task(func, name="made", retries=retries, delay=0)
    assert asyncio.run(made()) == "done"
    assert len(calls) == 3


@pytest.mark.parametrize("returns_coroutine", [False, True])
def test_coroutine_that_fails_too_often_raises_own_error_in_direct_call(returns_coroutine):
    func, calls = failing_coroutines(returns_coroutine)
    made = Task(func, name="made", retries=1, delay=0)
    with pytest.raises(ValueError) as caught:
        asyncio.run(made())
    assert caught.value.args == (2,)
    assert len(calls) == 2


def failing_both_ways():
    """Return a function that raises in its first call and returns a failing coroutine in its second, and its calls."""
    calls = []

    async def inner():
        raise ValueError("in the coroutine")

    def func():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("in the call")
        return inner() if len(calls) == 2 else answer()

    return func, calls


def test_coroutine_retries_go_on_after_failure_of_the_call():
    """The first call raises, the coroutine of the second raises as well."""
    func, calls = failing_both_ways()
    assert asyncio.run(Task(func, name="direct", retries=2, delay=0)()) == 21
    assert len(calls) == 3
    func, calls = failing_both_ways()
    assert DAG("awaited", tasks=[Task(func, name="run", retries=2, delay=0)]).run("serial") == {"run": 21}
    assert len(calls) == 3


def test_coroutine_retries_count_failures_of_call_and_coroutine_together_in_run():
    """Both are attempts."""
    func, calls = failing_both_ways()
    with pytest.raises(ValueError, match="in the coroutine"):
        DAG("awaited", tasks=[Task(func, name="run", retries=1, delay=0)]).run("serial")
    assert len(calls) == 2


def test_coroutine_retries_count_failures_of_call_and_coroutine_together_in_direct_call():
    """As in a run."""
    func, calls = failing_both_ways()
    with pytest.raises(ValueError, match="in the coroutine"):
        asyncio.run(Task(func, name="direct", retries=1, delay=0)())
    assert len(calls) == 2


def test_coroutine_retries_that_return_plain_value_after_coroutine():
    """The second attempt returns a value instead of a coroutine."""
    calls = []

    async def inner():
        raise ValueError

    def func():
        calls.append(1)
        return inner() if len(calls) == 1 else "plain"

    assert DAG("awaited", tasks=[Task(func, name="run", retries=1, delay=0)]).run("serial") == {"run": "plain"}


def test_direct_call_whose_second_attempt_returns_plain_value_returns_it():
    """As in a run."""
    calls = []

    async def inner():
        raise ValueError

    def func():
        calls.append(1)
        return inner() if len(calls) == 1 else "plain"

    assert asyncio.run(Task(func, name="direct", retries=1, delay=0)()) == "plain"


def test_direct_call_without_retries_returns_coroutine():
    """The caller awaits it."""
    made = Task(lambda: answer(), name="made")()
    assert inspect.iscoroutine(made)
    assert asyncio.run(made) == 21


def test_coroutine_is_awaited_in_running_event_loop():
    """A coroutine calls run()."""

    async def main():
        return DAG("awaited", tasks=[Task(lambda: answer(), name="made")]).run("serial")

    assert asyncio.run(main()) == {"made": 21}


# Other awaitables are values


class Own:
    """A class with __await__."""

    def __await__(self):
        raise AssertionError("it is never awaited")


@pytest.mark.parametrize("make", [concurrent.futures.Future, Own], ids=["future", "own awaitable"])
def test_awaitable_that_is_no_coroutine_stays_a_value(make):
    """Futures, for example."""
    made = make()
    start, end = Task(lambda: made, name="start"), Task(lambda x: x is made, name="end")
    start >> end
    results = DAG("values", tasks=[end]).run("serial")
    assert results["start"] is made
    assert results["end"] is True


def test_asyncio_future_stays_a_value():
    """It belongs to an event loop."""
    loop = asyncio.new_event_loop()
    try:
        future = loop.create_future()
        assert DAG("values", tasks=[Task(lambda: future, name="made")]).run("serial")["made"] is future
    finally:
        loop.close()


def test_generator_stays_a_value_without_retries():
    """The next task iterates over it."""

    @task
    def numbers():
        yield from range(4)

    total = Task(sum, name="total")
    numbers >> total
    assert DAG("values", tasks=[total]).run("serial")["total"] == 6


# Generators that are refused


async def async_numbers():
    yield 1


class AsyncNumbers:
    """Async generator functions in disguise."""

    async def __call__(self):
        yield 1

    async def method(self):
        yield 1


ASYNC_GENERATORS = {
    "function": async_numbers,
    "partial": functools.partial(async_numbers),
    "method": AsyncNumbers().method,
    "callable object": AsyncNumbers(),
    "partial of method": functools.partial(AsyncNumbers().method),
}


@pytest.mark.parametrize("func", ASYNC_GENERATORS.values(), ids=ASYNC_GENERATORS)
@pytest.mark.parametrize("options", [{}, {"retries": 1}, {"name": "made"}], ids=repr)
def test_async_generator_function_is_refused_where_declared(func, options):
    """Pipelines do not iterate over asynchronous generators."""
    with pytest.raises(TaskOptionTypeError, match="async generator") as caught:
        Task(func, **options)
    assert caught.value.option == "func"


def test_async_generator_function_is_refused_by_decorator():
    """With and without parentheses."""
    for decorate in (task, task(), task(name="made")):
        with pytest.raises(TypeError, match="async generator"):
            decorate(async_numbers)


def numbers():
    yield 1


class Numbers:
    """Generator functions in disguise."""

    def __call__(self):
        yield 1

    def method(self):
        yield 1


GENERATORS = {
    "function": numbers,
    "partial": functools.partial(numbers),
    "method": Numbers().method,
    "callable object": Numbers(),
}


@pytest.mark.parametrize("func", GENERATORS.values(), ids=GENERATORS)
def test_generator_function_with_retries_is_refused_where_declared(func):
    """Its code runs after the task has ended, so it cannot be retried."""
    with pytest.raises(TaskOptionError, match="generator function") as caught:
        Task(func, name="made", retries=3)
    assert (caught.value.task, caught.value.option, caught.value.value) == ("made", "retries", 3)
    with pytest.raises(TaskOptionError, match="return a list instead"):
        Task(func, name="made").with_options(retries=1)
    with pytest.raises(TaskOptionError, match="generator function"):
        task(retries=1)(func)


@pytest.mark.parametrize("func", GENERATORS.values(), ids=GENERATORS)
def test_generator_function_without_retries_is_a_task(func):
    """Also with an explicit retries=0."""
    for made in (Task(func, name="made"), Task(func, name="made", retries=0)):
        assert list(DAG("values", tasks=[made]).run("serial")["made"]) == [1]


# is_async


@pytest.mark.parametrize(
    ("name", "is_async"),
    [
        ("async def", True),
        ("partial", True),
        ("async __call__", True),
        ("async __call__ with func", True),
        ("async method", True),
        ("lambda", False),
        ("__call__ that returns one", False),
    ],
)
def test_is_async_ignores_attribute_func(name, is_async):
    """An attribute `func` has no meaning."""
    assert Task(KINDS[name], name="made").is_async is is_async
