"""What is known of every node of one run, and how it is told when the run is over."""

from __future__ import annotations

from ._typing import TYPE_CHECKING
from .outcome import FAILED, SKIPPED, STATES, SUCCEEDED

if TYPE_CHECKING:
    from ._typing import Any
    from .graph import Graph

ABSENT: Any = object()
"""In the place of a value that is not there."""


class Ledger:
    """Values, states, durations, attempts, reasons and errors, by the index of the node.

    Args:
        graph: what is run.

    Attributes:
        graph: what is run.
        values: what each node returned.
        seconds: how long its last attempt took.
    """

    def __init__(self, graph: Graph) -> None:
        count = len(graph.nodes)
        self.graph = graph
        self.values: list[Any] = [ABSENT] * count
        self.seconds = [0.0] * count
        self._states = bytearray(count)
        self._attempts: dict[int, int] = {}
        self._reasons: dict[int, str] = {}
        self._errors: dict[int, BaseException] = {}

    def succeeded(self) -> dict[str, Any]:
        """Return the values of the tasks that succeeded, by name, in topological order."""
        names, states = self.graph.names, self._states
        if states.count(SUCCEEDED) == len(names):
            return dict(zip(names, self.values, strict=True))
        return {
            name: value for name, state, value in zip(names, states, self.values, strict=True) if state == SUCCEEDED
        }

    def release(self) -> None:
        """Let go of the values, when they have been handed on."""
        self.values = []

    def states(self) -> dict[str, str]:
        """Return the state of every task, by name."""
        return {name: STATES[state] for name, state in zip(self.graph.names, self._states, strict=True)}

    def counts(self) -> dict[str, int]:
        """Return how many tasks are in each state that occurs."""
        return {name: count for code, name in enumerate(STATES) if (count := self._states.count(code))}

    def skipped(self) -> dict[str, str]:
        """Return why each skipped task was, by name."""
        return {
            self.graph.names[index]: self._reasons[index]
            for index, state in enumerate(self._states)
            if state == SKIPPED
        }

    def reasons(self) -> dict[str, str]:
        """Return why each task that ended without running did, by name."""
        return {self.graph.names[index]: reason for index, reason in self._reasons.items()}

    def failed(self) -> dict[str, BaseException]:
        """Return what each failed task raised, by name, in the order of failing."""
        return {self.graph.names[index]: error for index, error in self._errors.items()}

    def durations(self) -> dict[str, float]:
        """Return the seconds that each task which ran took, by name."""
        ran = (SUCCEEDED, FAILED)
        return {n: s for n, state, s in zip(self.graph.names, self._states, self.seconds, strict=True) if state in ran}

    def attempts(self) -> dict[str, int]:
        """Return how many attempts each task which ran took, by name."""
        ran = (SUCCEEDED, FAILED)
        return {
            n: self._attempts.get(i, 1)
            for i, (n, state) in enumerate(zip(self.graph.names, self._states, strict=True))
            if state in ran
        }
