"""Class `Region`: a chain of mapped nodes whose elements run one after the other."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from itertools import islice, repeat
from operator import call
from queue import Empty, SimpleQueue

from flowkit_core._atomic import GIL
from flowkit_core._text import counted
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import Skip
from flowkit_core.failures import add_note
from flowkit_core.graphs.map_errors import MapLengthError
from flowkit_core.runs.run_state import ABSENT
from flowkit_core.runs.states import PENDING

from .block_calls import BLOCK_SECONDS, MAX_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextvars import Context

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node

    from .inputs import LazyInput
    from .stage import Stage


class Region:
    """A chain of mapped nodes whose elements run one after the other: ``parse.map() >> clean.map()``.

    Each element goes through all nodes of the chain before the next element starts, as far as there are workers; so
    element 3 of ``clean`` starts when element 3 of ``parse`` has ended. The nodes end together, with the last element.

    Args:
        stages: the elements of the nodes, in the order of the chain.
        columns: the mapped inputs of the first node: sequences of one length; none for a lazy input.
        size: number of elements; None for a lazy input.
        source: the node whose result is the iterator; the first of several; None if there is none.
        started: when the region was opened, in seconds.

    Attributes:
        stages, size, source, started: see above.
        active: number of elements that have started and have not ended; a worker that pulls counts as one.
        window: maximum number of elements of the first node that have started and have not ended, unless workers pull
            elements.
        chain_window: maximum of `active`, if the nodes run on several lanes; else 0.
        is_exhausted: whether workers, or the lane, have taken all elements.
        is_closed: whether all nodes have ended.
        is_smooth: whether workers may pull elements and call the functions in a loop.
        by_workers: whether workers do so.
        refused: number of workers that `MappedNodes.enter` has refused because of the limit; as many may pull later.
        lazy: the lazy input; None for sequences.
        puller: the `Puller` of the lazy input, whose module imports this one; None if there is none.
        context: context variables of the lazy input, if the thread that runs the elements pulls it; else None.
        input_has_ended: whether all elements are known: the input is a sequence, or its iterator has ended.
        input_error: the exception of the iterator.
        buffer: the mapped values that the puller has pulled from the iterator, and no worker or lane has taken.
        waiting_workers: number of workers that wait for an element; see `Pullers.waits_for_input`.
        waiting_for_pool: numbers of the elements that wait for a pool.
        taken: number of elements that workers had taken from the buffer when the last of them paused.
        lane_block_window: maximum number of blocks that the lane is given at once; 0 if it takes single elements only.
        block_window: the same for this region; 0 if its elements cannot be sent in blocks.
        block_seconds: seconds of calls that a block is made for.
        max_block: maximum number of elements in a block.
        seconds_per_call: moving average of the durations of calls; None before the first.
        pulled: number of elements that were pulled in blocks or taken over; `_block_length` divides the others.
        held: elements that were pulled and wait for the next block: number, mapped value and number of the stage.
        is_recorded: whether the elements are recorded as they end.
        resumes: whether some elements may have ended before the run was resumed.
        take_over: takes over what is recorded of an element of a region: see `element_records.take_over_element`.
    """

    __slots__ = (
        "_items",
        "_numbered",
        "active",
        "block_seconds",
        "block_window",
        "buffer",
        "by_workers",
        "chain_window",
        "context",
        "held",
        "input_error",
        "input_has_ended",
        "is_closed",
        "is_exhausted",
        "is_recorded",
        "is_smooth",
        "lane_block_window",
        "lazy",
        "max_block",
        "pulled",
        "puller",
        "refused",
        "resumes",
        "seconds_per_call",
        "size",
        "source",
        "stages",
        "started",
        "take_over",
        "taken",
        "waiting_for_pool",
        "waiting_workers",
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
        self.chain_window = 0
        self.source = source
        self.started = started
        items: Any = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
        self._numbered: Iterator[tuple[int, Any]] = _numbered(items if size is not None else ())
        self._items: Iterator[Any] | None = None
        self.lazy: LazyInput | None = None
        self.puller: Any = None
        self.context: Context | None = None
        self.taken = 0
        self.buffer: SimpleQueue[Any] = SimpleQueue()
        self.waiting_workers = 0
        self.waiting_for_pool: set[int] = set()
        self.input_has_ended = size is not None
        self.active = 0
        self.is_exhausted = size == 0
        self.is_smooth = self.by_workers = self.is_closed = False
        self.input_error: BaseException | None = None
        self.block_window = 0
        self.lane_block_window = 0
        self.block_seconds = BLOCK_SECONDS
        self.max_block = MAX_BLOCK
        self.pulled = 0
        self.refused = 0
        self.seconds_per_call: float | None = None
        self.is_recorded = self.resumes = False
        self.take_over: Callable[[Region, int, Any, int], tuple[int, Any]] = _take_over_nothing
        self.held: deque[tuple[int, Any, int]] = deque()

    def next_stage(self, stage: Stage, number: int) -> tuple[Stage | None, Any]:
        """Return the stage in which an element that has ended in a stage is called next, and its mapped value there.

        The stage is None after the last one, or if the results of the element in all later ones were taken over.
        """
        place, given = self.stages.index(stage) + 1, None
        if place < len(self.stages):
            place, given = self.take_over(self, number, stage.value_for_next(number), place)
        return (self.stages[place] if place < len(self.stages) else None), given

    # ---- elements --------------------------------------------------------------------------------------------------

    def pulls(self) -> Iterator[tuple[int, Any]]:
        """Return an iterator for one thread over the elements that no thread has taken: number and mapped value.

        It raises `Empty` if a puller has not pulled the next element yet.
        """
        if self.context is not None and self.lazy is not None:
            return self._pulls_here(self.lazy, self.context)
        return self._numbered

    def _pulls_here(self, lazy: LazyInput, context: Context) -> Iterator[tuple[int, Any]]:
        """Pull elements in the calling thread, the only one that pulls, with the context variables of the input."""
        first, *others = self.stages
        append_value, append_seconds, append_code = first.values.append, first.seconds.append, first.codes.append
        number = len(first.codes)
        while not self.input_has_ended:
            try:
                if self._items is None:
                    self._items = context.run(iter, lazy)
                value = context.run(next, self._items)
            except BaseException as error:
                self.end_input(error, number)
                return
            append_value(ABSENT)
            append_seconds(0.0)
            append_code(PENDING)
            if others:
                for stage in others:
                    stage.lengthen(1)
            yield number, value
            number += 1

    def set_puller(self, puller: Any) -> None:
        """Take the elements from the buffer that a `Puller` fills."""
        self.puller = puller
        self._numbered = _numbered(map(call, repeat(self.buffer.get_nowait)))

    def end_input(self, error: BaseException | None, number: int) -> None:
        """Note that there are no more elements to pull, or that the input has raised an exception.

        Args:
            error: the exception; None or a StopIteration at the end.
            number: number of elements that were pulled.
        """
        if isinstance(error, Skip):
            name = "the input" if self.source is None else f"task {self.source.name!r}"
            error = TypeError(
                f"the iterator of {name} raised {error!r}, but a task that has returned cannot be skipped any more: "
                f"raise Skip before the iterator is returned, or end the iterator"
            )
        if error is not None and type(error) is not StopIteration:
            if not isinstance(error, MapLengthError):
                text = f"flowkit: the iterator raised this after {counted(number, 'element')}{_advice(error)}"
                add_note(error, text)
            self.input_error = error
        self._items = None
        self.input_has_ended = True

    @property
    def is_input_taken(self) -> bool:
        """Whether all elements of a lazy input were pulled from its iterator, and taken by workers or the lane."""
        return self.input_has_ended and self.buffer.empty() and not self.held

    def pulls_to_call(self) -> Iterator[tuple[int, Any, int]]:
        """Return an iterator for one thread over the elements to call: number, mapped value, number of the first stage.

        In a resumed run, elements that have ended are taken over and left out; others start at the first stage at which
        they have not ended. The iterator raises `Empty` like that of `pulls`.
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
            place, value = self.take_over(self, number, given, 0)
            if place < last:
                yield number, value, place
            else:
                self.pulled += 1

    def pull(self) -> tuple[int, Any, int] | None:
        """Return the next item of `pulls_to_call`; None if there is none, or none yet."""
        input_had_ended = self.input_has_ended  # before the buffer is found empty
        try:
            for pulled in self.pulls_to_call():
                return pulled
            self.is_exhausted = True
        except Empty:
            self.is_exhausted |= input_had_ended
        return None

    def pull_many(self) -> tuple[int, list[tuple[int, Any]]]:
        """Return the elements of the next block: as many as take `block_seconds`, and leave some for other workers.

        Returns:
            The number of the stage at which the elements start; and the elements, with consecutive numbers. An element
            that does not start at the first stage, or may have ended in a later one, is alone.
        """
        count = self._block_length()
        if self.resumes or self.puller is not None:
            place, found = self._pull_block(count)
        else:
            place, found = 0, list(islice(self.pulls(), count))
            self.is_exhausted |= len(found) < count
        self.pulled += len(found)
        return place, found

    def _pull_block(self, count: int) -> tuple[int, list[tuple[int, Any]]]:
        """Return up to ``count`` elements to call with consecutive numbers, and the stage at which they start."""
        found: list[tuple[int, Any]] = []
        input_had_ended = self.input_has_ended  # before the buffer is found empty
        try:
            for number, given, place in self.pulls_to_call():
                if found and (place or number != found[-1][0] + 1):
                    self.held.append((number, given, place))
                    break
                found.append((number, given))
                if len(found) == count or place or self._resumes_later():
                    return place, found
            else:
                self.is_exhausted = True
        except Empty:
            self.is_exhausted |= input_had_ended
        return 0, found

    def _resumes_later(self) -> bool:
        """Return whether elements may have ended in a later stage than the first before the run was resumed."""
        return self.resumes and any(stage.record is not None and stage.record.has_recorded for stage in self.stages[1:])

    def _block_length(self) -> int:
        """Return the number of elements of the next block."""
        options = self.stages[0].node.mapped.options if self.stages[0].node.mapped is not None else None
        if options is not None and options.chunk is not None:
            return options.chunk
        count = self._short_elements()
        if self.size is not None:
            count = min(count, (self.size - self.pulled) // self.block_window)
        return max(1, count)

    def _short_elements(self) -> int:
        """Return how many elements take `block_seconds`, all calls of each one counted; 0 if one takes longer."""
        if self.seconds_per_call is None:
            return 0
        return min(int(self.block_seconds / max(self.seconds_per_call * len(self.stages), 1e-9)), self.max_block)

    # ---- how many at once --------------------------------------------------------------------------------------------

    def width(self) -> int:
        """Return how many jobs of the first node its lane is given at once: elements, or blocks of elements."""
        if self.block_window or not self.lane_block_window or self.size is not None:
            return self.block_window or self.window
        return min(self.window, self.lane_block_window * max(1, self._short_elements()))  # as many as in blocks

    def may_start_more(self) -> bool:
        """Return whether the lane of the first node may be given one more job."""
        first, width = self.stages[0], self.width()
        return self.active < (self.chain_window or width) and first.active < min(width, first.limit or width)

    def room(self) -> int:
        """Return how many elements a puller may pull now."""
        if self.by_workers:
            return max(self.waiting_workers, self._short_elements() - self.buffer.qsize())
        if self.waiting_for_pool:
            return 0
        if self.may_start_more():
            return 1
        return self._block_length() - self.buffer.qsize() if self.block_window else 0

    def observe(self, calls: int, seconds: float) -> None:
        """Take the durations of calls into account for the size of later blocks."""
        if calls:
            latest, average = seconds / calls, self.seconds_per_call
            self.seconds_per_call = latest if average is None else (average + latest) / 2

    def drop_inputs(self) -> None:
        """Drop the elements that workers or the lane have not taken."""
        if self.context is not None:
            self.context.run(self._drop_iterator)
        self.lazy = None
        self.held.clear()
        self._numbered = enumerate(())
        if self.puller is None:
            return
        self.puller.stop()
        size = len(self.stages[0].codes.rstrip(bytes([PENDING])))
        for stage in self.stages:
            stage.shorten(size, is_final=self.input_has_ended)

    def _drop_iterator(self) -> None:
        self._items = None


def _advice(error: BaseException) -> str:
    """Return what to do about an object of the standard library that is bound to another thread."""
    if type(error).__module__ != "sqlite3" or "thread" not in str(error):
        return ""
    return (
        "; one thread pulls all of them, which is not the thread of the task that returned the iterator: open the "
        "connection in a generator function, and yield the rows there"
    )


def _take_over_nothing(_region: Region, _number: int, given: Any, start: int) -> tuple[int, Any]:
    return start, given


def _numbered(items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Return an iterator over numbers and items, which several threads may use."""
    return enumerate(items) if GIL else _LockedIterator(enumerate(items))


class _LockedIterator:
    """Iterator that several threads may use, without the GIL."""

    __slots__ = ("_items", "_lock")

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self._lock = allocate_lock()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._lock:
            return next(self._items)
