"""Classes `Puller` and `Pullers`: threads that pull the elements of lazy inputs, such as generators.

One thread pulls all elements of an input: an iterator may be bound to a thread, and may wait for long. An element is
pulled when a worker is free to run it; of short elements, as many more as take `BLOCK_SECONDS`. Each is handed out
before the next one is pulled. So an iterator may wait for the results of its own elements.
"""

from __future__ import annotations

from contextvars import copy_context
from itertools import islice
from threading import Thread
from time import monotonic

from flowkit_core._atomic import GIL
from flowkit_core._typing import TYPE_CHECKING, Protocol
from flowkit_core._warnings import safe_warn
from flowkit_core.context import variable
from flowkit_core.runs.time_limit import JOIN_TIMEOUT
from flowkit_core.runs.wake_up import WakeUp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextvars import Context

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.run import Run

    from .element import Element
    from .inputs import LazyInput
    from .region import Region


class Puller:
    """The thread that pulls the elements of one region.

    Args:
        region: the region.
        lazy: its input.
        pullers: the lazy inputs of the run.

    Attributes:
        source: name of the task whose result it pulls; that of the mapped task, if the input is not a result.
        thread: the thread; None before it starts.
        is_stopped: whether no more elements are needed.
    """

    def __init__(self, region: Region, lazy: LazyInput, pullers: Pullers) -> None:
        self._region = region
        self._lazy: LazyInput | None = lazy
        self._pullers = pullers
        self._wake_up = WakeUp()
        self.source = lazy.name
        self.thread: Thread | None = None
        self.is_stopped = False

    def start(self, context: Context) -> None:
        """Start the thread, in a context.

        Raises:
            RuntimeError: the system cannot start more threads.
        """
        thread = Thread(target=context.run, args=(self._run,), name=f"flowkit-input-{self.source}", daemon=True)
        thread.start()
        self.thread = thread

    def wake(self) -> None:
        """Make the thread check whether it may pull more elements."""
        self._wake_up.set()

    def stop(self) -> None:
        """Pull no more elements. A step of the iterator that is running is not ended by that."""
        self.is_stopped = True
        self._wake_up.set()

    def _run(self) -> None:
        try:
            self._pull()
        except BaseException as error:
            self._pullers.fail(error)

    def _pull(self) -> None:
        """Body of the thread."""
        region, pullers, lazy = self._region, self._pullers, self._lazy
        self._lazy = None  # the iterator ends in this thread, when this function returns
        if lazy is None:
            return
        is_offered = not (region.by_workers and GIL)
        put, stages, pulled = region.input.buffer.put, region.stages, 0
        items: Iterator[Any] | None = None
        while (room := self._wait_for_room()) > 0:
            for stage in stages:
                stage.lengthen(pulled + room - len(stage.codes))
            before = pulled
            try:
                if items is None:
                    items = iter(lazy)
                for pulled, value in enumerate(islice(items, room), pulled + 1):  # noqa: B007, B020
                    put(value)
                    if self.is_stopped:
                        return
                    if region.waiting_workers or is_offered:
                        pullers.offer(region)
            except BaseException as error:
                region.input.end(error, pulled)
                break
            if pulled < before + room:
                region.input.end(None, pulled)
                break
        else:
            return
        del items, lazy  # an iterator that has ended may hold much, too
        pullers.end(region)

    def _wait_for_room(self) -> int:
        """Return how many elements may be pulled, when there is room for one; 0 if no more are needed."""
        region, wake_up = self._region, self._wake_up
        while not self.is_stopped:
            room = region.room()
            if room > 0:
                return room
            wake_up.wait()
        return 0


class PulledNodes(Protocol):
    """What pullers use of `MappedNodes`."""

    run: Run

    def next_jobs(self, region: Region, jobs: list[Node]) -> Sequence[Node]:
        """See `MappedNodes.next_jobs`."""

    def leave(self, region: Region, jobs: list[Node], *, count: int) -> Sequence[Node]:
        """See `MappedNodes.leave`."""


