"""Large values that are passed from one task to another: NumPy arrays, and byte buffers without NumPy."""

from __future__ import annotations

import os
from importlib import import_module
from pickle import PickleBuffer
from typing import Any

MIB = 2**20


class Block:
    """Bytes that pickle protocol 5 serializes as an out-of-band buffer, like arrays and data frames."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Block, (PickleBuffer(self.content) if protocol >= 5 else bytes(self.content),)

    def __len__(self) -> int:
        return memoryview(self.content).nbytes


def make_numpy(size: int) -> Any:
    """Return an array of this size in bytes; every page is written."""
    return import_module("numpy").full(size // 8, 7.0)


def make_block(size: int) -> Block:
    """Return a block of this size in bytes; every page is written."""
    return Block(bytearray(b"\x07") * size)


def use_numpy(array: Any) -> tuple[int, float]:
    """Read from every page; return the process ID and the sum."""
    return os.getpid(), float(array[::512].sum())


def use_block(block: Block) -> tuple[int, float]:
    """Read from every page; return the process ID and the sum."""
    return os.getpid(), float(sum(memoryview(block.content)[::4096]))


KINDS = {"numpy": (make_numpy, use_numpy), "block": (make_block, use_block)}
