"""A large value on its way from one task to another: how it is made and used, as numpy's array and without numpy."""

from __future__ import annotations

import os
from importlib import import_module
from pickle import PickleBuffer
from typing import Any

MIB = 2**20


class Block:
    """Bytes that pickle as arrays and data frames do with protocol 5: as a buffer beside the stream."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Block, (PickleBuffer(self.content) if protocol >= 5 else bytes(self.content),)

    def __len__(self) -> int:
        return memoryview(self.content).nbytes


def make_numpy(size: int) -> Any:
    """Make an array of so many bytes, and write every page of it."""
    return import_module("numpy").full(size // 8, 7.0)


def make_block(size: int) -> Block:
    """Make a block of so many bytes, and write every page of it."""
    return Block(bytearray(b"\x07") * size)


def use_numpy(array: Any) -> tuple[int, float]:
    """Read something from every page; return where that happened and what was there."""
    return os.getpid(), float(array[::512].sum())


def use_block(block: Block) -> tuple[int, float]:
    """Read something from every page; return where that happened and what was there."""
    return os.getpid(), float(sum(memoryview(block.content)[::4096]))


KINDS = {"numpy": (make_numpy, use_numpy), "block": (make_block, use_block)}
