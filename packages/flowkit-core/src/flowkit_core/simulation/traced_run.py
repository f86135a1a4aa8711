"""Class `TracedRun`: a run that writes a history, and whose functions may be replaced."""

from __future__ import annotations

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.failures import describe_error
from flowkit_core.runs.call import PARKED, Call, Condition, Outcome, Retry
from flowkit_core.runs.limits.limited_run import LimitedRun
from flowkit_core.runs.states import FAILED, PENDING, STATES

from .handles import value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node

    from .history import History


class Token:
    """The result of a task whose function is not called. Tokens of equal tasks with equal arguments are equal.

    Attributes:
        task: name of the task.
    """

    __slots__ = ("_digest", "task")

    def __init__(self, task: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> None:
        self.task = task
        values = [*args, *kwargs, *kwargs.values()]
        self._digest: int = hash((task, *(hash(each) if isinstance(each, Token) else repr(each) for each in values)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and other.task == self.task and other._digest == self._digest

    def __hash__(self) -> int:
        return self._digest

    def __repr__(self) -> str:
        return f"<result of {self.task}>"


class Substitutes:
    """What is called in place of the functions and conditions of the tasks.

    Args:
        functions: name of a task -> function.
        call: whether the functions of other tasks, and conditions, are called. False replaces results by tokens, and
            draws what conditions return.
        random: returns numbers in [0, 1).
    """

    def __init__(self, functions: Mapping[str, Callable[..., Any]], call: bool, random: Callable[[], float]) -> None:
        self._functions = functions
        self._call = call
        self._random = random

    def function(self, node: Node) -> Callable[..., Any]:
        """Return the function to call for a node."""
        found = self._functions.get(node.name)
        if found is not None:
            return found
        return node.func if self._call else (lambda *args, **kwargs: Token(node.name, args, kwargs))

    def answer(self, condition: Condition) -> object:
        """Return what a condition returns."""
        return condition() if self._call else self._random() < 0.75


class TracedRun(LimitedRun):
    """A run that writes a history.

    Args:
        graph: the graph.
        history: gets the records.
        substitutes: what is called in place of functions and conditions.
        **options: options of `LimitedRun`.
    """

    def __init__(self, graph: Graph, history: History, substitutes: Substitutes, **options: Any) -> None:
        super().__init__(graph, **options)
        self._history = history
        self._substitutes = substitutes

    def call(self, node: Node) -> Call | Outcome:
        """Return the call of a ready node, with substitutes."""
        call = super().call(node)
        if isinstance(call, Call):
            call.func = self._substitutes.function(node)
            if call.when is not None:
                call.when = Condition(self._judge, (node, call.when), {})
        return call

    def ahead(self, node: Node, *, takes_handles: bool = False) -> Call | None:
        """Return the call of a node whose upstreams have not ended, with substitutes."""
        call = super().ahead(node, takes_handles=takes_handles)
        if call is not None:
            call.func = self._substitutes.function(node)
        return call

    def _judge(self, node: Node, condition: Condition) -> object:
        answer: object = None
        try:
            answer = self._substitutes.answer(condition)
        except BaseException as error:
            self._history.add("condition", node, detail=f"raised {describe_error(error)}", data=error)
            raise
        self._history.add("condition", node, detail=str(bool(answer)), data=bool(answer))
        return answer

    def finish(
        self, node: Node, result: Any, seconds: float = 0.0, attempt: int | None = None
    ) -> Sequence[Node] | Retry:
        """Take the result of a call, and add a record of what it led to."""
        if result is PARKED:
            self._history.add("waiting", node, self.state.attempt_of.get(node.index, 1), ", ".join(node.task.pool))
        before = self.state.codes[node.index]
        step = super().finish(node, result, seconds, attempt)
        if result is PARKED:
            return step
        code = self.state.codes[node.index]
        error = result.error if isinstance(result, Outcome) and result.state == FAILED else None
        if before == PENDING and code != PENDING:
            self._add_end(node, code, value_of(result), attempt)
        elif isinstance(step, Retry):
            detail = f"in {step.delay:.3f} s, after {describe_error(error)}" if error is not None else ""
            self._history.add("retrying", node, attempt, detail, (step.delay, error))
        else:
            self._history.add("ignored", node, attempt, data=value_of(result))
        return step

    def time_out(self) -> None:
        """Stop because of the timeout of the run, and add a record of that."""
        self._history.add("run_timed_out")
        super().time_out()

    def abandon(self, running: Mapping[Node, str] | None = None) -> None:
        """End every pending node as cancelled, and add records of that."""
        pending = [node for node in self.graph.nodes if self.state.codes[node.index] == PENDING]
        super().abandon(running)
        for node in pending:
            self._add_end(node, self.state.codes[node.index], None, None)

    def _add_end(self, node: Node, code: int, result: Any, attempt: int | None) -> None:
        error = self.state.error_of.get(node.index)
        detail = describe_error(error) if error is not None else self.state.reason_of.get(node.index, "")
        self._history.add(STATES[code], node, attempt, detail, result)
