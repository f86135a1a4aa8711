"""State of one run, by node index, and its summary."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING

from .states import FAILED, SKIPPED, STATES, SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.pipelines.graph import Graph

ABSENT: Any = object()
"""In the place of a value that is not there."""


class RunSummary:
    """States, durations, attempts, reasons and errors of the tasks of one run, by position in topological order.

    Plain data without references to the graph, the values or the parameters.

    Args:
        names: the names of the tasks.

    Attributes:
        names: the names of the tasks.
        seconds: duration of the last attempt of each task, in seconds.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.seconds = [0.0] * len(names)
        self._states = bytearray(len(names))
        self._attempts: dict[int, int] = {}
        self._reasons: dict[int, str] = {}
        self._errors: dict[int, BaseException] = {}
        self._sources: Mapping[int, str] = {}

    def summary(self) -> RunSummary:
        """Return a `RunSummary` of this run; it shares large containers with this object."""
        other = RunSummary.__new__(RunSummary)
        other.names, other.seconds, other._states = self.names, self.seconds, self._states
        other._attempts, other._reasons = self._attempts, self._reasons
        other._sources, other._errors = dict(self._sources), dict(self._errors)
        return other

    def replace_error(self, error: BaseException, other: BaseException) -> None:
        """Replace an error by another exception."""
        for index, own in self._errors.items():
            if own is error:
                self._errors[index] = other

    def states(self) -> dict[str, str]:
        """Return the state of every task, by name."""
        return {name: STATES[state] for name, state in zip(self.names, self._states, strict=True)}

    def counts(self) -> dict[str, int]:
        """Return how many tasks are in each state that occurs."""
        return {name: count for code, name in enumerate(STATES) if (count := self._states.count(code))}

    def skipped(self) -> dict[str, str]:
        """Return why each skipped task was, by name."""
        return {self.names[index]: self._reasons[index] for index, state in enumerate(self._states) if state == SKIPPED}

    def reasons(self) -> dict[str, str]:
        """Return why each task that ended without running did, by name."""
        return {self.names[index]: reason for index, reason in self._reasons.items()}

    def failed(self) -> dict[str, BaseException]:
        """Return what each failed task raised, by name, in the order of failing."""
        return {self.names[index]: error for index, error in self._errors.items()}

    def durations(self) -> dict[str, float]:
        """Return the seconds that each task which ran in this run took, by name."""
        return {self.names[index]: self.seconds[index] for index in self._ran()}

    def attempts(self) -> dict[str, int]:
        """Return how many attempts each task which ran in this run took, by name."""
        return {self.names[index]: self._attempts.get(index, 1) for index in self._ran()}

    def sources(self) -> dict[str, str]:
        """Return the source of each result that was not computed in this run, by name: "cache" or "resume"."""
        return {self.names[index]: self._sources[index] for index in sorted(self._sources)}

    def _ran(self) -> list[int]:
        """Return the indices of the tasks that were called in this run."""
        sources, ran = self._sources, (SUCCEEDED, FAILED)
        return [index for index, state in enumerate(self._states) if state in ran and index not in sources]


class RunState(RunSummary):
    """The values of one run, in addition to its summary.

    Args:
        graph: what is run.

    Attributes:
        graph: what is run.
        values: what each node returned.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.names)
        self.graph = graph
        self.values: list[Any] = [ABSENT] * len(graph.nodes)

    def succeeded(self) -> dict[str, Any]:
        """Return the values of the tasks that succeeded, by name, in topological order."""
        names, states = self.names, self._states
        if states.count(SUCCEEDED) == len(names):
            return dict(zip(names, self.values, strict=True))
        return {
            name: value for name, state, value in zip(names, states, self.values, strict=True) if state == SUCCEEDED
        }

    def release(self) -> None:
        """Drop the values and the errors; the summary keeps its own reference to what it needs."""
        self.values.clear()
        self._errors = {}
