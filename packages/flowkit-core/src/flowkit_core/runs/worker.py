"""Class `Worker`: runs the nodes of one run in one thread, simple nodes in a short loop (the fast path)."""

from __future__ import annotations

from _thread import get_ident
from time import perf_counter

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import find, variable, workers
from flowkit_core.coroutines import CoroutineType, special_types

from .call import Outcome, Retry
from .states import FAILED, SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context

    from flowkit_core._typing import Any
    from flowkit_core.context import TaskContext
    from flowkit_core.graphs.node import Node

    from .run import Run


def current_worker() -> Worker | None:
    """Return the worker that runs a node in the calling thread; None outside of tasks."""
    return workers.get(get_ident())


def restore_worker(worker: Worker | None) -> None:
    """Set the current worker of the calling thread; at the end of a run, because an interrupt may have left its own."""
    if worker is None:
        workers.pop(get_ident(), None)
    else:
        workers[get_ident()] = worker


class Worker:
    """Runs nodes of one run in the calling thread. Each thread needs its own worker.

    Args:
        run: the run.
        context: context variables of the thread that called ``run()``; each call runs in a copy.

    Attributes:
        run: the run.
        caller_context: see above, ``context``.
        node: the node that runs now; None between nodes, except on the fast path, where it is the last node.
        element: number of the element that runs now, in a loop over the elements of a mapped node; else None.
        seconds: duration of the last call outside of the fast path, in seconds.
    """

    __slots__ = ("_outside", "caller_context", "element", "node", "run", "seconds")

    def __init__(self, run: Run, context: Context) -> None:
        self.run = run
        self.node: Node | None = None
        self.element: int | None = None
        self.seconds = 0.0
        self.caller_context = context
        self._outside: TaskContext | None = None  # what `variable` is outside of calls

    def context(self) -> TaskContext | None:
        """Return what ``current()`` returns in the call that runs now; None if none runs."""
        if self.node is None:
            return None
        context = self.run.context_of(self.node)
        if self.element is not None:
            context.element = self.element
        return context

    def run_node(
        self, node: Node, slow: float = 1e9, on_slow_call: Callable[[float], float | None] | None = None
    ) -> Sequence[Node] | Retry:
        """Run one attempt of a ready node, with its condition and its cache, and pass the outcome to the run.

        Of a mapped node, as many elements are run one after the other as take `mapped_loop.TURN` seconds.

        Args:
            node: the node.
            slow: duration of the call of an element, in seconds, above which ``on_slow_call`` is called.
            on_slow_call: called with the duration of a slow call, to start other workers.

        Returns:
            What :meth:`Run.finish` returns.
        """
        run = self.run
        if node.mapped is not None and node.element is None:
            from .mapping.mapped_loop import run_mapped

            return run_mapped(self, node, slow, on_slow_call)
        call = run.local_call(node)
        if isinstance(call, Outcome):
            return run.finish(node, call)
        result: Any = None
        outer = self.enter()
        self.node = node
        try:
            context = self.caller_context.copy()
            started = perf_counter()
            if call.has_precheck:
                result = context.run(call.precheck)
            if result is None:
                result = run.mark_started(node)
            if result is None:
                started = perf_counter()
                result = context.run(call.invoke_in_worker)
            self.seconds = perf_counter() - started
            return run.finish(node, result, self.seconds, call.attempt)
        finally:
            del result  # the traceback of an error refers to this frame: a reference cycle
            self.leave(outer)

    def give_up(self, node: Node, outcome: Outcome) -> Sequence[Node] | Retry:
        """End what the thread of this worker calls, because nothing stops it; its late result is dropped.

        Another thread calls this.

        Args:
            node: what `node` was; nothing happens if its call has ended meanwhile.
            outcome: how the call ends.

        Returns:
            What :meth:`Run.finish` returns.
        """
        run = self.run
        if node.mapped is not None and node.element is None:
            from .mapping.mapped_loop import give_up

            return give_up(self, node, outcome)
        return run.finish(node, outcome, 0.0, run.current_attempt(node))

    def run_fast_path(
        self,
        take: Callable[[], Node],
        put: Callable[[Node], object],
        clock: Callable[[], float],
        slow: float = 1e9,
        on_slow_call: Callable[[float], float | None] | None = None,
    ) -> Node | Retry | None:
        """Run simple nodes as long as the run is on the fast path: `Run.call` and `Run.finish` in one loop.

        Several threads may run this loop on one queue.

        Args:
            take: returns the next ready node; raises :class:`IndexError` if there is none.
            put: takes a node that became ready.
            clock: returns seconds.
            slow: duration of a call, in seconds, above which ``on_slow_call`` is called.
            on_slow_call: called with the duration of a slow call, to start other workers; returns the next ``slow``, or
                None to end the loop.

        Returns:
            A node taken from the queue that needs :meth:`run_node`; a `Retry` for an attempt that failed; None if the
            queue is empty or ``on_slow_call`` ended the loop.
        """
        if not self.run.fast_path:
            try:
                return take()
            except IndexError:
                return None
        outer = self.enter()
        try:
            while True:
                context = self.caller_context.copy()
                rest = context.run(self._loop, context, take, put, clock, float(slow), on_slow_call)
                if not isinstance(rest, float):
                    return rest
                slow = rest
        finally:
            self.leave(outer)

    def _loop(
        self,
        context: Context,
        take: Callable[[], Node],
        put: Callable[[Node], object],
        clock: Callable[[], float],
        slow: float,
        on_slow_call: Callable[[float], float | None] | None,
    ) -> Node | Retry | float | None:
        """Run simple nodes within one context; return ``slow`` after a call that has changed a context variable."""
        run = self.run
        state = run.state
        values, seconds, codes, counts = state.values, state.seconds, state.codes, state.countdowns
        started = clock()
        while True:
            try:
                node = take()
            except IndexError:
                return None
            if not (run.fast_path and node.is_simple):
                return node
            self.node = node
            index, func = node.index, node.func
            try:
                gather = node.gather
                if gather is not None:
                    value = func(*gather(values))
                elif sources := node.arg_sources:
                    value = func(values[sources[0]])
                else:
                    value = func()
                if type(value) in special_types:
                    if type(value) is CoroutineType:
                        find()  # sets the context variable, for threads that the coroutine starts
                        from .event_loop.shared_loop import run_in_loop

                        value = run_in_loop(value, run.caller)
                    if type(value) in special_types:
                        run.leave_fast_path()
            except BaseException as error:
                result = run.finish(node, Outcome(FAILED, error=error), clock() - started, 1)
                if isinstance(result, Retry):
                    return result
                for after in result:
                    put(after)
                return None
            now = clock()
            if not run.fast_path:  # the run was stopped meanwhile, and may have given up this attempt
                for after in run.finish(node, value, now - started, 1):  # type: ignore[unreachable]
                    put(after)
                return None
            values[index] = value
            spent = seconds[index] = now - started
            started = now
            codes[index] = SUCCEEDED
            for after in node.downstream:
                if next(counts[after.index], None) is None:
                    put(after)
            if spent > slow and on_slow_call is not None:
                again = on_slow_call(spent)
                if again is None:
                    return None
                slow = again
                started = clock()
            if context:
                return slow

    def enter(self) -> Worker | None:
        """Make this the current worker of the thread; return the one before."""
        thread = get_ident()
        outer = workers.get(thread)
        workers[thread] = self
        self._outside = variable.get()
        return outer

    def leave(self, outer: Worker | None) -> None:
        """Restore the worker that was the current one before."""
        self.node = self.element = None
        restore_worker(outer)
        if variable.get() is not self._outside:  # an observer or a hook has called current()
            variable.set(self._outside)
