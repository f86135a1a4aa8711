"""Class `ResultsChecker`: compares the results of a simulated run with its history; `error_problem`: its exception."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.errors import ExecutorError, RunTimeoutError
from flowkit_core.failures import describe_error

from .handles import is_result
from .map_checker import is_iterator

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node
    from flowkit_core.results import Results

    from .map_checker import MapModel


class ResultsChecker:
    """Compares the results of a run with its history.

    Args:
        graph: the graph.
        results: the results.
        maps: the elements of mapped tasks.
        ended: name of a task, or of an element -> state.
        values: name of a task, or of an element -> result.
        attempts: name of a task, or of an element -> number of attempts.
    """

    def __init__(
        self,
        graph: Graph,
        results: Results,
        maps: MapModel,
        ended: Mapping[str, str],
        values: Mapping[str, Any],
        attempts: Mapping[str, int],
    ) -> None:
        self._graph = graph
        self._results = results
        self._maps = maps
        self._ended = ended
        self._values = values
        self._attempts = attempts
        self._found: list[str] = []

    def problems(self) -> list[str]:
        """Return the differences."""
        results = self._results
        ended = {name: self._ended[name] for name in self._graph.names if name in self._ended}
        if results.states != ended:
            self._found.append(f"the states are {results.states}, but the tasks ended as {ended}")
        values = {
            node.name: (node, self._values[node.name])
            for node in self._graph.nodes
            if node.name in self._values and not (node.feeds and is_iterator(self._values[node.name]))
        }
        for alias, index in self._graph.aliases.items():
            if (output := self._graph.names[index]) in values:
                values[alias] = values[output]
        for name, (node, value) in values.items():
            if name not in results or not is_result(results[name], node, value):
                self._found.append(f"the result of {name!r} is not what its function returned")
        for name in results:
            if name not in values and not is_iterator(self._values.get(name)):  # an iterator that no task has pulled
                self._found.append(f"there is a result of {name!r}, which did not succeed")
        for node in self._graph.mapped:
            self._check_elements(node)
        for name, attempts in results.attempts.items():
            if self._graph[name].mapped is not None:
                continue
            if attempts != max(1, self._attempts.get(name, 1)):
                self._found.append(f"{name!r} has attempts {attempts}, but {self._attempts.get(name)} were made")
        return self._found

    def _check_elements(self, node: Node) -> None:
        """Compare the elements of a mapped task in the results with the history."""
        elements = self._results.elements.get(node.name)
        if elements is None:
            return
        for number, (state, attempts) in enumerate(zip(elements.states, elements.attempts, strict=True)):
            name = f"{node.name}[{number}]"
            if state != self._ended.get(name, "cancelled"):
                self._found.append(f"{name!r} is {state}, but ended as {self._ended.get(name)}")
            made = self._attempts.get(name, 0)
            if state in ("succeeded", "failed") and attempts != max(1, made):
                self._found.append(f"{name!r} has attempts {attempts}, but {made} were made")
            if elements.failed.get(number) is not self._maps.errors.get(name):
                self._found.append(f"{name!r} failed with {elements.failed.get(number)!r}")


def error_problem(
    error: BaseException | None,
    errors: Sequence[BaseException],
    happened: Collection[str],
    *,
    timed_out: bool,
    fail_fast: bool,
    has_maps: bool,
) -> str | None:
    """Return why the exception of a run is not the right one; None if it is.

    Args:
        error: the exception; None if the run returned.
        errors: the exceptions of failed tasks and elements, in order.
        happened: what happened, see `Record`.
        timed_out: whether the timeout of the run has stopped it.
        fail_fast: whether the first failure stops the run.
        has_maps: whether tasks are mapped.
    """
    if "interrupted" in happened:
        expected, right = "KeyboardInterrupt", isinstance(error, KeyboardInterrupt)
    elif "executor_lost" in happened:
        expected, right = "ExecutorError", isinstance(error, ExecutorError)
    elif timed_out:
        expected, right = "RunTimeoutError", isinstance(error, RunTimeoutError)
    elif not errors:
        expected, right = "none", error is None
    elif fail_fast or not all(isinstance(each, Exception) for each in errors):
        first = next((each for each in errors if not isinstance(each, Exception)), errors[0])
        expected, right = describe_error(first), error is first
    else:
        expected = f"a group of {len(errors)}"
        found, wanted = list(error.exceptions) if isinstance(error, ExceptionGroup) else [], list(errors)
        if has_maps:  # those of elements are listed by task
            found, wanted = sorted(found, key=id), sorted(wanted, key=id)
        right = isinstance(error, ExceptionGroup) and found == wanted
    if right:
        return None
    given = "no exception" if error is None else describe_error(error)
    return f"the run raised {given}; expected: {expected}"
