"""Tasks that record weak references to the objects they create, in a module that worker processes can import."""

from __future__ import annotations

import asyncio
import gc
import weakref

seen = {}
"""Weak references to the objects that tasks have created in this process, by kind."""


class Big:
    """A value that supports weak references."""


class Boom(Exception):
    """An exception that supports weak references."""


def note(kind, thing):
    """Record a weak reference to an object, and return the object."""
    seen.setdefault(kind, []).append(weakref.ref(thing))
    return thing


def alive():
    """Return how many objects of each kind are alive in this process."""
    counts = {kind: sum(one() is not None for one in found) for kind, found in seen.items()}
    return {kind: count for kind, count in counts.items() if count}


def value(param):
    return note("value", Big())


def broken(value=None):
    local = note("local", Big())
    raise note("error", Boom(type(local).__name__))


async def waiting(value=None):
    local = note("local", Big())
    await asyncio.sleep(0)
    raise note("error", Boom(type(local).__name__))


def condition(value):
    local = note("local", Big())
    raise note("error", Boom(type(local).__name__))


def below(broken):
    return 0


def succeed(value):
    return note("value", Big())


def never(value):
    return False


def turn_off():
    """Disable the garbage collector of this process, and clear the records."""
    gc.collect()
    gc.disable()
    seen.clear()
