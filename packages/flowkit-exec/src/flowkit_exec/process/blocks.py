"""Blocks of elements of mapped tasks: their messages between the process of the run and workers."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from flowkit_core import Outcome
from flowkit_core.runs.mapping.block_calls import MAX_BLOCK_SECONDS, UNBOUNDED, call_block
from flowkit_core.runs.mapping.element import Block
from flowkit_core.runs.states import FAILED

from . import protocol
from .exception_transport import pack_error, unpack_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowkit_core import Node, Run

    from .functions.function_table import FunctionTable
    from .task_context import ContextSource

MAX_COMMON_BYTES = 1 << 14
"""Bytes of pickled arguments that all elements have in common, above which elements are sent one by one.

These arguments would be sent with each block, while single calls share large ones."""
MAX_BYTES = 1 << 19
"""Bytes of a pickled block above which the next ones have fewer elements."""


def packed_block(run: Run, block: Block, functions: FunctionTable) -> bytes | Outcome:
    """Return the message for a block; or how it ends, if it is not sent.

    The message is the pickle of: for each task of the chain the number of its function, the index of its node, its name
    and the pickled template of its arguments; number of the first element; mapped values; maximum number of seconds.
    """
    outcome: Outcome | None = run.mapping.check_block(block)
    if outcome is not None:
        return outcome
    region = block.region
    try:
        stages = []
        for stage in region.stages:
            template = functions.dumps(stage.template(), protocol.PICKLE_PROTOCOL)
            if len(template) > MAX_COMMON_BYTES:
                region.block_window = 0
                return Outcome(FAILED, "its arguments are too large to be sent with each block")
            stages.append((functions.numbers[stage.node.index], stage.node.index, stage.node.name, template))
        mapped = region.stages[0].node.mapped
        is_bounded = mapped is None or mapped.options.chunk is None
        message = stages, block.element, block.given, MAX_BLOCK_SECONDS if is_bounded else UNBOUNDED
        data: bytes = functions.dumps(message, protocol.PICKLE_PROTOCOL)
    except Exception as error:  # pickling runs the user's code; the single call that fails reports it
        return Outcome(FAILED, error=error)
    if len(data) > MAX_BYTES:
        region.max_block = max(1, len(block.given) * MAX_BYTES // len(data))
    return data


class BlockCaller:
    """Makes the calls of blocks in a worker.

    Args:
        find: returns the function with a number.
        contexts: finds the contexts of calls.
    """

    def __init__(self, find: Callable[[int], Callable[..., Any]], contexts: ContextSource) -> None:
        self._find = find
        self._contexts = contexts

    def call(self, data: bytes) -> Any:
        """Make the calls of a block; return the results, durations, and the packed failure or None."""
        stages, start, given, max_seconds = pickle.loads(data)
        callers = [pickle.loads(template).caller(self._find(number)) for number, _, _, template in stages]
        names = [name for _, _, name, _ in stages]
        contexts = self._contexts
        contexts.stages = [(index, name) for _, index, name, _ in stages]
        try:
            values, seconds, failed = call_block(
                callers, names, start, given, contexts.note, max_seconds=max_seconds, dumps=protocol.dumps
            )
        finally:
            contexts.stages = None
        return values, seconds, None if failed is None else (failed[0], pack_error(failed[1]))


def unpacked_result(block: Block, result: Any) -> Any:
    """Return the result of a block for the run: with the exception itself."""
    values, seconds, failed = result
    if failed is None:
        return result
    name = f"{block.region.stages[failed[0]].node.name}[{block.element + len(values[-1])}]"
    return values, seconds, (failed[0], unpack_error(failed[1], name))


def result_of(node: Node, value: Any) -> Any:
    """Return the result of an element, or of a block of elements, for the run."""
    return unpacked_result(node, value) if isinstance(node, Block) else value
