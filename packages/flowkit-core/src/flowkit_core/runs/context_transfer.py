"""Contexts of tasks in other processes: fetched on request where an executor carries requests, else sent along.

A request and its answer are bytes, so that executors need not look inside.
"""

from __future__ import annotations

import pickle
from time import time

from flowkit_core._typing import TYPE_CHECKING
from flowkit_core.context import RunTrace, TaskContext, variable
from flowkit_core.errors import ContextError
from flowkit_core.failures import describe_error
from flowkit_core.log_records import add_task_to_records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flowkit_core._typing import Any
    from flowkit_core.graphs.node import Node

    from .run import Run

MAX_PARAMS = 1 << 16
"""Bytes of pickled parameters up to which they are sent along with every call."""


def answer(run: Run, node: Node, request: bytes) -> bytes:
    """Return the answer to a request of `RemoteFacts`, in the process of the run.

    Args:
        run: the run.
        node: the node whose call has sent it.
        request: the request.
    """
    found: Any
    try:
        kind, args = pickle.loads(request)
        if kind == "context":
            context = run.context_of(node)
            facts = run.facts.run_id, run.facts.pipeline, run.facts.trace
            found = facts, (node.index, context.task, context.attempt, context.element, context.deadline)
        elif kind == "params":
            found = run.facts.params
        elif kind == "notes":
            found = dict(run.facts.notes(*args))
        else:
            run.facts.remember(*args)
            found = None
        return pickle.dumps((found, None))
    except Exception as error:
        return pickle.dumps((None, describe_error(error)))


class RemoteFacts:
    """The facts about a run in another process, which answers requests of contexts.

    Args:
        ask: sends a request and returns the answer; raises ContextError if there is none.

    Attributes:
        run_id: id of the run.
        pipeline: name of the pipeline.
        trace: the span of the run in a distributed trace; None if it has none.
    """

    def __init__(self, ask: Callable[[bytes], bytes]) -> None:
        self._ask = ask
        self.run_id = self.pipeline = ""
        self.trace: RunTrace | None = None
        self._params: Mapping[str, Any] | None = None

    def context(self, ticket: int) -> TaskContext:
        """Return the context of the running call.

        Args:
            ticket: number of the call, other than 0.
        """
        (self.run_id, self.pipeline, self.trace), (index, task, attempt, element, deadline) = self._request("context")
        return TaskContext(self, index, task, attempt, element, deadline, ticket)

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of the run."""
        if self._params is None:
            self._params = self._request("params")
        return self._params

    def notes(self, index: int, element: int | None) -> Mapping[str, Any]:
        """Return the notes of a task."""
        notes: Mapping[str, Any] = self._request("notes", index, element)
        return notes

    def remember(self, index: int, element: int | None, key: str, value: Any) -> None:
        """Have the run keep a note of a task."""
        self._request("remember", index, element, key, value)

    def _request(self, kind: str, *args: Any) -> Any:
        found, error = pickle.loads(self._ask(pickle.dumps((kind, args))))
        if error is not None:
            raise ContextError(f"the process of the run could not answer a request for {kind!r} of a task: {error}")
        return found


class CarriedContext:
    """The context of a call, sent along with it to a process without a connection to the run.

    Args:
        context: the context.
    """

    def __init__(self, context: TaskContext) -> None:
        facts = context._facts
        notes = dict(facts.notes(*context.key))
        self._facts = facts.run_id, facts.pipeline, _packed(facts.params), notes, facts.trace
        self._rest = *context.key, context.task, context.attempt, context.deadline

    def enter(self, timeout: float | None = None) -> CarriedFacts:
        """Make ``current()`` return the context in the calling thread; return its facts, which collect new notes.

        Args:
            timeout: seconds that the attempt, which starts now, may take; None means no limit.
        """
        add_task_to_records()
        index, element, task, attempt, deadline = self._rest
        if timeout is not None:
            deadline = time() + timeout
        facts = CarriedFacts(*self._facts)
        variable.set(TaskContext(facts, index, task, attempt, element, deadline))
        return facts


class CarriedFacts:
    """The facts about a run for a context in a process without a connection to the run.

    Args:
        run_id: id of the run.
        pipeline: name of the pipeline.
        params: the pickled parameters; or why they were not sent, as a str.
        notes: the notes of the task.
        trace: the span of the run in a distributed trace; None if it has none.

    Attributes:
        run_id, pipeline, trace: see above.
        made: the notes that the task has made.
    """

    def __init__(
        self, run_id: str, pipeline: str, params: bytes | str, notes: dict[str, Any], trace: RunTrace | None
    ) -> None:
        self.run_id = run_id
        self.trace = trace
        self.pipeline = pipeline
        self.made: dict[str, Any] = {}
        self._params = params
        self._notes = notes

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of the run.

        Raises:
            ContextError: they were not sent.
        """
        if isinstance(self._params, str):
            raise ContextError(self._params)
        params: Mapping[str, Any] = pickle.loads(self._params) if self._params else {}
        return params

    def notes(self, index: int, element: int | None) -> Mapping[str, Any]:
        """Return the notes of the task."""
        return self._notes

    def remember(self, index: int, element: int | None, key: str, value: Any) -> None:
        """Keep a note until the call ends.

        Raises:
            Exception: the value cannot be pickled.
        """
        pickle.dumps(value)
        self._notes[key] = self.made[key] = value


def _packed(params: Mapping[str, Any]) -> bytes | str:
    """Return the pickled parameters of a run; or why they are not sent along with calls."""
    if not params:
        return b""
    hint = "take what the task needs as a parameter"
    try:
        data = pickle.dumps(dict(params))
    except Exception as error:
        return f"the parameters of the run cannot be sent to the process of this task ({describe_error(error)}): {hint}"
    if len(data) > MAX_PARAMS:
        return (
            f"the parameters of the run are not sent to the process of this task, because they have {len(data)} bytes, "
            f"more than {MAX_PARAMS}: {hint}"
        )
    return data
