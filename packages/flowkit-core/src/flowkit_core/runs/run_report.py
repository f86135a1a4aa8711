"""Class `RunReport`: the error that a run raises, and its notes on how the other tasks ended."""

from __future__ import annotations

from flowkit_core._text import counted
from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import RunTimeoutError
from flowkit_core.failures import Failure, add_note, all_of, describe_error, first_of

from .states import CANCELLED, FAILED, PENDING, SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node

    from .run_state import RunState


class RunReport:
    """Collects, while a run goes on, what its error message needs that the final states do not show.

    Args:
        graph: the graph of the run.
        state: the state of the run.

    Attributes:
        at_stop: how many tasks had succeeded and failed at the first failure or the timeout of the run; None before.
        cleanup_started: indices of the nodes that started after the run was stopped.
        dropped_retries: number of tasks that were waiting for a retry when the run was stopped.
        interrupted: number of tasks that were stopped while they ran.
        unfinished: what happened to tasks that were still running when the run was abandoned, ``"abandoned"`` or
            ``"ended"`` -> their names.
    """

    at_stop: tuple[int, int] | None = None
    dropped_retries = interrupted = 0

    def __init__(self, graph: Graph, state: RunState) -> None:
        self._graph = graph
        self._state = state
        self.cleanup_started: set[int] = set()
        self.unfinished: dict[str, list[str]] = {}

    def note_stop(self) -> None:
        """Note how many tasks have succeeded and failed."""
        self.at_stop = self._state.codes.count(SUCCEEDED), self._state.codes.count(FAILED)

    def error(self, *, fail_fast: bool, stop_error: BaseException | None) -> BaseException:
        """Return the exception that a run raises which was stopped, or has failed tasks.

        Args:
            fail_fast: whether the first failure stops the run.
            stop_error: why the run was stopped, if that was not a failure: it could not be recorded, took too long, or
                was cancelled.

        Returns:
            ``stop_error``, or the first failure, or a group of all failures; with notes on the other tasks.
        """
        errors = self._state.error_of
        if stop_error is not None:
            if isinstance(stop_error, RunTimeoutError):
                add_note(stop_error, f"flowkit: {self._at_timeout()}")
            for index, error in errors.items():
                add_note(stop_error, f"flowkit: task {self._graph.names[index]!r} had failed: {describe_error(error)}")
            return stop_error
        failures = [failure for index, error in errors.items() for failure in self._failures(index, error)]
        if fail_fast or not all(isinstance(failure.error, Exception) for failure in failures):
            return first_of(self._graph.name, failures, self._at_first_failure())
        return all_of(self._graph.name, failures)

    def _failures(self, index: int, error: BaseException) -> list[Failure]:
        """Return the failure of a task; those of its elements, if it is mapped."""
        if (stage := self._state.stages.get(index)) is not None:
            of_elements: list[Failure] = stage.failures(error)
            return of_elements
        attempts = self._state.attempt_of.get(index, 1)
        return [Failure(self._graph.names[index], error, attempts, self._graph.nodes[index].task.retries)]

    def running_after_stop(self, nodes: Iterable[Node], stop_error: BaseException | None) -> dict[str, Any] | None:
        """Return the facts of the event :class:`RunStopping`; None if no task is running.

        Args:
            nodes: the nodes whose calls have started and may have ended.
            stop_error: as in :meth:`error`.
        """
        codes, names, stages = self._state.codes, self._graph.names, self._state.stages
        pending = [index for index in sorted({node.index for node in nodes}) if codes[index] == PENDING]
        running = tuple(names[index] for index in pending if index not in stages or stages[index].is_running)
        if not running:
            return None
        if stop_error is not None:
            return {"failed": None, "error": stop_error, "running": running}
        index, error = list(self._state.error_of.items())[-1]
        return {"failed": names[index], "error": error, "running": running}

    def interruption(self) -> str:
        """Return a note on the tasks of an interrupted run."""
        codes, running = self._state.codes, self.interrupted
        text = _counts(codes.count(SUCCEEDED), running, codes.count(CANCELLED) - running)
        return f"flowkit: {self._graph.name!r} was interrupted; {text}{self._unfinished_text()}"

    def _at_timeout(self) -> str:
        """Return how many tasks had succeeded, failed, were running and did not start when the run timed out."""
        codes = self._state.codes
        succeeded, failed = self.at_stop or (0, 0)
        ended = codes.count(SUCCEEDED) + codes.count(FAILED)
        cleanup = sum(codes[index] in (SUCCEEDED, FAILED) for index in self.cleanup_started)
        running = max(0, ended - cleanup - succeeded - failed - self.dropped_retries) + self.interrupted
        text = _counts(succeeded, running, len(codes) - ended - self.interrupted)
        return text + self._unfinished_text()

    def _at_first_failure(self) -> str:
        """Return how many of the other tasks had succeeded, were running and did not start."""
        codes = self._state.codes
        succeeded, failed = self.at_stop or (0, 0)
        cleanup = sum(codes[index] in (SUCCEEDED, FAILED) for index in self.cleanup_started)
        ended = codes.count(SUCCEEDED) + codes.count(FAILED)
        running = max(0, ended - cleanup - succeeded - failed - 1 - self.dropped_retries) + self.interrupted
        text = _counts(succeeded, running, len(codes) - ended - self.interrupted)
        if self.dropped_retries:
            text += f"; {counted(self.dropped_retries, 'task')} waited for a retry"
        if cleanup:
            text += f"; {counted(cleanup, 'clean-up task')} ran"
        return text + self._unfinished_text()

    def _unfinished_text(self) -> str:
        text = ""
        for fate, tasks in self.unfinished.items():
            names = [repr(name) for name in tasks]
            listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            text += f"; {listed} did not end in time, and {'was' if len(names) == 1 else 'were'} {fate}"
        return text


def _counts(succeeded: int, running: int, idle: int) -> str:
    were = "was" if running == 1 else "were"
    return f"{counted(succeeded, 'task')} had succeeded, {running} {were} running, {idle} did not start"
