"""Class `Region`: a chain of mapped nodes whose elements run one after the other."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from itertools import islice

from flowkit_core._atomic import GIL
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import Skip
from flowkit_core.runs.run_state import ABSENT
from flowkit_core.runs.states import PENDING

from .block_calls import BLOCK_SECONDS, MAX_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node

    from .stage import Stage


class Region:
    """A chain of mapped nodes whose elements run one after the other: ``parse.map() >> clean.map()``.

    Each element goes through all nodes of the chain before the next element starts, as far as there are workers; so
    element 3 of ``clean`` starts when element 3 of ``parse`` has ended. The nodes end together, with the last element.

    Args:
        stages: the elements of the nodes, in the order of the chain.
        columns: the mapped inputs of the first node: sequences of one length, or one iterator.
        size: number of elements; None for an iterator.
        source: the node whose result is the iterator; None otherwise.
        started: when the region was opened, in seconds.

    Attributes:
        stages, size, source, started: see above.
        window: maximum number of elements that have started and have not ended, unless workers pull elements.
        lock: held while an element is pulled from an iterator.
        active: number of elements that have started and have not ended; a worker that pulls counts as one.
        is_exhausted: whether there are no more elements to pull.
        is_smooth: whether workers may pull elements and call the functions in a loop.
        by_workers: whether they do.
        block_window: maximum number of blocks that the lane is given at once; 0 for single elements.
        block_seconds: seconds of calls that a block is made for.
        max_block: maximum number of elements in a block.
        seconds_per_call: moving average of the durations of calls; None before the first.
        is_closed: whether all nodes have ended.
        pulled: number of elements that were pulled in blocks.
        refused: number of workers that `MappedNodes.enter` has refused because of the limit; as many may pull later.
        trouble: the exception of the iterator.
        is_recorded: whether the elements are recorded as they end.
        resumes: whether some elements may have ended before the run was resumed.
        take_over: takes over what is recorded of an element of a region: see `element_records.resume_element`.
    """

    __slots__ = (
        "_items",
        "_numbered",
        "active",
        "block_seconds",
        "block_window",
        "by_workers",
        "held",
        "is_closed",
        "is_exhausted",
        "is_recorded",
        "is_smooth",
        "lock",
        "max_block",
        "pulled",
        "refused",
        "resumes",
        "seconds_per_call",
        "size",
        "source",
        "stages",
        "started",
        "take_over",
        "trouble",
        "window",
    )

    def __init__(
        self,
        stages: Sequence[Stage],
        columns: Sequence[Any],
        size: int | None,
        source: Node | None,
        started: float,
    ) -> None:
        self.stages = tuple(stages)
        self.size = size
        self.window = 1
        self.source = source
        self.started = started
        self.lock = allocate_lock()
        items = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
        self._items: Iterator[Any] | None = items if size is None else None
        numbered = enumerate(() if size is None else items)
        self._numbered: Iterator[tuple[int, Any]] = numbered if GIL else _LockedIterator(numbered, self.lock)
        self.active = 0
        self.is_exhausted = size == 0
        self.is_smooth = self.by_workers = self.is_closed = False
        self.trouble: BaseException | None = None
        self.block_window = 0
        self.block_seconds = BLOCK_SECONDS
        self.max_block = MAX_BLOCK
        self.pulled = 0
        self.refused = 0
        self.seconds_per_call: float | None = None
        self.is_recorded = self.resumes = False
        self.take_over: Callable[[Region, int, Any], tuple[int, Any]] = _take_over_nothing
        self.held: deque[tuple[int, Any, int]] = deque()

    def stage_after(self, stage: Stage) -> Stage | None:
        """Return the stage that takes the results of a stage; None after the last."""
        place = self.stages.index(stage) + 1
        return self.stages[place] if place < len(self.stages) else None

    def pulls(self) -> Iterator[tuple[int, Any]]:
        """Return an iterator for one thread over the elements that no thread has pulled: number and mapped value."""
        return self._numbered if self.size is not None else self._lazy_pulls()

    def _lazy_pulls(self) -> Iterator[tuple[int, Any]]:
        if self.by_workers and self.window == 1 and len(self.stages) == 1:
            yield from self._pulls_of_one_worker()
            return
        lock, codes = self.lock, self.stages[0].codes
        appends = [(stage.values.append, stage.seconds.append, stage.codes.append) for stage in self.stages]
        while True:
            with lock:
                if self._items is None:
                    return
                try:
                    value = next(self._items)
                except BaseException as error:
                    self._end_items(error)
                    return
                number = len(codes)
                for append_value, append_seconds, append_code in appends:
                    append_value(ABSENT)
                    append_seconds(0.0)
                    append_code(PENDING)
            yield number, value

    def _pulls_of_one_worker(self) -> Iterator[tuple[int, Any]]:
        """Do what `_lazy_pulls` does, for a single worker and a single stage, without the lock."""
        (stage,) = self.stages
        append_value, append_seconds, append_code = stage.values.append, stage.seconds.append, stage.codes.append
        number = len(stage.codes)
        try:
            for value in self._items or ():
                append_value(ABSENT)
                append_seconds(0.0)
                append_code(PENDING)
                yield number, value
                number += 1
        except GeneratorExit:  # the turn of the worker has ended
            raise
        except BaseException as error:
            self._end_items(error)
        else:
            self._items = None

    def _end_items(self, error: BaseException) -> None:
        if isinstance(error, Skip):
            name = "the input" if self.source is None else f"task {self.source.name!r}"
            self.trouble = TypeError(
                f"the iterator of {name} raised {error!r}, but a task that has returned cannot be skipped any more: "
                f"raise Skip before the iterator is returned, or end the iterator"
            )
        elif type(error) is not StopIteration:
            self.trouble = error
        self._items = None

    @property
    def is_read(self) -> bool:
        """Whether all elements are known: the input has a length, or its iterator has ended."""
        return self.size is not None or self._items is None

    def pulls_to_call(self) -> Iterator[tuple[int, Any, int]]:
        """Return an iterator for one thread over the elements to call: number, mapped value and number of the stage.

        Elements that ended before the run was resumed are left out, and so are stages.
        """
        while self.held:
            try:
                held = self.held.popleft()
            except IndexError:  # another thread has taken it
                break
            yield held
        if not self.resumes:
            for number, given in self.pulls():
                yield number, given, 0
            return
        last = len(self.stages)
        for number, given in self.pulls():
            place, value = self.take_over(self, number, given)
            if place < last:
                yield number, value, place
            else:
                self.pulled += 1

    def pull(self) -> tuple[int, Any, int] | None:
        """Return the next element; None if there are no more. An iterator of the user may take long."""
        for pulled in self.pulls_to_call():
            return pulled
        self.is_exhausted = True
        return None

    def pull_many(self) -> tuple[int, list[tuple[int, Any]]]:
        """Return the elements of the next block: as many as take `block_seconds`, and leave some for other workers.

        Their numbers are consecutive. They start at the stage whose number is returned, too; an element that does not
        start at the first stage is returned alone.
        """
        options = self.stages[0].node.mapped.options if self.stages[0].node.mapped is not None else None
        count = 1
        if options is not None and options.chunk is not None:
            count = options.chunk
        elif self.seconds_per_call is not None:
            count = int(self.block_seconds / max(self.seconds_per_call * len(self.stages), 1e-9))
            if self.size is not None:
                count = min(count, (self.size - self.pulled) // self.block_window)
            count = max(1, min(count, self.max_block))
        place, found = (0, list(islice(self.pulls(), count))) if not self.resumes else self._pull_block(count)
        self.pulled += len(found)
        if not self.resumes and len(found) < count:
            self.is_exhausted = True
        return place, found

    def _pull_block(self, count: int) -> tuple[int, list[tuple[int, Any]]]:
        """Return up to ``count`` elements to call with consecutive numbers, and the stage at which they start."""
        found: list[tuple[int, Any]] = []
        for number, given, place in self.pulls_to_call():
            if found and (place or number != found[-1][0] + 1):
                self.held.append((number, given, place))
                break
            found.append((number, given))
            if len(found) == count or place:
                return place, found
        else:
            self.is_exhausted = True
        return 0, found

    def observe(self, calls: int, seconds: float) -> None:
        """Take the durations of calls into account for the size of later blocks."""
        if calls:
            latest, average = seconds / calls, self.seconds_per_call
            self.seconds_per_call = latest if average is None else (average + latest) / 2

    def drop_inputs(self) -> None:
        """Drop the elements that were not pulled."""
        self._items = None
        self.held.clear()
        self._numbered = enumerate(())


def _take_over_nothing(_region: Region, _number: int, given: Any) -> tuple[int, Any]:
    return 0, given


class _LockedIterator:
    """Iterator that several threads may use, without the GIL."""

    __slots__ = ("_items", "_lock")

    def __init__(self, items: Iterator[Any], lock: Any) -> None:
        self._items = items
        self._lock = lock

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._lock:
            return next(self._items)
