"""Class `RunState`: values and states of the nodes of one run; class `RunSummary`: what its results keep."""

from __future__ import annotations

from itertools import repeat

from flowkit_core._atomic import countdowns, first_only
from flowkit_core._typing import TYPE_CHECKING

from .call import Outcome, fetch_and_release
from .handle import is_handle, prefetch
from .states import CANCELLED, FAILED, HAS_FAILED, PENDING, SKIPPED, STATES, SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node
    from flowkit_core.persistence import RecordedTask

ABSENT: Any = object()
"""Placeholder for a missing value."""
_NO_NODES: tuple[Node, ...] = ()
_NOTHING: Mapping[Any, Any] = {}


class RunSummary:
    """States, durations, attempts, reasons and errors of the tasks of one run, by node index.

    It has no reference to the graph, the values or the parameters. `RunState` describes the fields, and makes it.
    """

    names: Sequence[str]  # of the tasks, in topological order
    codes: bytearray
    seconds: list[float]
    attempt_of: dict[int, int]
    reason_of: dict[int, str]
    error_of: dict[int, BaseException]
    source_of: dict[int, str]
    outdated_of: Mapping[int, str]
    unrecorded_of: dict[int, Exception]
    elements_of: Mapping[str, Any] = _NOTHING  # `Elements` of the mapped tasks, by name
    consumed: dict[int, str]  # results that were iterators -> the mapped task that has consumed them
    kept: frozenset[str] | None  # names of the tasks whose results are returned; None for all
    aliases: Mapping[str, int]  # names of pipeline tasks -> index of the task whose result is the output

    def elements(self) -> dict[str, Any]:
        """Return the `Elements` of each mapped task, by name."""
        return dict(self.elements_of)

    def replace_error(self, error: BaseException, other: Exception) -> None:
        """Replace an error by another exception."""
        errors: dict[int, Any]
        for errors in (self.error_of, self.unrecorded_of):
            for index, task_error in errors.items():
                if task_error is error:
                    errors[index] = other
        for elements in self.elements_of.values():
            elements._replace_error(error, other)

    def states(self) -> dict[str, str]:
        """Return the state of every task, by name."""
        return {name: STATES[code] for name, code in zip(self.names, self.codes, strict=True)}

    def counts(self) -> dict[str, int]:
        """Return the number of tasks in each state, without the states that no task has."""
        return {name: count for code, name in enumerate(STATES) if (count := self.codes.count(code))}

    def skipped(self) -> dict[str, str]:
        """Return the reason of each skipped task, by name."""
        return {self.names[index]: self.reason_of[index] for index, code in enumerate(self.codes) if code == SKIPPED}

    def reasons(self) -> dict[str, str]:
        """Return the reason of each task that ended without running, by name."""
        return {self.names[index]: reason for index, reason in self.reason_of.items()}

    def dropped(self) -> dict[str, str]:
        """Return why the result of a task that succeeded was dropped, by name."""
        found = {
            self.names[index]: f"it returned an iterator, which {taker!r} has consumed: return a list to keep it"
            for index, taker in self.consumed.items()
        }
        if self.kept is None:
            return found
        why = "run(keep=...) does not name it, so its value was dropped after its last use"
        ended = zip(
            (*self.names, *self.aliases), (*self.codes, *(self.codes[index] for index in self.aliases.values()))
        )
        return found | {name: why for name, code in ended if code == SUCCEEDED and name not in self.kept}

    def outputs(self) -> dict[str, str]:
        """Return the name of the task whose result is the output of each pipeline task, by its name."""
        return {name: self.names[index] for name, index in self.aliases.items()}

    def failed(self) -> dict[str, BaseException]:
        """Return the error of each failed task, by name, in the order of failing."""
        found = {self.names[index]: error for index, error in self.error_of.items()}
        for name, elements in self.elements_of.items():
            found |= {f"{name}[{number}]": error for number, error in elements.failed.items()}
        return found

    def unrecorded(self) -> dict[str, Exception]:
        """Return why the outcome of a task could not be recorded, by name, in topological order."""
        return {self.names[index]: error for index, error in sorted(self.unrecorded_of.items())}

    def durations(self) -> dict[str, float]:
        """Return the duration of each task that was called in this run, in seconds, by name."""
        return {self.names[index]: self.seconds[index] for index in self._called()}

    def attempts(self) -> dict[str, int]:
        """Return the number of attempts of each task that was called in this run, by name."""
        return {self.names[index]: self.attempt_of.get(index, 1) for index in self._called()}

    def sources(self) -> dict[str, str]:
        """Return the source of each result that was not computed in this run, by name: "cache" or "resume"."""
        return {self.names[index]: self.source_of[index] for index in sorted(self.source_of)}

    def outdated(self) -> dict[str, str]:
        """Return why the recorded result of a task was out of date, so that it ran again in a resumed run, by name."""
        return {self.names[index]: why for index, why in sorted(self.outdated_of.items())}

    def _called(self) -> list[int]:
        """Return the indices of the tasks that were called in this run."""
        sources, ended = self.source_of, (SUCCEEDED, FAILED)
        return [index for index, code in enumerate(self.codes) if code in ended and index not in sources]


