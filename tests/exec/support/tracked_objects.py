"""Tasks that keep weak references to what they make, in a module that worker processes can import."""

from __future__ import annotations

import asyncio
import gc
import weakref

seen = {}
"""Weak references to what tasks have made in this process, by kind."""


class Big:
    """A value that a weak reference can follow."""


class Boom(Exception):
    """An error that a weak reference can follow."""


def note(kind, thing):
    """Keep a weak reference to a thing, and return the thing."""
    seen.setdefault(kind, []).append(weakref.ref(thing))
    return thing


def alive():
    """Return how many of the things of each kind are alive, in this process."""
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
    """Turn the collector of this process off, and forget what was seen."""
    gc.collect()
    gc.disable()
    seen.clear()
