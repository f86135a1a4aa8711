"""Tasks for tests of binding on all executors, in a module that worker processes can import."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from unittest import mock

from flowkit_core import task


def count(path):
    """Append a byte to a file, and return how many it has."""
    with Path(path).open("ab", buffering=0) as file:  # so that two calls at once get different numbers
        file.write(b".")
        return file.tell()


# Order edges


@task
def extract():
    return 7


@task
def create_table():
    return None


@task
def scale(frame, factor=10):
    return frame * factor


@task
def insert(db="prod.db"):
    return db


@task
def write(path, text):
    with Path(path).open("a") as file:
        file.write(text)


@task
def read(path):
    return Path(path).read_text()


@task
def rest(*args, **kwargs):
    return args, kwargs


@task
def fail():
    raise ValueError("boom")


@task(when=lambda: False)
def migrate():
    return "migrated"


@task
def keyword_only(*, frame, factor=10):
    return frame, factor


@task
def positional_only(frame, factor=10, /):
    return frame, factor


# Conditions


@task(when=lambda dry_run: not dry_run)
def load(rows, dry_run=False):
    return rows


@task(when=lambda limit, first: first < limit)
def small(frame, limit=5):
    return frame


@task(when=lambda **named: named["factor"] > named["frame"])
def by_kwargs(*, frame, factor=10):
    return frame


@task(when=lambda: (answer for answer in [False]))
def generator_condition():
    return "never"


async def coroutine_answer():
    return False


@task(when=lambda: coroutine_answer())
def coroutine_condition():
    return "never"


@task(when=lambda: Awaitable())
def awaitable_condition():
    return "never"


# Awaitables


async def answer(x=20):
    await asyncio.sleep(0)
    return x + 1


class AsyncCall:
    """An object whose call is a coroutine, with an attribute named ``func``."""

    def __init__(self):
        self.func = len

    async def __call__(self, x=20):
        await asyncio.sleep(0)
        return x + 1

    def method(self, x=20):
        return answer(x)

    async def async_method(self, x=20):
        return x + 1


def returns_coroutine(x=20):
    return answer(x)


async_call = AsyncCall()
async_partial = functools.partial(answer, 20)
AWAITED = {
    "async def": answer,
    "function that returns one": returns_coroutine,
    "partial": async_partial,
    "async __call__": async_call,
    "method that returns one": async_call.method,
    "async method": async_call.async_method,
}


def flaky_coroutine(path):
    """Return a coroutine that fails twice."""

    async def inner():
        tries = count(path)
        if tries < 3:
            raise ValueError(tries)
        return tries

    return inner()


class Awaitable:
    """An awaitable that is not a coroutine."""

    def __await__(self):
        raise AssertionError("it is never awaited")


@task
def own_awaitable():
    return Awaitable()


@task
def type_name(value):
    return type(value).__name__


# Odd callables


class FuncIsSelf:
    """An object whose ``__wrapped__`` is itself."""

    def __init__(self):
        self.func = self

    def __call__(self, x=1):
        return x + 1


class AnswersSelf:
    """An object of which every attribute is itself."""

    def __getattr__(self, name):
        if name.startswith("__"):  # pickle reads these
            raise AttributeError(name)
        return self

    def __call__(self, x=1):
        return x + 1


ODD = {"func = self": FuncIsSelf(), "__getattr__ returns self": AnswersSelf()}


def patched():
    """Return the result of a function that calls a mock."""
    return mock.Mock(return_value=7)()


# Methods


class Orders:
    """A class with methods that are tasks."""

    def __init__(self, rows):
        self.rows = rows

    @task
    def total(self, factor=1):
        return sum(self.rows) * factor

    @task(retries=2, delay=0)
    def flaky(self, path):
        raise ValueError(count(path))

    @classmethod
    @task
    def named(cls):
        return cls.__name__


class NewOrders(Orders):
    """A subclass."""


# Iterators


@task
def numbers():
    return iter([3, 3, 4])


@task(retries=1, delay=0)
def total(rows):
    return sum(rows)
