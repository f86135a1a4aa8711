"""Class `RegionInput`: the elements of the mapped inputs of a region, each taken once by a worker or by the lane."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from itertools import islice, repeat
from operator import call
from queue import Empty, SimpleQueue

from flowkit_core._atomic import GIL
from flowkit_core._text import counted
from flowkit_core._typing import TYPE_CHECKING, Protocol
from flowkit_core.errors import Skip
from flowkit_core.failures import add_note
from flowkit_core.graphs.map_errors import MapLengthError
from flowkit_core.runs.run_state import ABSENT
from flowkit_core.runs.states import PENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextvars import Context
    from threading import Thread

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node

    from .inputs import LazyInput
    from .stage import Stage


class InputPuller(Protocol):
    """What a region uses of its `Puller`."""

    source: str
    thread: Thread | None

    def start(self, context: Context) -> None:
        """See `Puller.start`."""

    def wake(self) -> None:
        """See `Puller.wake`."""

    def stop(self) -> None:
        """See `Puller.stop`."""


class RegionInput:
    """The elements of the mapped inputs of a region. Several threads may take elements: each gets others.

    Args:
        stages: the elements of the nodes of the region, which a lazy input makes longer.
        columns: the mapped inputs of the first node: sequences of one length; not used for a lazy input.
        size: number of elements; None for a lazy input.
        lazy: the lazy input; None for sequences.

    Attributes:
        stages, lazy: see above.
        source: the node whose result is the iterator; the first of several; None if there is none.
        puller: the `Puller` of the lazy input, whose module imports this one; None if there is none.
        context: context variables of the lazy input, if the thread that runs the elements pulls it; else None.
        buffer: the mapped values that the puller has pulled from the iterator, and no worker or lane has taken.
        held: elements that were pulled and wait for the next block: number, mapped value and number of the stage.
        has_ended: whether all elements are known: the input is a sequence, or its iterator has ended.
        is_exhausted: whether workers, or the lane, have taken all elements.
        error: the exception of the iterator.
        pulled: number of elements that were pulled in blocks, or whose record was taken over.
        take_over: takes over what is recorded of an element, see `element_records.take_over_element`; None unless some
            may have ended before the run was resumed.
    """

    __slots__ = (
        "_items",
        "_numbered",
        "buffer",
        "context",
        "error",
        "has_ended",
        "held",
        "is_exhausted",
        "lazy",
        "pulled",
        "puller",
        "source",
        "stages",
        "take_over",
    )

    def __init__(
        self, stages: Sequence[Stage], columns: Sequence[Any], size: int | None, lazy: LazyInput | None
    ) -> None:
        self.stages = tuple(stages)
        self.lazy = lazy
        self.source: Node | None = None if lazy is None else lazy.culprit
        items: Any = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
        self._numbered: Iterator[tuple[int, Any]] = _numbered(items if size is not None else ())
        self._items: Iterator[Any] | None = None
        self.puller: InputPuller | None = None
        self.context: Context | None = None
        self.buffer: SimpleQueue[Any] = SimpleQueue()
        self.held: deque[tuple[int, Any, int]] = deque()
        self.has_ended = size is not None
        self.is_exhausted = size == 0
        self.error: BaseException | None = None
        self.pulled = 0
        self.take_over: Callable[[int, Any, int], tuple[int, Any]] | None = None

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
        while not self.has_ended:
            try:
                if self._items is None:
                    self._items = context.run(iter, lazy)
                value = context.run(next, self._items)
            except BaseException as error:
                self.end(error, number)
                return
            append_value(ABSENT)
            append_seconds(0.0)
            append_code(PENDING)
            if others:
                for stage in others:
                    stage.lengthen(1)
            yield number, value
            number += 1

    def set_puller(self, puller: InputPuller) -> None:
        """Take the elements from the buffer that a `Puller` fills."""
        self.puller = puller
        self._numbered = _numbered(map(call, repeat(self.buffer.get_nowait)))

    def end(self, error: BaseException | None, number: int) -> None:
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
            self.error = error
        self._items = None
        self.has_ended = True

    @property
    def is_taken(self) -> bool:
        """Whether all elements of a lazy input were pulled from its iterator, and taken by workers or the lane."""
        return self.has_ended and self.buffer.empty() and not self.held

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
        take_over = self.take_over
        if take_over is None:
            for number, given in self.pulls():
                yield number, given, 0
            return
        last = len(self.stages)
        for number, given in self.pulls():
            place, value = take_over(number, given, 0)
            if place < last:
                yield number, value, place
            else:
                self.pulled += 1

    def pull(self) -> tuple[int, Any, int] | None:
        """Return the next item of `pulls_to_call`; None if there is none, or none yet."""
        input_had_ended = self.has_ended  # before the buffer is found empty
        try:
            for pulled in self.pulls_to_call():
                return pulled
            self.is_exhausted = True
        except Empty:
            self.is_exhausted |= input_had_ended
        return None

    def pull_many(self, count: int) -> tuple[int, list[tuple[int, Any]]]:
        """Return the elements of the next block, ``count`` at most.

        Returns:
            The number of the stage at which the elements start; and the elements, with consecutive numbers. An element
            that does not start at the first stage, or may have ended in a later one, is alone.
        """
        if self.take_over is not None or self.puller is not None:
            place, found = self._pull_block(count)
        else:
            place, found = 0, list(islice(self.pulls(), count))
            self.is_exhausted |= len(found) < count
        self.pulled += len(found)
        return place, found

    def _pull_block(self, count: int) -> tuple[int, list[tuple[int, Any]]]:
        """Return up to ``count`` elements to call with consecutive numbers, and the stage at which they start."""
        found: list[tuple[int, Any]] = []
        input_had_ended = self.has_ended  # before the buffer is found empty
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
        if self.take_over is None:
            return False
        return any(stage.record is not None and stage.record.has_recorded for stage in self.stages[1:])

    def drop(self) -> None:
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
            stage.shorten(size, is_final=self.has_ended)

    def _drop_iterator(self) -> None:
        self._items = None


def _advice(error: BaseException) -> str:
    """Return what to do about an object of the standard library that is bound to another thread."""
    if type(error).__module__ != "sqlite3" or "thread" not in str(error):  # sqlite3 has no class or code for it
        return ""
    return (
        "; one thread pulls all of them, which is not the thread of the task that returned the iterator: open the "
        "connection in a generator function, and yield the rows there"
    )


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
