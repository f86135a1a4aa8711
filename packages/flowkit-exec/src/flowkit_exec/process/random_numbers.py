"""Random numbers of worker processes: they differ, even if the script or a module seeds a generator.

This is about the generators of a process: that of `random`, and that of NumPy where it is loaded.
"""

from __future__ import annotations

import pickle
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Seed the generators again if the block seeds them, or imports their modules."""
    before = {name: _state(name) for name in ("random", "numpy.random")}
    try:
        yield
    finally:
        for name, state in before.items():
            if _state(name) != state:
                seed(name)


def seed(name: str) -> None:
    """Seed the generator of a module, if it is loaded, by random numbers of the system."""
    with suppress(Exception):  # NumPy may have been given a generator that cannot be seeded
        module: Any = sys.modules.get(name)
        if module is not None:
            module.seed()


def _state(name: str) -> bytes:
    module: Any = sys.modules.get(name)
    with suppress(Exception):  # the module is being imported
        return b"" if module is None else pickle.dumps((module.getstate if name == "random" else module.get_state)())
    return b""
