"""Class `Region`: a chain of mapped nodes whose elements run one after the other."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING

from .block_calls import BLOCK_SECONDS, MAX_BLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowkit_core._typing import Any

    from .region_input import RegionInput
    from .stage import Stage


class Region:
    """A chain of mapped nodes whose elements run one after the other: ``parse.map() >> clean.map()``.

    Each element goes through all nodes of the chain before the next element starts, if no other worker is free; so
    element 3 of ``clean`` starts when element 3 of ``parse`` has ended. The nodes end together, with the last element.

    Args:
        stages: the elements of the nodes, in the order of the chain.
        input: the elements of the mapped inputs of the first node.
        size: number of elements; None for a lazy input.

    Attributes:
        stages, input, size: see above.
        active: number of jobs that have started and have not ended: an element, a block, or a thread that pulls or
            loops over elements. It is always the sum of ``stage.active`` and ``len(stage.parked)`` over the stages: a
            job counts in the stage that it is in, in ``parked`` while it waits there because of the limit; before its
            first call, in the first stage. The lock of the run protects these numbers.
        window: maximum number of elements of the first node that have started and have not ended, unless workers pull
            elements.
        chain_window: maximum of `active`, if the nodes run on several lanes; else 0.
        is_closed: whether all nodes have ended.
        is_smooth: whether workers may pull elements and call the functions in a loop.
        by_workers: whether workers do so.
        refused: number of workers that `MappedNodes.enter` has refused because of the limit; as many may pull later.
        waiting_workers: number of workers that wait for an element; see `Pullers.waits_for_input`.
        waiting_for_pool: numbers of the elements that wait for a pool.
        taken: number of elements that workers had taken from the buffer when the last of them paused.
        lane_block_window: maximum number of blocks that the lane is given at once; 0 if it takes single elements only.
        block_window: the same for this region; 0 if its elements cannot be sent in blocks.
        block_seconds: seconds of calls that a block is made for.
        max_block: maximum number of elements in a block.
        seconds_per_call: moving average of the durations of calls; None before the first.
        is_recorded: whether the elements are recorded as they end.
        given_up: the `Worker` objects whose calls were given up and may not have ended; they are not active.
    """

    __slots__ = (
        "active",
        "block_seconds",
        "block_window",
        "by_workers",
        "chain_window",
        "given_up",
        "input",
        "is_closed",
        "is_recorded",
        "is_smooth",
        "lane_block_window",
        "max_block",
        "refused",
        "seconds_per_call",
        "size",
        "stages",
        "taken",
        "waiting_for_pool",
        "waiting_workers",
        "window",
    )

    def __init__(self, stages: Sequence[Stage], input: RegionInput, size: int | None) -> None:
        self.stages = tuple(stages)
        self.input = input
        self.size = size
        self.active = 0
        self.refused = 0
        self.window = 1
        self.chain_window = 0
        self.block_window = 0
        self.lane_block_window = 0
        self.block_seconds = BLOCK_SECONDS
        self.max_block = MAX_BLOCK
        self.seconds_per_call: float | None = None
        self.taken = 0
        self.waiting_workers = 0
        self.waiting_for_pool: set[int] = set()
        self.given_up: set[object] = set()
        self.is_smooth = self.by_workers = self.is_closed = self.is_recorded = False

    def next_stage(self, stage: Stage, number: int) -> tuple[Stage | None, Any]:
        """Return the stage in which an element that has ended in a stage is called next, and its mapped value there.

        The stage is None after the last one, or if the results of the element in all later ones were taken over.
        """
        place = self.stages.index(stage) + 1
        if place == len(self.stages):
            return None, None
        given, take_over = stage.value_for_next(number), self.input.take_over
        if take_over is not None:
            place, given = take_over(number, given, place)
        return (self.stages[place] if place < len(self.stages) else None), given

    # ---- how many at once --------------------------------------------------------------------------------------------

    def block_length(self) -> int:
        """Return the number of elements of the next block.

        It is `chunk=`, or as many as take `block_seconds`, at most an equal share of the rest.
        """
        options = self.stages[0].node.mapped.options if self.stages[0].node.mapped is not None else None
        if options is not None and options.chunk is not None:
            return options.chunk
        count = self._short_elements()
        if self.size is not None:
            count = min(count, (self.size - self.input.pulled) // self.block_window)
        return max(1, count)

    def _short_elements(self) -> int:
        """Return how many elements take `block_seconds`, all calls of each one counted; 0 if one takes longer."""
        if self.seconds_per_call is None:
            return 0
        return min(int(self.block_seconds / max(self.seconds_per_call * len(self.stages), 1e-9)), self.max_block)

    def width(self) -> int:
        """Return how many jobs of the first node its lane is given at once: elements, or blocks of elements."""
        if self.block_window or not self.lane_block_window or self.size is not None:
            return self.block_window or self.window
        return min(self.window, self.lane_block_window * max(1, self._short_elements()))  # as many as in blocks

    def may_start_more(self) -> bool:
        """Return whether the lane of the first node may be given one more job."""
        first, width = self.stages[0], self.width()
        if first.active >= width or self.active >= (self.chain_window or width):
            return False
        return first.limit is None or first.active < first.limit

    def room(self) -> int:
        """Return how many elements a puller may pull now."""
        if self.by_workers:
            return max(self.waiting_workers, self._short_elements() - self.input.buffer.qsize())
        if self.waiting_for_pool:
            return 0
        ahead = self.block_length() - self.input.buffer.qsize() if self.block_window else 0
        return ahead if ahead > 0 else int(self.may_start_more())

    def observe(self, calls: int, seconds: float) -> None:
        """Take the durations of calls into account for the size of later blocks."""
        if calls:
            latest, average = seconds / calls, self.seconds_per_call
            self.seconds_per_call = latest if average is None else (average + latest) / 2
