"""Class `TracedRun`: a run that writes a history, and whose functions may be replaced."""

from __future__ import annotations

from functools import partial

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.failures import describe_error
from flowkit_core.runs.call import PARKED, Call, Condition, Outcome, Retry
from flowkit_core.runs.limits.limited_run import LimitedRun
from flowkit_core.runs.mapping.mapped_run import EXPANDED
from flowkit_core.runs.states import FAILED, PENDING, STATES, SUCCEEDED

from .handles import value_of
from .history import key_of, task_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flowkit_core._typing import Any
    from flowkit_core.graphs.graph import Graph
    from flowkit_core.graphs.node import Node

    from .history import History


TOKENS = 3
"""Number of tokens in the result of a task that others are mapped over, and whose function is not called."""


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
        found = self._functions.get(task_of(node))
        if found is not None:
            return found
        if self._call:
            return node.func
        if node.feeds and node.mapped is None:
            return lambda *args, **kwargs: [Token(f"{node.name}[{n}]", args, kwargs) for n in range(TOKENS)]
        return lambda *args, **kwargs: Token(task_of(node), args, kwargs)

    def answer(self, condition: Condition) -> object:
        """Return what a condition returns."""
        return condition() if self._call else self._random() < 0.75


class _TracedCondition:
    """In place of the function of a condition: evaluates it with `TracedRun._judge`."""

    __slots__ = ("_func", "_judge", "_node")

    def __init__(self, judge: Callable[[Node, Condition], object], node: Node, func: Callable[..., object]) -> None:
        self._judge = judge
        self._node = node
        self._func = func

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        return self._judge(self._node, Condition(self._func, args, kwargs))


class _Finishing:
    """The arguments of `TracedRun.finish`, and whether the node, or the element, had no final state before."""

    __slots__ = ("attempt", "is_pending", "node", "result")

    def __init__(self, node: Node, result: Any, attempt: int | None, *, is_pending: bool) -> None:
        self.node = node
        self.result = result
        self.attempt = attempt
        self.is_pending = is_pending


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
        self._finishing: list[_Finishing] = []  # calls of `finish` without a record: the last element ends its node
        self._iterated: list[Node] = []  # nodes that have succeeded, and whose iterators may fail
        self._elements: dict[Any, Node] = {}  # those that were passed to a lane
        if graph.mapped:
            original = self.mapping.local_generator
            self.mapping.local_generator = partial(self._call_generator_function, original)  # type: ignore[method-assign]

    def note_ready(self, node: Node) -> None:
        """Note that a lane gets a node, or an element."""
        if node.element is not None:
            self._elements[key_of(node)] = node

    def call(self, node: Node) -> Call | Outcome:
        """Return the call of a ready node, with substitutes."""
        call = super().call(node)
        return self._substituted(call) if isinstance(call, Call) else call

    def _substituted(self, call: Call) -> Call:
        node = call.node
        call.func = self._substitutes.function(node)
        when = call.when
        if when is not None and not isinstance(when.func, _TracedCondition):  # its arguments may be handles
            call.when = Condition(_TracedCondition(self._judge, node, when.func), when.args, when.kwargs)
        return call

    def _call_generator_function(self, original: Callable[[Call], Call | Outcome], call: Call) -> Call | Outcome:
        """Call a generator function where the run is, with substitutes; return other calls."""
        outcome = original(self._substituted(call))
        if isinstance(outcome, Outcome) and outcome.state == SUCCEEDED:
            kwargs = {name: value_of(value) for name, value in call.kwargs.items()}
            self._history.start(call.node, call.attempt, "run", ([*map(value_of, call.args)], kwargs))
        return outcome

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
        """Take the result of a call, and add a record of the state that follows from it."""
        if result is PARKED:
            number = self.current_attempt(node)
            self._history.add("waiting", node, number, ", ".join(node.task.pool))
        elif result is EXPANDED:
            self._history.add("expanded", node)
        if result is PARKED or result is EXPANDED:
            return super().finish(node, result, seconds, attempt)
        self._add_unfinished()
        finishing = _Finishing(node, result, attempt, is_pending=self._code(node) == PENDING)
        self._finishing.append(finishing)
        step = super().finish(node, result, seconds, attempt)
        if finishing in self._finishing:
            self._finishing.remove(finishing)
            self._add_outcome(finishing, step)
        return step

    def _add_unfinished(self) -> None:
        """Add the records of last elements and of failed iterators, before that of the node that ends with them."""
        while self._finishing:
            self._add_outcome(self._finishing.pop(), ())
        for node in self._iterated:
            if self.state.codes[node.index] == FAILED:
                self._add_end(node, FAILED, Outcome(FAILED, error=self.state.error_of[node.index]), None)
        self._iterated = [node for node in self._iterated if self.state.codes[node.index] != FAILED]

    def _add_outcome(self, finishing: _Finishing, step: Sequence[Node] | Retry) -> None:
        node, result, attempt = finishing.node, finishing.result, finishing.attempt
        code = self._code(node)
        error = result.error if isinstance(result, Outcome) and result.state == FAILED else None
        if error is None and code == FAILED and node.feeds and node.element is None:  # an iterator has raised
            error = self.state.error_of[node.index]
            result = Outcome(FAILED, error=error)
        if finishing.is_pending and code != PENDING:
            if node.feeds and node.element is None and code == SUCCEEDED:  # an iterator may have become a list
                result = self.state.values[node.index]
            self._add_end(node, code, value_of(result), attempt)
            if node.feeds and node.element is None and node.mapped is None and code == SUCCEEDED:
                self._iterated.append(node)
        elif isinstance(step, Retry):
            detail = f"in {step.delay:.3f} s, after {describe_error(error)}" if error is not None else ""
            self._history.add("retrying", node, attempt, detail, (step.delay, error))
        else:
            self._history.add("ignored", node, attempt, data=value_of(result))

    def _code(self, node: Node) -> int:
        """Return the state of a node, or of an element."""
        if node.element is not None:
            return int(node.stage.codes[node.element])  # type: ignore[attr-defined]
        return self.state.codes[node.index]

    def time_out(self) -> None:
        """Stop because of the timeout of the run, and add a record of that."""
        self._history.add("run_timed_out")
        super().time_out()

    def abandon(self, running: Mapping[Node, str] | None = None) -> None:
        """End every pending node as cancelled, and add records of that."""
        pending = [node for node in self.graph.nodes if self.state.codes[node.index] == PENDING]
        elements = [node for node in self._elements.values() if self._code(node) == PENDING]
        super().abandon(running)
        for element in elements:
            self._history.add("cancelled", element)
        for node in pending:
            self._add_end(node, self.state.codes[node.index], None, None)

    def _add_end(self, node: Node, code: int, result: Any, attempt: int | None) -> None:
        state: Any = self.state if node.element is None else node.stage  # type: ignore[attr-defined]
        number = node.index if node.element is None else node.element
        error = state.error_of.get(number)
        detail = describe_error(error) if error is not None else state.reason_of.get(number, "")
        self._history.add(STATES[code], node, attempt, detail, result)
