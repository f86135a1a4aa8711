"""Tasks of coroutine functions, in runs and in direct calls."""

from __future__ import annotations

import asyncio
import functools

import pytest

from flowkit_core import DAG, Task, task


def test_async_task_is_awaited():
    """The result is the value, never a coroutine."""

    @task
    async def fetch():
        await asyncio.sleep(0)
        return 20

    @task
    async def add(fetch):
        return fetch + 1

    @task
    def show(add):
        return f"{add}"

    fetch >> add >> show
    assert DAG("async", tasks=[show]).run() == {"fetch": 20, "add": 21, "show": "21"}


def test_async_task_error_has_no_context():
    async def fail():
        raise ValueError("in async")

    with pytest.raises(ValueError, match="in async") as caught:
        DAG("async", tasks=[Task(fail)]).run("serial")
    assert caught.value.__context__ is None


def test_async_task_is_retried_and_fails():
    calls = []

    @task(retries=1, delay=0)
    async def broken():
        calls.append(1)
        raise ValueError("async boom")

    with pytest.raises(ValueError, match="async boom"):
        DAG("async", tasks=[broken]).run()
    assert len(calls) == 2


def passed_on(function):
    """Return a function that returns what another returns, be it a coroutine."""

    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


def finished(function):
    """Return a plain function that runs a coroutine function to its end."""

    @functools.wraps(function)
    def wrapper(*args):
        return asyncio.run(function(*args))

    return wrapper


DECORATORS = {
    "one that passes on": passed_on,
    "two of them": lambda function: passed_on(passed_on(function)),
    "one that runs the loop": finished,
    "one inside a partial": lambda function: functools.partial(passed_on(function)),
    "one around a partial": lambda function: passed_on(functools.partial(function)),
}


@pytest.mark.parametrize("decorator", DECORATORS)
def test_async_task_under_decorator_is_awaited(decorator):
    """Exceptions of the coroutine are retried."""
    calls = []

    async def fetch():
        await asyncio.sleep(0)
        calls.append(1)
        if len(calls) == 1:
            raise OSError("not yet")
        return "fetched"

    fetch = Task(DECORATORS[decorator](fetch), name="fetch", retries=1, delay=0)
    assert DAG("async", tasks=[fetch]).run("serial") == {"fetch": "fetched"}
    assert len(calls) == 2


def test_async_detection_with_cyclic_wrapped():
    """__wrapped__ forms a cycle."""

    def one():
        return 1

    one.__wrapped__ = two = lambda: 2
    two.__wrapped__ = one
    assert DAG("circle", tasks=[Task(one)]).run("serial") == {"one": 1}


def test_async_task_runs_in_running_event_loop():
    """For example, in a notebook."""

    @task
    async def fetch():
        await asyncio.sleep(0)
        return 1

    async def cell():
        return DAG("notebook", tasks=[fetch]).run()

    assert asyncio.run(cell()) == {"fetch": 1}


def test_async_task_direct_call_can_be_awaited():
    """With retries."""
    calls = []

    @task(retries=1, delay=0)
    async def fetch(x):
        calls.append(x)
        if len(calls) == 1:
            raise OSError
        return x

    async def main():
        return await fetch(3)

    assert asyncio.run(main()) == 3
    assert calls == [3, 3]


@pytest.mark.parametrize("kind", ["partial", "callable object"])
def test_async_callable_of_other_kinds_is_awaited(kind):
    """A partial of an async function, or an object with an async __call__."""

    async def fetch(x):
        return x

    class Fetcher:
        async def __call__(self):
            return 5

    made = Task(functools.partial(fetch, 5) if kind == "partial" else Fetcher(), name="fetch")
    assert DAG("async", tasks=[made]).run() == {"fetch": 5}