class RunState(RunSummary):
    """State of one run: containers with one entry for each node, by node index.

    ================= ============================================== ==================================================
    field             content                                        invariant
    ================= ============================================== ==================================================
    ``codes``         number of the state                            leaves PENDING once, and never changes after that
    ``values``        result                                         ABSENT unless SUCCEEDED; set before the state;
                                                                     ABSENT again after `KeptResults` has dropped it
    ``seconds``       duration of the last attempt                   0.0 until the first attempt ends
    ``attempt_of``    number of the current or last attempt          only if it is greater than 1
    ``reason_of``     why the task did not run                       SKIPPED, UPSTREAM_FAILED and CANCELLED only
    ``error_of``      exception of the last attempt                  FAILED only, in the order of failing
    ``source_of``     "cache" or "resume"                            results that were not computed in this run only
    ``outdated_of``   why the recorded result was out of date        tasks that run again in a resumed run only
    ``unrecorded_of`` why the outcome could not be recorded          tasks that ended in this run only
    ``retry_of``      exception of an attempt that will be repeated  from the end of that attempt to the next start
    ``stages``        `Stage` of a mapped task, by index             from the opening of its region on
    ``countdowns``    iterator over number of upstreams - 1 items    each upstream that ends takes one item; but see
                                                                     `_is_ready_after` for ``"one_success"`` and
                                                                     ``"one_failed"``
    ================= ============================================== ==================================================

    The last upstream to end finds the countdown empty: ``next(countdowns[index], None) is None`` is true for exactly
    one upstream, in whatever thread it ends, and that one makes the node ready. This needs no lock, since taking an
    item from an iterator is atomic (see ``_atomic.py``).

    Args:
        graph: the graph of the run.
    """

    def __init__(self, graph: Graph) -> None:
        self.names, self.aliases = graph.names, graph.aliases
        count = len(self.names)
        self.codes = bytearray(count)
        self.seconds = [0.0] * count
        self.values: list[Any] = [ABSENT] * count
        self.attempt_of = {}
        self.reason_of = {}
        self.error_of = {}
        self.source_of = {}
        self.unrecorded_of = {}
        self.consumed = {}
        self.kept = None
        self.outdated_of = _NOTHING
        self.retry_of: dict[int, BaseException] = {}
        self.stages: dict[int, Any] = {}
        self.countdowns: list[Iterator[int | None]] = countdowns(graph.countdowns)
        self._early = graph.early
        self._fired: dict[int, int] = {}
        for index, node in self._early.items():
            if node.task.trigger == "one_success":
                self.countdowns[index] = first_only()

    def summary(self) -> RunSummary:
        """Return a `RunSummary` that shares the large containers with this object."""
        other = RunSummary()
        other.names, other.seconds, other.codes = self.names, self.seconds, self.codes
        other.attempt_of, other.reason_of = self.attempt_of, self.reason_of
        other.outdated_of, other.kept, other.aliases = self.outdated_of, self.kept, self.aliases
        other.source_of, other.error_of = self.source_of.copy(), self.error_of.copy()
        other.unrecorded_of = self.unrecorded_of.copy()
        other.consumed = self.consumed
        if self.stages:
            other.elements_of = self.elements()
        return other

    def ready_after(self, node: Node) -> Sequence[Node]:
        """Count down the downstreams of a node that has ended; return those that are ready now."""
        downstream, counts = node.downstream, self.countdowns
        if not downstream:
            return _NO_NODES
        if self._early:
            return [after for after in downstream if self._is_ready_after(node, after)]
        if len(downstream) == 1:
            return downstream if next(counts[downstream[0].index], None) is None else _NO_NODES
        return [after for after in downstream if next(counts[after.index], None) is None]

    def _is_ready_after(self, node: Node, after: Node) -> bool:
        """Count down a downstream of a node that has ended; return whether it is ready now.

        A node with the trigger ``"one_success"`` is ready when the first upstream has succeeded, or else when all have
        ended; one with ``"one_failed"`` likewise. Its countdown counts upstreams that have succeeded, or that have not
        failed; the others look at the states of all, and `_fired` lets one of them make the node ready.
        """
        index = after.index
        if index not in self._early:
            return next(self.countdowns[index], None) is None
        if self.codes[index] != PENDING:
            return False  # it ended before the run was resumed
        code = self._code_for(after, node.index)
        if after.task.trigger == "one_success":
            if code == SUCCEEDED:
                return next(self.countdowns[index], None) is None
            codes = [self._code_for(after, upstream) for upstream in after.upstream]
            if PENDING in codes or SUCCEEDED in codes:
                return False
        elif code not in HAS_FAILED:
            return next(self.countdowns[index], None) is None
        return self._fired.setdefault(index, node.index) == node.index

    def _code_for(self, node: Node, upstream: int) -> int:
        """Return the state of an upstream as it counts for a node: skipped as succeeded, on an order-only edge."""
        code = self.codes[upstream]
        return SUCCEEDED if code == SKIPPED and upstream in node.waits else code

    def take_over(self, graph: Graph, recorded: Mapping[int, RecordedTask]) -> None:
        """Set the states and results of tasks that ended before the run was resumed, by node index."""
        for index, task in recorded.items():
            code = self.codes[index] = STATES.index(task.state)
            self.seconds[index], self.attempt_of[index] = task.seconds, task.attempts
            if code == SUCCEEDED:
                self.values[index] = task.value if getattr(task, "has_value", True) else ABSENT
            else:
                self.reason_of[index] = task.reason
            self.countdowns[index] = repeat(0)  # never empty: the node does not become ready again
        for index in recorded:
            for after in graph.nodes[index].downstream:
                self._is_ready_after(graph.nodes[index], after)

    def ready_now(self, graph: Graph) -> list[Node]:
        """Return the nodes that are ready at the start of a resumed run, in topological order."""
        codes = self.codes
        return [node for node in graph.nodes if codes[node.index] == PENDING and self._is_ready(node)]

    def _is_ready(self, node: Node) -> bool:
        """Return whether the upstreams of a node have all ended, or one has succeeded and that is enough."""
        codes = [self._code_for(node, index) for index in node.upstream]
        return PENDING not in codes or (node.task.trigger == "one_success" and SUCCEEDED in codes)

    def succeeded(self) -> dict[str, Any]:
        """Return the values of the tasks that succeeded, by name, in topological order."""
        return dict(self.items())

    def items(self) -> Iterable[tuple[str, Any]]:
        """Return the names and values of the tasks that succeeded, in topological order."""
        names, codes = self.names, self.codes
        if self.aliases:
            return self._with_aliases()
        if codes.count(SUCCEEDED) == len(names) and self.kept is None and not (self.source_of or self.consumed):
            return zip(names, self.values)
        found = zip(names, codes, self.values, strict=True)
        return [(name, value) for name, code, value in found if code == SUCCEEDED and value is not ABSENT]

    def _with_aliases(self) -> Iterable[tuple[str, Any]]:
        """Return what :meth:`items` does; the output of a pipeline task follows the task that has returned it."""
        alias_of: dict[int, list[str]] = {}
        for name, index in self.aliases.items():
            alias_of.setdefault(index, []).append(name)
        return [
            (name, value)
            for index, (own, code, value) in enumerate(zip(self.names, self.codes, self.values, strict=True))
            if code == SUCCEEDED and value is not ABSENT
            for name in (own, *alias_of.get(index, ()))
            if self.kept is None or name in self.kept
        ]

    def elements(self) -> dict[str, Any]:
        """Return the `Elements` of each mapped task, by name."""
        if not self.stages:
            return {}
        return {self.names[index]: stage.elements() for index, stage in sorted(self.stages.items())}

    def fetch_handles(self) -> None:
        """Replace handles by their values; a node whose value is lost has failed."""
        fetch_in_place(self.values, self.codes, self.error_of)
        for stage in self.stages.values():
            stage.fetch_handles()

    def drop_handles(self) -> None:
        """Release the handles that were not fetched; their nodes end as cancelled."""
        for index, handle in enumerate(self.values):
            if is_handle(handle):
                self.values[index], self.codes[index] = ABSENT, CANCELLED
                self.reason_of[index] = "its result was not fetched before the run ended"
                handle.release()
        for stage in self.stages.values():
            stage.release_handles()

    def detach(self) -> None:
        """Copy the containers that workers on the fast path write to: later writes have no effect on this state."""
        self.codes, self.values, self.seconds = self.codes[:], self.values[:], self.seconds[:]
        for stage in self.stages.values():
            stage.codes, stage.values, stage.seconds = stage.codes[:], stage.values[:], stage.seconds[:]

    def release(self) -> None:
        """Drop the values and the errors; a summary keeps references of its own to what it needs."""
        self.values.clear()
        self.error_of = {}
        self.unrecorded_of = {}
        self.retry_of = {}
        self.countdowns = []
        self.stages = {}


def fetch_in_place(values: list[Any], codes: bytearray, errors: dict[int, BaseException]) -> None:
    """Replace handles by their values, which are not needed elsewhere any more.

    Args:
        values: results, by number.
        codes: the states of the nodes or elements: one whose value is lost has failed.
        errors: receives the exceptions of these.
    """
    prefetch(values)
    for number, handle in enumerate(values):
        if is_handle(handle):
            values[number] = value = fetch_and_release(handle)
            if type(value) is Outcome and value.error is not None:
                values[number], codes[number], errors[number] = ABSENT, FAILED, value.error
