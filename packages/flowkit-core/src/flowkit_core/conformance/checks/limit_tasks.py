"""Functions that the pipelines of checks of pools call: in this process, or in workers that import them by name."""

from __future__ import annotations

import os
import time
from typing import Any


def occupy(path: str, pools: dict[str, int], seconds: float, *_args: Any) -> None:
    """Append to a file which slots this call takes, sleep, and append that it gives them back."""
    _append(path, pools, 1)
    time.sleep(seconds)
    _append(path, pools, -1)


def occupy_and_fail(path: str, pools: dict[str, int], *_args: Any) -> None:
    """Do what `occupy` does, and raise an exception."""
    occupy(path, pools, 0.002)
    raise OSError("expected")


def occupy_and_return(path: str, pools: dict[str, int], value: Any) -> Any:
    """Do what `occupy` does, and return a value."""
    occupy(path, pools, 0.001)
    return value


def _append(path: str, pools: dict[str, int], sign: int) -> None:
    line = " ".join(f"{pool}={sign * amount}" for pool, amount in pools.items())
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{line}\n".encode())  # in one write, so that lines of several processes do not mix
    finally:
        os.close(descriptor)


def most_taken(path: str) -> dict[str, int]:
    """Return how many slots of each pool were taken at once, at most, by the calls of `occupy`."""
    taken: dict[str, int] = {}
    most: dict[str, int] = {}
    with open(path) as file:
        for line in file:
            for part in line.split():
                pool, change = part.split("=")
                taken[pool] = taken.get(pool, 0) + int(change)
                most[pool] = max(most.get(pool, 0), taken[pool])
    return most
