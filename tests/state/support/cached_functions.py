"""Functions to cache, and the keys of their results."""

from __future__ import annotations


def double(x):
    """Twice as much."""
    return 2 * x


async def coroutine():
    pass


def generator():
    yield 1


def results(state):
    return [key for key in state.keys() if key.startswith("flowkit.cache:")]  # noqa: SIM118
