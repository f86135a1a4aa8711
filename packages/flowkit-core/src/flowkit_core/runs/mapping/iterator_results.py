"""Class `IteratorResults`: the tasks of a run whose results are iterators, which mapped tasks pull."""

from __future__ import annotations

from time import perf_counter

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.events import TaskFailed
from flowkit_core.failures import strip_traceback
from flowkit_core.runs.call import Outcome
from flowkit_core.runs.states import FAILED, UPSTREAM_FAILED

from .inputs import is_lazy

if TYPE_CHECKING:
    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node
    from flowkit_core.runs.run import Run


class IteratorResults:
    """The nodes of a run whose results are iterators. Each succeeds or fails when its iterator has ended.

    Args:
        run: the `Run`.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._nodes: dict[int, Node] = {}  # whose success was not emitted yet, by index
        self._began: dict[Node, float] = {}  # when the calls of nodes started whose iterators are pulled

    def delays_end(self, node: Node, value: Any) -> bool:
        """Return whether the success of a node is emitted later, by :meth:`end`: its result is an iterator."""
        if not is_lazy(value):
            return False
        self._nodes[node.index] = node
        return True

    def begin(self, node: Node) -> None:
        """Count the time from now on, in which the iterator of a node is pulled, in the duration of the node."""
        self._began.setdefault(node, perf_counter() - self._run.state.seconds[node.index])

    def _count_seconds(self, node: Node) -> None:
        """Let the duration of a node last until its iterator has ended, which is now."""
        began = self._began.pop(node, None)
        if began is not None:
            self._run.state.seconds[node.index] = perf_counter() - began

    def end(self, mapped: Node | None) -> None:
        """Record and emit the success of nodes whose iterators were pulled, or will not be pulled any more.

        Args:
            mapped: the mapped node that pulled them and that ends; None if the run was abandoned.
        """
        run = self._run
        for node in tuple(self._began):
            if mapped is None or mapped.index in node.feeds:
                self._count_seconds(node)
        if not self._nodes:
            return
        with run._lock:
            for index, node in tuple(self._nodes.items()):
                if mapped is None or mapped.index in node.feeds:
                    del self._nodes[index]
                    if mapped is not None and index in run.state.consumed:
                        run._record(node, run.state.seconds[index])
                    run.emit_success(node)
        if run._hooks is not None and mapped is not None:
            run._hooks.call()

    def fail(self, node: Node, error: BaseException) -> Outcome:
        """Fail a node whose iterator has raised an exception; return how the nodes that are mapped over it end."""
        run, index = self._run, node.index
        strip_traceback(error)
        with run._lock:
            run.leave_fast_path()
            if run.report.at_stop is None:
                run.report.note_stop()
            run.state.consumed.pop(index, None)
            run.state.error_of[index] = error
            run.state.codes[index] = FAILED
            self._nodes.pop(index, None)
            self._count_seconds(node)
            run._record(node, run.state.seconds[index], None, error)
            if run.events.wants(TaskFailed):
                attempt, seconds = run.current_attempt(node), run.state.seconds[index]
                run.events.emit(TaskFailed, task=node.name, attempt=attempt, duration=seconds, error=error)
            run._stop_after(error)
        run._notify_stop()
        return Outcome(UPSTREAM_FAILED, f'the iterator that upstream "{node.name}" returned has failed')

    def release(self) -> None:
        """Drop the references to the run and to the nodes."""
        self._run = None  # type: ignore[assignment]
        self._nodes, self._began = {}, {}