class Pullers:
    """The lazy inputs of the mapped nodes of one run.

    Args:
        mapping: the mapped nodes of the run.

    Attributes:
        is_here: whether inputs are pulled by the thread that runs their elements: see `Session`.
        context: the context variables of the thread that called ``run()``; None for an executor without lanes.
        pass_on: takes nodes that are ready, in any thread.
        fail: takes an exception that keeps the run from continuing.
    """

    def __init__(self, mapping: PulledNodes) -> None:
        self._mapping = mapping
        self._regions: list[Region] = []
        self.is_here = False
        self.context: Context | None = None
        self.pass_on: Callable[[Sequence[Node]], object] = _ignore
        self.fail: Callable[[BaseException], object] = _ignore

    def prepare(self, region: Region) -> None:
        """Choose what pulls a lazy input of a region from `start` on: its own thread, or one that runs elements."""
        lazy = region.input.lazy
        if lazy is None:
            return
        if self.context is None or self.is_here:
            region.block_window, region.input.context = 0, self.context_of(region.input.source or region.stages[0].node)
            return
        puller = Puller(region, lazy, self)
        region.input.set_puller(puller)
        self._regions.append(region)

    def start(self, region: Region) -> Region:
        """Start to pull the input of a region, unless that has happened; return the region."""
        puller = region.input.puller
        if puller is not None and puller.thread is None and self.context is not None:
            puller.start(self.context_of(region.input.source or region.stages[0].node))
        return region

    def context_of(self, node: Node) -> Context:
        """Return new context variables for an iterator that a task has returned: ``current()`` is that of the task."""
        context = copy_context() if self.context is None else self.context.copy()
        context.run(variable.set, self._mapping.run.context_of(node))
        return context

    def offer(self, region: Region) -> None:
        """Pass on what may start because an element was pulled: a worker that waits for it, or the element itself."""
        mapping = self._mapping
        if not region.by_workers:
            if region.may_start_more():
                self.pass_on(mapping.next_jobs(region, []))
            return
        with mapping.run._lock:
            if not region.waiting_workers:
                return
            region.waiting_workers -= 1
        self.pass_on((region.stages[0].node,))

    def waits_for_input(self, region: Region) -> bool:
        """Return whether a worker that has found no element is to wait; `offer` passes the node on for it then."""
        with self._mapping.run._lock:
            region.waiting_workers += 1
            waits = region.input.buffer.empty() and not region.input.has_ended
            if not waits:
                region.waiting_workers -= 1
                region.input.is_exhausted |= region.input.is_taken
        if waits and region.input.puller is not None:
            region.input.puller.wake()
        return waits

    def end(self, region: Region) -> None:
        """Note that all elements of a region were pulled; close it after its last element."""
        mapping = self._mapping
        with mapping.run._lock:
            region.waiting_workers = 0
            region.input.is_exhausted |= region.input.is_taken
        self.pass_on(mapping.leave(region, [], count=0))

    def note_wait(self, element: Element, *, waits: bool) -> None:
        """Note whether an element waits for a pool: no other element of its region is pulled meanwhile."""
        region = element.region
        if region.input.puller is None:
            return
        if waits:
            region.waiting_for_pool.add(element.element)
        elif element.element in region.waiting_for_pool:
            region.waiting_for_pool.discard(element.element)
            region.input.puller.wake()

    def stop(self) -> None:
        """Pull no more elements for nodes that may not start, because the run stops, and end nodes that have none."""
        mapping = self._mapping
        for region in self._regions:
            if region.input.puller is not None and not mapping.run.may_start(region.stages[0].node):
                region.input.puller.stop()
                self.pass_on(mapping.leave(region, [], count=0))  # wakes the lanes if the run is over, too

    def close(self) -> None:
        """Wait for the threads, whose iterators may have to end; abandon those that take too long."""
        regions, self._regions = self._regions, []
        pullers = [region.input.puller for region in regions if region.input.puller is not None]
        self.pass_on, self.fail, self.context = _ignore, _ignore, None
        for puller in pullers:
            puller.stop()
        grace = self._mapping.run.grace
        until = monotonic() + (JOIN_TIMEOUT if grace is None else min(grace, JOIN_TIMEOUT))
        for puller in pullers:
            if puller.thread is None:
                continue
            puller.thread.join(max(0.0, until - monotonic()))
            if puller.thread.is_alive():
                self._mapping.run.report.unfinished.setdefault("abandoned", []).append(puller.source)
                safe_warn(
                    f"the iterator of task {puller.source!r} did not yield or end in time when the run was over, so it "
                    f"was abandoned in thread {puller.thread.name!r}: nothing can stop a thread; give the calls that "
                    f"it waits for timeouts of their own"
                )
        for region in regions:
            region.input.puller = None  # a reference cycle

    def release(self) -> None:
        """Drop the reference to the run."""
        self._mapping = self.context = None  # type: ignore[assignment]


def _ignore(_: object) -> None:
    """Do nothing: there is no session, or it has ended."""
