"""Blocks of elements of mapped tasks: their messages between the client and workers.

An element costs its share of one task of Dask: the functions of a block are called in a loop on one worker.
"""

from __future__ import annotations

import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

from flowkit_core import TaskContext
from flowkit_core.context import variable
from flowkit_core.runs.exception_transport import unpack_error
from flowkit_core.runs.mapping.block_calls import call_block

from .calls import Invocation, check_result, filled, filled_by_name, load_error
from .errors import pack_error
from .pickling import dumps, loads_function

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Mapping, Sequence

    from flowkit_core import Run
    from flowkit_core.runs.context_transfer import CarriedContext, CarriedFacts
    from flowkit_core.runs.mapping.block_calls import BlockResult, Template
    from flowkit_core.runs.mapping.element import Block

    from .handle import DaskHandle

    Notes = dict[tuple[int, int | None], dict[str, Any]]
    StageFacts = tuple[bytes | None, Template, int, str]
    """Pickle of a function, template of its arguments, index of its node, and name of the task."""

BLOCK_SECONDS = 0.1
"""Seconds of calls that a block is made for: a task of Dask costs some milliseconds."""
MAX_BLOCK_SECONDS = 5 * BLOCK_SECONDS
"""Seconds of calls after which a worker returns the rest of a block, which other workers may take."""
MAX_BYTES = 1 << 19
"""Bytes of a pickled block above which the next ones have fewer elements."""


class BlockInvocation(Invocation):
    """The calls of a block, for a worker; see `Invocation`. Its result is for :func:`unpacked`."""

    __slots__ = ()

    def _load(self, values: list[Any]) -> tuple[Callable[..., Any], None, CarriedContext]:
        """Return a function that makes the calls, no condition, and the context.

        Raises:
            SerializationError: something cannot be unpickled here.
        """
        carried: CarriedContext = pickle.loads(self.context)
        what = "function"
        try:
            stages, *rest = pickle.loads(self.args or b"")
            functions = [loads_function(func) for func, *_ in stages]
            what = "argument"
            for _, template, *_ in stages:
                template.args = filled(template.args, values)
                template.kwargs = filled_by_name(template.kwargs, values)
        except BaseException as error:
            raise load_error(self.task, what, error) from error
        callers = [stage[1].caller(func) for stage, func in zip(stages, functions, strict=True)]
        return partial(_call_elements, callers, [stage[2:] for stage in stages], carried, *rest), None, carried


def _call_elements(
    callers: Sequence[Callable[[Any], Any]],
    stages: Sequence[tuple[int, str]],
    carried: CarriedContext,
    start: int,
    given: Sequence[Any],
    max_seconds: float,
    notes: Notes,
) -> bytes:
    """Make the calls of a block; return the pickle of results, durations, the packed failure or None, and new notes."""
    facts = BlockFacts(carried.enter(), notes)

    def note(stage: int, number: int) -> None:
        variable.set(TaskContext(facts, *stages[stage], 1, number))

    names = [name for _, name in stages]
    values, seconds, failed = call_block(callers, names, start, given, note, max_seconds=max_seconds, dumps=dumps)
    packed = None if failed is None else (failed[0], pack_error(failed[1]))
    try:
        return dumps((values, seconds, packed, facts.made))
    except Exception:
        found = _without_unpicklable(names, start, values, seconds)
        if found is not None:
            packed = found[0], pack_error(found[1])
        return dumps((values, seconds, packed, facts.made))


def _without_unpicklable(
    names: Sequence[str], start: int, values: list[list[Any]], seconds: list[array[float]]
) -> tuple[int, Exception] | None:
    """Remove the results of the first element with one that cannot be pickled, and of those after it.

    Returns:
        The number of the task in the chain, and the exception for the element.
    """
    for place in range(len(values[0])):
        for stage, found in enumerate(values):
            try:
                if place < len(found):
                    check_result(f"{names[stage]}[{start + place}]", found[place])
            except Exception as error:
                for number, (results, spent) in enumerate(zip(values, seconds, strict=True)):
                    end = place + (number < stage)
                    del results[end:], spent[end:]
                return stage, error
    return None


class BlockFacts:
    """The facts about a run for the contexts of the elements of a block; see `CarriedFacts`.

    Args:
        facts: the facts that came with the block.
        notes: the notes of its elements, by index of the node and number of the element.

    Attributes:
        run_id, pipeline, trace: see `CarriedFacts`.
        made: the notes that the elements have made.
    """

    def __init__(self, facts: CarriedFacts, notes: Notes) -> None:
        self.run_id, self.pipeline, self.trace = facts.run_id, facts.pipeline, facts.trace
        self.made: Notes = {}
        self._facts = facts
        self._notes = notes

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of the run; see `CarriedFacts`."""
        return self._facts.params

    def notes(self, index: int, element: int | None) -> Mapping[str, Any]:
        """Return the notes of an element."""
        key = index, element
        return self._notes.get(key, {}) | self.made.get(key, {})

    def remember(self, index: int, element: int | None, key: str, value: Any) -> None:
        """Keep a note until the block ends.

        Raises:
            Exception: the value cannot be pickled.
        """
        pickle.dumps(value)
        self.made.setdefault((index, element), {})[key] = value


def packed(run: Run, block: Block, stages: Sequence[StageFacts]) -> bytes:
    """Return the pickled content of a block: the stages, its elements, the time that it may take, and their notes.

    Raises:
        Exception: a value cannot be pickled.
    """
    region = block.region
    mapped = region.stages[0].node.mapped
    is_bounded = mapped is None or mapped.options.chunk is None
    notes: Notes = {}
    if run.recorded:  # the run may have been resumed
        keys = [(stage.node.index, block.element + n) for stage in region.stages for n in range(len(block.given))]
        notes = {key: dict(found) for key in keys if (found := run.facts.notes(*key))}
    max_seconds = MAX_BLOCK_SECONDS if is_bounded else float("inf")
    data = dumps((list(stages), block.element, block.given, max_seconds, notes))
    if len(data) > MAX_BYTES:
        region.max_block = max(1, len(block.given) * MAX_BYTES // len(data))
    return data


def unpacked(run: Run, block: Block, handle: DaskHandle) -> BlockResult:
    """Return the result of a block for the run, and keep the notes of its elements.

    Raises:
        Exception: the result is lost or cannot be unpickled, or a note cannot be kept.
    """
    try:
        data = handle.fetch()
    finally:
        handle.release()
    values, seconds, failed, made = pickle.loads(data)
    for (index, element), notes in made.items():
        for key, note in notes.items():
            run.facts.remember(index, element, key, note)
    if failed is not None:
        name = f"{block.region.stages[failed[0]].node.name}[{block.element + len(values[-1])}]"
        failed = failed[0], unpack_error(failed[1], name)
    return values, seconds, failed
